"""Calibration in several processes: each looks at a part of the images, what they saw is merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from ocrslim.slimming.quantization.observer import Observer

__all__ = ["ALONE", "ProcessGroup", "merge_observers"]


class ProcessGroup(Protocol):
    """Processes that calibrate together; this one looks at the batches ``rank``, ``rank + size``, ..."""

    @property
    def rank(self) -> int:
        """Number of this process; what only one has to do, 0 does."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]]:
        """Return the tensors of every process in the order of their numbers, on the first; nothing on the others."""
        ...


class _Alone:
    rank, size = 0, 1

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]]:
        return [tensors]


ALONE: ProcessGroup = _Alone()
"""One process."""


def merge_observers(group: ProcessGroup, observers: Mapping[str, Observer]) -> None:
    """Let the observers of the first process have seen what all of them saw.

    Args:
        group: all its processes have to call it.
        observers: of the same names and kinds everywhere; the first process's are changed in place.
    """
    if group.size == 1:
        return
    found = group.gather_tensors({name: observer.state() for name, observer in observers.items()})
    for name, observer in observers.items() if found else ():
        observer.merge([states[name] for states in found])
