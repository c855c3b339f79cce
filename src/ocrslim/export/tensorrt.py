"""A folder for TensorRT: an ONNX file whose Q/DQ nodes keep the rules of explicit quantization, and two scripts.

**Nothing of it was run on a GPU here.** What was done: every rule below is checked on the file that is written, and the
file computes in ONNX Runtime what its nodes say. The scripts are for whoever has the GPU.

The rules, after "Working with Quantized Types" and "Explicit Quantization" in NVIDIA's TensorRT documentation:

1. Scales are constants, positive and finite; a zero point is int8 and 0, for TensorRT has no others.
2. An activation has one scale; a weight one for each output channel.
3. What QuantizeLinear makes is read by DequantizeLinear nodes alone, with the same scale.
4. An operator with weights has both inputs dequantized or neither; with one alone it runs in float, at the cost of the
   conversions.
5. Biases are float: TensorRT adds them to the 32-bit sums itself.
6. Where a sum is all that reads a quantized operator's output, its other input is dequantized: only so can the sum
   become part of the convolution.
7. Between a convolution and the Relu, Clip or BatchNormalization that reads it stands no Q/DQ, which would part them.
8. The opset is 13 at least, the first with scales for each channel, and all operators are standard ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ocrslim.atomic import write_bytes
from ocrslim.config.profile import Task
from ocrslim.engines.session import open_session
from ocrslim.errors import InputError, ModelError
from ocrslim.export.bundle import Deployable, require_target, write_model, write_readme, write_sidecars
from ocrslim.export.tensorrt_scripts import build_script, run_script
from ocrslim.export.verify import Verification, verify_det, verify_rec
from ocrslim.graph.passes.base import attribute

__all__ = ["NOT_RUN", "Breach", "check_rules", "export_tensorrt"]

NOT_RUN = "It was not run in TensorRT: there was no such GPU where it was made. Build it and compare on yours."
LEAST_OPSET = 13
WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
FUSED = ("Relu", "Clip", "BatchNormalization")  # into the convolution before
SHOWN = 5  # breaches in one message
THREADS = 2
# Shapes of one profile: the least, the usual and the largest input.
SHAPES: dict[Task, tuple[str, str, str]] = {
    "det": ("1x3x32x32", "1x3x736x736", "1x3x2048x2048"),
    "rec": ("1x3x48x32", "6x3x48x320", "8x3x48x3200"),
}


@dataclass(frozen=True)
class Breach:
    """A node that breaks a rule.

    Args:
        node: its name.
        rule: number in this module's description.
        what: is wrong, in words.
    """

    node: str
    rule: int
    what: str

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{self.node}: rule {self.rule}, {self.what}"


def check_rules(model: ir.Model) -> list[Breach]:
    """Return every breach of the rules of explicit quantization, in the order of the rules.

    Args:
        model: with Q/DQ nodes; not changed.
    """
    checks = (_grids, _scales, _pairs, _inputs, _biases, _sums, _fusions, _operators)
    return [
        Breach(name, number, what) for number, check in enumerate(checks, start=1) for name, what in check(model.graph)
    ]


def export_tensorrt(
    deployable: Deployable, out: Path, batches: Iterable[NDArray[np.float32]]
) -> tuple[tuple[Path, ...], Verification]:
    """Write the folder: the model, the sidecars, ``build.sh`` (trtexec) and ``run.py`` (ONNX Runtime's provider).

    Args:
        deployable: compressed for TensorRT.
        out: exists.
        batches: by which ONNX Runtime's int8 kernels are compared with the graph run as it is written.

    Raises:
        InputError: it is float, or was compressed for another engine.
        ModelError: a node breaks a rule.
        VerifyError: ONNX Runtime's int8 kernels compute something else than the graph says.
    """
    if deployable.target is None:
        raise InputError(
            f"{deployable.source.path}: is float, which trtexec takes as it is; compress it with --target tensorrt"
        )
    require_target(deployable, ("tensorrt",), "TensorRT")
    broken = check_rules(deployable.model)
    if broken:
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise ModelError(f"{deployable.source.path}: TensorRT: {'; '.join(map(str, broken[:SHOWN]))}{more}")
    source = deployable.source
    model = write_model(deployable, out / "model.onnx")
    verify = verify_rec if source.task == "rec" else verify_det
    written = open_session(model, "onnxruntime", THREADS, optimize=False)
    verification = verify(written.run, open_session(model, "onnxruntime", THREADS), batches)
    verification.check()
    shapes, name = SHAPES[source.task], _input(deployable.model)
    scripts = [out / "build.sh", out / "run.py"]
    write_bytes(scripts[0], build_script(name, shapes).encode())
    scripts[0].chmod(0o755)
    write_bytes(scripts[1], run_script(name, shapes).encode())
    sidecars = write_sidecars(out, source.inference_yml, source.characters)
    code = (
        "import subprocess",
        f'subprocess.run(["{out.name}/build.sh"], check=True)  # trtexec: writes model.plan and prints its latency',
        f'subprocess.run(["python", "{out.name}/run.py"], check=True)  # ONNX Runtime: GPU against CPU',
    )
    notes = (
        f"**{NOT_RUN}**",
        "Here every node was checked against the rules of explicit quantization (symmetric int8, zero point 0, a scale"
        " for each channel of a weight, the other input of a sum quantized), and ONNX Runtime computed on the CPU what"
        f" the graph says ({verification.kind} {verification.value:.4f} of {verification.n}).",
    )
    return (model, *scripts, *sidecars, *write_readme(out, deployable, "TensorRT", code, notes)), verification


def _input(model: ir.Model) -> str:
    name = model.graph.inputs[0].name
    assert name, "an input without a name is no ONNX"
    return name


_Found = Iterator[tuple[str, str]]


def _grids(graph: ir.Graph) -> _Found:
    """Rule 1."""
    for node in _quantizing(graph):
        scale, zero_point = _array(node, 1), _array(node, 2)
        if scale is None:
            yield _name(node), "its scale is no constant"
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            yield _name(node), "its scale is not positive and finite"
        if len(node.inputs) < 3 or node.inputs[2] is None:
            yield _name(node), "it has no zero point, which makes it uint8"
        elif zero_point is None:
            yield _name(node), "its zero point is no constant"
        elif zero_point.dtype != np.int8:
            yield _name(node), f"its zero point is {zero_point.dtype}, not int8"
        elif zero_point.any():
            yield _name(node), "its zero point is not 0"


def _scales(graph: ir.Graph) -> _Found:
    """Rule 2."""
    for node in _quantizing(graph):
        scale = _array(node, 1)
        if scale is not None and scale.size != 1 and _array(node, 0) is None:
            yield _name(node), f"an activation with {scale.size} scales"
    for node in graph:
        maker = _dequantizer(node, 1) if node.op_type in WEIGHTED else None
        if maker is None:
            continue
        weight, scale = _array(maker, 0), _array(maker, 1)
        if weight is None or scale is None:
            continue
        axis = _channel_axis(node)
        channels = weight.shape[axis]
        if scale.size != channels or attribute(maker, "axis", 1) not in (axis, axis - weight.ndim):
            yield _name(maker), f"a weight wants {channels} scales along axis {axis}"


def _pairs(graph: ir.Graph) -> _Found:
    """Rule 3."""
    for node in graph:
        if node.op_type != "QuantizeLinear":
            continue
        scale = _array(node, 1)
        for reader, _ in node.outputs[0].uses():
            if reader.op_type != "DequantizeLinear":
                yield _name(node), f"{_name(reader)} ({reader.op_type}) reads it without DequantizeLinear"
                continue
            theirs = _array(reader, 1)
            if scale is not None and theirs is not None and not np.array_equal(scale.ravel(), theirs.ravel()):
                yield _name(node), f"{_name(reader)} dequantizes it with another scale"


def _inputs(graph: ir.Graph) -> _Found:
    """Rule 4; a product of two activations has no weight."""
    for node in graph:
        if node.op_type not in WEIGHTED:
            continue
        data, weight = (_dequantizer(node, index) is not None for index in (0, 1))
        if weight and not data:
            yield _name(node), "its weight is quantized, its input is not"
        if data and not weight and _constant(node, 1):
            yield _name(node), "its input is quantized, its weight is not"


def _biases(graph: ir.Graph) -> _Found:
    """Rule 5."""
    for node in graph:
        if node.op_type in WEIGHTED and _dequantizer(node, 2) is not None:
            yield _name(node), "its bias is quantized"


def _sums(graph: ir.Graph) -> _Found:
    """Rule 6."""
    for node in graph:
        if node.op_type != "Add" or any(_constant(node, index) for index in (0, 1)):
            continue
        alone = [_is_quantized_alone(value) for value in node.inputs]
        dequantized = [_dequantizer(node, index) is not None for index in (0, 1)]
        if any(alone) and not any(dequantized):
            other = node.inputs[1 - alone.index(True)]
            yield _name(node), f"its other input {other.name if other else ''!r} is not quantized"


def _fusions(graph: ir.Graph) -> _Found:
    """Rule 7."""
    for node in graph:
        maker = _dequantizer(node, 0) if node.op_type in FUSED else None
        quantizer = maker.inputs[0].producer() if maker is not None and maker.inputs[0] is not None else None
        source = quantizer.inputs[0] if quantizer is not None else None
        convolution = source.producer() if source is not None else None
        if convolution is not None and convolution.op_type == "Conv":
            yield _name(node), f"Q/DQ part it from the convolution {_name(convolution)}"


def _operators(graph: ir.Graph) -> _Found:
    """Rule 8."""
    opset = graph.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        yield "model", f"its opset is {opset}, {LEAST_OPSET} is the least"
    for node in graph:
        if node.domain not in ("", "ai.onnx"):
            yield _name(node), f"operator {node.domain}.{node.op_type} is none of ONNX's own"


def _quantizing(graph: ir.Graph) -> Iterator[ir.Node]:
    return (node for node in graph if node.op_type in ("QuantizeLinear", "DequantizeLinear"))


def _dequantizer(node: ir.Node, index: int) -> ir.Node | None:
    """Return the DequantizeLinear that makes input ``index``."""
    value = node.inputs[index] if index < len(node.inputs) else None
    maker = value.producer() if value is not None else None
    return maker if maker is not None and maker.op_type == "DequantizeLinear" else None


def _is_quantized_alone(value: ir.Value | None) -> bool:
    """Tell whether a quantized operator makes the value, with or without a bias added behind it, for one reader."""
    node = value.producer() if value is not None else None
    if value is None or node is None or len(list(value.uses())) != 1:
        return False
    if node.op_type == "Add" and any(_constant(node, index) for index in (0, 1)):
        index = 1 if _constant(node, 0) else 0
        return _is_quantized_alone(node.inputs[index])
    return node.op_type in WEIGHTED and _dequantizer(node, 0) is not None and _dequantizer(node, 1) is not None


def _channel_axis(node: ir.Node) -> int:
    """Return the axis of the output channels in the weight."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1


def _constant(node: ir.Node, index: int) -> bool:
    value = node.inputs[index] if index < len(node.inputs) else None
    return value is not None and value.const_value is not None


def _array(node: ir.Node, index: int) -> np.ndarray | None:
    """Return the value of input ``index`` where it is constant."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None:
        return None
    array: np.ndarray = value.const_value.numpy()
    return array


def _name(node: ir.Node) -> str:
    return node.name or node.op_type
