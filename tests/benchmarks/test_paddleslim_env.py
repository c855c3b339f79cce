"""The other environment: found, made once, refused in one line; and a model that runs there."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import paddleslim_env
import pytest
from paddleslim_env import REQUIREMENTS, PaddleServer, find_python, make_environment, thread_variables

from ocrslim.errors import EngineError, InputError
from ocrslim.graph.importers.paddle.zoo import pull_paddle

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
ENVIRONMENT = "OCRSLIM_PADDLESLIM_PYTHON"

TWICE = """
import sys
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
sys.path.insert(0, {benchmarks!r})
from wire import read_array, write_array
assert sys.argv[1] == "serve", sys.argv
for _ in range({answers}):
    batch = read_array(sys.stdin.buffer)
    if batch is None:
        break
    write_array(sys.stdout.buffer, batch * 2)
sys.stderr.write("that is all\\n")
"""


def test_this_python_will_do_where_it_is_one_of_them() -> None:
    assert find_python(None, (OWN,)) == sys.executable
    assert find_python(sys.executable, (OWN,)) == sys.executable


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, "needs a Python 2.6 to make its environment with, and there is none on the path"),
        (sys.executable, f"and {sys.executable} is none"),
        ("/no/such/python", "and /no/such/python is none: install one and name it with --paddleslim-python"),
    ],
)
def test_without_one_there_is_a_line_that_says_so(named: str | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        find_python(named, ("2.6",))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_python_is_passed_by(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    fake.chmod(0o755)
    with pytest.raises(InputError, match="is none"):
        find_python(str(fake))


def made(folder: Path, requirements: str) -> Path:
    """Lay out an environment as one that was made."""
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    inside.parent.mkdir(parents=True)
    inside.touch()
    (folder / "made.json").write_text(json.dumps({"requirements": requirements}), encoding="utf-8")
    return inside


def test_an_environment_that_is_there_is_used(tmp_path: Path) -> None:
    inside = made(tmp_path / "env", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest())
    assert make_environment(tmp_path / "env", "/no/such/python") == inside


@pytest.mark.parametrize("left", ["other packages", "no python", "half a file"])
def test_one_that_is_not_whole_is_made_anew(tmp_path: Path, left: str) -> None:
    inside = made(tmp_path, "x" if left == "other packages" else hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest())
    if left == "no python":
        inside.unlink()
    if left == "half a file":
        (tmp_path / "made.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="no/such/python"):  # which it would be made with
        make_environment(tmp_path, "/no/such/python")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('first\\nERROR: it is not there\\nlast')", "can't fly (ERROR: it is not there)"),
        ("raise SystemExit('first\\nlast\\n\\n')", "can't fly (last)"),
        ("raise SystemExit(3)", "can't fly (it said nothing)"),
        ("import time; time.sleep(9)", "can't fly: Command"),
    ],
)
def test_a_command_that_fails_is_one_line(code: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        paddleslim_env._run([sys.executable, "-c", code], "fly", 2.0 if "sleep" in code else 60.0)
    assert str(caught.value).startswith(f"PaddleSlim's environment: {said}")
    assert "\n" not in str(caught.value)


def test_a_command_that_works_tells_what_it_wrote() -> None:
    assert paddleslim_env._run([sys.executable, "-c", "print(5)"], "count").strip() == "5"


@pytest.mark.slow
def test_what_pip_can_not_install_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddleslim_env.find_python, "__defaults__", ((OWN,),))  # whatever runs the tests will do
    wrong = tmp_path / "requirements.txt"
    wrong.write_text("--no-index\nno-such-package-anywhere==1\n", encoding="utf-8")
    monkeypatch.setattr(paddleslim_env, "REQUIREMENTS", wrong)
    with pytest.raises(InputError) as caught:
        make_environment(tmp_path / "env", sys.executable)
    assert "can't install the packages (ERROR: No matching distribution found for no-such-package" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "env" / "made.json").exists()


def test_threads_reach_every_library() -> None:
    assert set(thread_variables(3).values()) == {"2", "3"}  # the other one silences Paddle's log
    assert thread_variables(3)["FLAGS_paddle_num_threads"] == "3"


def test_packages_are_pinned() -> None:
    lines = [line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert {"paddlepaddle==2.6.2", "paddleslim==2.6.0", "numpy==1.26.4"} <= set(lines)


@pytest.fixture
def twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program in the driver's place that doubles two batches; return the log's path."""
    driver = tmp_path / "driver.py"
    benchmarks = str(Path(paddleslim_env.__file__).parent)
    driver.write_text(TWICE.format(benchmarks=benchmarks, answers=2), encoding="utf-8")
    monkeypatch.setattr(paddleslim_env, "DRIVER", driver)
    return tmp_path / "serve.log"


def test_a_server_answers_and_ends(twice: Path, tmp_path: Path) -> None:
    with PaddleServer(Path(sys.executable), tmp_path, 2, twice) as session:
        for shape in ((1, 3, 4, 5), (2, 3, 2, 2)):
            batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            np.testing.assert_array_equal(session.run(batch), batch * 2)
        assert session.threads == 2
    session.close()
    assert session._process.returncode == 0


def test_a_server_that_ends_is_told_with_its_log(twice: Path, tmp_path: Path) -> None:
    with PaddleServer(Path(sys.executable), tmp_path / "m", 2, twice) as session:
        for _ in range(2):
            session.run(np.zeros((1, 3, 2, 2), np.float32))
        with pytest.raises(EngineError, match=r"m: Paddle Inference ended with it; .*serve\.log says why"):
            session.run(np.zeros((1, 3, 2, 2), np.float32))
    assert "that is all" in twice.read_text(encoding="utf-8")


@pytest.mark.skipif(ENVIRONMENT not in os.environ, reason=f"{ENVIRONMENT} names no Python with paddlepaddle 2.6.2")
def test_paddle_answers_as_its_twin_does(tmp_path: Path, det_v4: Path) -> None:
    from ocrslim.engines.session import open_session

    batch = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
    folder = pull_paddle("PP-OCRv4_mobile_det")
    with PaddleServer(Path(os.environ[ENVIRONMENT]), folder, 1, tmp_path / "log.txt") as session:
        found = session.run(batch)
    np.testing.assert_allclose(found, open_session(det_v4, "onnxruntime", 1).run(batch), atol=1e-4)


@pytest.fixture
def det_v4(zoo: object) -> Path:
    """Return the detector's ONNX file, which has the same weights."""
    assert callable(zoo)
    path = zoo("PP-OCRv4_mobile_det")
    assert isinstance(path, Path)
    return path
