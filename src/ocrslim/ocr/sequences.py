"""Long sequences without a copy: a choice of another one's items, and several in a row.

A million samples as Python objects take a gigabyte; as places in a file they take 16 MB.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Joined", "Picked", "join", "pick"]

T = TypeVar("T")
U = TypeVar("U")


class Picked(Sequence[U], Generic[T, U]):
    """Some items of a sequence, in an order of their own, each made anew when it is asked for.

    Args:
        items: what is picked from.
        places: i64 ``[n]``, of the items.
        change: what becomes of an item.
    """

    def __init__(self, items: Sequence[T], places: NDArray[np.int64], change: Callable[[T], U]) -> None:
        self._items = items
        self._places = places
        self._change = change

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> U: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[U]: ...
    def __getitem__(self, index: int | slice) -> U | Sequence[U]:
        """Return an item; of a slice a sequence like this."""
        if isinstance(index, slice):
            return Picked(self._items, self._places[index], self._change)
        return self._change(self._items[int(self._places[index])])


class Joined(Sequence[T]):
    """Several sequences in a row.

    Args:
        parts: the sequences.
    """

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Return an item; of a slice a sequence."""
        if isinstance(index, slice):
            return Picked(self, np.arange(*index.indices(len(self)), dtype=np.int64), _same)
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]


@overload
def pick(items: Sequence[T], places: NDArray[np.int64]) -> Sequence[T]: ...
@overload
def pick(items: Sequence[T], places: NDArray[np.int64], change: Callable[[T], U]) -> Sequence[U]: ...
def pick(items: Sequence[Any], places: NDArray[np.int64], change: Callable[[Any], Any] | None = None) -> Sequence[Any]:
    """Return some items: as a tuple where they are objects already, else as a view.

    >>> pick(["a", "b", "c"], np.array([2, 0]), str.upper)
    ('C', 'A')
    """
    picked = Picked(items, places, change or _same)
    return tuple(picked) if isinstance(items, (list, tuple)) else picked


def join(parts: Sequence[Sequence[T]]) -> Sequence[T]:
    """Return several sequences in a row: as a tuple where their items are objects already, else as a view.

    >>> join([["a"], ("b", "c")])
    ('a', 'b', 'c')
    """
    joined = Joined(parts)
    return tuple(joined) if all(isinstance(part, (list, tuple)) for part in parts) else joined


def _same(item: T) -> T:
    return item
