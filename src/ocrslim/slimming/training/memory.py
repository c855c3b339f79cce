"""The C library keeps the memory of large tensors from one training step to the next.

By default glibc gives what a large tensor frees back to the system, and asks for it again, filled with zeros, a moment
later: every pass over memory then comes with another one. On 2 cores a sum of two tensors of 26 MB took half of the
time without that, a step of PP-OCRv6 tiny det nine tenths, and two processes disturbed each other less.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["freed_memory_kept"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEPT = 1 << 30  # bytes: no tensor of a step is larger
LARGEST = 32 << 20  # bytes: where glibc's own rule ends after large tensors, with twice that to trim
SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory while the body works, and give it back afterwards; elsewhere than in glibc nothing happens."""
    library = _glibc()
    if library is None:
        yield
        return
    if not library.mallopt(MMAP_THRESHOLD, KEPT):  # older ones take no more than this, and keep tensors up to it
        library.mallopt(MMAP_THRESHOLD, LARGEST)
    library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)  # as much as an int holds
    try:
        yield
    finally:
        library.mallopt(MMAP_THRESHOLD, LARGEST)
        library.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """Return the C library where it is glibc, and nobody told it what to keep; else ``None``."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SET_BY_USER):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
