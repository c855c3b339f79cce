"""Labels of channels: each index of an axis that may be cut has one, and what must go together has the same.

The labels of a convolution's output are joined with those that a residual addition puts beside them, are strung
together by a concatenation and carried on by everything that works channel by channel. What is one set in the end is
one unit of pruning: it stays whole or it goes whole (the dependency graph of DepGraph, arXiv 2301.12900, at the level
of single channels).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelArray", "Labels"]

LabelArray = NDArray[np.int64]
"""A label for each index of an axis."""


class Labels:
    """Disjoint sets of labels, some of them fixed with a reason."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}  # of the label that was fixed; a set is fixed if one of its labels is

    def fresh(self, count: int, reason: str | None = None) -> LabelArray:
        """Return ``count`` new labels, fixed where a reason is given."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        made = np.arange(start, start + count, dtype=np.int64)
        if reason is not None:
            self.fix(made, reason)
        return made

    def join(self, first: LabelArray, second: LabelArray) -> None:
        """Put the labels at each position into one set; the arrays have equally many, or broadcast.

        Raises:
            ValueError: they do not.
        """
        for one, other in zip(*(array.ravel().tolist() for array in np.broadcast_arrays(first, second)), strict=True):
            a, b = self._root(one), self._root(other)
            if a != b:
                self._parents[max(a, b)] = min(a, b)

    def fix(self, labels: LabelArray, reason: str) -> None:
        """Say why the sets of these labels may not be cut; the first reason stands."""
        for label in labels.ravel().tolist():
            self._reasons.setdefault(label, reason)

    def roots(self, labels: LabelArray) -> LabelArray:
        """Return the set of each label, named by its smallest one; the shape is kept."""
        found = [self._root(label) for label in labels.ravel().tolist()]
        return np.array(found, dtype=np.int64).reshape(labels.shape)

    def reasons(self) -> dict[int, str]:
        """Return set -> why it may not be cut, of those that may not."""
        found: dict[int, str] = {}
        for label, reason in self._reasons.items():
            found.setdefault(self._root(label), reason)
        return found

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label
