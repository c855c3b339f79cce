from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocrslim.errors import ModelError

Operate = Callable[..., Any]
SIZE = (2, 3, 4, 5)


def close(found: Any, wanted: torch.Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("type_", "wanted"),
    [
        ("abs", torch.abs),
        ("ceil", torch.ceil),
        ("cos", torch.cos),
        ("erf", torch.erf),
        ("exp", torch.exp),
        ("floor", torch.floor),
        ("mish", F.mish),
        ("reciprocal", torch.reciprocal),
        ("relu", torch.relu),
        ("sigmoid", torch.sigmoid),
        ("sign", torch.sign),
        ("silu", F.silu),
        ("sin", torch.sin),
        ("square", torch.square),
        ("tanh", torch.tanh),
    ],
)
def test_functions_without_settings(type_: str, wanted: Any, operate: Operate, numbers: Any) -> None:
    x = numbers(*SIZE)
    close(operate(type_, {"X": x}), wanted(torch.from_numpy(x)))


@pytest.mark.parametrize(("type_", "wanted"), [("log", torch.log), ("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt)])
def test_functions_of_what_is_positive(type_: str, wanted: Any, operate: Operate, numbers: Any) -> None:
    x = np.abs(numbers(*SIZE)) + 0.1
    close(operate(type_, {"X": x}), wanted(torch.from_numpy(x)))


CASES: list[tuple[str, Mapping[str, Any], Callable[[torch.Tensor], torch.Tensor]]] = [
    ("relu6", {}, F.relu6),
    ("relu6", {"threshold": 2.0}, lambda x: x.clamp(0, 2)),
    ("hard_sigmoid", {}, lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    ("hard_sigmoid", {"slope": 0.25, "offset": 0.4}, lambda x: (0.25 * x + 0.4).clamp(0, 1)),
    ("hard_swish", {}, F.hardswish),
    ("hard_swish", {"threshold": 6.0, "scale": 6.0, "offset": 3.0}, F.hardswish),
    ("hard_swish", {"threshold": 4.0, "scale": 5.0, "offset": 2.0}, lambda x: x * (x + 2).clamp(0, 4) / 5),
    ("swish", {}, F.silu),
    ("swish", {"beta": 1.7}, lambda x: x * torch.sigmoid(1.7 * x)),
    ("gelu", {}, F.gelu),
    ("gelu", {"approximate": True}, lambda x: F.gelu(x, approximate="tanh")),
    ("leaky_relu", {"alpha": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
    ("elu", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    ("softplus", {"beta": 1.0, "threshold": 20.0}, F.softplus),
    ("softmax", {"axis": -1}, lambda x: x.softmax(-1)),
    ("softmax", {"axis": 1}, lambda x: x.softmax(1)),
    ("log_softmax", {"axis": 2}, lambda x: x.log_softmax(2)),
    ("pow", {"factor": 3.0}, lambda x: x**3),
    ("clip", {"min": -0.5, "max": 0.75}, lambda x: x.clamp(-0.5, 0.75)),
    ("dropout", {"dropout_prob": 0.25, "dropout_implementation": "upscale_in_train"}, lambda x: x),
    ("dropout", {"dropout_prob": 0.25, "dropout_implementation": "downgrade_in_infer"}, lambda x: x * 0.75),
]


@pytest.mark.parametrize(("type_", "attributes", "wanted"), CASES)
def test_functions_with_settings(
    type_: str, attributes: Mapping[str, Any], wanted: Any, operate: Operate, numbers: Any
) -> None:
    x = 3 * numbers(*SIZE)
    close(operate(type_, {"X": x}, attributes), wanted(torch.from_numpy(x)), atol=2e-6)


def test_bounds_and_exponents_may_be_tensors(operate: Operate, numbers: Any) -> None:
    x = numbers(*SIZE)
    low, high = np.array([-0.5], np.float32), np.array(0.75, np.float32)
    np.testing.assert_array_equal(operate("clip", {"X": x, "Min": low, "Max": high}), x.clip(-0.5, 0.75))
    np.testing.assert_array_equal(operate("clip", {"X": x, "Min": low}, {"max": 9.0}), x.clip(-0.5, 9))
    close(operate("pow", {"X": x, "FactorTensor": np.array([2.0], np.float32)}), torch.from_numpy(x**2))


@pytest.mark.parametrize(("mode", "count"), [("all", 1), ("channel", 3)])
def test_prelu_has_one_slope_or_one_a_channel(mode: str, count: int, operate: Operate, numbers: Any) -> None:
    x, slope = numbers(*SIZE), np.linspace(0.1, 0.5, count, dtype=np.float32)
    found = operate("prelu", {"X": x, "Alpha": slope}, {"mode": mode}, constants=["Alpha"])
    close(found, F.prelu(torch.from_numpy(x), torch.from_numpy(slope)))


def test_rounding_goes_to_the_even_neighbour(operate: Operate) -> None:
    x = np.array([[-1.6, -0.2, 0.2, 1.4, 1.6]], np.float32)
    np.testing.assert_array_equal(operate("round", {"X": x}), [[-2, 0, 0, 1, 2]])


def test_not(operate: Operate) -> None:
    x = np.array([[True, False]])
    np.testing.assert_array_equal(operate("logical_not", {"X": x}, result=np.bool_), ~x)


@pytest.mark.parametrize(
    ("type_", "attributes", "problem"),
    [
        ("softplus", {"beta": 2.0}, "beta must be 1"),
        ("prelu", {"mode": "element"}, "only the modes all and channel"),
        ("clip", {"min": 0.0}, r"is not as expected \(KeyError 'max'\)"),
    ],
)
def test_what_cannot_be_told_in_onnx_is_said(
    type_: str, attributes: Mapping[str, Any], problem: str, operate: Operate, numbers: Any
) -> None:
    with pytest.raises(ModelError, match=rf"operator {type_} of node 'y0': .*({problem})"):
        operate(type_, {"X": numbers(*SIZE), "Alpha": numbers(3)}, attributes)
