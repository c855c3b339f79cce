"""Operators against ONNX Runtime in the forms that the ten models write, and their gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]
Bodies = list[tuple[str, str, dict[str, Any], int, tuple[int, ...]]]


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def w(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * 0.5).astype(np.float32)


NEAREST = "Resize<mode='nearest', coordinate_transformation_mode='asymmetric', nearest_mode='floor'>"

CASES = [  # name, body, constants, opset, shape of x
    (
        "conv same_upper, even kernel",
        "y = Conv<auto_pad='SAME_UPPER', kernel_shape=[2,2]>(x, w)",
        {"w": w(4, 3, 2, 2)},
        11,
        (2, 3, 7, 9),
    ),
    (
        "conv same_upper, stride 2",
        "y = Conv<auto_pad='SAME_UPPER', strides=[2,2]>(x, w)",
        {"w": w(4, 3, 3, 3)},
        11,
        (1, 3, 7, 8),
    ),
    ("conv same_lower", "y = Conv<auto_pad='SAME_LOWER'>(x, w)", {"w": w(4, 3, 2, 4)}, 11, (1, 3, 5, 6)),
    ("conv uneven pads", "y = Conv<pads=[0,1,2,3]>(x, w, b)", {"w": w(4, 3, 3, 3), "b": w(4)}, 11, (1, 3, 6, 6)),
    (
        "conv depthwise, stride by axis",
        "y = Conv<group=3, pads=[2,2,2,2], strides=[2,1]>(x, w)",
        {"w": w(3, 1, 5, 5)},
        11,
        (1, 3, 8, 8),
    ),
    (
        "conv dilated groups",
        "y = Conv<group=3, dilations=[2,1]>(x, w, b)",
        {"w": w(6, 1, 3, 2), "b": w(6)},
        11,
        (1, 3, 8, 8),
    ),
    ("conv of one axis", "y = Conv<pads=[1,2]>(x, w)", {"w": w(4, 3, 3)}, 11, (2, 3, 8)),
    ("conv transpose", "y = ConvTranspose<strides=[2,2]>(x, w, b)", {"w": w(3, 4, 2, 2), "b": w(4)}, 11, (2, 3, 4, 5)),
    (
        "conv transpose, groups and pads",
        "y = ConvTranspose<strides=[2,3], pads=[1,0,0,1], group=3>(x, w)",
        {"w": w(3, 2, 3, 3)},
        11,
        (1, 3, 4, 5),
    ),
    (
        "conv transpose, extra row",
        "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w, b)",
        {"w": w(3, 2, 3, 3), "b": w(2)},
        11,
        (1, 3, 4, 5),
    ),
    (
        "max pool same_upper",
        "y = MaxPool<auto_pad='SAME_UPPER', kernel_shape=[2,2], strides=[1,1]>(x)",
        {},
        11,
        (1, 3, 5, 6),
    ),
    ("max pool ceil", "y = MaxPool<ceil_mode=1, kernel_shape=[3,3], strides=[2,2]>(x)", {}, 12, (1, 3, 6, 7)),
    ("average pool", "y = AveragePool<kernel_shape=[3,2], strides=[3,2]>(x)", {}, 11, (1, 3, 6, 8)),
    (
        "average pool, padding not counted",
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)",
        {},
        11,
        (1, 3, 4, 5),
    ),
    (
        "average pool, padding counted",
        "y = AveragePool<kernel_shape=[3,3], pads=[1,0,1,2], count_include_pad=1>(x)",
        {},
        11,
        (1, 3, 4, 5),
    ),
    ("global average pool", "y = GlobalAveragePool(x)", {}, 12, (2, 3, 4, 5)),
    (
        "batch normalisation of three axes",
        "y = BatchNormalization(x, s, b, m, v)",
        {"s": w(3), "b": w(3), "m": w(3), "v": f(0.5, 1, 2)},
        11,
        (2, 3, 4),
    ),
    (
        "layer normalisation",
        "y = LayerNormalization<axis=-1, epsilon=0.000001>(x, s, b)",
        {"s": w(5), "b": w(5)},
        17,
        (2, 3, 4, 5),
    ),
    ("layer normalisation of two axes", "y = LayerNormalization<axis=2>(x, s)", {"s": w(4, 5)}, 17, (2, 3, 4, 5)),
    ("hard sigmoid", "y = HardSigmoid<alpha=0.16666670143604279, beta=0.5>(x)", {}, 14, (1, 3, 9, 9)),
    ("hard swish", "y = HardSwish(x)", {}, 14, (1, 3, 9, 9)),
    ("gelu", "y = Gelu(x)", {}, 20, (1, 3, 9, 9)),
    ("gelu by tanh", "y = Gelu<approximate='tanh'>(x)", {}, 20, (1, 3, 9, 9)),
    ("erf", "y = Erf(x)", {}, 11, (1, 3, 9, 9)),
    ("clip by attributes", "y = Clip<min=-0.5, max=1.0>(x)", {}, 10, (1, 3, 4, 4)),
    ("clip by inputs", "y = Clip(x, l, h)", {"l": np.float32(0), "h": np.float32(1)}, 12, (1, 3, 4, 4)),
    ("softmax of the axes from 1 on", "y = Softmax<axis=1>(x)", {}, 12, (2, 3, 2, 4)),
    ("softmax of one axis", "y = Softmax<axis=1>(x)", {}, 13, (2, 3, 2, 4)),
    ("mean by attribute", "y = ReduceMean<axes=[-1], keepdims=0>(x)", {}, 12, (2, 3, 2, 4)),
    ("mean by input", "y = ReduceMean(x, a)", {"a": i(2, 3)}, 18, (2, 3, 2, 4)),
    ("mean of everything", "y = ReduceMean<keepdims=0>(x)", {}, 18, (2, 3, 2, 4)),
    ("matmul", "y = MatMul(x, w)", {"w": w(4, 6)}, 12, (2, 3, 5, 4)),
    ("gemm", "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, c)", {"w": w(6, 4), "c": w(6)}, 13, (5, 4)),
    ("nearest, asymmetric, floor", f"y = {NEAREST}(x, r, s)", {"r": f(), "s": f(1, 1, 2, 4)}, 11, (1, 3, 4, 5)),
    ("nearest, down", f"y = {NEAREST}(x, r, s)", {"r": f(), "s": f(1, 1, 0.5, 0.6)}, 11, (1, 3, 8, 10)),
    ("linear, half pixel, to sizes", "y = Resize<mode='linear'>(x, , , s)", {"s": i(1, 3, 7, 9)}, 13, (1, 3, 4, 5)),
    ("squeeze by attribute", "y = Squeeze<axes=[2]>(x)", {}, 12, (2, 3, 1, 4)),
    ("squeeze of all", "y = Squeeze(x)", {}, 13, (1, 3, 1, 4)),
    ("unsqueeze by attribute", "y = Unsqueeze<axes=[0,4]>(x)", {}, 12, (2, 3, 4)),
    (
        "slice backwards",
        "y = Slice(x, s, e, a, t)",
        {"s": i(-1, 1), "e": i(-100, 100), "a": i(3, 2), "t": i(-2, 1)},
        13,
        (1, 3, 5, 6),
    ),
    ("slice beyond the end", "y = Slice(x, s, e, a)", {"s": i(1), "e": i(2**62), "a": i(-1)}, 13, (1, 3, 5, 6)),
    (
        "flatten by shapes",
        "s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(h, m) y = Reshape(x, t)",
        {"b": i(0), "e": i(2), "m": i(-1)},
        12,
        (2, 3, 4, 5),
    ),
    ("swap by perm", "y = Transpose<perm=[2,0,3,1]>(x)", {}, 12, (2, 3, 4, 5)),
    ("power", "y = Pow(x, p)", {"p": np.float32(2)}, 12, (2, 3, 4)),
    ("joined", "t = Relu(x) y = Concat<axis=-1>(x, t, t)", {}, 12, (2, 3, 4)),
]


@pytest.mark.parametrize(("body", "constants", "opset", "shape"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_agrees_with_onnx_runtime(
    build: Build, judge: Judge, body: str, constants: dict[str, Any], opset: int, shape: tuple[int, ...]
) -> None:
    model = build(body, constants, opset, x=f"float[{','.join(map(str, shape))}]")
    x = (np.random.default_rng(1).standard_normal(shape) * 3).astype(np.float32)
    made = GraphModule(model)(torch.from_numpy(x)).detach().numpy()
    expected = judge(model, x)
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=2e-6)


SMOOTH = [case for case in CASES if case[0] not in ("nearest, down", "clip by inputs", "joined")]


@pytest.mark.parametrize(("body", "constants", "opset", "shape"), [c[1:] for c in SMOOTH], ids=[c[0] for c in SMOOTH])
def test_gradients_agree_with_differences(
    build: Build, body: str, constants: dict[str, Any], opset: int, shape: tuple[int, ...]
) -> None:
    module = GraphModule(build(body, constants, opset, x=f"float[{','.join(map(str, shape))}]")).double()
    torch.manual_seed(2)
    # Kinks lie at sixths and thirds; none of these values is near one.
    x = (torch.randn(shape, dtype=torch.float64) * 2).round(decimals=1) + 0.0123
    weights = dict(module.named_initializers())
    names = list(weights)

    def run(values: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        replaced = {f"weights.{module._places[name]}": value for name, value in zip(names, parameters, strict=True)}
        result = torch.func.functional_call(module, replaced, (values,))
        assert isinstance(result, torch.Tensor)
        return result

    inputs = (x.requires_grad_(), *(weights[name].detach().clone().requires_grad_() for name in names))
    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-5, fast_mode=True)


def test_statistics_of_batch_normalisation_get_no_gradient(build: Build) -> None:
    constants = {"s": w(3), "b": w(3), "m": w(3), "v": f(1, 2, 3)}
    module = GraphModule(build("y = BatchNormalization(x, s, b, m, v)", constants, 15, x="float[N,3,H,W]"))
    assert {name for name, _ in module.named_initializers()} == {"s", "b"}
    module(torch.randn(2, 3, 4, 4)).sum().backward()
    assert module.parameter("s").grad is not None
    with pytest.raises(ModelError, match="'m' is no trained initializer"):
        module.parameter("m")


@pytest.mark.parametrize(
    ("body", "constants", "opset", "message"),
    [
        (
            "y = Squeeze(x, a)",
            {"a": i(1)},
            13,
            r"Squeeze node 'Squeeze_0' failed: Squeeze of axis 1, which has the size 3",
        ),
        ("y = MatMul(x, w)", {"w": w(5, 5)}, 13, "MatMul node 'MatMul_0' failed"),
        ("y = Resize<mode='cubic'>(x, , s)", {"s": f(1, 1, 2, 2)}, 13, "mode=cubic"),
        ("y = Resize(x, r, s)", {"r": f(), "s": f()}, 13, "neither scales nor sizes"),
        ("y = Cast<to=8>(x)", {}, 13, "data type 8"),
    ],
)
def test_a_node_that_fails_is_named(
    build: Build, body: str, constants: dict[str, Any], opset: int, message: str
) -> None:
    module = GraphModule(build(body, constants, opset, x="float[1,3,4,4]"))
    with pytest.raises(ModelError, match=message):
        module(torch.zeros(1, 3, 4, 4))


def test_shapes_stay_on_the_cpu_and_cheap(build: Build) -> None:
    module = GraphModule(build("s = Shape<start=1>(x) y = Reshape(x, s)", {}, 15, x="float[1,2,3]"))
    assert module(torch.zeros(1, 2, 3)).shape == (2, 3)
    assert module(torch.zeros(1, 2, 3), fetch=["s"])["s"].device.type == "cpu"


def test_the_judge_is_not_optimised() -> None:
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert onnxruntime.SessionOptions().graph_optimization_level != level
