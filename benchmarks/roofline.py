"""How far from the roofs of this machine a model is in OpenVINO, layer class by layer class.

Two roofs are measured in the same engine with the same threads: multiplications a second, of a large pointwise
convolution in float32 and in int8, and bytes a second that an addition reads and writes, of a tensor that stays in the
caches. No layer can take less time than its multiplications at the one rate and its bytes at the other (the roofline
model, Williams et al. 2009). A model's layers are those that OpenVINO really runs, after its own fusions, with the
times that it reports of them (PERF_COUNT), the median of many runs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from openvino import frontend
from table import markdown

from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.timing import timed_shape
from ocrslim.errors import OcrslimError
from ocrslim.graph.importers.source import open_model

PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
TOLD = ("layerType", "primitiveType", "outputPrecisions", "execTimeMcs")
MOVES = ("Reorder", "Transpose", "Concatenation", "Reshape", "Split", "StridedSlice", "DepthToSpace", "Convert", "Pad")
BYTES = {"f32": 4, "i32": 4, "u8": 1, "i8": 1, "i64": 8}
CHANNELS, SIDE = 256, 64  # of the convolution whose rate is the roof
CACHED = (1, 32, 128, 128)  # 2 MiB of float32
WARM_UP = 5
SUMMED = ("ms", "GMAC", "GMAC/s", "least ms", "times the least")  # of a whole model
CLASSES = (
    *("pointwise conv", "conv", "depthwise, grouped conv", "transposed conv", "product of matrices"),
    *("elementwise, pool, norm", "reorder, copy"),
)
HEADINGS = ("layers", "number", "ms", "share %", "GMAC", "GMAC/s", "least ms", "times the least")


@dataclass(frozen=True)
class Layer:
    """One layer as it was run.

    Args:
        name: that the engine gives it.
        kind: class of layers.
        macs: multiplications with their additions.
        bytes: that it reads and writes, weights included.
        int8: whether its products are of 8-bit integers.
        seconds: median of the runs.
    """

    name: str
    kind: str
    macs: int
    bytes: int
    int8: bool
    seconds: float


@dataclass(frozen=True)
class Roofs:
    """What this machine can do in this engine.

    Args:
        float_macs: multiplications a second in float32.
        int8_macs: of u8 by s8.
        bandwidth: bytes a second from and to the caches.
    """

    float_macs: float
    int8_macs: float
    bandwidth: float

    def least(self, layer: Layer) -> float:
        """Return the least time that a layer can take, seconds."""
        return max(layer.macs / (self.int8_macs if layer.int8 else self.float_macs), layer.bytes / self.bandwidth)


def count_macs(layer_type: str, output: Sequence[int], inputs: Sequence[Sequence[int]]) -> int:
    """Return the multiplications of a layer of OpenVINO's runtime graph; 0 for what is no product.

    Args:
        layer_type: as OpenVINO calls it.
        output: its shape.
        inputs: shapes; a convolution's weights are ``[O, I, h, w]``, ``[G, O, I, h, w]`` where it is grouped.
    """
    if layer_type == "Convolution":
        weight = inputs[1]
        return math.prod(output) * math.prod(weight[1:] if len(weight) == len(output) else weight[2:])
    if layer_type == "Deconvolution":
        weight = inputs[1]
        return math.prod(inputs[0]) * math.prod(weight[1:] if len(weight) == len(output) else weight[2:])
    if layer_type in ("FullyConnected", "MatMul"):
        return math.prod(output) * inputs[0][-1]
    return 0


def kind_of(layer_type: str, output: Sequence[int], inputs: Sequence[Sequence[int]], int8: bool) -> str:
    """Return the class of a layer; see :func:`count_macs` for what is given."""
    precision = "int8" if int8 else "float"
    if layer_type == "Convolution":
        weight = inputs[1]
        if len(weight) > len(output):
            return f"depthwise, grouped conv, {precision}"
        return f"pointwise conv, {precision}" if math.prod(weight[2:]) == 1 else f"conv, {precision}"
    if layer_type == "Deconvolution":
        return f"transposed conv, {precision}"
    if layer_type in PRODUCTS:
        return f"product of matrices, {precision}"
    return "reorder, copy" if layer_type in MOVES else "elementwise, pool, norm"


def profile(path: Path, shape: Sequence[int], threads: int, runs: int) -> tuple[list[Layer], float]:
    """Run a model and return its layers, and the time of a whole run by the same counters, seconds.

    Args:
        path: ONNX file.
        shape: of the input.
        threads: of a run.
        runs: that are counted.
    """
    reader = frontend.FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    model.reshape(list(shape))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", settings | {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    batch = np.random.default_rng(0).random(shape, np.float32)
    times: dict[str, list[float]] = {}
    for turn in range(WARM_UP + runs):
        request.infer({0: batch}, share_inputs=True)
        if turn >= WARM_UP:
            for row in request.profiling_info:
                times.setdefault(row.node_name, []).append(row.real_time.total_seconds())
    found = {name: statistics.median(values) for name, values in times.items()}
    return list(_layers(compiled.get_runtime_model(), found)), sum(found.values())


def _layers(graph: openvino.Model, times: Mapping[str, float]) -> Iterable[Layer]:
    for op in graph.get_ops():
        said = {key: str(op.get_rt_info()[key].astype(str)) for key in TOLD}
        if not op.outputs():
            continue
        sources = [value.get_source_output() for value in op.inputs()]
        inputs, output = [list(source.shape) for source in sources], list(op.output(0).shape)
        # A layer that took less than a microsecond is also told to be not executed.
        if said["execTimeMcs"] == "not_executed" and not count_macs(said["layerType"], output, inputs):
            continue
        moved = _bytes(output, said["outputPrecisions"])
        for source, size in zip(sources, inputs, strict=True):
            moved += _bytes(size, str(source.get_node().get_rt_info()["outputPrecisions"].astype(str)))
        layer_type, int8 = said["layerType"], said["primitiveType"].endswith("_I8")
        yield Layer(
            op.friendly_name,
            kind_of(layer_type, output, inputs, int8),
            count_macs(layer_type, output, inputs),
            moved,
            int8,
            times.get(op.friendly_name, 0.0),  # 0 is less than a microsecond
        )


def _bytes(shape: Sequence[int], precisions: str) -> int:
    return math.prod(shape) * BYTES.get(precisions.split(",")[0], 4)


def measure_roofs(threads: int, runs: int) -> Roofs:
    """Measure the roofs with models of one layer each."""
    image = (1, CHANNELS, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        made = {name: Path(folder) / f"{name}.onnx" for name in ("float", "int8", "add")}
        onnx.save(_convolution(quantized=False), made["float"])
        onnx.save(_convolution(quantized=True), made["int8"])
        onnx.save(_addition(), made["add"])
        products = {
            name: next(layer for layer in profile(made[name], image, threads, runs)[0] if layer.macs)
            for name in ("float", "int8")
        }
        added = max(profile(made["add"], CACHED, threads, runs)[0], key=lambda layer: layer.seconds)
    if not products["int8"].int8:
        raise OcrslimError("OpenVINO did not run the quantized convolution in int8 on this CPU")
    rates = {name: layer.macs / layer.seconds for name, layer in products.items()}
    return Roofs(rates["float"], rates["int8"], added.bytes / added.seconds)


def _convolution(quantized: bool) -> onnx.ModelProto:
    """Return a model of a pointwise convolution, of 8-bit integers where that is asked for."""
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(np.zeros(CHANNELS, np.float32), "bias")]
    nodes, inputs = [], ["x", "weight"]
    weight: NDArray[Any]
    if quantized:
        weight = rng.integers(-127, 128, (CHANNELS, CHANNELS, 1, 1)).astype(np.int8)
        scales = {"s": np.float32(1 / 255), "ws": np.full(CHANNELS, 0.01, np.float32)}
        zeros = {"z": np.uint8(0), "wz": np.zeros(CHANNELS, np.int8)}
        constants += [numpy_helper.from_array(np.asarray(value), name) for name, value in (scales | zeros).items()]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
            helper.make_node("DequantizeLinear", ["weight", "ws", "wz"], ["wd"], axis=0),
        ]
        inputs = ["xd", "wd"]
    else:
        weight = rng.random((CHANNELS, CHANNELS, 1, 1), np.float32)
    constants.append(numpy_helper.from_array(weight, "weight"))
    nodes.append(helper.make_node("Conv", [*inputs, "bias"], ["y"], kernel_shape=[1, 1]))
    return _model(nodes, (1, CHANNELS, SIDE, SIDE), constants)


def _addition() -> onnx.ModelProto:
    """Return a model that adds an image to another, which the caches hold both."""
    constants = [numpy_helper.from_array(np.ones(CACHED, np.float32), "ones")]
    return _model([helper.make_node("Add", ["x", "ones"], ["y"])], CACHED, constants)


def _model(nodes: list[onnx.NodeProto], shape: Sequence[int], constants: list[TensorProto]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "roof", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def rows(layers: Sequence[Layer], whole: float, roofs: Roofs) -> list[dict[str, str]]:
    """Return what each class of layers takes, and how far from the roofs it is: cells by heading, the sum at last."""
    kinds: dict[str, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
    slowest = sorted(kinds.items(), key=lambda item: -sum(layer.seconds for layer in item[1]))
    return [_row(kind, members, whole, roofs) for kind, members in [*slowest, ("all", list(layers))]]


def summed(name: str, layers: Sequence[Layer], roofs: Roofs) -> dict[str, str]:
    """Return what a model's layers say in one row: its own figures, and those of each class of either precision.

    Args:
        name: of the model.
        layers: of the model.
        roofs: of the machine.
    """
    whole = _row("all", layers, sum(layer.seconds for layer in layers), roofs)
    cells = {"model": name} | {key: whole[key] for key in SUMMED}
    for kind in CLASSES:
        members = [layer for layer in layers if layer.kind.removesuffix(", int8").removesuffix(", float") == kind]
        told = _row(kind, members, 1.0, roofs) if members else None
        cells[kind] = f"{told['ms']} ({told['times the least']})" if told else ""
    return cells


def _row(kind: str, layers: Sequence[Layer], whole: float, roofs: Roofs) -> dict[str, str]:
    seconds, macs = sum(layer.seconds for layer in layers), sum(layer.macs for layer in layers)
    least = sum(roofs.least(layer) for layer in layers)
    cells = (
        *(kind, str(len(layers)), f"{1e3 * seconds:.2f}", f"{100 * seconds / whole:.1f}"),
        *((f"{1e-9 * macs:.3f}", f"{1e-9 * macs / seconds:.0f}") if macs and seconds else ("", "")),
        *(f"{1e3 * least:.2f}", f"{seconds / least:.1f}"),
    )
    return dict(zip(HEADINGS, cells, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="official names, ONNX files or folders")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    load, summary = OtherLoad(), []
    try:
        roofs = measure_roofs(options.threads, options.runs)
        for name in options.models:
            source = open_model(name)
            shape = timed_shape(source.task, batch=options.batch)
            layers, whole = profile(source.path, shape, options.threads, options.runs)
            told = rows(layers, whole, roofs)
            print(f"**{Path(name).name}: {1e3 * whole:.2f} ms in layers**\n")
            print(markdown(told, []))
            summary.append(summed(Path(name).name, layers, roofs))
    except OcrslimError as error:
        print(f"roofline.py: {error}", file=sys.stderr)
        return 2
    print("Of each class milliseconds, and in brackets how many times the least:\n")
    print(markdown(summary, []))
    cpu = cpu_info()
    print(
        f"roofs: {1e-9 * roofs.float_macs:.0f} GMAC/s float32, {1e-9 * roofs.int8_macs:.0f} GMAC/s int8,"
        f" {1e-9 * roofs.bandwidth:.0f} GB/s; {cpu.model}, {' '.join(cpu.flags)}; {options.threads} threads;"
        f" {', '.join(f'{key} {value}' for key, value in versions().items())}; other programs used"
        f" {load.cores() or 0.0:.1f} cores",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
