"""A part at a time changes nothing but the time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ocrslim.slimming import parts
from ocrslim.slimming.parts import channel_sums, dot, in_parts


def layouts() -> dict[str, Tensor]:
    """Return the same kind of numbers in each layout that networks have."""
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0))
    rows = {"rows": x, "channels last": x.contiguous(memory_format=torch.channels_last)}
    return rows | {"strided": x[:, ::2, 1:], "scalar": x[0, 0, 0, 0], "empty": x[:0]}


@pytest.mark.parametrize("layout", ["rows", "channels last", "strided", "scalar", "empty"])
@pytest.mark.parametrize("size", [7, 1 << 40])
def test_every_value_is_in_one_part_beside_its_own(layout: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "IN_CACHE", size)
    x = layouts()[layout]
    doubled = torch.empty_like(x)
    seen = 0
    for value, result in in_parts(x, doubled):
        torch.add(value, value, out=result)
        seen += value.numel()
    assert torch.equal(doubled, 2 * x)
    assert seen == x.numel()


def test_parts_are_no_larger_than_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "IN_CACHE", 100)
    x = layouts()["channels last"]
    assert [part.numel() for (part,) in in_parts(x)] == [100, 100, 100, 100, 100, 60]


def test_different_layouts_are_worked_on_whole() -> None:
    x = layouts()["rows"]
    pairs = list(in_parts(x, layouts()["channels last"]))
    assert len(pairs) == 1
    assert pairs[0][0] is x


@pytest.mark.parametrize("layout", ["rows", "channels last", "strided", "scalar", "empty"])
def test_a_dot_is_the_sum_of_products(layout: str) -> None:
    x = layouts()[layout].double()
    assert dot(x, x + 1).item() == pytest.approx((x * (x + 1)).sum().item())


@pytest.mark.parametrize("layout", ["rows", "channels last", "strided", "empty"])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("size", [1, 7, 1 << 40])
def test_sums_of_channels_are_over_all_other_axes(
    layout: str, axis: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "IN_CACHE", size)
    x = layouts()[layout].double()
    others = [index for index in range(x.dim()) if index != axis % x.dim()]
    products, sums = channel_sums(x, x + 1, axis)
    assert torch.allclose(products, (x * (x + 1)).sum(others))
    assert torch.allclose(sums, x.sum(others))


def test_sums_of_channels_of_rows_are_made_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "IN_CACHE", 3)  # three rows
    sizes, split = [], torch.split

    def counted(values: Tensor, rows: int) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = split(values, rows)
        sizes.append([len(part) for part in found])
        return found

    monkeypatch.setattr(torch, "split", counted)
    offset = torch.arange(4.0)
    products, sums = channel_sums(torch.ones(50, 4), torch.full((50, 4), 3.0), 1, offset)
    assert sizes == [[3] * 16 + [2]] * 2
    assert products.tolist() == [150.0, 100.0, 50.0, 0.0]
    assert sums.tolist() == [50.0] * 4
