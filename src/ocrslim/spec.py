"""The nouns of quantization: frozen descriptions without any arithmetic on tensors.

Terms follow the ONNX ``QuantizeLinear`` operator: ``real = scale * (integer - zero_point)``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Granularity", "PerAxis", "PerTensor", "QuantizationSpec"]


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor: input of any shape -> scale of shape ``[1]``."""


@dataclass(frozen=True)
class PerAxis:
    """One scale for each index along ``axis``: input ``[d0, ..., dn]`` -> scale ``[d_axis]``.

    A convolution's weight ``[out, in, kh, kw]`` has ``axis=0``, a MatMul's ``[in, out]`` has ``axis=1``.
    """

    axis: int


Granularity = PerTensor | PerAxis


@dataclass(frozen=True)
class QuantizationSpec:
    """How the values of one tensor become integers.

    Args:
        bits: width of the integer grid, 2 to 8. Fewer bits than the storage type are a narrower range of the
            same type: 7 signed bits are ``[-64, 63]`` in int8, which keeps ``u8 * s8`` sums of pairs within 16 bits
            on CPUs without VNNI.
        signed: int8 storage when true, uint8 otherwise.
        symmetric: the zero point is 0 (signed) or the middle of the range (unsigned).
        granularity: one scale for the tensor, or one for each index of an axis.

    Raises:
        ValueError: ``bits`` is outside 2 to 8.

    >>> QuantizationSpec(7, signed=True, symmetric=True, granularity=PerAxis(0)).quant_max
    63
    >>> QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor()).quant_max
    255
    """

    bits: int
    signed: bool
    symmetric: bool
    granularity: Granularity

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be 2 to 8, got {self.bits}")

    @property
    def quant_min(self) -> int:
        """The smallest integer of the grid."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def quant_max(self) -> int:
        """The largest integer of the grid."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1
