"""What the processes of one compress share, from the side of one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ocrslim.engines.targets import get_target
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, prepare
from ocrslim.slimming.training.distributed import ALONE, Team
from ocrslim.together import assist, dismiss, lead, open_calibration, own_folder, wait_for


def test_only_rank_0_writes_for_the_user(tmp_path: Path) -> None:
    with own_folder(ALONE, tmp_path / "out", ()) as place:
        assert place.parent == tmp_path / "out"
        (place / "model.onnx").write_bytes(b"whole")
    assert (tmp_path / "out" / "model.onnx").is_file()
    with own_folder(Team(1, 2), tmp_path / "out", ()) as other:
        assert tmp_path not in other.parents
        (other / "model.onnx").write_bytes(b"of rank 1")
    assert not other.exists()
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"whole"


def test_alone_nobody_is_told_anything() -> None:
    wait_for(ALONE, opened=False)
    wait_for(ALONE, opened=True)
    dismiss(ALONE)
    done = []
    lead(ALONE, lambda *given: done.append(given))("graph", "quantization")  # type: ignore[arg-type, return-value]
    assert done == [("graph", "quantization")]


class _Heard(Team):
    """Rank 0 of two, whose words are kept; no other process is there."""

    def tell(self, message: Mapping[str, Any] | None = None) -> dict[str, Any]:
        HEARD.append(dict(message or {}))
        return {}

    def share(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
        SENT.append({name: tensor.clone() for name, tensor in tensors.items()})
        return {}, state


HEARD: list[dict[str, Any]] = []


SENT: list[dict[str, Tensor]] = []


class _Told(Team):
    """Rank 1 of two, who hears what rank 0 said, as it comes over the wire."""

    def share(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
        return SENT.pop(0), state

    def tell(self, message: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return json.loads(json.dumps(HEARD.pop(0))) if HEARD else {"do": "end"}

    def part(self) -> None:
        pass


def _network() -> ir.Model:
    """Return a stem and two pointwise convolutions of 72 channels, the second with more weights than stay float."""
    rng = np.random.default_rng(0)
    nodes, weights, source = [], [], "x"
    for name, shape in {"stem": (72, 3, 1, 1), "first": (128, 72, 1, 1), "second": (72, 128, 1, 1)}.items():
        weights.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"{name}.w"))
        nodes.append(helper.make_node("Conv", [source, f"{name}.w"], [f"{name}.y"], name))
        nodes.append(helper.make_node("Sigmoid", [f"{name}.y"], [f"{name}.s"], f"{name}.act"))
        source = f"{name}.s"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("x", source)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.mark.parametrize("outputs", [False, True])
def test_the_others_prepare_what_rank_0_trains(outputs: bool) -> None:
    """The same sites float, outputs and factors of channels: or what they are given would not fit."""
    graph, usual = _network(), get_target("openvino")
    target = replace(usual, quantize_outputs=outputs)
    placement = place(graph, target, {"first"})
    factors = {"second.s": torch.ones(3), "first.s": torch.rand(128) + 0.1}
    ours = prepare(GraphModule(graph), placement, target, factors=factors)
    HEARD.clear()
    lead(_Heard(0, 2), lambda *given: None)(graph, ours)  # type: ignore[arg-type, return-value]
    assert [word["do"] for word in HEARD] == ["train"]
    found: list[Quantization] = []
    scene = SimpleNamespace(graph=graph, target=usual, pact=False)
    assist(_Told(1, 2), scene, lambda graph, theirs: found.append(theirs))  # type: ignore[arg-type, return-value, func-returns-value]
    (theirs,) = found
    assert [site.node for site in theirs.placement.sites] == ["second"]
    assert theirs.placement.sites == placement.sites
    assert any(site.output_value for site in placement.sites) is outputs
    assert list(theirs.factors) == ["first.s"]
    assert torch.equal(theirs.factors["first.s"], factors["first.s"])
    own, other = ours.module.state_dict(), theirs.module.state_dict()
    assert {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in other.items()}


@pytest.mark.parametrize("samples", [None, {"second": torch.ones(2, 3)}])
def test_the_others_calibrate_what_rank_0_calibrates(
    monkeypatch: pytest.MonkeyPatch, samples: dict[str, Tensor] | None
) -> None:
    """The same weights and observer, and the same passes over the images: or rank 0 would wait for them for ever."""
    graph, target = _network(), get_target("openvino")
    ours = prepare(GraphModule(graph), place(graph, target, {"first"}), target)
    with torch.no_grad():
        ours.module.parameter("stem.w").mul_(2.0)  # as of an equalised graph, which the others have not
    found: list[Any] = []
    monkeypatch.setattr("ocrslim.together.calibrate_fully", lambda *given: found.append(given) or {})
    HEARD.clear()
    open_calibration(_Heard(0, 2), [torch.ones(1)], 7)(ours, "mse", samples)
    assert [word["do"] for word in HEARD] == ["calibrate"]
    other = _Told(1, 2)
    scene = SimpleNamespace(
        graph=graph, target=target, pact=False, calibrate=open_calibration(other, [torch.ones(1)], 7)
    )
    assist(other, scene, _unasked)  # type: ignore[arg-type]
    (mine, *rest), (theirs, *others) = found
    assert mine is ours
    assert (rest[0], rest[1], rest[2], rest[3] is None) == (others[0], others[1], others[2], others[3] is None)
    assert rest[:3] == [[torch.ones(1)], "mse", 7]
    assert (rest[3] is None, rest[4].rank, others[4].rank) == (samples is None, 0, 1)
    assert other is others[4]
    states = [quantization.module.state_dict() for quantization in (mine, theirs)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_word_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    HEARD[:] = [{"do": "dance"}]
    with pytest.raises(OcrslimError, match=r"dance.*the same version"):
        assist(_Told(1, 2), SimpleNamespace(), _unasked)  # type: ignore[arg-type]


def _unasked(*given: Any) -> Any:
    raise AssertionError("rank 0 did not ask for it")
