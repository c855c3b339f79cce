"""The whole job on a real model and real pixels, reduced; the full trainings are marked slow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ocrslim import compress as module
from ocrslim import learning
from ocrslim.compress import CompressSettings, compress
from ocrslim.config.profile import Task
from ocrslim.engines.options import session_options
from ocrslim.engines.session import open_session
from ocrslim.errors import InputError, OcrslimError
from ocrslim.export import verify
from ocrslim.ocr.labels import read_samples
from ocrslim.report.result import sha256_of
from ocrslim.slimming.training import data as data_module
from ocrslim.slimming.training.distillation import DistillationSettings


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rendered images, few calibration images and a short timing: the path is the same."""
    monkeypatch.setattr(data_module, "RENDERED", {"rec": 40, "det": 6})
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 16, "det": 2})
    monkeypatch.setattr(module, "MIN_BENCH_SECONDS", 0.2)
    # Four held-back lines are 160 frames, of which two on a tie between classes would be a mismatch.
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.95)
    monkeypatch.setattr(verify, "REQUIRED_IOU", 0.95)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("target", "effort"), [("openvino", "normal"), pytest.param("onnxruntime", "quick", marks=pytest.mark.slow)]
)
def test_a_recogniser_without_any_data(zoo: Callable[[str], Path], tmp_path: Path, target: str, effort: str) -> None:
    zoo("PP-OCRv6_tiny_rec")
    settings = CompressSettings(target, tmp_path, steps=2, effort=effort, shape=(48, 160), batch=2)
    result = compress("PP-OCRv6_tiny_rec", settings)
    assert {tuple(row["shape"]) for row in result["latency"]} == {(2, 3, 48, 160)}
    assert files(tmp_path) == {
        *("model.onnx", "inference.yml", "dictionary.txt", "result.json", "MODEL_CARD.md", "log.txt"),
        *("report.html", *([] if result["delivered"] == "int8" else ["int8.onnx"])),  # as the clock says
    }
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"SHA-256 `{sha256_of(tmp_path / 'model.onnx')}`" in card
    assert result["verdict"] in card
    assert result["verdict"] in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert "agreement with the float model" in result["data"]["judged_by"]
    assert result["size"]["ratio"] < 0.45
    assert result["verify"][0]["passed"]
    assert result["training"]["steps"] == 2
    timed = [(row["engine"], row["threads"]) for row in result["latency"] if row["label"] == "int8"]
    # Those that count first, then the same with one thread.
    assert timed == [(engine, threads) for threads in (2, 1) for engine in ("onnxruntime", "openvino")]
    assert result["session"] == session_options(target, 2)
    assert "## How to run it" in card
    assert result["placement"]["quantized"]
    assert all(item["reason"] and item["op"] for item in result["placement"]["float"])
    assert result["metrics"]["float"][target]["accuracy"] == pytest.approx(1.0, abs=1e-4)
    session = open_session(tmp_path / "model.onnx", target, 1)
    assert session.run(np.zeros((2, 3, 48, 320), np.float32)).shape[0] == 2


@pytest.mark.slow
def test_a_detector_without_training(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    zoo("PP-OCRv6_tiny_det")
    result = compress(
        "PP-OCRv6_tiny_det", CompressSettings("openvino", tmp_path, ptq_only=True, effort="quick", max_drop=100.0)
    )
    assert files(tmp_path) == {"model.onnx", "inference.yml", "result.json", "MODEL_CARD.md", "report.html", "log.txt"}
    assert result["training"] is None
    assert result["drop"]["openvino"]["metric"] == "hmean"
    assert result["drop"]["openvino"]["low"] <= result["drop"]["openvino"]["high"]


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_half_written_and_is_resumed(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo("PP-OCRv6_tiny_rec")
    settings = CompressSettings("openvino", tmp_path, steps=3)
    whole = module.training_batches

    def interrupted(*arguments: object, **named: object) -> object:
        for index, batch in enumerate(whole(*arguments, **named)):  # type: ignore[arg-type]
            if index == 2:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(module, "training_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compress("PP-OCRv6_tiny_rec", settings)
    assert files(tmp_path) == {"log.txt", "checkpoints"}
    monkeypatch.setattr(module, "training_batches", whole)
    result = compress("PP-OCRv6_tiny_rec", settings)
    assert "going on from step 2" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert result["training"]["steps"] == 3


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo("PP-OCRv6_tiny_rec")
    monkeypatch.setattr(module, "drop_checkpoints", lambda out: None)  # as if it had been killed before its end
    compress("PP-OCRv6_tiny_rec", CompressSettings("openvino", tmp_path, steps=1))
    before = (tmp_path / "result.json").read_bytes()
    monkeypatch.setattr(module, "climb", lambda scene: pytest.fail("it is to be said before any work is done"))
    with pytest.raises(OcrslimError, match=r"other settings \(seed was 0, is 1\)"):
        compress("PP-OCRv6_tiny_rec", CompressSettings("openvino", tmp_path, steps=1, seed=1))
    assert (tmp_path / "result.json").read_bytes() == before


def test_out_must_be_a_folder(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    zoo("PP-OCRv6_tiny_rec")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        compress("PP-OCRv6_tiny_rec", CompressSettings("openvino", tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_real_lines_lose_little(zoo: Callable[[str], Path], real_data: Path, tmp_path: Path) -> None:
    """PP-OCRv6 tiny rec, a short training on real crops, judged on the first real validation crops."""
    zoo("PP-OCRv6_tiny_rec")
    labels = real_data / "rec" / "labels"
    samples, _ = read_samples("rec", labels / "val.txt")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{sample.image}\t{sample.text}\n" for sample in samples[:300]), encoding="utf-8")  # type: ignore[union-attr]
    result = compress(
        "PP-OCRv6_tiny_rec",
        CompressSettings("openvino", tmp_path / "out", data=labels / "train.txt", eval=few, steps=30),
    )
    assert "the labels of" in result["data"]["judged_by"]
    assert result["drop"]["openvino"]["points"] < 3.0
    assert result["metrics"]["float"]["openvino"]["accuracy"] > 0.5


@pytest.mark.slow
def test_labels_teach_a_detector(
    zoo: Callable[[str], Path], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With labels training is tried though the budget holds."""
    zoo("PP-OCRv6_tiny_det")
    monkeypatch.setitem(learning.STEPS, "det", 2)
    monkeypatch.setattr(learning, "FEWEST_PAGES", 5)
    lines = (real_data / "det" / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()[:8]
    few = tmp_path / "few.txt"
    few.write_text("\n".join(lines), encoding="utf-8")
    base = next(folder for folder in (real_data, real_data / "det") if (folder / lines[0].split("\t")[0]).is_file())
    settings = CompressSettings("openvino", tmp_path / "out", few, data_dir=base, max_drop=100.0, observer="minmax")
    result = compress("PP-OCRv6_tiny_det", settings)
    assert "trained" in [rung["rung"].partition(" ")[0] for rung in result["budget"]["rungs"]]
    log = (tmp_path / "out" / "log.txt").read_text(encoding="utf-8").splitlines()
    (look,) = [line for line in log if " step 2 distillation " in line]
    assert all(f" {name} " in look for name in ("held_labels", "held_distillation", "labels"))


@pytest.mark.parametrize(
    ("task", "images", "labelled", "ratio", "learns"),
    [
        ("det", 20, True, 0.5, True),
        ("det", 19, True, 0.5, False),  # learned by heart
        ("det", 20, True, 0.0, False),
        ("det", 20, False, 0.5, False),
        ("rec", 1, True, 0.5, True),  # the lesson itself counts lines
    ],
)
def test_whether_labels_teach(task: Task, images: int, labelled: bool, ratio: float, learns: bool) -> None:
    train = (Path("x.png"),) * images
    data = data_module.TrainingData(task, train, (), (), rendered=False, labelled=labelled, skipped=())
    settings = CompressSettings("openvino", Path("out"), distillation=DistillationSettings(label_ratio=ratio))
    assert learning.learns_from_labels(data, settings.distillation) == learns


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "abacus"}, "target abacus: there is none of that name"),
        ({"profile": "mine"}, "--profile mine: unknown"),
        ({"shape": (1, 1)}, "--shape 1x1 --batch 1: the model can't be timed so"),
        ({"data": "missing.txt"}, "missing.txt: no such label file"),
        ({"data": "pages.txt"}, "holds labels for text detection"),
        ({"data": "few.txt"}, "2 usable images, at least 4 are needed"),
        ({"observer": "entropy"}, "observer entropy: there is none of that name"),
        (
            {"placement": "widest"},
            "placement widest: there is none of that name; take one of measured, policy, largest",
        ),
        ({"eval": "missing.txt"}, "missing.txt: no such label file"),
        ({"eval": "pages.txt"}, "holds labels for text detection"),
        ({"eval": "."}, "holds no labels to score by"),
    ],
)
def test_a_mistake_in_a_setting_is_told_before_any_result(
    zoo: Callable[[str], Path], tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    zoo("PP-OCRv6_tiny_rec")
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((48, 100, 3), 255, np.uint8))
    (tmp_path / "few.txt").write_text("a.png\tx\nb.png\ty\n", encoding="utf-8")
    box = json.dumps([{"transcription": "x", "points": [[0, 0], [9, 0], [9, 9]]}])
    (tmp_path / "pages.txt").write_text(f"a.png\t{box}\n", encoding="utf-8")
    given: dict[str, Any] = {"target": "openvino"} | settings
    for name in given.keys() & {"data", "eval"}:
        given[name] = tmp_path / given[name]
    with pytest.raises(InputError) as caught:
        compress("PP-OCRv6_tiny_rec", CompressSettings(out=tmp_path / "out", ptq_only=True, **given))
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists() or files(tmp_path / "out") == {"log.txt"}
