"""prepare -> calibrate -> correct -> freeze -> export on real models, the engines as judges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.engines.session import ENGINES, open_session
from ocrslim.engines.targets import TARGETS, get_target
from ocrslim.errors import InputError, VerifyError
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.export.verify import verify_det, verify_rec
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.ocr.render import render_lines, render_pages
from ocrslim.ocr.transforms import normalize, resize_for_rec
from ocrslim.slimming.quantization.bias import correct_bias
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare

Zoo = Callable[[str], Path]


def lines(count: int = 12) -> list[torch.Tensor]:
    """Return batches of four rendered lines ``[4, 3, 48, 320]``."""
    images = [image for image, _ in render_lines("abcdefghijklmnopqrstuvwxyz0123456789", count, 0, ["uni", "sans"])]
    arrays = [resize_for_rec(image, RecProfile(), 320) for image in images]
    return [torch.from_numpy(np.stack(arrays[first : first + 4])) for first in range(0, count, 4)]


def pages() -> list[torch.Tensor]:
    """Return two rendered pages ``[1, 3, 640, 640]``."""
    found = [image[:640, :640] for image, *_ in render_pages(2, 0, fonts=["uni", "sans"])]
    squares = [np.pad(image, ((0, 640 - image.shape[0]), (0, 640 - image.shape[1]), (0, 0))) for image in found]
    profile = DetProfile()
    return [torch.from_numpy(normalize(square, profile.mean, profile.std)[None]) for square in squares]


def quantize(path: Path, target: str, batches: list[torch.Tensor]) -> Quantization:
    graph = canonicalize(load_onnx(path))
    module = GraphModule(graph).eval()
    quantization = prepare(module, place(graph, get_target(target)), get_target(target))
    calibrate(quantization, batches)
    correct_bias(quantization, batches)
    quantization.freeze()
    return quantization


def engine_of(target: str) -> str:
    """Return an engine for the exported ONNX file; Paddle reads its own format only."""
    return target if target in ENGINES else "onnxruntime"


def forward(quantization: Quantization) -> Callable[[np.ndarray], np.ndarray]:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return quantization.module(torch.from_numpy(images)).numpy()  # type: ignore[union-attr]

    return run


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["PP-OCRv6_tiny_rec", "PP-OCRv4_mobile_rec"])
def test_a_recogniser_reads_the_same_in_the_engine(zoo: Zoo, tmp_path: Path, name: str, target: str) -> None:
    batches = lines()
    path = zoo(name)
    quantization = quantize(path, target, batches)
    exported = tmp_path / "int8.onnx"
    export_qdq(quantization, exported)
    onnx.checker.check_model(exported)
    inputs = [batch.numpy() for batch in batches]
    verification = verify_rec(forward(quantization), open_session(exported, engine_of(target), 1), inputs)
    # 480 frames, some of them on a tie between two classes: the required share is for hundreds of lines.
    assert verification.value > 0.97, verification
    assert exported.stat().st_size < 0.45 * path.stat().st_size
    before, after = onnx.load(path), onnx.load(exported)
    assert {item.key: item.value for item in before.metadata_props}.items() <= {
        item.key: item.value for item in after.metadata_props
    }.items()
    assert [value.name for value in before.graph.input] == [value.name for value in after.graph.input]
    assert [value.name for value in before.graph.output] == [value.name for value in after.graph.output]


@pytest.mark.parametrize("target", TARGETS)
def test_a_detector_marks_the_same_in_the_engine(zoo: Zoo, tmp_path: Path, target: str) -> None:
    batches = pages()
    quantization = quantize(zoo("PP-OCRv6_tiny_det"), target, batches)
    exported = tmp_path / "int8.onnx"
    export_qdq(quantization, exported)
    session = open_session(exported, engine_of(target), 1)
    verification = verify_det(forward(quantization), session, [batch.numpy() for batch in batches])
    assert verification.passed, verification


def test_a_model_that_differs_is_no_success(zoo: Zoo) -> None:
    batches = [batch.numpy() for batch in lines(4)]
    session = open_session(zoo("PP-OCRv6_tiny_rec"), "onnxruntime", 1)

    def wrong(images: np.ndarray) -> np.ndarray:
        return np.roll(session.run(images), 1, axis=-1)

    verification = verify_rec(wrong, session, batches)
    assert not verification.passed
    with pytest.raises(VerifyError, match="disagrees"):
        verification.check()
    assert verify_rec(session.run, session, batches).passed
    assert not verify_rec(session.run, session, []).passed


def test_weights_keep_to_the_bits_of_the_target(zoo: Zoo, tmp_path: Path) -> None:
    target = get_target("openvino", ["avx2"])
    graph = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_rec")))
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    calibrate(quantization, lines(4))
    quantization.freeze()
    export_qdq(quantization, tmp_path / "m.onnx")
    initializers = onnx.load(tmp_path / "m.onnx").graph.initializer
    weights = [onnx.numpy_helper.to_array(item) for item in initializers if item.data_type == onnx.TensorProto.INT8]
    large = [weight for weight in weights if weight.size > 1000]
    assert large
    assert min(weight.min() for weight in large) >= -64
    assert max(weight.max() for weight in large) <= 63


def test_integers_that_were_fixed_are_those_of_the_file(zoo: Zoo, tmp_path: Path) -> None:
    """Scales and biases learn, the integers stay; freezing changes nothing of what the module computes."""
    target = get_target("openvino", ["avx2"])
    graph = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_rec")))
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    batch = lines(4)[0]
    calibrate(quantization, [batch])
    quantization.fix_codes()
    fixed = {name: quantizer.codes.clone() for name, quantizer in quantization.weights.items()}
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = quantization.module(batch)
        for scale in quantization.weight_scales():
            scale.add_(0.01 * torch.randn(scale.shape, generator=noise))
        learned = quantization.module(batch)
    assert not torch.equal(learned, before)
    quantization.freeze()
    assert all(quantizer.codes is None for quantizer in quantization.weights.values())
    with torch.no_grad():
        assert torch.allclose(quantization.module(batch), learned, atol=1e-4)
    export_qdq(quantization, tmp_path / "m.onnx")
    found = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert len(fixed) > 10
    for name, codes in fixed.items():
        assert np.array_equal(found[f"{name}_quantized"], codes.numpy()), name


@pytest.mark.parametrize("target", TARGETS)
def test_what_int8_makes_slower_stays_float(zoo: Zoo, target: str) -> None:
    graph = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_det")))
    placement = place(graph, get_target(target))
    nodes = {node.name: node for node in graph.graph}
    for site in placement.sites:
        node = nodes[site.node]
        group = node.attributes.get("group")
        assert group is None or group.as_int() == 1
        assert (site.output_value is not None) == (target == "onnxruntime")
    kinds = {nodes[name].op_type for name in placement.float_nodes}
    assert "ConvTranspose" in kinds
    assert all(placement.float_nodes.values())
    assert len(placement.sites) > 10


def test_a_node_can_be_kept_float_by_name(zoo: Zoo) -> None:
    graph = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_rec")))
    target = get_target("openvino")
    node = place(graph, target).sites[3].node
    kept = place(graph, target, keep_float=[node])
    assert "request" in kept.float_nodes[node]
    assert node not in {site.node for site in kept.sites}
    with pytest.raises(InputError, match="no-such-node"):
        place(graph, target, keep_float=["no-such-node"])


def test_calibration_is_deterministic(zoo: Zoo) -> None:
    one, two = (quantize(zoo("PP-OCRv6_tiny_rec"), "openvino", lines(4)).module.state_dict() for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_passing_floats_on_gives_the_float_model(zoo: Zoo) -> None:
    graph = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_rec")))
    plain, module = GraphModule(graph).eval(), GraphModule(graph).eval()
    quantization = prepare(module, place(graph, get_target("onnxruntime")), get_target("onnxruntime"))
    quantization.set_mode("float")
    batch = lines(4)[0]
    with torch.no_grad():
        assert torch.allclose(module(batch), plain(batch), atol=1e-5)  # type: ignore[arg-type]
