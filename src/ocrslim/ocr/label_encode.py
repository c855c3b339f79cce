"""Labels as numbers: PaddleOCR's ``DetLabelEncode``, ``CTCLabelEncode`` and ``MultiLabelEncode``.

CTC classes are those of :class:`ocrslim.ocr.ctc.Charset`: blank, the dictionary, a space. The labels of the attention
branches (SAR, NRTR) follow PaddleOCR's numbering; exported models have no such branch, so nothing is trained on them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ocrslim.ocr.ctc import Charset

__all__ = ["TextEncoder"]

Labels = NDArray[np.int64]
NRTR_SPECIAL = 4  # blank, unknown, start, end


class TextEncoder:
    """Turns texts into class numbers.

    Characters that the dictionary does not hold are left out, as in PaddleOCR. An entry of the dictionary that is
    longer than a character is never chosen: texts are read character by character.

    Args:
        charset: of the model.
        max_length: of a text, characters; longer ones are refused.

    >>> encoder = TextEncoder(Charset(["a", "b"]), 5)
    >>> encoder.ctc("a b").tolist(), encoder.ctc("a#").tolist(), encoder.ctc("aaaaaa")
    ([1, 3, 2], [1], None)
    """

    def __init__(self, charset: Charset, max_length: int) -> None:
        self.max_length = max_length
        # The first of equal entries, as text is read back; 0 is the blank and never a character.
        self._numbers: dict[str, int] = {}
        for number, character in enumerate(charset.classes):
            if number:
                self._numbers.setdefault(character, number)
        self._classes = len(charset.classes)

    def ctc(self, text: str) -> Labels | None:
        """Return the classes of a text; ``None`` where it is empty, too long, or has no character of the dictionary."""
        if not 0 < len(text) <= self.max_length:
            return None
        found = [self._numbers[character] for character in text if character in self._numbers]
        return np.array(found, np.int64) if found else None

    def attention(self, text: str, kind: Literal["SARLabelEncode", "NRTRLabelEncode"]) -> Labels | None:
        """Return the label of an attention branch, padded to ``max_length``; ``None`` where it does not fit.

        SAR counts the dictionary from 0 and has unknown, begin and end (one number), and padding behind it; NRTR has
        blank, unknown, start and end before it, and pads with 0.

        Args:
            text: the label.
            kind: of the branch.
        """
        numbers = self.ctc(text)
        if numbers is None or len(numbers) >= self.max_length - 1:
            return None
        characters = self._classes - 1  # without the blank
        if kind == "SARLabelEncode":
            edge, padding = characters + 1, characters + 2
            found = [edge, *(numbers - 1), edge]
        else:
            start, end, padding = 2, 3, 0
            found = [start, *(numbers - 1 + NRTR_SPECIAL), end]
        return np.array(found + [padding] * (self.max_length - len(found)), np.int64)
