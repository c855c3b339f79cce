"""The rules of explicit quantization: what we write keeps them all, and each breach is named by its node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim import compress
from ocrslim.engines.targets import get_target
from ocrslim.errors import InputError, ModelError
from ocrslim.export.bundle import open_deployable
from ocrslim.export.deploy import export_bundle, rendered_batches
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.export.tensorrt import NOT_RUN, Breach, check_rules, export_tensorrt
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.training import data

CHANNELS = 72
TENSORRT = get_target("tensorrt")


def network() -> ir.Model:
    """A stem, a block with a shortcut, a convolution with Relu, and a product with a bias of its own."""
    rng = np.random.default_rng(0)
    constants, nodes = [], []

    def conv(name: str, source: str, channels: int, kernel: int) -> None:
        weight = rng.normal(size=(CHANNELS, channels, kernel, kernel)) / np.sqrt(channels) / kernel
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.w"))
        constants.append(numpy_helper.from_array(rng.normal(size=CHANNELS).astype(np.float32), f"{name}.b"))
        nodes.append(
            helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [f"{name}.y"], name, pads=[kernel // 2] * 4)
        )

    def op(kind: str, sources: Sequence[str], name: str, **attributes: object) -> None:
        nodes.append(helper.make_node(kind, list(sources), [f"{name}.y"], name, **attributes))

    conv("stem", "x", 3, 3)
    op("Relu", ["stem.y"], "start")
    conv("first", "start.y", CHANNELS, 1)
    op("Relu", ["first.y"], "relu")
    conv("second", "relu.y", CHANNELS, 3)
    op("Add", ["second.y", "start.y"], "sum")
    op("Transpose", ["sum.y"], "turned", perm=[0, 2, 3, 1])
    constants.append(numpy_helper.from_array(rng.normal(size=(CHANNELS, CHANNELS)).astype(np.float32) / 8, "product.w"))
    constants.append(numpy_helper.from_array(rng.normal(size=CHANNELS).astype(np.float32), "product.b"))
    op("MatMul", ["turned.y", "product.w"], "product")
    op("Add", ["product.y", "product.b"], "bias")
    op("Add", ["turned.y", "bias.y"], "last")
    op("Sigmoid", ["last.y"], "end")
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("end.y", TensorProto.FLOAT, None)],
        constants,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def images() -> torch.Tensor:
    return torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def exported() -> ir.Model:
    """The network as it is written for TensorRT."""
    model = network()
    quantization = prepare(GraphModule(model).eval(), place(model, TENSORRT), TENSORRT)
    calibrate(quantization, [images()], "minmax")
    quantization.freeze()
    return export_qdq(quantization)


def node_of(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def maker_of(model: ir.Model, name: str, index: int) -> ir.Node:
    value = node_of(model, name).inputs[index]
    assert value is not None
    maker = value.producer()
    assert maker is not None
    return maker


def set_constant(node: ir.Node, index: int, array: np.ndarray) -> None:
    tensor = ir.tensor(array)
    node.replace_input_with(index, ir.Value(name=f"{node.name}.{index}", const_value=tensor))


def broken(model: ir.Model, rule: int) -> list[str]:
    """Return the names of the nodes that break a rule; no other rule may be broken."""
    found = check_rules(model)
    assert {breach.rule for breach in found} == {rule}, [str(breach) for breach in found]
    return [breach.node for breach in found]


def test_what_we_write_keeps_every_rule(exported: ir.Model) -> None:
    assert check_rules(exported) == []
    kinds = [node.op_type for node in exported.graph]
    assert kinds.count("QuantizeLinear") == 3, "start, relu and turned; both sums read one of them"
    assert kinds.count("DequantizeLinear") == 3 + 3 + 2


def test_the_network_computes_in_onnxruntime_what_torch_computed(exported: ir.Model, run: Callable[..., list]) -> None:
    model = network()
    quantization = prepare(GraphModule(model).eval(), place(model, TENSORRT), TENSORRT)
    calibrate(quantization, [images()], "minmax")
    quantization.freeze()
    with torch.no_grad():
        ours = quantization.module(images()).numpy()
    (theirs,) = run(exported, images().numpy())
    assert np.mean(np.abs(ours - theirs) > 1e-4) < 0.02
    assert np.abs(ours - theirs).max() < 0.03


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_what_is_made_for_other_engines_breaks_the_first_rule(target: str) -> None:
    goal = get_target(target, ["avx2"])
    model = network()
    quantization = prepare(GraphModule(model).eval(), place(model, goal), goal)
    calibrate(quantization, [images()], "minmax")
    quantization.freeze()
    found = check_rules(export_qdq(quantization))
    assert any(breach.rule == 1 and "uint8" in breach.what for breach in found)
    assert any(breach.rule == 6 and breach.node == "sum" for breach in found) == (target == "openvino")
    assert any(breach.rule == 5 for breach in found) == (target == "onnxruntime")


@pytest.mark.parametrize(
    ("index", "array", "said"),
    [
        (1, np.array(0.0, np.float32), "not positive"),
        (1, np.array(np.inf, np.float32), "not positive and finite"),
        (2, np.array(3, np.int8), "not 0"),
        (2, np.array(0, np.uint8), "uint8, not int8"),
    ],
)
def test_rule_1_grids(exported: ir.Model, index: int, array: np.ndarray, said: str) -> None:
    quantizer = maker_of(exported, "second", 0)
    set_constant(quantizer, index, array)
    found = [breach for breach in check_rules(exported) if breach.rule == 1]
    assert [breach.node for breach in found] == [quantizer.name]
    assert said in found[0].what


def test_rule_1_no_zero_point_and_no_constant(exported: ir.Model) -> None:
    quantizer = maker_of(exported, "second", 0)
    quantizer.resize_inputs(2)
    assert broken(exported, 1) == [quantizer.name]
    quantizer.replace_input_with(1, exported.graph.inputs[0])
    whats = [breach.what for breach in check_rules(exported)]
    assert whats == ["its scale is no constant", "it has no zero point, which makes it uint8"]


def test_rule_2_an_activation_has_one_scale(exported: ir.Model) -> None:
    reader = maker_of(exported, "second", 0)
    quantizer = reader.inputs[0].producer() if reader.inputs[0] else None
    assert quantizer is not None
    for node in (reader, quantizer):
        set_constant(node, 1, np.full(CHANNELS, 0.1, np.float32))
        set_constant(node, 2, np.zeros(CHANNELS, np.int8))
    assert set(broken(exported, 2)) == {reader.name, quantizer.name}


@pytest.mark.parametrize(("node", "axis"), [("second", 1), ("product", 0)])
def test_rule_2_a_weight_has_a_scale_for_each_output_channel(exported: ir.Model, node: str, axis: int) -> None:
    dequantizer = maker_of(exported, node, 1)
    dequantizer.attributes["axis"] = ir.AttrInt64("axis", axis)
    assert broken(exported, 2) == [dequantizer.name]
    dequantizer.attributes["axis"] = ir.AttrInt64("axis", {"second": 0, "product": -1}[node])
    assert check_rules(exported) == []
    set_constant(dequantizer, 1, np.array(0.1, np.float32))
    assert broken(exported, 2) == [dequantizer.name]


def test_rule_3_pairs(exported: ir.Model) -> None:
    reader = maker_of(exported, "second", 0)
    quantizer = reader.inputs[0].producer() if reader.inputs[0] else None
    assert quantizer is not None
    set_constant(reader, 1, np.array(0.5, np.float32))
    assert broken(exported, 3) == [quantizer.name]
    node_of(exported, "end").replace_input_with(0, quantizer.outputs[0])
    assert len(broken(exported, 3)) == 2


def test_rule_4_both_inputs_or_neither(exported: ir.Model) -> None:
    second = node_of(exported, "second")
    quantized = second.inputs[0]
    second.replace_input_with(0, node_of(exported, "relu").outputs[0])
    assert broken(exported, 4) == ["second"]
    second.replace_input_with(0, quantized)
    set_constant(second, 1, np.zeros((CHANNELS, CHANNELS, 3, 3), np.float32))
    assert broken(exported, 4) == ["second"]


def test_rule_5_biases(exported: ir.Model) -> None:
    second = node_of(exported, "second")
    dequantizer = maker_of(exported, "second", 1)
    second.replace_input_with(2, dequantizer.outputs[0])
    assert broken(exported, 5) == ["second"]


def test_rule_6_the_other_input_of_a_sum(exported: ir.Model) -> None:
    for name, index, source in (("sum", 1, "start"), ("last", 0, "turned")):
        node = node_of(exported, name)
        quantized = node.inputs[index]
        node.replace_input_with(index, node_of(exported, source).outputs[0])
        assert broken(exported, 6) == [name]
        node.replace_input_with(index, quantized)
    assert check_rules(exported) == []


def test_rule_7_what_is_fused_stays_together(exported: ir.Model) -> None:
    # The pair that stands behind the Relu is moved before it.
    relu, second = node_of(exported, "relu"), node_of(exported, "second")
    reader = maker_of(exported, "second", 0)
    quantizer = reader.inputs[0].producer() if reader.inputs[0] else None
    assert quantizer is not None
    quantizer.replace_input_with(0, node_of(exported, "first").outputs[0])
    relu.replace_input_with(0, reader.outputs[0])
    other = ir.Node("", "DequantizeLinear", list(reader.inputs), name="other")
    other.outputs[0].name = "other.y"
    exported.graph.append(other)
    second.replace_input_with(0, other.outputs[0])
    assert broken(exported, 7) == ["relu"]


def test_rule_8_opset_and_operators(exported: ir.Model) -> None:
    exported.graph.opset_imports[""] = 11
    node_of(exported, "end").domain = "com.microsoft"
    assert broken(exported, 8) == ["model", "end"]


def test_a_breach_is_a_line() -> None:
    assert str(Breach("conv1", 5, "its bias is quantized")) == "conv1: rule 5, its bias is quantized"


def test_the_folder_of_a_real_detector(compressed: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    deployable = open_deployable(compressed("det", "tensorrt"))
    page = np.ascontiguousarray(rendered_batches(deployable.source)[0][:, :, :320, :320])
    written, verification = export_tensorrt(deployable, out, [page])
    names = ["model.onnx", "build.sh", "run.py", "inference.yml", "README.md", "MODEL_CARD.md"]
    assert [path.name for path in written] == names
    assert verification.passed
    text = (out / "README.md").read_text(encoding="utf-8")
    assert NOT_RUN in text
    assert len(text.split("```python\n")[1].split("\n```")[0].splitlines()) == 3
    script = (out / "build.sh").read_text(encoding="utf-8")
    assert "--minShapes=x:1x3x32x32 --optShapes=x:1x3x736x736" in script
    subprocess.run(["bash", "-n", str(out / "build.sh")], check=True)
    assert (out / "build.sh").stat().st_mode & 0o100


def test_a_real_recogniser_without_quantized_sums_is_refused(compressed: Callable[..., Path], tmp_path: Path) -> None:
    deployable = open_deployable(compressed("rec", "tensorrt"))
    with pytest.raises(
        ModelError, match=r"TensorRT: tmp_150: rule 6, its other input 'transpose_43.tmp_0' is not quantized"
    ) as caught:
        export_tensorrt(deployable, tmp_path, ())
    assert "\n" not in str(caught.value)


def test_other_models_are_refused(compressed: Callable[..., Path], zoo: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is float, which trtexec takes as it is; compress it with --target tensorrt"):
        export_tensorrt(open_deployable(zoo("PP-OCRv6_tiny_det")), tmp_path, ())
    with pytest.raises(InputError, match="was compressed for openvino; TensorRT runs it in tensorrt"):
        export_tensorrt(open_deployable(compressed("rec", "openvino")), tmp_path, ())


def test_the_program_runs_on_a_machine_without_a_gpu(compressed: Callable[..., Path], tmp_path: Path) -> None:
    # All but the GPU: it finds no provider, says so, and compares the CPU with itself.
    out = tmp_path / "out"
    out.mkdir()
    deployable = open_deployable(compressed("det", "tensorrt"))
    page = np.ascontiguousarray(rendered_batches(deployable.source)[0][:, :, :320, :320])
    export_tensorrt(deployable, out, [page])
    program = (out / "run.py").read_text(encoding="utf-8").replace("RUNS = 50", "RUNS = 1")
    (out / "run.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, str(out / "run.py"), "64x64"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "There is no GPU provider in this onnxruntime" in done.stdout
    assert "intersection over union:" in done.stdout
    assert "input 1x3x64x64: CPU" in done.stdout


@pytest.mark.parametrize("name", ["PP-OCRv6_tiny_rec", "PP-OCRv3_mobile_det", "PP-OCRv4_mobile_rec"])
def test_real_models_keep_the_rules(name: str, zoo: Callable[[str], Path]) -> None:
    graph = canonicalize(load_onnx(zoo(name)))
    placement = place(graph, TENSORRT)
    quantization = prepare(GraphModule(graph).eval(), placement, TENSORRT)
    size = (48, 160) if name.endswith("rec") else (64, 64)
    calibrate(quantization, [torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1])
    quantization.freeze()
    exported = export_qdq(quantization)
    assert [str(breach) for breach in check_rules(exported)] == []
    assert len(placement.residuals) > 0
    # Without the sums' other inputs the checker finds exactly those sums.
    without = prepare(GraphModule(graph).eval(), replace(placement, residuals=()), TENSORRT)
    calibrate(without, [torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1])
    without.freeze()
    assert {breach.node for breach in check_rules(export_qdq(without))} == {item.node for item in placement.residuals}


@pytest.mark.slow
def test_a_compression_for_tensorrt_goes_into_its_folder(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo("PP-OCRv6_tiny_rec")
    monkeypatch.setattr(data, "RENDERED", {"rec": 200, "det": 6})
    monkeypatch.setattr(data, "CALIBRATION_IMAGES", {"rec": 32, "det": 2})
    monkeypatch.setattr(compress, "MIN_BENCH_SECONDS", 0.2)
    settings = compress.CompressSettings("tensorrt", tmp_path, ptq_only=True, effort="quick", threads=1)
    result = compress.compress("PP-OCRv6_tiny_rec", settings)
    assert (result["target"], result["engine"]) == ("tensorrt", "onnxruntime")
    assert any("TensorRT did not run the model here" in note for note in result["notes"])
    assert "never run in TensorRT" in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    done = export_bundle(tmp_path, "tensorrt")
    assert done.notes == (NOT_RUN,)
    assert done.verification is not None
    assert done.verification.passed
