"""What a training runs on: how many processes, what device, what makes a step; and the rate that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ocrslim.errors import InputError
from ocrslim.slimming.training.prefetch import Shard
from ocrslim.slimming.training.trainer import TrainSettings

__all__ = ["Compute"]

FEWEST_STEPS = 50  # that a usual number of steps is divided down to: fewer are all warm-up
WARM_UP = 10  # steps, at least, before a rate that was multiplied


@dataclass(frozen=True)
class Compute:
    """What a training runs on; every field has the meaning of the command line's option of that name.

    Args:
        processes: that train together; ``torchrun`` or ``--devices`` starts them.
        accumulate: batches of each process that make a step.
        clip_norm: bound of the gradient's norm; ``None`` is the usual one, 0 switches it off.
        scale_rate: multiply the learning rate by the number of batches that make a step.
        device: see :func:`ocrslim.slimming.training.precision.pick_device`.
        amp: see :func:`ocrslim.slimming.training.precision.open_precision`.

    Raises:
        InputError: there is no batch in a step, or the bound is none.

    >>> Compute(processes=2, accumulate=3).batches
    6
    >>> Compute(processes=2).steps(200), Compute(processes=8).steps(200), Compute().steps(20)
    (100, 50, 20)
    """

    processes: int = 1
    accumulate: int = 1
    clip_norm: float | None = None
    scale_rate: bool = True
    device: str = "auto"
    amp: str = "auto"

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise InputError(f"--accumulate {self.accumulate}: at least one batch makes a step")
        if self.clip_norm is not None and not 0 <= self.clip_norm < float("inf"):
            raise InputError(f"--clip-norm {self.clip_norm}: is no bound; give a number above 0, or 0 for none")

    @property
    def batches(self) -> int:
        """Batches that make a step, of all processes."""
        return self.processes * self.accumulate

    def steps(self, usual: int) -> int:
        """Return in how many steps as many images are seen as in a usual number of steps of one batch.

        Args:
            usual: steps of one batch each.
        """
        return max(min(usual, FEWEST_STEPS), -(-usual // self.batches))

    def shard(self, rank: int) -> Shard:
        """Return which batches are those of one process.

        Args:
            rank: of the process.
        """
        return Shard(rank, self.processes, self.accumulate)

    def fit(self, settings: TrainSettings, say: Callable[[str], None]) -> TrainSettings:
        """Return how a training of one process and one batch a step becomes this one.

        The learning rate grows linearly with the batch (Goyal et al., arXiv 1706.02677), after a warm-up.

        Args:
            settings: of one process; ``accumulate`` of it are the parts that a batch comes in.
            say: is told the rate.
        """
        if self.clip_norm is not None:
            settings = replace(settings, clip_norm=self.clip_norm)
        if self.batches == 1:
            return settings
        settings = replace(settings, accumulate=settings.accumulate * self.accumulate)
        rate = settings.learning_rate
        step = f"of {self.batches} batches, {self.processes} processes with {self.accumulate} each"
        if not self.scale_rate:
            say(f"learning rate {rate:g}, not scaled, for steps {step}")
            return settings
        warmup = max(settings.schedule.warmup, WARM_UP)
        say(
            f"learning rate {rate * self.batches:g}: {rate:g} times {self.batches}, for steps {step}; {warmup} steps of"
            " warm-up; --no-scale-lr leaves it as it is"
        )
        schedule = replace(settings.schedule, warmup=warmup)
        return replace(settings, learning_rate=rate * self.batches, schedule=schedule)
