"""The ladder on a real model: it ends, it tells the truth, it finds what was made bad, and it repeats itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from ocrslim import choosing, ladder, learning
from ocrslim import compress as module
from ocrslim.compress import CompressSettings, compress
from ocrslim.delivery import INT8
from ocrslim.engines.targets import Target, get_target
from ocrslim.errors import InputError
from ocrslim.export import verify
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.learning import CHECKPOINTS, FASTER, checkpoints_of
from ocrslim.placing import SLOW_REASON
from ocrslim.scene import EFFORTS, FLOAT_REASON, Candidate, Climb, Scene, images_needed
from ocrslim.scoring import Judged
from ocrslim.slimming.quantization.measured import Measured, Trial
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import prepare
from ocrslim.slimming.training import data as data_module

NAME = "PP-OCRv6_tiny_rec"


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch, zoo: Callable[[str], Path]) -> None:
    """Few rendered images and a short timing: the path is the same."""
    zoo(NAME)
    monkeypatch.setattr(data_module, "RENDERED", {"rec": 60, "det": 6})
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 16, "det": 2})
    monkeypatch.setattr(data_module, "SENSITIVITY_IMAGES", {"rec": 3, "det": 1})
    monkeypatch.setattr(data_module, "SENSITIVITY_BATCHES", {"rec": 2, "det": 1})
    monkeypatch.setattr(module, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(learning, "STEPS", {"rec": 2, "det": 1})
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.9)


def rungs(result: dict[str, Any]) -> list[str]:
    """Return the first word of each rung that was judged."""
    return [rung["rung"].partition(" ")[0] for rung in result["budget"]["rungs"] if rung["drop"]]


@pytest.mark.slow
def test_an_impossible_budget_ends_with_the_truth(tmp_path: Path) -> None:
    """No loss at all is asked of lines of which some are read otherwise."""
    result = compress(NAME, CompressSettings("openvino", tmp_path, max_drop=0.0))
    budget = result["budget"]
    assert budget["max_drop"] == 0.0
    assert budget["kept"] == (budget["drop"]["points"] <= 0.0)
    assert budget["sure"] == (budget["drop"]["high"] <= 0.0)
    assert "stopped" not in (tmp_path / "log.txt").read_text(encoding="utf-8")
    tried = [rung["drop"]["points"] for rung in budget["rungs"] if rung["drop"]]
    one = (budget["drop"]["high"] - budget["drop"]["low"]) / 3.92  # what is much nearer may seem to lose that more
    assert min(tried) <= budget["drop"]["points"] <= min(tried) + len(tried) * one
    if not budget["sure"]:
        assert rungs(result)[0] in ("calibrated", "equalised")
        assert any(rung["rung"].startswith("trained") for rung in budget["rungs"])  # judged only if a step was better
        channels = "a scale for each channel"
        ways = {f"calibrated (output, {channels})", f"calibrated (percentile, {channels})", "calibrated (percentile)"}
        assert ways <= {rung["rung"] for rung in budget["rungs"]}
        assert any("float" in rung["rung"] for rung in budget["rungs"])
        kept = [item for item in result["placement"]["float"] if item["reason"] == FLOAT_REASON]
        assert len(result["sensitivity"]) <= len(result["placement"]["quantized"]) + len(kept)
        assert {item["node"] for item in result["placement"]["quantized"]} <= {
            row["node"] for row in result["sensitivity"]
        }
    assert not list(tmp_path.glob("candidate*"))


def test_a_budget_that_holds_at_once_ends_the_climb(tmp_path: Path) -> None:
    result = compress(NAME, CompressSettings("openvino", tmp_path, max_drop=100.0))
    assert set(rungs(result)) == {"calibrated"}
    assert result["budget"]["kept"]
    assert result["budget"]["sure"]
    assert result["training"] is None
    assert result["sensitivity"] == []
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["budget"] == result["budget"]


@pytest.mark.slow
def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        compress(NAME, CompressSettings("onnxruntime", tmp_path / name, max_drop=0.0, seed=3))
        int8 = tmp_path / name / INT8  # where a float model is the faster one, which the clock says
        files.append((int8 if int8.exists() else tmp_path / name / "model.onnx").read_bytes())
    assert files[0] == files[1]


@pytest.mark.slow
def test_without_time_nothing_follows_the_calibration(tmp_path: Path) -> None:
    settings = CompressSettings("openvino", tmp_path, max_drop=0.0, max_minutes=0.0, effort="max")
    result = compress(NAME, settings)
    assert {rung["rung"].partition(" ")[0] for rung in result["budget"]["rungs"]} <= {"calibrated", "equalised", "1"}


def test_an_unknown_effort_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"effort lazy: there is none of that name; take one of quick, normal, max"):
        compress(NAME, CompressSettings("openvino", tmp_path, effort="lazy"))


@pytest.mark.slow
def test_a_site_made_bad_is_the_worst_and_stays_float(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    """One channel is multiplied by 1,000 before a convolution that divides it out: the model computes the same."""
    folder = tmp_path / "bad"
    shutil.copytree(zoo(NAME).parent, folder)
    clean = compress(
        NAME, CompressSettings("openvino", tmp_path / "clean", ptq_only=True, max_drop=0.0, effort="quick")
    )
    assert "trained" not in rungs(clean)  # quick does not
    node = clean["placement"]["quantized"][4]["node"]
    (folder / "inference.onnx").unlink()
    onnx.save(with_loud_channel(onnx.load(zoo(NAME)), node), folder / "inference.onnx")
    settings = CompressSettings("openvino", tmp_path / "out", ptq_only=True, max_drop=0.0, observer="minmax")
    result = compress(folder, settings)
    assert result["sensitivity"][0]["node"] == node
    kept = {item["node"]: item["reason"] for item in result["placement"]["float"]}
    assert kept[node] == FLOAT_REASON


def with_loud_channel(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Multiply one input channel of a convolution by 1,000 and divide its weights by that.

    A Clip that clips nothing keeps the passes from folding the factor into the weights.
    """
    node = next(node for node in model.graph.node if node.name == name)
    weight = next(item for item in model.graph.initializer if item.name == node.input[1])
    array = numpy_helper.to_array(weight).copy()
    factors = np.ones((1, array.shape[1], 1, 1), np.float32)
    channel = liveliest_channel(model, node.input[0])
    factors[0, channel] = 1000.0
    array[:, channel] /= 1000.0
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    model.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
    bounds = (("least", -1e6), ("most", 1e6))
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(bound), name) for name, bound in bounds)
    multiply = helper.make_node("Mul", [node.input[0], "factors"], ["louder"], "loud.mul")
    clip = helper.make_node("Clip", ["louder", "least", "most"], ["loud"], "loud.clip")
    node.input[0] = "loud"
    place = list(model.graph.node).index(node)
    model.graph.node.insert(place, clip)
    model.graph.node.insert(place, multiply)
    return model


def liveliest_channel(model: onnx.ModelProto, value: str, height: int = 48) -> int:
    """Return the channel of a value that varies most: a silent one would stay silent."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 3, height, 320)).astype(np.float32)
    (found,) = session.run([value], {"x": noise})
    return int(found.std((0, 2, 3)).argmax())


@pytest.mark.parametrize("steps", [None, 0, 30])
def test_whoever_names_the_steps_gets_no_other_sites_float(monkeypatch: pytest.MonkeyPatch, steps: int | None) -> None:
    """As a file of the PaddleSlim example does, whatever the loss is."""
    done: list[str] = []
    monkeypatch.setattr(ladder, "_relieve", lambda scene, result: done.append("relieve"))
    monkeypatch.setattr(ladder, "_with_float_sites", lambda scene, result: done.append("float") or iter(()))
    monkeypatch.setattr(ladder, "_may_train", lambda scene: False)
    best = _candidate(5.0, 1.0)
    best.verified = cast("Any", SimpleNamespace(passed=True))
    settings = SimpleNamespace(max_drop=0.3, steps=steps, ptq_only=False, max_minutes=None)
    scene = cast("Any", SimpleNamespace(settings=settings, effort=EFFORTS["normal"], by_labels=False))
    ladder._climb_on(scene, Climb(best, [best], cast("Any", None)))
    assert done == (["relieve", "float"] if steps is None else [])


def test_images_needed_grow_with_the_square() -> None:
    drop = {"low": -0.5, "high": 0.7, "n": 1000}
    assert images_needed(drop, 0.6) == 1000
    assert images_needed(drop, 0.3) == 4000
    assert images_needed(drop, 0.0) is None
    assert images_needed({"low": 0.0, "high": 0.0, "n": 10}, 0.3) is None


def test_images_that_are_all_alike_tell_a_loss_by_their_number() -> None:
    """By the rule of three: none of n differs, so that at most 3 in n do."""
    drop = {"low": -30.0, "high": 30.0, "n": 10, "same": True}
    assert images_needed(drop, 0.3) == 1000
    assert images_needed(drop, 3.0) == 100


def _candidate(points: float, divergence: float, against: str = "labels") -> Candidate:
    """Return a candidate as judged, with a standard error of one point."""
    drop = {"points": points, "low": points - 1.96, "high": points + 1.96, "n": 100, "against": against}
    judged = Judged("labels", 100, {}, {}, drop | {"metric": "hmean"}, (), {})
    return Candidate("r", cast("Any", None), Path("c"), cast("Any", None), divergence, judged)


@pytest.mark.parametrize(
    ("points", "divergence", "against", "by_labels", "better"),
    [
        (0.4, 0.9, "labels", False, True),  # loses less, nearer to float
        (0.4, 1.1, "labels", False, False),  # loses less by luck: it is no nearer
        (0.6, 0.9, "labels", False, False),  # nearer, but loses more
        (1.4, 0.7, "labels", False, True),  # much nearer: what it loses more may be luck
        (1.6, 0.5, "labels", False, False),  # no luck: more than a standard error
        (0.4, 0.9, "float", False, False),  # without labels it must be much nearer
        (0.4, 0.6, "float", False, True),
        (-0.4, 9.0, "labels", True, False),  # labels taught it, and it gains 0.9 of a standard error
        (-0.6, 9.0, "labels", True, True),  # 1.1 of one
    ],
)
def test_what_is_better(points: float, divergence: float, against: str, by_labels: bool, better: bool) -> None:
    much = choosing.MUCH_NEARER["rec"]
    assert choosing.is_better(_candidate(points, divergence, against), _candidate(0.5, 1.0), by_labels, much) == better


TRIAL = Trial("outputs of sites", ("a",), int8=True, saved=0.1, kept=True)


def _depthwise(scene: Scene) -> Scene:
    """Return the scene as if the clock wanted one product float and every depthwise convolution in int8."""
    usual = place(scene.graph, scene.target)
    every = place(scene.graph, scene.target, also=usual.optional)
    fast = frozenset(site.node for site in every.sites if site.kind == "depthwise")
    slow = frozenset(site.node for site in usual.sites if site.kind == "matmul")
    trial = Trial("depthwise convolutions at 48x320", tuple(sorted(fast)), int8=True, saved=0.1, kept=True)
    one = frozenset(sorted(slow)[:1])
    return replace(scene, measured=Measured(one, fast, one, 0.9, (trial,)))


@pytest.mark.parametrize("worth", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_what_the_clock_wants_is_used_where_it_is_worth_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: bool
) -> None:
    monkeypatch.setattr(ladder, "measured", _depthwise)
    monkeypatch.setattr(ladder, "is_faster", lambda *given: True)
    monkeypatch.setattr(ladder, "_is_worth_its_loss", lambda *given: worth)
    result = compress(NAME, CompressSettings("openvino", tmp_path, ptq_only=True, max_drop=100.0))
    assert rungs(result) == ["calibrated", "calibrated"]
    placement = result["placement"]
    assert placement["measured"]["used"] is worth
    fast, slow = placement["measured"]["fast"], placement["measured"]["slow"]
    assert fast
    assert slow
    assert (set(fast) <= {item["node"] for item in placement["quantized"]}) is worth
    said = {item["node"]: item["reason"] for item in placement["float"]}
    assert all(said[node] == SLOW_REASON for node in slow)
    assert all((node in said) is not worth for node in fast)
    assert "more sites in int8" in result["budget"]["rungs"][-1]["rung"]


@pytest.mark.slow
def test_outputs_that_the_clock_wants_quantized_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ladder, "measured", lambda scene: replace(scene, measured=Measured(outputs=True, trials=(TRIAL,)))
    )
    monkeypatch.setattr(ladder, "is_faster", lambda *given: True)
    monkeypatch.setattr(ladder, "_is_worth_its_loss", lambda *given: True)
    result = compress(NAME, CompressSettings("openvino", tmp_path, ptq_only=True, max_drop=100.0))
    assert result["placement"]["measured"]["outputs"]
    assert result["placement"]["measured"]["used"]
    assert "outputs too" in result["budget"]["rungs"][-1]["rung"]
    int8 = tmp_path / INT8
    nodes = onnx.load(int8 if int8.exists() else tmp_path / "model.onnx").graph.node
    made = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    floats = [node for node in nodes if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Conv", "MatMul")]
    assert any(set(node.input) & made for node in floats)  # what reads an output reads it rounded


def test_each_placement_has_checkpoints_of_its_own(zoo: Callable[[str], Path]) -> None:
    graph, usual = canonicalize(load_onnx(zoo(NAME))), get_target("openvino")

    def folder(target: Target, *also: str) -> str:
        placement = place(graph, target, also=also)
        return checkpoints_of(prepare(GraphModule(graph).eval(), placement, target), usual)

    assert folder(usual) == CHECKPOINTS
    assert folder(usual, *place(graph, usual).optional[:1]) == FASTER
    assert folder(replace(usual, quantize_outputs=True)) == FASTER
    engine = get_target("onnxruntime")
    assert checkpoints_of(prepare(GraphModule(graph).eval(), place(graph, engine), engine), engine) == CHECKPOINTS


@pytest.mark.slow
def test_what_trains_in_vain_leaves_the_field_to_the_usual_placement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both placements train, each with checkpoints of its own; the better one is given where neither holds."""
    monkeypatch.setattr(ladder, "measured", _depthwise)
    monkeypatch.setattr(ladder, "is_faster", lambda *given: True)
    monkeypatch.setattr(ladder, "_is_worth_its_loss", lambda *given: True)
    monkeypatch.setattr(ladder, "_with_float_sites", lambda *given: iter(()))
    monkeypatch.setattr(ladder, "_holds", lambda *given: False)
    monkeypatch.setattr(module, "drop_checkpoints", lambda out: None)
    for _ in range(2):  # the second time it goes on from both trainings' last checkpoints
        result = compress(NAME, CompressSettings("openvino", tmp_path, max_drop=0.0))
        trained = [rung for rung in result["budget"]["rungs"] if rung["rung"].startswith("trained")]
        assert len(trained) == 2
        judged = [rung["drop"]["points"] for rung in result["budget"]["rungs"] if rung["drop"]]
        assert {CHECKPOINTS, FASTER} <= {path.name for path in tmp_path.iterdir()}
        assert result["budget"]["drop"]["points"] <= sorted(judged)[1]  # the least, or what is much nearer


@pytest.mark.parametrize(
    ("points", "worth"),
    [
        (0.2, True),  # what it loses more is within the budget
        (0.9, True),  # no more than a standard error, and training may win it back
        (1.6, False),
    ],
)
def test_little_loss_is_worth_speed(points: float, worth: bool) -> None:
    faster, usual = _candidate(points, 2.0), _candidate(0.0, 1.0)
    faster.verified = cast("Any", SimpleNamespace(passed=True))
    settings = SimpleNamespace(max_drop=0.3, steps=None, ptq_only=False)
    scene = cast("Any", SimpleNamespace(settings=settings, effort=EFFORTS["normal"]))
    assert ladder._is_worth_its_loss(scene, faster, usual) is worth


def test_without_training_the_faster_one_has_to_hold_the_budget_itself() -> None:
    faster, usual = _candidate(0.2, 2.0), _candidate(0.0, 1.0)
    faster.verified = cast("Any", SimpleNamespace(passed=True))
    settings = SimpleNamespace(max_drop=0.3, steps=None, ptq_only=True)
    scene = cast("Any", SimpleNamespace(settings=settings, effort=EFFORTS["normal"]))
    assert not ladder._is_worth_its_loss(scene, faster, usual)  # half a standard error has to be spare
    settings.max_drop = 0.8
    assert ladder._is_worth_its_loss(scene, faster, usual)


def test_more_effort_tries_more() -> None:
    quick, normal, most = (EFFORTS[name] for name in ("quick", "normal", "max"))
    assert quick.steps < normal.steps < most.steps
    assert quick.turns < normal.turns < most.turns
    assert quick.most_float < normal.most_float < most.most_float
    assert set(quick.observers) < set(normal.observers) < set(most.observers)
