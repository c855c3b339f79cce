"""Resize: nearest neighbour and linear interpolation, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.errors import ModelError
from ocrslim.graph.executor.ops.geometry import ints
from ocrslim.graph.executor.registry import register

__all__ = ["resize_10", "resize_11"]

_Coordinates = Callable[[Tensor, float, int, int], Tensor]

_COORDINATES: dict[str, _Coordinates] = {
    # place in the result, scale, old size, new size -> place in the input
    "asymmetric": lambda place, scale, old, new: place / scale,
    "half_pixel": lambda place, scale, old, new: (place + 0.5) / scale - 0.5,
    "half_pixel_symmetric": lambda place, scale, old, new: (
        old / 2 * (1 - new / (scale * old)) + (place + 0.5) / scale - 0.5
    ),
    "pytorch_half_pixel": lambda place, scale, old, new: (place + 0.5) / scale - 0.5 if new > 1 else place * 0.0,
    # The new size is meant before it is rounded down.
    "align_corners": lambda place, scale, old, new: place * ((old - 1) / (scale * old - 1)) if new > 1 else place * 0.0,
}

_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round_prefer_floor": lambda place: torch.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: torch.floor(place + 0.5),
}


@register("Resize", 10)
def resize_10(x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """Return ``x`` resized by ``scales``, as in opset 10."""
    return resize_11(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@register("Resize", 11, 13, 18, 19)
def resize_11(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Return ``x`` resized by factors, or to sizes, of all axes or of ``axes``.

    Raises:
        ModelError: cubic interpolation, antialiasing, cropping or a policy on the aspect ratio is asked for.
    """
    del roi, cubic_coeff_a, exclude_outside, extrapolation_value
    if (
        mode not in ("nearest", "linear")
        or antialias
        or keep_aspect_ratio_policy != "stretch"
        or coordinate_transformation_mode not in _COORDINATES
    ):
        raise ModelError(
            f"Resize with mode={mode}, antialias={antialias}, keep_aspect_ratio_policy={keep_aspect_ratio_policy},"
            f" coordinate_transformation_mode={coordinate_transformation_mode} is not supported"
        )
    axes = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes]
    if scales is not None and scales.numel():
        factors = [float(scale) for scale in scales.tolist()]
        targets = [int(x.shape[axis] * factor) for axis, factor in zip(axes, factors, strict=True)]
    elif sizes is not None:
        targets = ints(sizes)
        factors = [size / x.shape[axis] for axis, size in zip(axes, targets, strict=True)]
    else:
        raise ModelError("Resize with neither scales nor sizes")
    floors = coordinate_transformation_mode == "asymmetric" and nearest_mode == "floor"
    if mode == "nearest" and floors and _is_whole_upscale(x, axes, factors):
        by_axis = dict(zip(axes, factors, strict=True))
        return F.interpolate(x, scale_factor=(by_axis.get(2, 1.0), by_axis.get(3, 1.0)), mode="nearest")
    # In single precision, as the engines compute places: 3 / 0.6 is 5 there, and 4.9999998 in double precision.
    coordinates = _COORDINATES[coordinate_transformation_mode]
    for axis, factor, size in zip(axes, factors, targets, strict=True):
        if factor != 1.0 or size != x.shape[axis]:
            places = coordinates(torch.arange(size, dtype=torch.float32, device=x.device), factor, x.shape[axis], size)
            x = _nearest(x, axis, places, nearest_mode) if mode == "nearest" else _linear(x, axis, places)
    return x


def _is_whole_upscale(x: Tensor, axes: Sequence[int], factors: Sequence[float]) -> bool:
    """Return whether only the last two of four axes grow, by whole factors: the case of every PP-OCR detector."""
    if x.dim() != 4:
        return False
    return all(
        factor == 1.0 if axis < 2 else factor.is_integer() and factor >= 1.0
        for axis, factor in zip(axes, factors, strict=True)
    )


def _nearest(x: Tensor, axis: int, places: Tensor, rounding: str) -> Tensor:
    """Pick along one axis; places outside take the border."""
    index = _NEAREST[rounding](places).clamp(0, x.shape[axis] - 1).to(torch.int64)
    return x.index_select(axis, index)


def _linear(x: Tensor, axis: int, places: Tensor) -> Tensor:
    """Interpolate along one axis; places outside take the border."""
    low = torch.floor(places)
    share = (places - low).to(x.dtype).reshape([-1] + [1] * (x.dim() - 1 - axis))
    last = x.shape[axis] - 1
    lower = x.index_select(axis, low.clamp(0, last).to(torch.int64))
    upper = x.index_select(axis, (low + 1).clamp(0, last).to(torch.int64))
    return lower * (1 - share) + upper * share
