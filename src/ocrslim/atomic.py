"""A file is whole or it is not there: every output is written beside its place and then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_bytes"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``; what the body writes there becomes ``path``.

    1. The name is new each time, so that two processes may write the same file at once: the later one stands.
    2. The bytes are flushed to the disk before the rename, or a crash could leave the new name with nothing in it.
    3. If anything goes wrong, an interrupt too, ``path`` stays as it was and the temporary file is removed.

    Args:
        path: the file to make or to replace; its folder exists.

    Raises:
        OSError: the body wrote no file, or the folder or the disk refused.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file; see :func:`replacing`.

    Raises:
        OSError: the folder or the disk refused; ``path`` is as it was.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)
