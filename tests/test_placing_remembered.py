"""What is remembered of the clock's answers: what they are known by, where they lie, and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ocrslim import placing
from ocrslim.compress import CompressSettings
from ocrslim.engines.targets import get_target
from ocrslim.learning import drop_checkpoints
from ocrslim.placing import TABLE, is_faster, measured
from ocrslim.scene import Candidate, Scene
from ocrslim.slimming.quantization import measured as cpus
from ocrslim.slimming.quantization.measured import Measured, Trial, conditions, recall, remember


def changed(scene: Any, **what: Any) -> Scene:
    return cast("Scene", SimpleNamespace(**(vars(scene) | what)))


def test_a_time_is_of_one_processor_engine_and_shape(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(shape: Sequence[int] = (1, 3, 48, 320), threads: int = 2, target: str = "openvino") -> str:
        return conditions(scene.graph, get_target(target), shape, threads)

    told = [asked(), asked((1, 3, 48, 640)), asked(threads=1), asked(target="onnxruntime")]
    monkeypatch.setattr(cpus, "cpu_info", lambda: SimpleNamespace(model="another", flags=("avx2",)))
    told.append(asked())
    monkeypatch.setattr(cpus, "cpu_info", lambda: SimpleNamespace(model="another", flags=("avx2", "avx_vnni")))
    told.append(asked())
    monkeypatch.setattr(cpus, "versions", lambda: {"openvino": "1.0"})
    told.append(asked())
    assert len(set(told)) == len(told)
    assert asked() == told[-1]


def test_a_cache_that_cannot_be_written_costs_time_alone(scene: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    remember(tmp_path / "file" / TABLE, {"a": [0.5, 0.0]})
    assert recall(tmp_path / "file" / TABLE) == {}
    (tmp_path / TABLE).write_text('{"a": [0.5, 0.1], "b": "x", "c": [1]}')
    remember(tmp_path / TABLE, {"d": [0.7, 0.0]})
    assert recall(tmp_path / TABLE) == {"a": [0.5, 0.1], "d": [0.7, 0.0]}


def test_a_table_is_kept_where_models_are(scene: Any, tmp_path: Path) -> None:
    """The real clock, on one thread: what it said is on the disk, and a second run takes no time to hear it."""
    settings = CompressSettings("openvino", tmp_path, threads=1)
    placing_scene = changed(scene, settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "replace", lambda scene, **what: what["measured"])
        first = cast("Any", measured(placing_scene))
        table = tmp_path / "cache" / TABLE
        known = json.loads(table.read_text("utf-8"))
        assert len(known) >= len(first.trials)
        patch.setattr("ocrslim.slimming.quantization.measured.time_rounds", None)  # a call would fail
        assert measured(placing_scene) == first


FOUND = Measured(
    frozenset("a"), frozenset("bc"), frozenset(), 0.9, (Trial("kind at 1x1", ("b", "c"), True, 0.1, True),)
)


@pytest.mark.parametrize("outputs", [None, False, True])
def test_what_was_decided_about_outputs_is_remembered(scene: Any, outputs: bool | None, monkeypatch: Any) -> None:
    told = asdict(replace(FOUND, outputs=bool(outputs)))
    if outputs is None:
        del told["outputs"]  # by a version that did not ask
    placing._decide(scene.settings, placing._question(scene, []), told)
    monkeypatch.setattr(placing, "replace", changed)
    monkeypatch.setattr(placing, "measure_placement", None)  # a call would fail
    assert measured(scene).measured == replace(FOUND, outputs=bool(outputs))


def test_an_unfinished_run_keeps_its_placement_where_the_table_is_gone(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "replace", changed)
    monkeypatch.setattr(placing, "measure_placement", lambda *given: FOUND)
    assert measured(scene).measured == FOUND
    monkeypatch.setattr(placing, "measure_placement", None)  # a call would fail: another machine, another answer
    monkeypatch.setattr(placing, "cache_folder", lambda: tmp_path / "another")
    again = measured(scene).measured
    assert again == FOUND
    assert (tmp_path / placing.DECIDED).is_file()
    other = changed(scene, keep_float=frozenset("x"))
    with pytest.raises(TypeError):  # another question: the clock is asked
        measured(other)
    drop_checkpoints(tmp_path)
    assert not (tmp_path / placing.DECIDED).exists()


@pytest.mark.parametrize("content", ["", "[]", '{"KEY": 3}', '{"KEY": {"slow": 1}}', "\0"])
def test_a_damaged_decision_is_asked_for_again(
    scene: Any, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = placing._question(scene, [])
    (tmp_path / placing.DECIDED).parent.mkdir()
    (tmp_path / placing.DECIDED).write_text(content.replace("KEY", key), encoding="utf-8")
    monkeypatch.setattr(placing, "replace", changed)
    monkeypatch.setattr(placing, "measure_placement", lambda *given: FOUND)
    assert measured(scene).measured == FOUND


@pytest.mark.parametrize("damaged", [3, [1.0], {"a": 1}, None])
def test_a_damaged_time_is_asked_for_again(scene: Any, damaged: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_ratios", lambda *given: [0.9])
    one, other = (
        SimpleNamespace(
            rung=name,
            path=Path(name),
            quantization=SimpleNamespace(placement=SimpleNamespace(sites=[SimpleNamespace(node=name)]), factors={}),
        )
        for name in "ab"
    )
    sites = [[[name], []] for name in "ab"]
    placing._decide(scene.settings, placing._question(scene, sites), damaged)
    assert is_faster(scene, cast("Candidate", one), cast("Candidate", other))


def test_a_run_that_learns_nothing_has_nothing_to_go_on_with(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "replace", changed)
    monkeypatch.setattr(placing, "measure_placement", lambda *given: FOUND)
    for settings in (
        CompressSettings("openvino", tmp_path, ptq_only=True),
        CompressSettings("openvino", tmp_path, steps=0),
    ):
        assert measured(changed(scene, settings=settings)).measured == FOUND
        assert not (tmp_path / placing.DECIDED).exists()
