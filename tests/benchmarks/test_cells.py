"""What is measured once and when it is measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cells
import numpy as np
import pytest
from cells import Bench, Plan, Score, is_quiet, plain_record, remembered
from hypothesis import given
from hypothesis import strategies as st
from rivals import RIVALS

from ocrslim.errors import EngineError, InputError
from ocrslim.evaluate import evaluate
from ocrslim.graph.importers.source import open_model
from ocrslim.ocr.labels import read_samples
from ocrslim.ocr.metrics.detection import DetRecord
from ocrslim.ocr.metrics.recognition import RecRecord

VARIANT = RIVALS["onnxruntime"][1]


class Counted:
    """A measurement that counts how often it is taken."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value, self.times = value, 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return self.value


@pytest.fixture
def bench(lines: Path, tiny: Path, tmp_path: Path) -> Bench:
    labels = lines / "rec" / "labels"
    plan = Plan({"rec": labels / "train.txt"}, {"rec": labels / "val.txt"}, tmp_path, calibration=2, limit=6, threads=1)
    return Bench(open_model(tiny), plan)


def test_a_measurement_is_taken_once(tmp_path: Path) -> None:
    measure = Counted({"a": 1.5})
    for _ in range(3):
        assert remembered(tmp_path / "deep" / "x.json", {"k": (1, 2)}, measure) == {"a": 1.5}
    assert measure.times == 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": {"k": 2}, "value": {"a": 9}}', "\udcff"])
def test_what_does_not_fit_is_measured_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    measure = Counted({"a": 1})
    assert remembered(path, {"k": 1}, measure) == {"a": 1}
    assert measure.times == 1
    assert json.loads(path.read_text(encoding="utf-8")) == {"key": {"k": 1}, "value": {"a": 1}}


def test_what_is_not_worth_keeping_is_returned_and_not_stored(tmp_path: Path) -> None:
    measure = Counted({"noise": 2.0})
    for _ in range(2):
        assert remembered(tmp_path / "x.json", {}, measure, lambda value: value["noise"] < 1) == {"noise": 2.0}
    assert measure.times == 2
    assert not (tmp_path / "x.json").exists()


def test_what_is_no_longer_worth_keeping_is_measured_again(tmp_path: Path) -> None:
    remembered(tmp_path / "x.json", {}, Counted({"noise": 2.0}))
    assert remembered(tmp_path / "x.json", {}, Counted({"noise": 0.0}), lambda value: value["noise"] < 1) == {
        "noise": 0.0
    }


keys = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=4)


@given(one=keys, other=keys)
def test_only_equal_keys_share_a_measurement(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, Any], other: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("keys") / "x.json"
    remembered(path, one, lambda: {"of": "one"})
    assert remembered(path, other, lambda: {"of": "other"})["of"] == ("one" if one == other else "other")


@pytest.mark.parametrize(("load", "quiet"), [(None, True), (0.0, True), (0.1, True), (0.11, False), (2.0, False)])
def test_a_time_beside_other_work_is_void(load: float | None, quiet: bool) -> None:
    assert is_quiet(load) is quiet


def rec_score(correct: list[bool]) -> Score:
    records = [RecRecord(str(i), "set", "a", "a" if ok else "b", ok, 0.0, ok, 0.0) for i, ok in enumerate(correct)]
    return Score({"accuracy": sum(correct) / len(correct)}, records)


def test_a_loss_is_in_points_within_its_interval() -> None:
    better, worse = rec_score([True] * 9 + [False]), rec_score([True] * 7 + [False] * 3)
    drop, low, high = worse.drop_from(better)
    assert drop == pytest.approx(20.0, abs=0.01)
    assert low <= drop <= high
    assert better.drop_from(worse)[0] == pytest.approx(-20.0, abs=0.01)
    assert better.drop_from(better) == (0.0, 0.0, 0.0)


def test_a_detector_is_judged_by_hmean() -> None:
    before = Score({"precision": 1.0, "recall": 0.5, "hmean": 2 / 3}, [DetRecord("a", "set", 1, 2, 1)])
    after = Score({"precision": 0.0, "recall": 0.0, "hmean": 0.0}, [DetRecord("a", "set", 0, 2, 1)])
    assert before.metric == "hmean"
    assert after.drop_from(before) == pytest.approx((100 * 2 / 3,) * 3)


def test_a_score_is_that_of_evaluate_and_is_taken_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _ = read_samples("rec", bench.plan.eval["rec"])
    expected = evaluate(bench.source, samples[:6], engine="onnxruntime", profile=bench.profile, threads=1, loose=True)
    told: list[tuple[int, int]] = []
    score = bench.score(bench.source.path, "onnxruntime", "float", lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6)
    assert score.metrics == expected.metrics
    assert list(score.records) == list(expected.records)
    monkeypatch.setattr(cells, "evaluate", lambda *_, **__: pytest.fail("scored twice"))
    assert bench.score(bench.source.path, "onnxruntime", "float") == score


@pytest.mark.parametrize("change", [{"limit": 5}, {"profile": "rapidocr"}])
def test_a_score_under_other_conditions_is_another_one(bench: Bench, change: Mapping[str, Any]) -> None:
    bench.score(bench.source.path, "onnxruntime", "float")
    path = bench.plan.out / "scores" / bench.source.name / "onnxruntime" / "float.json"
    before = json.loads(path.read_text(encoding="utf-8"))["key"]
    other = Bench(bench.source, Plan(**{**vars(bench.plan), **change}))
    other.score(bench.source.path, "onnxruntime", "float")
    assert json.loads(path.read_text(encoding="utf-8"))["key"] != before


def test_a_rivals_file_is_made_once_and_again_when_it_was_touched(bench: Bench) -> None:
    file = bench.quantized("onnxruntime", VARIANT, "openvino")
    assert file == bench.quantized("onnxruntime", VARIANT, "onnxruntime"), "one file for both engines"
    made = (file.parent / "made.json").read_text(encoding="utf-8")
    whole = file.read_bytes()
    again = Bench(bench.source, bench.plan)
    assert again.quantized("onnxruntime", VARIANT, "openvino").read_bytes() == whole
    assert (file.parent / "made.json").read_text(encoding="utf-8") == made, "not made again"
    file.write_bytes(whole[:-10])
    mended = Bench(bench.source, bench.plan).quantized("onnxruntime", VARIANT, "openvino")
    assert mended.read_bytes() == whole, "the same calibration gives the same file"
    value = json.loads((file.parent / "made.json").read_text(encoding="utf-8"))["value"]
    assert value["images"] == 2
    assert value["versions"]["onnxruntime"]


def test_minutes_of_a_disturbed_making_are_taken_once_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Load:
        busy = 1.0

        def cores(self) -> float:
            return Load.busy

    monkeypatch.setattr(cells, "OtherLoad", Load)
    file = bench.quantized("onnxruntime", VARIANT, "onnxruntime")
    assert bench.minutes("onnxruntime", VARIANT, "onnxruntime") is None
    assert not (file.parent / "again.json").exists()
    Load.busy = 0.0
    minutes = bench.minutes("onnxruntime", VARIANT, "onnxruntime")
    assert minutes is not None
    assert 0.0 < minutes < 1.0
    monkeypatch.setattr(bench, "_make", lambda *_: pytest.fail("made a third time"))
    assert bench.minutes("onnxruntime", VARIANT, "onnxruntime") == minutes


def test_times_are_ratios_to_the_first_and_only_quiet_ones_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Row:
        def __init__(self, label: str, load: float) -> None:
            self._told = {"label": label, "ratio_on_engine": 1.0 if label == "float" else 0.5, "other_load": load}

        def to_json(self) -> dict[str, Any]:
            return self._told

    load = 1.0
    monkeypatch.setattr(cells, "bench", lambda files, engines, **_: [Row(name, load) for name, _ in files])
    files = {"float": bench.source.path, "nncf": bench.source.path}
    assert bench.ratios(files, "openvino") is None
    load = 0.05
    assert bench.ratios(files, "openvino") == {"float": 1.0, "nncf": 0.5}
    monkeypatch.setattr(cells, "bench", lambda *_, **__: pytest.fail("timed twice"))
    assert bench.ratios(files, "openvino") == {"float": 1.0, "nncf": 0.5}


def test_real_times(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "NOISY", 1000.0)
    ratios = bench.ratios({"float": bench.source.path, "same": bench.source.path}, "onnxruntime")
    assert ratios is not None
    assert ratios["float"] == 1.0
    assert 0.3 < ratios["same"] < 3.0


def test_openvino_files_are_identified_with_their_weights(bench: Bench, tmp_path: Path) -> None:
    import openvino

    openvino.save_model(openvino.Core().read_model(bench.source.path), tmp_path / "model.xml", compress_to_fp16=False)
    score = bench.score(tmp_path / "model.xml", "openvino", "ir")
    assert score.value == bench.score(bench.source.path, "openvino", "float").value
    before = bench._identity(tmp_path / "model.xml")
    weights = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    other = Bench(bench.source, bench.plan)
    assert other._identity(tmp_path / "model.xml") != before
    (tmp_path / "model.bin").unlink()
    with pytest.raises(EngineError, match=r"model\.bin: missing beside model\.xml"):
        Bench(bench.source, bench.plan)._identity(tmp_path / "model.xml")


def test_labels_that_are_not_there_are_the_users_mistake(bench: Bench, tmp_path: Path) -> None:
    plan = Plan(bench.plan.train, {"rec": tmp_path / "none.txt"}, tmp_path)
    with pytest.raises(InputError, match=r"none\.txt"):
        Bench(bench.source, plan).score(bench.source.path, "onnxruntime", "float")


def test_what_an_image_adds_to_the_score_comes_back_from_json() -> None:
    page = DetRecord("a.png", "set", 1, 2, 3, boxes=(np.zeros((4, 2), np.float32),))
    line = RecRecord("a.png", "set", "ab", "aB", False, 0.5, True, 0.0)
    assert DetRecord(**json.loads(json.dumps(plain_record(page)))) == page
    assert RecRecord(**json.loads(json.dumps(plain_record(line)))) == line
