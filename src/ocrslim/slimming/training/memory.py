"""The C library keeps the memory of large tensors from one training step to the next.

By default glibc gives what a large tensor frees back to the system, and asks for it again, filled with zeros, a moment
later: every pass over memory then comes with another one. On 2 cores a sum of two tensors of 26 MB took half of the
time without that, a step of PP-OCRv6 tiny det nine tenths, and two processes disturbed each other less.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["freed_memory_kept"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEPT = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: (1 << 31) - 1}  # bytes; as much as mallopt's int holds
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}  # where glibc's own rule ends after large tensors


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory while the body works, and give it back afterwards; elsewhere than in glibc nothing happens."""
    library = _glibc()
    if library is None:
        yield
        return
    _set(library, KEPT)
    try:
        yield
    finally:
        _set(library, USUAL)
        library.malloc_trim(0)


def _set(library: Any, options: dict[int, int]) -> None:
    for name, value in options.items():
        library.mallopt(name, value)


@functools.cache
def _glibc() -> Any:
    """Return the C library where it is glibc, else ``None``."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
