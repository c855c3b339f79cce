"""What large tensors free is kept, as far as the C library is one that can be told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ocrslim.slimming.training import memory
from ocrslim.slimming.training.memory import freed_memory_kept

FAULTS = """
import resource, torch
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
    kept, held = faults(), resident()
print(usual, kept, faults(), began, held, resident())
"""
glibc = pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")


@glibc
def test_memory_is_kept_inside_and_given_back_behind() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept, after, began, held, ended = map(int, done.stdout.split())
    assert kept < 0.1 * usual  # a fault is a page of zeros from the system
    assert after > 0.9 * usual
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


@glibc
def test_an_error_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    library = type(
        "Library", (), {"mallopt": lambda self, *pair: told.append(pair), "malloc_trim": lambda self, left: 1}
    )
    monkeypatch.setattr(memory, "_glibc", library)
    with pytest.raises(RuntimeError), freed_memory_kept():
        raise RuntimeError
    assert dict(told[:2]) == memory.KEPT
    assert dict(told[2:]) == memory.USUAL
