"""What large tensors free is kept, as far as the C library is one that can be told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ocrslim.slimming.training import memory
from ocrslim.slimming.training.memory import freed_memory_kept

FAULTS = """
import resource, statistics, torch
from ocrslim.slimming.training.memory import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(80 << 18)  # 80 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

faults()
usual, began = faults(), resident()
with freed_memory_kept():
    faults()
    # What is small may take the end of what a tensor left, and the next one is then new: in few rounds, not in most.
    kept, held = statistics.median_low(faults() for _ in range(5)), resident()
print(usual, kept, began, held, resident())
"""
glibc = pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")


@glibc
def test_memory_is_kept_inside_and_given_back_behind() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept, began, held, ended = map(int, done.stdout.split())
    assert kept < 0.1 * usual  # a fault is a page of zeros from the system
    assert held > began + 60  # MB
    assert ended < began + 20


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with freed_memory_kept():
        pass


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_not_asked_for_a_library(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    memory._glibc.cache_clear()
    assert memory._glibc() is None
    memory._glibc.cache_clear()


@pytest.mark.parametrize("name", memory.SET_BY_USER)
def test_what_the_user_set_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    memory._glibc.cache_clear()
    assert memory._glibc() is None
    memory._glibc.cache_clear()


class Library:
    """Remembers what it is told, and takes no threshold above the largest, as glibc 2.30 does."""

    def __init__(self, most: int) -> None:
        self.most, self.told, self.trimmed = most, list[tuple[int, int]](), 0

    def mallopt(self, name: int, value: int) -> int:
        taken = name != memory.MMAP_THRESHOLD or value <= self.most
        self.told += [(name, value)] if taken else []
        return int(taken)

    def malloc_trim(self, left: int) -> int:
        self.trimmed += 1
        return 1


@pytest.mark.parametrize("most", [memory.LARGEST, memory.KEPT])
def test_as_much_is_kept_as_the_library_takes_and_an_error_ends_it(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(most)
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    inside: dict[int, int] = {}

    @freed_memory_kept()
    def fail() -> None:
        inside.update(library.told)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == {memory.MMAP_THRESHOLD: most, memory.TRIM_THRESHOLD: 2**31 - 1}
    assert dict(library.told) == {memory.MMAP_THRESHOLD: memory.LARGEST, memory.TRIM_THRESHOLD: 2 * memory.LARGEST}
    assert library.trimmed == 1
