"""PaddleOCR's LMDB of text lines: ``num-samples``, and for each line from 1 ``image-%09d`` and ``label-%09d``.

An image in it has a path like any other: ``FOLDER/image-000000001``, where ``FOLDER`` holds ``data.mdb``.
"""

from __future__ import annotations

import os
import struct
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import lmdb

from ocrslim.errors import DataError

__all__ = ["LmdbTexts", "is_lmdb_image", "lmdb_folders", "lmdb_image", "read_lmdb_image", "read_lmdb_labels"]

DATA = "data.mdb"
PREFIX = "image-"
AT_A_TIME = 10_000  # samples
# The head of a page, then mm_magic, mm_version, mm_address, mm_mapsize, md_pad of the first database (the page's size),
# the rest of two databases, mm_last_pg, mm_txnid (lmdb's mdb.c, on machines of 64 bits).
_META = struct.Struct("=16xII8x8xI92xQQ")
_MAGIC = 0xBEEFC0DE

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


def lmdb_image(folder: Path, number: int) -> Path:
    """Return the path of an image; numbers begin with 1."""
    return folder / f"{PREFIX}{number:09d}"


def read_lmdb_labels(folder: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield the number of each image with its label, ``None`` where the label or the image is missing.

    The keys are sorted, so that they are read in ranges, from one page to the next; images are not looked at.

    Raises:
        DataError: the LMDB is broken or cut short, or has no number of samples.
    """
    _check_size(folder)
    with _open(folder) as transaction:
        said = transaction.get(b"num-samples")
        if said is None or not bytes(said).strip().isdigit() or len(said) > 20:
            raise DataError(f"{folder}: this LMDB has no number under num-samples; PaddleOCR's layout is needed")
        # Never more than there are keys, whatever the number claims.
        count = min(int(said), int(transaction.stat()["entries"]))
    for first in range(1, count + 1, AT_A_TIME):
        numbers = range(first, min(first + AT_A_TIME, count + 1))
        with _open(folder) as transaction:
            images = {key for key, _ in _range(transaction, PREFIX, numbers, False)}
            labels = dict(_range(transaction, "label-", numbers, True))
        for number in numbers:
            there = f"{PREFIX}{number:09d}".encode() in images
            yield number, labels.get(f"label-{number:09d}".encode()) if there else None


def _range(
    transaction: lmdb.Transaction, prefix: str, numbers: range, values: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the keys from ``prefix`` and the first number to the last, with their values if they are wanted."""
    last = f"{prefix}{numbers[-1]:09d}".encode()
    cursor = transaction.cursor()
    if not cursor.set_range(f"{prefix}{numbers[0]:09d}".encode()):
        return
    keys: Any = cursor.iternext(True, True) if values else cursor.iternext(True, False)
    for item in keys:
        key, value = item if values else (item, None)
        if bytes(key) > last:
            return
        yield bytes(key), None if value is None else bytes(value)


class LmdbTexts(Sequence[tuple[int, str]]):
    """The numbers and texts of the images that have one: bytes in a row, not a million objects.

    Args:
        folder: that holds ``data.mdb``.
        skip: told (image, reason) of each that is left out.

    Raises:
        DataError: as :func:`read_lmdb_labels`.
    """

    def __init__(self, folder: Path, skip: Callable[[Path, str], object]) -> None:
        self._numbers = array("q")
        self._ends = array("q", [0])
        self._texts = bytearray()
        for number, label in read_lmdb_labels(folder):
            reason = "the image or its label is missing" if label is None else _reason(label)
            if label is None or reason:
                skip(lmdb_image(folder, number), reason)
                continue
            self._texts += label
            self._numbers.append(number)
            self._ends.append(len(self._texts))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> tuple[int, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, str]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, str] | list[tuple[int, str]]:
        """Return the number of an image, and its text."""
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        return self._numbers[places], self._texts[self._ends[places] : self._ends[places + 1]].decode("utf-8")


def _reason(label: bytes) -> str:
    """Return why a label can't be used; an empty text where it can."""
    try:
        return "" if label.decode("utf-8") else "the text is empty"
    except UnicodeDecodeError:
        return "the label is not in UTF-8"


def _check_size(folder: Path) -> None:
    """Refuse a file that is cut short: the library maps it, and to read beyond its end kills the process.

    Raises:
        DataError: it has fewer pages than its newer head says.
    """
    path = folder / DATA
    try:
        with path.open("rb") as file:
            heads = [file.read(_META.size)]
            size = _META.unpack(heads[0])[2]
            file.seek(size)
            heads.append(file.read(_META.size))
            found = [_META.unpack(head) for head in heads]
            whole = os.fstat(file.fileno()).st_size
    except (OSError, struct.error, OverflowError) as error:
        raise DataError(f"{folder}: no LMDB that can be read ({error})") from error
    if any(magic != _MAGIC for magic, *_ in found):
        raise DataError(f"{folder}: no LMDB that can be read (its head is damaged)")
    pages = max(found, key=lambda head: head[4])[3] + 1
    if pages * size > whole:
        raise DataError(f"{folder}: no LMDB that can be read ({whole} bytes of {pages * size}: it is cut short)")


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
