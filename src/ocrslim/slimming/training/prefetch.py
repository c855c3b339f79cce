"""Batches made ahead by one thread, while the last one is used."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

__all__ = ["WHOLE", "Batches", "PrefetchingIterator", "Shard", "prefetch"]

Batch: TypeAlias = Any
"""Arrays, f32 ``[N, C, H, W]``, or these with what belongs to them."""


GRACE = 10.0  # seconds for a batch that is being made when the interpreter goes
_RUNNING: weakref.WeakKeyDictionary[threading.Thread, threading.Event] = weakref.WeakKeyDictionary()


@atexit.register
def _end_all() -> None:
    """Stop all threads: one that is inside of OpenCV when the interpreter goes would abort the process."""
    running = dict(_RUNNING)
    for stop in running.values():
        stop.set()
    for thread in running:
        thread.join(GRACE)


class Batches(Protocol):
    """Anything that makes the batch of a step."""

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``, f32 ``[N, C, H, W]``."""
        ...


class PrefetchingIterator:
    """An iterator over the batches of some steps that makes the next ones in a thread while one is used.

    An error in the thread is raised where the batch would have come. The thread ends with the steps, by
    :meth:`close`, or when the iterator is garbage.

    Args:
        batches: makes the batch of a step.
        start_step: the first step.
        steps: how many.
        depth: batches kept ready.
    """

    def __init__(self, batches: Batches, start_step: int, steps: int, depth: int = 2) -> None:
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
        self._stop = threading.Event()
        self._done = False
        # The thread must not hold this object, or the object could never become garbage.
        self._thread = threading.Thread(
            target=_produce,
            args=(batches, range(start_step, start_step + steps), self._queue, self._stop),
            name="ocrslim-prefetch",
            daemon=True,
        )
        self._thread.start()
        _RUNNING[self._thread] = self._stop

    def __iter__(self) -> PrefetchingIterator:
        return self

    def __next__(self) -> Batch:
        if self._done:
            raise StopIteration
        item = self._queue.get()
        if item is not None and not isinstance(item, BaseException):
            return item
        self.close()
        if item is not None:
            raise item
        raise StopIteration

    def __del__(self) -> None:
        self._stop.set()

    def close(self) -> None:
        """Stop the thread and wait for it; safe to call twice."""
        self._done = True
        self._stop.set()
        self._thread.join()


def prefetch(batches: Batches, start_step: int, steps: int) -> PrefetchingIterator:
    """Iterate over the batches of ``steps`` steps from ``start_step`` on, two of them made ahead in a thread.

    >>> import numpy as np
    >>> class Steps:
    ...     def batch(self, step):
    ...         return np.full((1, 3, 1, 1), step, np.float32)
    >>> [float(batch[0, 0, 0, 0]) for batch in prefetch(Steps(), 7, 3)]
    [7.0, 8.0, 9.0]
    """
    return PrefetchingIterator(batches, start_step, steps)


@dataclass(frozen=True)
class Shard:
    """Which batches of the endless stream are those of one process of several.

    In step ``s`` rank ``r`` of ``n`` takes the ``block`` batches from ``(s * n + r) * block`` on: each batch is taken
    once, so each image comes once in an epoch, and a step takes the same images however they are shared out among
    processes and parts of a step.

    Args:
        rank: of the process.
        size: number of processes.
        block: batches that one process takes in a step.

    >>> [[Shard(rank, 2, block=2).place(index) for index in range(4)] for rank in range(2)]
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """

    rank: int = 0
    size: int = 1
    block: int = 1

    @property
    def together(self) -> int:
        """Batches that make one training step, of all processes."""
        return self.size * self.block

    def place(self, index: int) -> int:
        """Return the number in the stream of all of this process's batch number ``index``."""
        step, part = divmod(index, self.block)
        return (step * self.size + self.rank) * self.block + part

    def of(self, batches: Any) -> Any:
        """Return this process's share of something that makes the batch of a step, in the form of the whole."""
        return batches if self.size == 1 else _Share(batches, self)


WHOLE = Shard()
"""All batches are one process's."""


@dataclass(frozen=True)
class _Share:
    """The batches of one process, numbered from 0."""

    batches: Any
    shard: Shard

    def batch(self, step: int) -> Any:
        return self.batches.batch(self.shard.place(step))


def _produce(
    batches: Batches, steps: range, ready: queue.Queue[Batch | BaseException | None], stop: threading.Event
) -> None:
    """Put the batch of every step, then ``None``; or the error that came instead of a batch."""
    try:
        for step in steps:
            if stop.is_set() or not _put(batches.batch(step), ready, stop):
                return
        _put(None, ready, stop)
    except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
        _put(error, ready, stop)


def _put(
    item: Batch | BaseException | None, ready: queue.Queue[Batch | BaseException | None], stop: threading.Event
) -> bool:
    """Put ``item`` as soon as there is room; false when the consumer has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
