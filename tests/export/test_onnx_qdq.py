"""The exported file: what it holds, and that ONNX Runtime runs it with the int8 kernels that were meant, no more."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.session import open_session
from ocrslim.engines.targets import TARGETS, get_target
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.quantization.channels import find_factors
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare

CHANNELS = 72  # more products than a convolution that stays float has


def network(nodes: Sequence[str], output: str, bare: Sequence[str] = ()) -> ir.Model:
    """Return a graph of a stem and convolutions with Relu: each of ``nodes`` is ``name op input``.

    ``op`` is ``point``, ``depth``, ``full``, or an operator without weights; ``bare`` names convolutions without bias.
    """
    rng = np.random.default_rng(0)
    made, constants = [], []

    def conv(name: str, source: str, channels: int, kernel: int, group: int) -> None:
        weight = rng.normal(size=(CHANNELS, channels // group, kernel, kernel)) / np.sqrt(channels / group) / kernel
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.w"))
        inputs = [source, f"{name}.w"]
        if name not in bare:
            constants.append(numpy_helper.from_array(rng.normal(size=CHANNELS).astype(np.float32), f"{name}.b"))
            inputs.append(f"{name}.b")
        made.append(helper.make_node("Conv", inputs, [name], name, group=group, pads=[kernel // 2] * 4))

    conv("stem", "x", 3, 3, 1)
    for line in nodes:
        name, op, *sources = line.split()
        if op in ("point", "full", "depth"):
            conv(name, sources[0], CHANNELS, 1 if op == "point" else 3, CHANNELS if op == "depth" else 1)
        else:
            made.append(helper.make_node(op, sources, [name], name))
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", "C", "H2", "W2"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    model.metadata_props.add(key="character", value="a\nb")
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


# A Relu network with a depthwise convolution between two pointwise ones, as in PP-OCRv3 det.
MOBILE = (
    "r0 Relu stem",
    "up point r0",
    "r1 Relu up",
    "middle depth r1",
    "r2 Relu middle",
    "down point r2",
    "sum Add down r0",
    "y Sigmoid sum",
)
# A convolution without a bias whose output is pooled and scaled by the result: the neck of PP-OCRv3 det.
NECK = (
    "side point stem",
    "pooled GlobalAveragePool side",
    "gate HardSigmoid pooled",
    "scaled Mul side gate",
    "both Add side scaled",
    "smooth full both",
    "y Sigmoid smooth",
)


def images() -> torch.Tensor:
    return torch.randn(2, 3, 20, 28, generator=torch.Generator().manual_seed(1))


def quantize(model: ir.Model, target: str) -> Quantization:
    goal = get_target(target, ["avx2"])
    quantization = prepare(GraphModule(model).eval(), place(model, goal), goal)
    calibrate(quantization, [images()], "minmax")
    return quantization


def optimised(path: Path, folder: Path) -> Counter[str]:
    """Return the operators of the graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    # The last level's layouts are tied to the machine and can't be written; int8 kernels are chosen before.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("nodes", "bare"), [(MOBILE, ()), (NECK, ("side", "smooth"))])
def test_the_engine_computes_what_torch_computes(
    tmp_path: Path, nodes: Sequence[str], bare: Sequence[str], target: str
) -> None:
    quantization = quantize(network(nodes, "y", bare), target)
    quantization.freeze()
    path = tmp_path / "m.onnx"
    export_qdq(quantization, path)
    onnx.checker.check_model(path, full_check=True)
    ours = quantization.module(images()).detach().numpy()
    theirs = open_session(path, "openvino" if target == "openvino" else "onnxruntime", 1).run(images().numpy())
    # A value on a tie rounds either way, a step of the grid apart; it must stay a rare thing.
    assert np.mean(np.abs(ours - theirs) > 1e-4) < 0.02
    assert np.abs(ours - theirs).max() < 0.03


def test_onnxruntime_leaves_the_depthwise_convolution_float(tmp_path: Path) -> None:
    """It would quantize the weight of any convolution between two grids, with one scale for all channels."""
    quantization = quantize(network(MOBILE, "y"), "onnxruntime")
    quantization.freeze()
    export_qdq(quantization, tmp_path / "m.onnx")
    found = optimised(tmp_path / "m.onnx", tmp_path)
    assert found["QLinearConv"] == 2, found
    assert found["Conv"] + found["FusedConv"] == 2, found


@pytest.mark.parametrize("name", ["PP-OCRv6_tiny_rec", "PP-OCRv3_mobile_det"])
def test_int8_kernels_on_a_real_model(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    graph = canonicalize(load_onnx(zoo(name)))
    target = get_target("onnxruntime", ["avx2"])
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    generator = torch.Generator().manual_seed(0)
    size = (48, 320) if name.endswith("rec") else (96, 96)
    calibrate(quantization, [torch.rand(1, 3, *size, generator=generator) * 2 - 1])
    quantization.freeze()
    export_qdq(quantization, tmp_path / "m.onnx")
    found = optimised(tmp_path / "m.onnx", tmp_path)
    kinds = Counter(site.kind for site in quantization.placement.sites)
    assert kinds["conv"] > 10
    assert found["QLinearConv"] == kinds["conv"]
    assert found["MatMulIntegerToFloat"] + found["QLinearMatMul"] == kinds["matmul"]


def test_one_grid_for_a_value_and_a_reader_of_its_own_for_each_node() -> None:
    model = network(("r0 Relu stem", "a point r0", "b point r0", "c point r0", "s Add a b", "y Add s c"), "y")
    exported = export_qdq(quantize(model, "openvino"))
    found = Counter(node.op_type for node in exported.graph)
    assert found["QuantizeLinear"] == 1
    assert found["DequantizeLinear"] == 3 + 3
    readers = [node.inputs[0].producer() for node in exported.graph if node.name in "abc"]
    assert all(reader is not None and reader.op_type == "DequantizeLinear" for reader in readers)
    assert len(set(map(id, readers))) == 3


def test_integers_and_scales_are_those_of_the_grids() -> None:
    quantization = quantize(network(MOBILE, "y"), "onnxruntime")
    constants = {name: value.const_value.numpy() for name, value in export_qdq(quantization).graph.initializers.items()}
    grid = quantization.weights["up.w"]
    weight = quantization.module.parameter("up.w").detach()
    assert constants["up.w_quantized"].dtype == np.int8
    assert constants["up.w_scale"].shape == (CHANNELS,)
    restored = constants["up.w_quantized"].astype(np.float32) * constants["up.w_scale"].reshape(-1, 1, 1, 1)
    assert np.allclose(restored, grid(weight).detach(), atol=1e-6)
    assert constants["r0_scale"] == pytest.approx(quantization.activations["r0"].scale.item())
    assert constants["r0_zero_point"].dtype == np.uint8
    bias = constants["up.b_up_quantized"]
    assert bias.dtype == np.int32
    assert np.allclose(constants["up.b_up_scale"], constants["r0_scale"] * constants["up.w_scale"])
    assert np.allclose(bias * constants["up.b_up_scale"], quantization.module.parameter("up.b").detach(), atol=1e-3)
    assert "up.w" not in constants
    assert "up.b" not in constants
    assert "middle.w" in constants


def test_names_and_metadata_stay() -> None:
    model = network(MOBILE, "y")
    exported = export_qdq(quantize(model, "onnxruntime"))
    assert dict(exported.metadata_props) == {"character": "a\nb"}
    assert [value.name for value in exported.graph.inputs] == ["x"]
    assert [value.name for value in exported.graph.outputs] == ["y"]
    names = [node.name for node in exported.graph]
    assert {node.name for node in model.graph} <= set(names)
    assert len(names) == len(set(names))
    values = [value.name for node in exported.graph for value in node.outputs]
    assert len(values) == len(set(values))
    assert exported.opset_imports[""] == 20


@pytest.mark.parametrize("target", TARGETS)
def test_a_bare_convolution_is_given_a_bias_that_is_not_zero(target: str) -> None:
    quantization = quantize(network(NECK, "y", ("side", "smooth")), target)
    assert set(quantization.biases) <= {"side", "smooth"}
    assert "side" in quantization.biases
    exported = export_qdq(quantization)
    node = next(node for node in exported.graph if node.name == "side")
    assert len(node.inputs) == 3
    if target == "openvino":
        bias = node.inputs[2].const_value.numpy()
        assert bias.shape == (CHANNELS,)
        assert bias.any()
        assert np.abs(bias).max() < 1e-6
    with torch.no_grad():
        quantization.biases["side"].bias.fill_(0.5)
    exported = export_qdq(quantization)
    if target == "openvino":
        assert (exported.graph.initializers["side_bias"].const_value.numpy() == 0.5).all()


def test_a_dead_channel_does_not_overflow_the_bias() -> None:
    model = network(MOBILE, "y")
    quantization = quantize(model, "onnxruntime")
    with torch.no_grad():
        quantization.module.parameter("up.w")[3] = 0.0
        quantization.module.parameter("up.b")[3] = 1000.0
        grid = quantization.weights["up.w"]
        scale = grid.scale
        scale[3] = 1e-9
        grid.set_grid(scale)
    with pytest.raises(OverflowError, match=r"up\.b"):
        export_qdq(quantization)
    quantization.freeze()
    constants = export_qdq(quantization).graph.initializers
    bias = constants["up.b_up_quantized"].const_value.numpy()[3] * constants["up.b_up_scale"].const_value.numpy()[3]
    assert bias == pytest.approx(1000.0, rel=1e-5)


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantization = quantize(network(MOBILE, "y"), "openvino")
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def broken(*_arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("ocrslim.export.onnx_qdq.ir.save", broken)
    with pytest.raises(OSError, match="no space"):
        export_qdq(quantization, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    export_qdq(quantization, path)
    assert list(tmp_path.iterdir()) == [path]
    onnx.checker.check_model(path)


def test_exporting_twice_gives_the_same_file(tmp_path: Path) -> None:
    quantization = quantize(network(MOBILE, "y"), "onnxruntime")
    for name in ("a.onnx", "b.onnx"):
        export_qdq(quantization, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_target_of_signed_activations_is_written_as_int8() -> None:
    goal = get_target("onnxruntime", ["avx2"])
    goal = dataclasses.replace(goal, activation=dataclasses.replace(goal.activation, signed=True, symmetric=True))
    model = network(MOBILE, "y")
    quantization = prepare(GraphModule(model).eval(), place(model, goal), goal)
    calibrate(quantization, [images()], "minmax")
    constants = export_qdq(quantization).graph.initializers
    assert constants["r0_zero_point"].const_value.numpy().dtype == np.int8
    assert constants["r0_zero_point"].const_value.numpy() == 0


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_channels_with_factors_are_divided_by_the_node_that_quantizes(tmp_path: Path, target: str) -> None:
    model = network(MOBILE, "y")
    goal = get_target(target, ["avx2"])
    placement = place(model, goal)
    factors = find_factors(GraphModule(model), placement, goal.activation, [images()])
    quantization = prepare(GraphModule(model).eval(), placement, goal, factors=factors)
    calibrate(quantization, [images()], "minmax")
    quantization.freeze()
    path = tmp_path / "m.onnx"
    export_qdq(quantization, path)
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    makers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    readers = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] not in arrays]
    divided = [node for node in makers if node.attribute]
    assert {node.input[0] for node in divided} == set(factors)
    assert len(factors) >= 1
    for node in divided:
        assert node.attribute[0].name == "axis"
        assert arrays[node.input[1]].shape == arrays[node.input[2]].shape == (CHANNELS,)
        factor = arrays[node.input[1]] / arrays[f"{node.input[0]}_scale"]
        assert np.allclose(factor, factors[node.input[0]].numpy())
    of_factors = [node for node in readers if node.input[0].removesuffix("_quantized") in factors]
    assert of_factors
    assert all(arrays[node.input[1]].shape == () for node in of_factors)
    with torch.no_grad():
        expected = quantization.module(images()).numpy()
    off = np.abs(open_session(path, target).run(images().numpy()) - expected)
    assert np.mean(off > 2e-3) < 5e-3  # a tie between two integers may fall either way
