"""The harness itself: its mutations, that it notices what it is for, and a short run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

PROJECT = Path(__file__).resolve().parents[2]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from tests.fuzz.mutate import MUTATORS, _as_varint, _fields, _varint, mutate  # noqa: E402 - behind the path
from tests.fuzz.seeds import SEEDS, SURFACES  # noqa: E402 - behind the path

from ocrslim.errors import OcrslimError  # noqa: E402 - behind the path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux")


def run(out: Path, *options: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--out", str(out), *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=seconds, check=False)


def failures(out: Path) -> list[str]:
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    again = f"--seed {summary['seed']}"  # without it a failure of a drawn seed could not be tried again
    return [f"{again} --surface {name} --only {item['index']}: {item['problem']}"
            for name, told in summary["surfaces"].items() for item in told["failures"]]  # fmt: skip


def test_a_failure_is_told_with_all_that_it_takes_to_try_it_again(tmp_path: Path) -> None:
    told = {"failures": [{"index": 17, "problem": "a crash"}]}
    (tmp_path / "summary.json").write_text(json.dumps({"seed": 9, "surfaces": {"yaml": told}}), encoding="utf-8")
    assert failures(tmp_path) == ["--seed 9 --surface yaml --only 17: a crash"]


@pytest.mark.parametrize("surface", ["labels", "yaml", "images"])
def test_a_few_hundred_mutated_files_do_no_harm(tmp_path: Path, surface: str) -> None:
    done = run(tmp_path, "--surface", surface, "--count", "200", "--seed", "7")
    assert failures(tmp_path) == []
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_few_hundred_mutated_models_do_no_harm(tmp_path: Path, zoo: object) -> None:
    done = run(tmp_path, "--surface", "importers", "--count", "200", "--seed", "7")
    assert failures(tmp_path) == []
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_many_mutated_files_do_no_harm(tmp_path: Path) -> None:
    done = run(tmp_path, "--count", "20000", "--seed", str(int.from_bytes(os.urandom(4), "big")), seconds=3600)
    assert failures(tmp_path) == []
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_same_command_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run(tmp_path, "--surface", "yaml", "--count", "30", "--seed", "3")
    first = json.loads((tmp_path / "summary.json").read_text("utf-8"))["surfaces"]["yaml"]
    run(tmp_path, "--surface", "yaml", "--count", "50", "--seed", "3")
    both = json.loads((tmp_path / "summary.json").read_text("utf-8"))["surfaces"]["yaml"]
    assert (first["done"], both["done"]) == (30, 50)
    assert first["accepted"] + first["refused"] == 30
    assert both["accepted"] + both["refused"] == 50
    assert both["accepted"] >= first["accepted"] > 0


HARM = {
    "hang": "while True: pass",
    "memory": "bytearray(3 << 30)",
    "crash": "import ctypes; ctypes.string_at(0)",
    "elsewhere": f"open({str(PROJECT / 'not-there' / 'x')!r}, 'w')",
    "traceback": "raise KeyError('x')",
    "refused memory": "try: bytearray(3 << 30)\nexcept MemoryError as e: raise OcrslimError('too large') from e",
    "two lines": "class E(OcrslimError):\n    def __str__(self): return 'a' + chr(10) + 'b'\nraise E()",
}
WORKER = """
import sys
from pathlib import Path
from ocrslim.errors import OcrslimError
from tests.fuzz import worker
worker.SECONDS = 1.0
def harm(folder, name, rng):
    {code}
worker.RUN["yaml"] = harm
worker.main("yaml", 0, 0, 2, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", HARM)
def test_harm_is_noticed(tmp_path: Path, kind: str) -> None:
    code = WORKER.format(code=HARM[kind].replace("\n", "\n    "))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if kind in ("hang", "crash"):
        assert done.returncode < 0  # by a signal; the number of the input is left behind
        assert (tmp_path / "current").read_bytes() == b"%012d" % 0
        return
    report = json.loads(done.stdout.splitlines()[-1])
    told = {"memory": "MemoryError", "traceback": "KeyError", "two lines": "not one line"}
    said = (told | {"refused memory": "want of memory"}).get(kind, "not-there")
    assert [said in item["problem"] for item in report["failures"]] == [True, True]


@pytest.mark.parametrize("surface", [name for name in SURFACES if name != "importers"])
def test_the_seeds_are_accepted_as_they_are(tmp_path: Path, surface: str) -> None:
    from tests.fuzz.worker import RUN

    (tmp_path / "seeds").mkdir()
    for number, seed in enumerate(SEEDS[surface](tmp_path / "seeds")):
        folder = tmp_path / str(number)
        for name, content in seed.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        RUN[surface](folder, seed.open, Random(0))


def test_the_models_are_accepted_as_they_are(tmp_path: Path, zoo: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz.worker import RUN

    (tmp_path / "seeds").mkdir()
    seeds = SEEDS["importers"](tmp_path / "seeds")
    monkeypatch.setenv("OCRSLIM_CACHE", str(tmp_path / "cache"))
    for number, seed in enumerate(seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in seed.files.items():
            (folder / name).write_bytes(content)
        try:
            RUN["importers"](folder, seed.open, Random(0))
        except OcrslimError as error:
            pytest.fail(f"{sorted(seed.files)}: {error}")


@pytest.mark.parametrize("kind", [*MUTATORS, "bytes"])
def test_a_mutation_is_a_function_of_its_generator_and_changes_something(kind: str) -> None:
    data = b'[{"a": 1, "points": [[1, 2]]}]\nimages/a.png\t[{"points": [[1, 2]]}]\n' * 3
    made = [mutate(data, kind, b"other" * 9, Random(seed)) for seed in range(60)]
    assert made == [mutate(data, kind, b"other" * 9, Random(seed)) for seed in range(60)]
    assert len({*made}) > 30
    assert sum(item != data for item in made) > 50


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, (1 << 63), (1 << 64) - 1])
def test_varints_are_written_as_they_are_read(number: int) -> None:
    written = _as_varint(number)
    assert _varint(written + b"rest", 0) == (number, len(written))


def test_the_fields_of_a_message_are_found() -> None:
    import onnx

    message = onnx.TensorProto(name="w", dims=[3, 4], data_type=1, raw_data=b"x" * 300).SerializeToString()
    fields = _fields(message)
    assert {key >> 3 for key, *_ in fields} == {1, 2, 8, 9}
    assert fields[0][1] == 0
    assert [start for _, start, _, _ in fields[1:]] == [end for _, _, _, end in fields[:-1]]
    assert fields[-1][3] == len(message)
