"""The drop-in benchmark: how it counts and chooses, and, slowly, that PaddleOCR and RapidOCR load our folders.

No CI runs the slow part: the real tools need environments of gigabytes. It is run by hand, with
``benchmarks/dropin.py`` or with its folder of environments in ``OCRSLIM_DROPIN_ENVS``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dropin
import pytest
from rich.console import Console

from ocrslim.cli import main as ocrslim
from ocrslim.errors import EngineError, InputError

ENVIRONMENTS = "OCRSLIM_DROPIN_ENVS"  # a folder with environments, or where they may be made


@pytest.mark.parametrize(
    ("ours", "theirs", "share", "characters"),
    [
        ([["abc", "d"]], [["abc", "d"]], 1.0, 4),
        ([["abc"], []], [["abd"], []], 2 / 3, 3),
        ([["ab"], ["c"]], [["ab"], ["cde"]], 3 / 5, 5),
        ([["abcd"]], [[]], 0.0, 0),
        ([[], []], [[], []], 1.0, 0),
        ([["ab", "cd"]], [["abcd"]], 1.0, 4),  # how it is cut into lines does not count
    ],
)
def test_alike(ours: list[list[str]], theirs: list[list[str]], share: float, characters: int) -> None:
    assert dropin.alike(ours, theirs) == (pytest.approx(share), characters)


def test_images_are_spread_over_the_labels(tmp_path: Path) -> None:
    labels = tmp_path / "det" / "labels"
    labels.mkdir(parents=True)
    (tmp_path / "det" / "0.png").write_bytes(b"")
    lines = "".join(f"det/{index}.png\t[]\n" for index in range(20))
    (labels / "val.txt").write_text(lines, encoding="utf-8")
    found = dropin.images(labels / "val.txt", 4)
    assert found == [tmp_path / f"det/{index}.png" for index in (0, 5, 10, 15)]
    assert len(dropin.images(labels / "val.txt", 100)) == 20


def test_labels_without_images_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such label file"):
        dropin.images(tmp_path / "no.txt", 1)
    for text in ("", "nowhere/a.png\t[]\n"):
        (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="its images are not found"):
            dropin.images(tmp_path / "labels.txt", 1)


def test_the_table_says_when_the_machine_was_busy() -> None:
    quiet = dropin.Row("rapidocr 3.10.0", "a + b", "openvino", 50, 1000, 0.9871, 20.0, 15.0, 0.0)
    noisy = dropin.Row("paddleocr 3.7.0", "a + b", "onnxruntime", 50, 1000, 0.9871, 20.0, 15.0, 1.3)
    lines = dropin.markdown([quiet, noisy]).splitlines()
    assert lines[0].startswith("| tool | models | int8 for | images | characters | alike |")
    assert lines[2] == "| rapidocr 3.10.0 | a + b | openvino | 50 | 1000 | 0.9871 | 20.0 | 15.0 | 0.75 |"
    assert lines[3].endswith("| 0.75 (others kept 1.3 cores busy) |")


def test_a_tool_that_fails_says_its_last_words(tmp_path: Path) -> None:
    # This Python has neither tool.
    (tmp_path / "images.txt").write_text("a.png\n", encoding="utf-8")
    with pytest.raises(EngineError, match=r"rapidocr cannot read with .*No module named 'rapidocr'"):
        dropin.read(
            Path(sys.executable),
            "rapidocr",
            [tmp_path, tmp_path],
            tmp_path / "images.txt",
            tmp_path / "out.json",
            "onnxruntime",
        )


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A reader that counts how often it runs stands for the real one.
    reader = tmp_path / "reader.py"
    reader.write_text(
        "import json, pathlib, sys\n"
        "out = pathlib.Path(sys.argv[5]); count = out.with_suffix('.count')\n"
        "count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))\n"
        "out.write_text(json.dumps({'texts': [[]], 'engine': sys.argv[6], 'threads': sys.argv[7]}))\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(dropin, "READER", reader)
    folder, listed, out = tmp_path / "model", tmp_path / "images.txt", tmp_path / "out.json"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"a")
    listed.write_text("a.png\n", encoding="utf-8")

    def read(threads: int = 0, engine: str = "openvino") -> dict[str, object]:
        return dropin.read(Path(sys.executable), "rapidocr", [folder, folder], listed, out, engine, threads)

    def runs() -> int:
        return int(out.with_suffix(".count").read_text(encoding="utf-8"))

    first = read()
    assert (first["engine"], first["threads"], runs()) == ("openvino", "0", 1)
    assert read() == first
    assert runs() == 1
    read(threads=1)
    read(threads=1, engine="onnxruntime")
    listed.write_text("b.png\n", encoding="utf-8")
    read(threads=1, engine="onnxruntime")
    (folder / "model.onnx").write_bytes(b"b")
    read(threads=1, engine="onnxruntime")
    assert runs() == 5


def test_a_pair_of_one_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, target in (("det", "openvino"), ("rec", "onnxruntime")):
        (tmp_path / name).mkdir()
        facts = {"model": {"name": name, "path": str(tmp_path)}, "target": target}
        (tmp_path / name / "result.json").write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "labels.txt").write_text("a.png\t[]\n", encoding="utf-8")
    python = tmp_path / "envs" / "rapidocr" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_bytes(b"")  # an environment that is there is not made
    arguments = ["--pair", str(tmp_path / "det"), str(tmp_path / "rec"), "--data", str(tmp_path / "labels.txt")]
    arguments += ["--tools", "rapidocr", "--envs", str(tmp_path / "envs"), "--out", str(tmp_path)]
    assert dropin.main(arguments) == 2
    assert "made for openvino and onnxruntime; take one engine" in capsys.readouterr().err
    (tmp_path / "rec" / "result.json").write_text("{}", encoding="utf-8")
    assert dropin.main(arguments) == 2
    assert "rec: no folder that `ocrslim compress` wrote" in capsys.readouterr().err
    facts = {"model": {"name": "rec", "path": str(tmp_path / "gone.onnx")}, "target": "openvino"}
    (tmp_path / "rec" / "result.json").write_text(json.dumps(facts), encoding="utf-8")
    assert dropin.main(arguments) == 2
    assert "gone.onnx is not there any more" in capsys.readouterr().err
    assert not (tmp_path / "envs" / "paddleocr").exists()


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--pair", "a", "b", "--data", str(tmp_path / "no.txt"), "--out", str(tmp_path / "out")]
    assert dropin.main(arguments) == 2
    assert capsys.readouterr().err == f"dropin.py: --data {tmp_path}/no.txt: there is no such label file\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> tuple[Path, Path]:
    """Return v6 tiny's detector and recogniser, compressed for ONNX Runtime."""
    root = tmp_path_factory.mktemp("pair")
    for task in ("det", "rec"):
        labels = (real_data / task / "labels" / "train.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        count = 40 if task == "det" else 400
        few = root / f"{task}.txt"
        few.write_text("".join(labels[:: len(labels) // count]), encoding="utf-8")
        command = ["compress", f"PP-OCRv6_tiny_{task}", "--target", "onnxruntime", "--effort", "quick", "--ptq-only"]
        command += ["--data", str(few), "--data-dir", str(real_data), "--out", str(root / task)]
        assert ocrslim(command) == 0
    return root / "det", root / "rec"


@pytest.mark.slow
@pytest.mark.parametrize("tool", list(dropin.TOOLS))
def test_the_real_tools_read_as_with_their_float_models(
    tool: str, pair: tuple[Path, Path], real_data: Path, tmp_path: Path
) -> None:
    place = os.environ.get(ENVIRONMENTS)
    if not place:
        pytest.skip(f"{ENVIRONMENTS} names no folder with, or for, environments of PaddleOCR and RapidOCR")
    arguments = ["--pair", *map(str, pair), "--tools", tool, "--images", "6", "--envs", place]
    labels = real_data / "det" / "labels" / "val_funsd.txt"
    assert dropin.main([*arguments, "--data", str(labels), "--out", str(tmp_path)]) in (0, 1)
    (row,) = json.loads((tmp_path / "dropin.json").read_text(encoding="utf-8"))["rows"]
    assert row["tool"] == dropin.TOOLS[tool][0].replace("==", " ")
    assert row["characters"] > 1000
    assert row["alike"] > 0.9, "six pages and the smallest models: garbage is what this would notice"
    assert (tmp_path / "dropin.md").read_text(encoding="utf-8").count("\n") == 3


@pytest.mark.slow
def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropin, "TOOLS", {"nothing": ("--version",)})
    python = dropin.environment(tmp_path, "nothing", Console(quiet=True))
    done = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=True)
    assert done.stdout
    made = python.stat().st_mtime_ns
    assert dropin.environment(tmp_path, "nothing", Console(quiet=True)) == python
    assert python.stat().st_mtime_ns == made
