from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocrslim.errors import ModelError

Operate = Callable[..., Any]


def close(found: Any, wanted: torch.Tensor) -> None:
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("type_", ["batch_norm", "sync_batch_norm"])
def test_batch_norm(type_: str, operate: Operate, numbers: Any) -> None:
    x, scale, bias, mean = numbers(2, 3, 4, 5), numbers(3), numbers(3, seed=1), numbers(3, seed=2)
    variance = np.abs(numbers(3, seed=3)) + 0.1
    inputs = {"X": x, "Scale": scale, "Bias": bias, "Mean": mean, "Variance": variance}
    found = operate(type_, inputs, {"epsilon": 1e-3, "is_test": True}, slot="Y", constants=[*inputs][1:])
    tensors = [torch.from_numpy(array) for array in (x, mean, variance, scale, bias)]
    close(found, F.batch_norm(*tensors, eps=1e-3))


@pytest.mark.parametrize(
    ("attributes", "problem"), [({"is_test": False}, "in training mode"), ({"data_layout": "NHWC"}, "only NCHW")]
)
def test_a_batch_norm_of_another_kind_is_refused(attributes: Any, problem: str, operate: Operate, numbers: Any) -> None:
    inputs = {"X": numbers(2, 3, 4, 5), **{slot: numbers(3) for slot in ("Scale", "Bias", "Mean", "Variance")}}
    with pytest.raises(ModelError, match=problem):
        operate("batch_norm", inputs, attributes, slot="Y")


@pytest.mark.parametrize("given", [("Scale", "Bias"), ("Scale",), ("Bias",), ()])
@pytest.mark.parametrize("axis", [2, 1])
def test_layer_norm(given: tuple[str, ...], axis: int, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4)
    sizes = x.shape[axis:]
    flat = {slot: numbers(int(np.prod(sizes)), seed=len(slot)) for slot in given}
    inputs = {"X": x, **flat}
    attributes = {"begin_norm_axis": axis, "epsilon": 1e-4}
    found = operate("layer_norm", inputs, attributes, slot="Y", constants=given, open_sizes=False)
    weight, bias = (torch.from_numpy(flat[slot].reshape(sizes)) if slot in flat else None for slot in ("Scale", "Bias"))
    close(found, F.layer_norm(torch.from_numpy(x), sizes, weight, bias, 1e-4))


def test_a_layer_norm_over_an_open_axis_is_refused(operate: Operate, numbers: Any) -> None:
    with pytest.raises(ModelError, match="normalizes over an open axis"):
        operate("layer_norm", {"X": numbers(2, 3, 4)}, {"begin_norm_axis": 2}, slot="Y")


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(affine: bool, operate: Operate, numbers: Any) -> None:
    x, scale, bias = numbers(2, 3, 4, 5), numbers(3), numbers(3, seed=1)
    inputs = {"X": x, **({"Scale": scale, "Bias": bias} if affine else {})}
    found = operate("instance_norm", inputs, {"epsilon": 1e-4}, slot="Y", constants=["Scale", "Bias"])
    weights = (torch.from_numpy(scale), torch.from_numpy(bias)) if affine else (None, None)
    close(found, F.instance_norm(torch.from_numpy(x), weight=weights[0], bias=weights[1], eps=1e-4))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(groups: int, affine: bool, operate: Operate, numbers: Any) -> None:
    x, scale, bias = numbers(2, 6, 4, 5), numbers(6), numbers(6, seed=1)
    inputs = {"X": x, **({"Scale": scale, "Bias": bias} if affine else {})}
    attributes = {"groups": groups, "epsilon": 1e-4}
    found = operate("group_norm", inputs, attributes, slot="Y", constants=["Scale", "Bias"])
    weights = (torch.from_numpy(scale), torch.from_numpy(bias)) if affine else (None, None)
    close(found, F.group_norm(torch.from_numpy(x), groups, *weights, eps=1e-4))
