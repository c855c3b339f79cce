"""When a compression did what, told by itself while it runs: both sides of the benchmark tell it the same way.

Standard library only, as the other side's environment has no more. A run marks its moments in a file of JSON lines;
whoever started it reads them. Wall times are the system clock's, so that the start of the process counts.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "Stopwatch", "Timing", "read_timing"]

STATUS = Path("/proc/self/status")


class Stopwatch:
    """Marks moments of this process.

    Args:
        path: of the file; it is begun anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def mark(self, event: str, **figures: Any) -> None:
        """Note that something happened, with the processor seconds and the peak memory so far."""
        told = {"event": event, "wall": time.time(), "cpu": time.process_time(), "peak_mb": _peak_mb(), **figures}
        self._file.write(json.dumps(told) + "\n")
        self._file.flush()

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches; what is done between one and the next is a step."""
        self.mark("pass")
        for batch in batches:
            self.mark("begin")
            try:
                yield batch
            finally:  # the last step ends when the loop over the batches does
                self.mark("end")


@dataclass(frozen=True)
class Cost:
    """What something took.

    Args:
        wall: seconds by the clock.
        cpu: processor seconds, over all threads; other processes change them little.
    """

    wall: float
    cpu: float

    def __add__(self, other: Cost) -> Cost:
        """Return what both took together."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class Timing:
    """What a run cost.

    Args:
        start: from the command to the first image that it works on.
        prepare: from there to the end of the first training step, without one usual step: calibrating.
        step: the median of the steps, the first one left out where there are others.
        total: of the whole command.
        steps: that were made.
        peak_mb: largest resident memory, MiB; ``None`` where the system does not tell.
    """

    start: Cost
    prepare: Cost
    step: Cost
    total: Cost
    steps: int
    peak_mb: float | None

    @property
    def to_training(self) -> Cost:
        """From the command until the training runs."""
        return self.start + self.prepare

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Timing:
        """Return what :func:`dataclasses.asdict` made JSON's types of."""
        costs = {name: Cost(**data[name]) for name in ("start", "prepare", "step", "total")}
        return cls(**costs, steps=data["steps"], peak_mb=data["peak_mb"])


def read_timing(path: Path, started: float, ended: float) -> Timing:
    """Read the marks of a run.

    1. A step lies between ``begin`` and the next ``step`` or ``end``; of several passes over the batches the last one
       trains.
    2. The run works on its first image at ``images``, or at the first step where it never says so.
    3. What the first step takes longer than the others (a graph is built) belongs to what was before it.

    Args:
        path: that :class:`Stopwatch` wrote.
        started: when the command was given, by the system clock.
        ended: when it had ended.

    Raises:
        ValueError: no step was made.
    """
    marks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    passes = [index for index, mark in enumerate(marks) if mark["event"] == "pass"]
    steps = _steps(marks[passes[-1] :]) if passes else []
    if not steps:
        raise ValueError(f"{path}: tells of no training step")
    usual = steps[1:] or steps
    step = Cost(*(statistics.median(end[clock] - begin[clock] for begin, end in usual) for clock in ("wall", "cpu")))
    begin, end = steps[0]
    ready = Cost(
        max(begin["wall"], end["wall"] - step.wall) - started,
        max(begin["cpu"], end["cpu"] - step.cpu),
    )
    first = next((mark for mark in marks if mark["event"] == "images"), None)
    start = ready if first is None else Cost(min(first["wall"] - started, ready.wall), min(first["cpu"], ready.cpu))
    peaks = [mark["peak_mb"] for mark in marks if mark["peak_mb"] is not None]
    return Timing(
        start=start,
        prepare=Cost(ready.wall - start.wall, ready.cpu - start.cpu),
        step=step,
        total=Cost(ended - started, marks[-1]["cpu"]),
        steps=len(steps),
        peak_mb=max(peaks) if peaks else None,
    )


def _steps(marks: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the pairs of marks around each step."""
    pairs, begin = [], None
    for mark in marks:
        if mark["event"] == "begin":
            begin = mark
        elif mark["event"] in ("step", "end") and begin is not None:
            pairs.append((begin, mark))
            begin = None
    return pairs


def _peak_mb() -> float | None:
    """Return this process's largest resident memory; ``VmHWM``, which unlike ``getrusage`` starts anew at ``exec``."""
    if STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        return int(found.group(1)) / 1024 if found else None
    if sys.platform == "darwin":
        import resource  # no such module on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return None
