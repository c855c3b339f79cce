"""PaddleOCR's LMDB of text lines: ``num-samples``, and for each line from 1 ``image-%09d`` and ``label-%09d``.

An image in it has a path like any other: ``FOLDER/image-000000001``, where ``FOLDER`` holds ``data.mdb``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from ocrslim.errors import DataError

__all__ = ["is_lmdb_image", "lmdb_folders", "read_lmdb_image", "read_lmdb_labels"]

DATA = "data.mdb"
PREFIX = "image-"

# An LMDB may be open only once in a process, so threads take turns.
_turn = threading.Lock()


def lmdb_folders(folder: Path) -> list[Path]:
    """Return the folders with an LMDB, ``folder`` and all below it, sorted."""
    return sorted(Path(place) for place, _, names in os.walk(folder) if DATA in names)


def is_lmdb_image(path: Path) -> bool:
    """Return whether ``path`` names an image inside of an LMDB."""
    return path.name.startswith(PREFIX) and not path.suffix and os.path.isfile(path.parent / DATA)


def read_lmdb_image(path: Path) -> bytes:
    """Return the encoded image that ``path`` names.

    Raises:
        DataError: the LMDB is broken, or has no such image.
    """
    with _open(path.parent) as transaction:
        content = transaction.get(path.name.encode())
    if content is None:
        raise DataError(f"{path}: the LMDB has no such image")
    return bytes(content)


def read_lmdb_labels(folder: Path) -> list[tuple[Path, bytes | None]]:
    """Return the path of each image with its label, ``None`` where the label or the image is missing.

    Raises:
        DataError: the LMDB is broken, or has no number of samples.
    """
    with _open(folder) as transaction:
        said = transaction.get(b"num-samples")
        if said is None or not bytes(said).strip().isdigit():
            raise DataError(f"{folder}: this LMDB has no number under num-samples; PaddleOCR's layout is needed")
        # Never more than there are keys, whatever the number claims.
        count = min(int(said), int(transaction.stat()["entries"]))
        cursor = transaction.cursor()
        found: list[tuple[Path, bytes | None]] = []
        for index in range(1, count + 1):
            key = f"{PREFIX}{index:09d}"
            label = transaction.get(f"label-{index:09d}".encode())
            there = cursor.set_key(key.encode())  # a look at the key alone: images are large
            found.append((folder / key, bytes(label) if there and label is not None else None))
        return found


@contextmanager
def _open(folder: Path) -> Iterator[lmdb.Transaction]:
    """Yield a reading transaction; nothing is written, not even a lock file."""
    with _turn:
        try:
            with (
                lmdb.open(str(folder), readonly=True, lock=False, create=False, readahead=False) as environment,
                environment.begin() as transaction,
            ):
                yield transaction
        except lmdb.Error as error:
            raise DataError(f"{folder}: no LMDB that can be read ({error})") from error
