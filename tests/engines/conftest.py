"""Small ONNX models whose answers are known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Maker = Callable[..., Path]


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    input_shape: tuple[int | str, ...] = ("N", 3, "H", "W"),
    inputs: tuple[str, ...] = ("x",),
    outputs: tuple[str, ...] = ("y",),
) -> Path:
    """Write a model of float inputs and outputs in opset 20."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, input_shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def mixer(tmp_path: Path) -> Maker:
    """Return a maker of a 1 x 1 convolution with Relu: ``y[n, o, h, w] = max(0, sum_c weight[o, c] x[n, c, h, w])``."""

    def make(
        name: str = "mixer.onnx",
        weight: np.ndarray | None = None,
        input_shape: tuple[int | str, ...] = ("N", 3, "H", "W"),
    ) -> Path:
        if weight is None:
            weight = np.array([[1, -2, 0.5], [0.25, 1, -1]], np.float32)
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
        return save(tmp_path / name, nodes, {"w": weight[:, :, None, None]}, input_shape)

    return make


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """Return a model of four 3 x 3 convolutions, 64 channels each: some hundred times the work of ``mixer``."""
    rng = np.random.default_rng(0)
    constants, nodes, value = {}, [], "x"
    for index, channels in enumerate((3, 64, 64, 64)):
        constants[f"w{index}"] = rng.normal(0, 0.05, (64, channels, 3, 3)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        value = f"c{index}"
    nodes.append(helper.make_node("Relu", [value], ["y"]))
    return save(tmp_path / "heavy.onnx", nodes, constants)


@pytest.fixture
def integer_conv(tmp_path: Path) -> Maker:
    """Return a maker of a quantized 1 x 1 convolution of 64 channels into 32, all weights alike, all scales 1 or known.

    An input of 255 everywhere gives ``64 * 255 * weight`` everywhere, the largest sum there is. With ``output`` the
    result is quantized too, as ONNX Runtime wants it: its scale puts that sum on 255 exactly.
    """

    def make(weight: int, output: bool) -> Path:
        total = 64 * 255 * weight
        constants = {
            "one": np.array(1, np.float32),
            "zero": np.array(0, np.uint8),
            "w": np.full((32, 64, 1, 1), weight, np.int8),
            "w_scale": np.ones(32, np.float32),
            "w_zero": np.zeros(32, np.int8),
            "y_scale": np.array(total / 255, np.float32),
        }
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x_q"]),
            helper.make_node("DequantizeLinear", ["x_q", "one", "zero"], ["x_d"]),
            helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], axis=0),
            helper.make_node("Conv", ["x_d", "w_d"], ["c" if output else "y"]),
        ]
        if output:
            nodes += [
                helper.make_node("QuantizeLinear", ["c", "y_scale", "zero"], ["y_q"]),
                helper.make_node("DequantizeLinear", ["y_q", "y_scale", "zero"], ["y"]),
            ]
        path = tmp_path / f"integer_{weight}_{output}.onnx"
        return save(path, nodes, constants, ("N", 64, "H", "W"))

    return make


@pytest.fixture
def saver(tmp_path: Path) -> Maker:
    """Return :func:`save` for a file name in a fresh folder."""
    return lambda name, *arguments, **options: save(tmp_path / name, *arguments, **options)
