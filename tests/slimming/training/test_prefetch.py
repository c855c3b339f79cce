"""Batches made ahead: in order, no more than the depth, errors where they belong, and no thread left over."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.config.profile import RecProfile
from ocrslim.errors import DataError
from ocrslim.slimming.training.loader import RecBatches
from ocrslim.slimming.training.prefetch import PrefetchingIterator, prefetch


class _Steps:
    """Batches that are the number of their step, and note which steps were made."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.made: list[int] = []
        self.fail_at = fail_at

    def batch(self, step: int) -> NDArray[np.float32]:
        if step == self.fail_at:
            raise DataError(f"step {step} is broken")
        self.made.append(step)
        return np.full((1, 3, 2, 2), step, np.float32)


def _noise(seed: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (48, width, 3)).astype(np.uint8)


def _threads() -> int:
    return sum(thread.name == "ocrslim-prefetch" for thread in threading.enumerate())


def _wait_for(condition: object, seconds: float = 3.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(("start", "steps"), [(0, 5), (7, 3), (3, 0), (0, 1)])
def test_prefetching_yields_the_batches_in_order_and_ends(start: int, steps: int) -> None:
    got = [int(batch[0, 0, 0, 0]) for batch in prefetch(_Steps(), start, steps)]
    assert got == list(range(start, start + steps))
    assert _threads() == 0


def test_prefetched_batches_are_those_of_the_loader() -> None:
    batches = RecBatches([_noise(i, 100 + 90 * i) for i in range(7)], 3, RecProfile(), 5)
    for step, batch in zip(range(4, 9), prefetch(batches, 4, 5), strict=True):
        assert np.array_equal(batch, batches.batch(step))


def test_an_end_stays_an_end() -> None:
    iterator = prefetch(_Steps(), 0, 1)
    assert len(list(iterator)) == 1
    assert list(iterator) == []


def test_no_more_than_the_depth_is_made_ahead() -> None:
    steps = _Steps()
    iterator = PrefetchingIterator(steps, 0, 100, depth=2)
    assert _wait_for(lambda: len(steps.made) == 3)  # two in the queue, one in the hand
    time.sleep(0.2)
    assert len(steps.made) == 3
    next(iterator)
    assert _wait_for(lambda: len(steps.made) == 4)
    iterator.close()
    iterator.close()
    assert _threads() == 0
    with pytest.raises(StopIteration):
        next(iterator)


def test_an_error_is_raised_where_the_batch_would_have_come() -> None:
    iterator = prefetch(_Steps(fail_at=2), 0, 5)
    assert [int(next(iterator)[0, 0, 0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="step 2 is broken"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    assert _threads() == 0


def test_a_forgotten_iterator_ends_its_thread() -> None:
    iterator = prefetch(_Steps(), 0, 10_000)
    next(iterator)
    assert _threads() == 1
    del iterator
    gc.collect()
    assert _wait_for(lambda: _threads() == 0)


LAST = """
import atexit, threading, time
atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # after those registered later
import numpy as np
from ocrslim.slimming.training.prefetch import prefetch

class Slow:
    def batch(self, step):
        time.sleep(0.2)
        return np.zeros((1, 3, 2, 2), np.float32)

next(prefetch(Slow(), 0, 100))
kept = prefetch(Slow(), 0, 100)
"""


def test_no_thread_is_left_when_the_interpreter_goes() -> None:
    done = subprocess.run([sys.executable, "-c", LAST], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['MainThread']"
