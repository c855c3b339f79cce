"""A recogniser's classes, and the text that its frames spell (CTC, Graves et al. 2006, greedy decoding)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import ModelError

__all__ = ["BLANK", "Charset"]

BLANK = 0


class _Source(Protocol):
    """What is asked of a model here; ``graph.importers.source.ModelSource`` has it."""

    @property
    def characters(self) -> tuple[str, ...] | None: ...
    @property
    def use_space(self) -> bool: ...
    @property
    def name(self) -> str: ...


class Charset:
    """The classes of a recogniser: blank, the dictionary, and mostly a space.

    Args:
        characters: the dictionary's entries, in its order; an entry may be more than one code point.
        use_space: the last class is a space.

    Attributes:
        classes: the text of each class; that of blank is empty.

    >>> Charset(["a", "b"]).classes
    ('', 'a', 'b', ' ')
    """

    def __init__(self, characters: Sequence[str], use_space: bool = True) -> None:
        self.classes: tuple[str, ...] = ("", *characters, *([" "] if use_space else []))
        self._known = frozenset("".join(self.classes))

    @classmethod
    def from_source(cls, source: _Source) -> Charset:
        """Return the charset of a model.

        Raises:
            ModelError: the model comes without a dictionary.
        """
        if source.characters is None:
            raise ModelError(
                f"{source.name}: no dictionary; name it with --dict, or put the model's dictionary.txt beside it"
            )
        return cls(source.characters, source.use_space)

    def __len__(self) -> int:
        """Return the number of classes, with blank."""
        return len(self.classes)

    def knows(self, text: str) -> bool:
        """Return whether every character of ``text`` can be read at all."""
        return self._known.issuperset(text)

    def decode(self, probabilities: NDArray[np.float32]) -> tuple[str, float]:
        """Read one line: the best class of each frame, repeats once, blanks not at all.

        Args:
            probabilities: ``[T, C]``, C the number of classes.

        Returns:
            tuple: the text; the mean probability of its frames, 0 where there is no text.

        Raises:
            ValueError: C is not the number of classes.
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self.classes):
            raise ValueError(f"expected [T, {len(self.classes)}], got {list(probabilities.shape)}")
        best = probabilities.argmax(axis=1)
        kept = _kept(best)
        if not kept.any():
            return "", 0.0
        return self.spell(best), float(probabilities[np.flatnonzero(kept), best[kept]].mean())

    def spell(self, best: NDArray[np.int64]) -> str:
        """Return the text that the best classes ``[T]`` of a line's frames spell.

        >>> Charset(["a", "b"]).spell(np.array([1, 1, 0, 1, 2, 3, 0]))
        'aab '
        """
        return "".join(self.classes[index] for index in best[_kept(best)])


def _kept(best: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each frame whether it writes a character: no blank, and no repetition of the frame before."""
    kept: NDArray[np.bool_] = best != BLANK
    kept[1:] &= best[1:] != best[:-1]
    return kept
