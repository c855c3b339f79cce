"""What range a value takes: observers look at tensors while the float model runs, then name one range.

The histogram observers look at a regular sample of each tensor; a range is a statistic, and the samples of a few
batches hold millions of values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Protocol

import torch
from torch import Tensor

from ocrslim.errors import InputError
from ocrslim.slimming.quantization.numerics import along_axis, fake_quantize, scale_and_zero_point
from ocrslim.spec import PerAxis, QuantizationSpec

__all__ = ["OBSERVERS", "MinMax", "MovingAverage", "MseRange", "Observer", "Percentile", "mse_scale", "open_observer"]

SAMPLE = 1 << 18  # values of one tensor that a histogram counts
BINS = 1 << 13  # of the range of all that was seen, at most; half of them at least


class Observer(Protocol):
    """Sees tensors, names a range.

    Several processes may each see a part of the tensors: what each has seen goes by :meth:`state` to one, which after
    :meth:`merge` names the range, to the last bit, that it would name had it seen them all.
    """

    def update(self, x: Tensor) -> None:
        """Look at a tensor of any shape."""
        ...

    def state(self) -> Tensor:
        """Return what was seen, f64 ``[numbers]``."""
        ...

    def merge(self, states: Sequence[Tensor]) -> None:
        """Have seen what several have, in place of what was seen here.

        Args:
            states: of ``n`` observers of this kind, the ``i``-th of which saw the tensors ``i``, ``i + n``, ...
        """
        ...

    def range(self) -> tuple[float, float]:
        """Return the lower and upper end of the range.

        Raises:
            ValueError: nothing was seen.
        """
        ...


class MinMax:
    """The smallest and the largest value seen."""

    def __init__(self) -> None:
        self._low, self._high = float("inf"), float("-inf")

    def update(self, x: Tensor) -> None:
        """Look at a tensor."""
        low, high = _extremes(x)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def state(self) -> Tensor:
        """Return both ends."""
        return torch.tensor([self._low, self._high], dtype=torch.float64)

    def merge(self, states: Sequence[Tensor]) -> None:
        """Take the outermost ends."""
        ends = torch.stack(list(states))
        self._low, self._high = ends[:, 0].min().item(), ends[:, 1].max().item()

    def range(self) -> tuple[float, float]:
        """Return the range."""
        return _seen(self._low, self._high)


class MovingAverage:
    """Exponential moving averages of the smallest and the largest value of each tensor.

    Args:
        rate: weight of the past, Paddle's ``moving_rate``.
    """

    def __init__(self, rate: float = 0.9) -> None:
        self._rate = rate
        self._ends: list[tuple[float, float]] = []

    def update(self, x: Tensor) -> None:
        """Look at a tensor."""
        self._ends.append(_extremes(x))

    def state(self) -> Tensor:
        """Return the ends of each tensor, one after the other."""
        return torch.tensor(self._ends, dtype=torch.float64).reshape(-1)

    def merge(self, states: Sequence[Tensor]) -> None:
        """Bring the tensors in order: an average that moves depends on it."""
        turns = zip_longest(*(state.reshape(-1, 2).tolist() for state in states))
        self._ends = [(ends[0], ends[1]) for turn in turns for ends in turn if ends is not None]

    def range(self) -> tuple[float, float]:
        """Return the range."""
        if not self._ends:
            return _seen(float("inf"), float("-inf"))
        low, high = self._ends[0]
        for lowest, highest in self._ends[1:]:
            low = self._rate * low + (1 - self._rate) * lowest
            high = self._rate * high + (1 - self._rate) * highest
        return _seen(low, high)


class Percentile:
    """The range without the outermost values of either side.

    Args:
        percent: of the values lie below the upper end, and as many above the lower end.
    """

    def __init__(self, percent: float = 99.99) -> None:
        self._share = percent / 100.0
        self._histogram = _Histogram()

    def update(self, x: Tensor) -> None:
        """Look at a tensor."""
        self._histogram.update(x)

    def state(self) -> Tensor:
        """Return the histogram."""
        return self._histogram.state()

    def merge(self, states: Sequence[Tensor]) -> None:
        """Add the histograms."""
        self._histogram.merge(states)

    def range(self) -> tuple[float, float]:
        """Return the range."""
        return self.range_at(100.0 * self._share)

    def range_at(self, percent: float) -> tuple[float, float]:
        """Return the range of another percentage; 100 is the smallest and the largest value seen."""
        edges, counts = self._histogram.edges(), self._histogram.counts
        share = percent / 100.0
        if share >= 1.0:
            return self._histogram.ends
        below = torch.cat([counts.new_zeros(1), counts.cumsum(0)]) / counts.sum()
        high = edges[torch.searchsorted(below, share)].item()
        low = edges[torch.searchsorted(below, 1.0 - share, right=True) - 1].item()
        lowest, highest = self._histogram.ends
        return max(low, lowest), min(high, highest)


class MseRange:
    """The range whose grid makes the least mean squared error, found on a histogram.

    Args:
        spec: the grid, per tensor.
        candidates: upper and lower ends that are tried.
    """

    def __init__(self, spec: QuantizationSpec, candidates: int = 100) -> None:
        self._spec = spec
        self._candidates = candidates
        self._histogram = _Histogram()

    def update(self, x: Tensor) -> None:
        """Look at a tensor."""
        self._histogram.update(x)

    def state(self) -> Tensor:
        """Return the histogram."""
        return self._histogram.state()

    def merge(self, states: Sequence[Tensor]) -> None:
        """Add the histograms."""
        self._histogram.merge(states)

    def range(self) -> tuple[float, float]:
        """Return the range: the best upper end for the lowest value, then the best lower end for that upper end."""
        edges, counts = self._histogram.edges(), self._histogram.counts
        seen = counts > 0
        middles, weights = ((edges[1:] + edges[:-1]) / 2)[seen], counts[seen]
        low, high = self._histogram.ends
        shares = torch.linspace(1.0, 1.0 / self._candidates, self._candidates, dtype=middles.dtype)
        high = self._best([(low, high * share) for share in shares.tolist()], middles, weights)[1]
        return self._best([(low * share, high) for share in shares.tolist()], middles, weights)

    def _best(self, ranges: list[tuple[float, float]], x: Tensor, weights: Tensor) -> tuple[float, float]:
        def error(ends: tuple[float, float]) -> float:
            low, high = (x.new_tensor([end]) for end in ends)
            scale, zero_point = scale_and_zero_point(low, high, self._spec)
            return (weights * (x - fake_quantize(x, scale, zero_point, self._spec)).square()).sum().item()

        return min(ranges, key=error)


OBSERVERS: dict[str, Callable[[QuantizationSpec], Observer]] = {
    "minmax": lambda spec: MinMax(),
    "moving_average": lambda spec: MovingAverage(),
    "percentile": lambda spec: Percentile(),
    "mse": MseRange,
}


def open_observer(name: str, spec: QuantizationSpec) -> Observer:
    """Return a new observer for values that become integers by ``spec``.

    Raises:
        InputError: there is none of that name.
    """
    if name not in OBSERVERS:
        raise InputError(f"observer {name}: there is none of that name; take one of {', '.join(OBSERVERS)}")
    return OBSERVERS[name](spec)


def mse_scale(weight: Tensor, spec: QuantizationSpec, candidates: int = 64, least: float = 0.4) -> Tensor:
    """Return the symmetric scale of each channel that makes the least squared error on ``weight``.

    Args:
        weight: real values; the granularity's axis is the channel.
        spec: symmetric.
        candidates: scales that are tried for each channel, from the one that clips nothing down.
        least: smallest candidate, as a share of the one that clips nothing.

    Returns:
        Tensor: ``[channels]``, or ``[1]`` for a tensor with one scale.
    """
    axis = spec.granularity.axis if isinstance(spec.granularity, PerAxis) else None
    others = [dimension for dimension in range(weight.dim()) if dimension != axis]
    full, _ = scale_and_zero_point(weight.amin(others).reshape(-1), weight.amax(others).reshape(-1), spec)
    # A grid of -64 to 63 covers more on the negative side; a little above the clip-free scale can be better.
    best, best_error = full.clone(), torch.full_like(full, float("inf"))
    for share in torch.linspace(1.0, least, candidates).tolist():
        scale = full * share
        broadcast = along_axis(scale, weight.dim(), spec)
        grid = torch.round(weight / broadcast).clamp_(spec.quant_min, spec.quant_max).mul_(broadcast)
        error = (grid - weight).square_().sum(others).reshape(-1)
        better = error < best_error
        best, best_error = torch.where(better, scale, best), torch.where(better, error, best_error)
    return best


class _Histogram:
    """Counts of values in bins of one width whose edges are multiples of it, so that 0 is an edge.

    The width is a power of two that follows from the extremes alone. So bins of any width are halves of those of a
    larger one, and the counts of all tensors are the same however they were shared out and in which order they came.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(0, dtype=torch.float64)
        self.ends = (float("inf"), float("-inf"))
        self._first = 0  # index of the first bin: it begins at first * width
        self._width = 0.0

    def update(self, x: Tensor) -> None:
        """Count a sample of ``x``; note its exact extremes."""
        low, high = _extremes(x)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("a value that is not a finite number can't be observed")
        self._reach(low, high)
        flat = x.detach().reshape(-1)
        # An odd step walks through all channels and columns of a tensor whose sizes are mostly even.
        step = -(-flat.numel() // SAMPLE) | 1
        index = torch.floor(flat[::step].cpu().double() / self._width).long() - self._first
        self.counts += torch.bincount(index, minlength=self.counts.numel())

    def state(self) -> Tensor:
        """Return the extremes, the width, the first bin's index and the counts, f64 ``[4 + bins]``."""
        return torch.cat([self.counts.new_tensor([*self.ends, self._width, self._first]), self.counts])

    def merge(self, states: Sequence[Tensor]) -> None:
        """Hold the sum of several histograms."""
        parts = []
        for state in states:
            low, high, width, first = state[:4].tolist()
            part = _Histogram()
            part.ends, part.counts, part._width, part._first = (low, high), state[4:].clone(), width, int(first)
            parts += [part] if part.counts.numel() else []
        whole = _Histogram()
        for part in parts:
            whole._reach(*part.ends)
        for part in parts:
            part._reach(*whole.ends)
            whole.counts += part.counts
        self.ends, self.counts, self._width, self._first = whole.ends, whole.counts, whole._width, whole._first

    def edges(self) -> Tensor:
        """Return the edges of the bins, one more than bins.

        Raises:
            ValueError: nothing was counted.
        """
        _seen(*self.ends)
        return (torch.arange(self.counts.numel() + 1, dtype=torch.float64) + self._first) * self._width

    def _reach(self, low: float, high: float) -> None:
        """Have bins from ``low`` to ``high``, of the width that is due."""
        self.ends = min(self.ends[0], low), max(self.ends[1], high)
        width = _bin_width(*self.ends)
        while self.counts.numel() and self._width < width:
            before = self._first % 2
            after = (self.counts.numel() + before) % 2
            self.counts = torch.nn.functional.pad(self.counts, (before, after)).reshape(-1, 2).sum(1)
            self._first //= 2
            self._width *= 2
        self._width = width
        first, last = (int(end // width) for end in self.ends)
        if self.counts.numel():
            spare = self._first - first, last + 1 - self._first - self.counts.numel()
            self.counts = torch.nn.functional.pad(self.counts, spare)
        else:
            self.counts = torch.zeros(last + 1 - first, dtype=torch.float64)
        self._first = first


def _bin_width(low: float, high: float) -> float:
    """Return the least power of two of which :data:`BINS` span the range, and reach from 0 to its far end.

    >>> _bin_width(-1.0, 3.0) == 4.0 / BINS
    True
    >>> _bin_width(0.0, 4.1) == 8.0 / BINS
    True
    """
    span = max(high - low, abs(low), abs(high), 1e-30)
    mantissa, exponent = math.frexp(span)  # span = mantissa * 2 ** exponent, mantissa from 0.5 to below 1
    return math.ldexp(1.0, exponent - (mantissa == 0.5)) / BINS


def _extremes(x: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(x.detach())
    return low.item(), high.item()


def _seen(low: float, high: float) -> tuple[float, float]:
    if low > high:
        raise ValueError("no value was observed")
    return low, high
