"""One run for one folder: who comes second is told who was first.

The operating system holds the lock (``flock``, on Windows ``msvcrt.locking``) and lets go of it when its process ends,
however it ends: there is no stale lock, only a stale file, which the next run takes over.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ocrslim.errors import InputError

__all__ = ["alone_in"]

NAME = ".lock"
PLACE = 1 << 30  # of the byte that Windows locks: far behind what is written, so that others may read that


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for as long as the body runs.

    Args:
        folder: exists; a file ``.lock`` in it names the run, and is gone afterwards.

    Raises:
        InputError: another run, in this or in another process, holds the folder; the text has its process id, its
            machine and when it began.
        OSError: the folder can't be written.
    """
    path = folder / NAME
    file = _take(folder, path)
    try:
        os.truncate(file, 0)
        os.write(file, json.dumps(_self()).encode())
        yield
    finally:
        # First the name, then the lock: who opened the file meanwhile finds that it is no longer the folder's.
        with suppress(OSError):  # Windows removes no open file; an empty one does no harm
            path.unlink()
        os.close(file)


def _take(folder: Path, path: Path) -> int:
    """Return the locked file's descriptor."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(file):
                raise InputError(
                    f"{folder}: another run is writing here{_said(path)}; wait for it, or name another folder"
                )
            if _is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int) -> bool:
    """Lock an open file; return false where another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, PLACE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Return whether the open file is still the one of that name: the last holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _self() -> dict[str, Any]:
    """Return what names this run."""
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "began": began}


def _said(path: Path) -> str:
    """Return who holds a folder, in words; nothing where that is not written yet."""
    try:
        found = json.loads(path.read_bytes())
        return f" (process {found['pid']} on {found['host']}, since {found['began']})"
    except (OSError, ValueError, LookupError, TypeError):
        return ""
