"""A label file as lines ``image<TAB>label``: read one by one, and found again by their place in the file."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import DataError
from ocrslim.ocr.sequences import Picked

__all__ = ["MOST_OBJECTS", "IndexedSamples", "LabelLine", "LineIndex", "Skipped", "read_lines", "split_line"]

T = TypeVar("T")

LONGEST_LINE = 8 << 20  # bytes; a newspaper page has 0.5 million
MOST_OBJECTS = 20_000
"""So many samples are kept as objects; of more only the places in the file are, 12 bytes each."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left out.

    Args:
        where: ``file:line``, or the image's path.
        reason: why.
    """

    where: str
    reason: str


class LabelLine(NamedTuple):
    """A line that has an image and a label.

    Args:
        number: from 1.
        start: bytes before it in the file.
        length: in bytes.
        image: path as it is written.
        label: the text behind the tab.
    """

    number: int
    start: int
    length: int
    image: str
    label: str


def read_lines(path: Path, skipped: list[Skipped] | None = None) -> Iterator[LabelLine]:
    """Yield the lines, split by newlines only; a byte order mark and carriage returns at the ends are dropped.

    Args:
        path: the label file.
        skipped: told which lines are none, and why.

    Raises:
        DataError: the file is missing, can't be read, or is no UTF-8 text.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such label file")
    notes = [] if skipped is None else skipped
    try:
        with path.open("rb", buffering=1 << 20) as file:
            first = file.read(4096)
            if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first:
                raise DataError(f"{path}: not a label file in UTF-8; each line is image<TAB>label")
            start = len(_BOM) if first.startswith(_BOM) else 0
            file.seek(start)
            number = 0
            while raw := file.readline(LONGEST_LINE):
                number += 1
                where, start = start, start + len(raw)
                if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(LONGEST_LINE)
                        start += len(raw)
                    notes.append(Skipped(f"{path}:{number}", f"longer than {LONGEST_LINE >> 20} MiB"))
                    continue
                try:
                    image, label = split_line(raw)
                except ValueError as error:
                    notes.append(Skipped(f"{path}:{number}", str(error)))
                else:
                    yield LabelLine(number, where, len(raw), image, label)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error


def split_line(raw: bytes) -> tuple[str, str]:
    """Return the image's path and the label of a line; what follows a second tab is dropped.

    Raises:
        ValueError: it has none; the text says why.
    """
    try:
        fields = raw.decode("utf-8").rstrip("\r\n").split("\t", 2)
    except UnicodeDecodeError:
        raise ValueError("not in UTF-8") from None
    if len(fields) > 1 and fields[0].strip():
        return fields[0], fields[1]
    empty = not any(field.strip() for field in fields)
    raise ValueError("empty line" if empty else "no image and label with a tab between")


class LineIndex:
    """The places of some lines in a file, 12 bytes each.

    Args:
        path: the label file; it must stay as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("q")
        self._lengths = array("i")
        self._state = _state(path)

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, line: LabelLine) -> None:
        """Append a line."""
        self._starts.append(line.start)
        self._lengths.append(line.length)

    def read(self, index: int) -> tuple[str, str]:
        """Return the image's path and the label of a line.

        Raises:
            DataError: the file is gone or is another one than it was.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                if _state(self.path) != self._state:
                    raise DataError(f"{self.path}: was changed while it was in use; run again")
                file.seek(self._starts[index])
                return split_line(file.read(self._lengths[index]))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: can't be read any more ({error}); run again") from error


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class IndexedSamples(Sequence[T]):
    """Samples that are made from their line when they are asked for.

    Args:
        index: of the lines.
        make: (path as written, label) -> sample.
    """

    def __init__(self, index: LineIndex, make: Callable[[str, str], T]) -> None:
        self._index = index
        self._make = make

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Return a sample; of a slice a sequence of such."""
        if isinstance(index, slice):
            places: NDArray[np.int64] = np.arange(*index.indices(len(self)), dtype=np.int64)
            return Picked(self, places, _same)
        return self._make(*self._index.read(range(len(self))[index]))


def _same(item: T) -> T:
    return item
