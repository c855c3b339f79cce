"""What a duel is made of: the other side's settings, batches, a program that is watched; then our side for real."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import cv2
import duel
import numpy as np
import pytest
from duel import Duel, Terms, example_config
from rich.console import Console
from versus import OURS

from ocrslim.config.profile import RecProfile
from ocrslim.errors import DataError, EngineError, InputError
from ocrslim.ocr.render import render_lines
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.training.loader import RecBatches


def terms(data: Path, work: Path, **more: int) -> Terms:
    """Return terms for lines; the labels of detection are never read."""
    labels = data / "rec" / "labels"
    both = {part: dict.fromkeys(("det", "rec"), labels / f"{part}.txt") for part in ("train", "val")}
    return Terms(train=both["train"], eval=both["val"], work=work, **more)


@pytest.mark.parametrize("task", ["det", "rec"])
def test_paddleslim_gets_the_example_with_our_steps(task: str) -> None:
    config = example_config(task, 30)
    train = config["TrainConfig"]
    assert set(config) == {"Distillation", "QuantAware", "TrainConfig"}
    assert (train["epochs"], train["train_iter"]) == (1, 30)
    assert train["eval_iter"] > 30  # it has nothing to evaluate with
    assert train["learning_rate"] == {"type": "CosineAnnealingDecay", "learning_rate": 5e-5, "T_max": 30}
    assert config["QuantAware"]["use_pact"] is True
    assert example_config(task, 30, pact=False)["QuantAware"]["use_pact"] is False
    assert ("matmul_v2" in config["QuantAware"]["quantize_op_types"]) == (task == "rec")


def test_missing_labels_are_told_before_anything_is_made(tmp_path: Path, lines: Path) -> None:
    terms(lines, tmp_path).check()
    with pytest.raises(InputError, match=r"train\.txt: no such file; --data, --train and --eval name"):
        terms(tmp_path, tmp_path).check()


def batches(images: list[np.ndarray | Path]) -> RecBatches:
    return RecBatches(images, 4, RecProfile(), seed=3, max_width=320)


def test_stored_batches_are_the_loaders_own(tmp_path: Path) -> None:
    images = [image for image, _ in render_lines(tuple("abc123"), 12, 0)]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "00009.npy").touch()  # of a longer run before
    duel._store(batches(images), 3, tmp_path / "b")
    found = sorted((tmp_path / "b").iterdir())
    assert [file.name for file in found] == ["00000.npy", "00001.npy", "00002.npy"]
    for step, file in enumerate(found):
        np.testing.assert_array_equal(np.load(file), batches(images).batch(step))
    assert np.load(found[0]).shape == (4, 3, 48, 320)


def test_a_damaged_image_is_no_basis_for_a_comparison(tmp_path: Path) -> None:
    images: list[np.ndarray | Path] = [image for image, _ in render_lines(tuple("abc123"), 3, 0)]
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png: .*take it out of the labels"):
        duel._store(batches([*images, tmp_path / "bad.png"]), 2, tmp_path / "b")


def watch(folder: Path, code: str, minutes: float = 1.0) -> tuple[list[int], float, float]:
    seen: list[int] = []
    command = [sys.executable, "-c", code]
    started, ended = duel._watch(command, {"SAID": "hello"}, folder / "log.txt", folder / "m", minutes, seen.append)
    return seen, started, ended


def test_a_program_is_watched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "LOOKS", 0.05)
    marks = '{"event": "pass"}\\n{"event": "begin"}\\n{"event": "pass"}\\n' + '{"event": "begin"}\\n' * 3
    code = f"import os, time; print(os.environ['SAID']); open('{tmp_path}/m', 'w').write('{marks}'); time.sleep(0.5)"
    before = time.time()
    seen, started, ended = watch(tmp_path, code)
    assert before <= started < ended <= time.time()
    assert ended - started >= 0.5
    assert seen == [2]  # told once; the third step is being made, and the pass before does not count
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").strip() == "hello"


def test_a_failure_is_told_with_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        watch(tmp_path, "raise SystemExit('no\\npaddle here')")
    assert "failed (1): paddle here; " in str(caught.value)
    assert "log.txt says more" in str(caught.value)


def test_what_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "LOOKS", 0.05)
    before = time.time()
    with pytest.raises(EngineError, match=r"took longer than 0\.005 minutes"):
        watch(tmp_path, "import time; time.sleep(60)", 0.005)
    assert time.time() - before < 30


def test_an_interrupt_leaves_no_program_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "LOOKS", 0.05)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    marks = '{"event": "pass"}\\n' + '{"event": "begin"}\\n' * 2
    told = f"open('{tmp_path}/pid', 'w').write(str(os.getpid())); open('{tmp_path}/m', 'w').write('{marks}')"
    code = f"import os, time; {told}; time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        duel._watch([sys.executable, "-c", code], {}, tmp_path / "log.txt", tmp_path / "m", 1.0, interrupt)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_an_unfinished_folder_has_another_name(tmp_path: Path) -> None:
    def fail() -> None:
        with duel._whole_folder(tmp_path / "x") as partial:
            (partial / "file").touch()
            raise EngineError("no")

    with pytest.raises(EngineError):
        fail()
    assert not (tmp_path / "x").exists()
    with duel._whole_folder(tmp_path / "x") as partial:
        (partial / "other").touch()
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["other"]


@pytest.mark.slow
def test_our_side_runs_and_is_not_run_again(tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "PACKAGE", tmp_path / "code")  # the real one may be edited meanwhile
    log = RunLog(tmp_path, Console(file=io.StringIO()))
    work = terms(lines, tmp_path, steps=2, batch=2, threads=1)
    (row,) = Duel("PP-OCRv4_mobile_rec", work, None, log).rows()
    folder = tmp_path / "PP-OCRv4_mobile_rec"
    assert row.note == ""
    assert row.by == OURS
    assert row.timing is not None
    assert row.timing.steps == 2
    assert 0 < row.timing.start.wall < row.timing.to_training.wall < row.timing.total.wall
    assert row.n == 12
    assert row.int8_score is not None
    assert {"inference.pdmodel", "inference.pdiparams", "model.onnx"} <= {
        file.name for file in (folder / OURS).iterdir()
    }
    settings = json.loads((folder / OURS / "settings.json").read_text(encoding="utf-8"))
    assert settings["config"]["TrainConfig"]["train_iter"] == 2

    def fail(*_: object) -> None:
        raise AssertionError("it was done already")

    monkeypatch.setattr(Duel, "_run", fail)
    (again,) = Duel("PP-OCRv4_mobile_rec", work, None, log).rows()
    assert again == row
    log.close()


def test_a_side_that_fails_is_a_row_with_its_reason(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('out of order')", encoding="utf-8")
    monkeypatch.setattr(duel, "OUR_DRIVER", broken)
    log = RunLog(tmp_path, Console(file=io.StringIO()))
    (row,) = Duel("PP-OCRv4_mobile_rec", terms(lines, tmp_path, steps=1, batch=2), None, log).rows()
    log.close()
    assert "broken.py failed (1): out of order; " in row.note
    assert row.timing is None


def test_the_lines_of_the_fixture_are_images(lines: Path) -> None:
    """The fixture's labels name images beside them; a wrong layout would make every test above say little."""
    name = (lines / "rec" / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()[0].split("\t")[0]
    assert cv2.imread(str(lines / "rec" / "labels" / name)) is not None
