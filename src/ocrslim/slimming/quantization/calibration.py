"""Calibration as the ladder does it: grids of all values, then weights rounded to what their inputs make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ocrslim.slimming.quantization.prepare import Quantization, calibrate
from ocrslim.slimming.quantization.process_group import ALONE, ProcessGroup
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR, choose_ranges
from ocrslim.slimming.quantization.rounding import round_weights
from ocrslim.slimming.quantization.samples import collect_samples

__all__ = ["calibrate_fully"]


def calibrate_fully(
    quantization: Quantization,
    batches: Sequence[Tensor],
    observer: str,
    seed: int,
    samples: Mapping[str, Tensor] | None = None,
    group: ProcessGroup = ALONE,
) -> Mapping[str, Tensor]:
    """Find all grids and round the weights.

    1. :func:`.prepare.calibrate` with the observer, or with percentiles where ranges go by the sites' outputs.
    2. :func:`.ranges.choose_ranges` where they do.
    3. :func:`.rounding.round_weights`.

    Args:
        quantization: prepared; changed in place, quantizes afterwards.
        batches: ``[N, 3, H, W]`` each.
        observer: :data:`.ranges.OUTPUT_ERROR`, or see :data:`.observer.OBSERVERS`.
        seed: of the samples.
        samples: of the same images and sites, from an earlier call; ``None`` takes them.
        group: processes that look at a part of the batches each, with the same result as one that looks at all. All
            have to call it, with or without samples; the first one has the result.

    Returns:
        Mapping: the samples; they don't depend on the observer.

    Raises:
        InputError: an unknown observer.
        ValueError: there were no batches.
    """
    by_output = observer == OUTPUT_ERROR
    calibrate(quantization, batches, "percentile" if by_output else observer, group)
    if samples is None:
        samples = collect_samples(quantization, batches, seed=seed, group=group)
    if by_output:
        choose_ranges(quantization, batches, samples, group)
    if group.rank == 0:
        round_weights(quantization, samples)
    return samples
