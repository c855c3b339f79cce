"""A file is whole or it is not there: every output is written beside its place and then renamed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ocrslim.errors import InputError
from ocrslim.lock import alone_in

__all__ = ["held_folder", "output_folder", "read_object", "replacing", "write_bytes"]

RESULT = "result.json"


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


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file whose loss costs time alone; an empty one where there is none to be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make a folder and let no other run write there while the body works.

    Args:
        folder: made if missing.

    Raises:
        InputError: it is a file, can't be written, or another run is writing there; see :mod:`ocrslim.lock`.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; name a folder")
    with ExitStack() as held:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(folder))
        yield


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--out {folder}: cannot be written ({error.strerror}); name a folder that you may write"
        ) from error


@contextmanager
def output_folder(folder: Path, stale: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder; what lies in it is moved into ``folder`` when the body succeeds, ``result.json`` last.

    A run that fails or is interrupted leaves no half-written result, only the log and the checkpoints.

    Args:
        folder: made if missing.
        stale: files of an earlier run there, known by its ``result.json``, that go where this one makes none.

    Raises:
        InputError: see :func:`held_folder`.
    """
    partial = folder / ".partial"
    with held_folder(folder):
        with _writable(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
        try:
            yield partial
            if (folder / RESULT).exists():
                (folder / RESULT).unlink()  # first: it must not stand beside half of another run's files
                for name in stale:
                    if not (partial / name).exists():
                        (folder / name).unlink(missing_ok=True)
            for path in sorted(partial.iterdir(), key=lambda path: path.name == RESULT):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
