from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.spec import PerAxis, PerTensor, QuantizationSpec


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high"),
    [(8, True, -128, 127), (7, True, -64, 63), (2, True, -2, 1), (8, False, 0, 255), (7, False, 0, 127)],
)
def test_the_grid(bits: int, signed: bool, low: int, high: int) -> None:
    spec = QuantizationSpec(bits, signed, symmetric=True, granularity=PerTensor())
    assert (spec.quant_min, spec.quant_max) == (low, high)


@given(bits=st.integers(2, 8), signed=st.booleans())
def test_the_grid_has_as_many_values_as_its_bits_say(bits: int, signed: bool) -> None:
    spec = QuantizationSpec(bits, signed, symmetric=False, granularity=PerTensor())
    assert spec.quant_max - spec.quant_min + 1 == 2**bits


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16])
def test_bits_that_no_engine_has_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="2 to 8"):
        QuantizationSpec(bits, signed=True, symmetric=True, granularity=PerAxis(0))


def test_a_spec_is_a_value() -> None:
    one, two = (QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(1)) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != dataclasses.replace(one, granularity=PerAxis(0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.bits = 4  # type: ignore[misc]
