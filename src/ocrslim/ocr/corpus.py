"""Random text made of a model's own dictionary: words, numbers and Chinese phrases without meaning."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from ocrslim.errors import DataError

__all__ = ["Corpus", "common_characters"]

LINE_END = "。，、；：！？.,;:!?"
INNER = "-/&+@#%'()"
COMMON_SHARE = 0.7  # of Chinese characters drawn among the common ones, where the dictionary has them
MOST_WORDS = 4
VOWELS = "aeiou"


def common_characters() -> str:
    """Return the 3,755 most used Chinese characters (level 1 of GB 2312-1980), ASCII, and Chinese punctuation."""
    rows = range(0xB0, 0xD8)
    cells = range(0xA1, 0xFF)
    # Row 0xD7 ends with five empty cells.
    han = "".join(bytes((row, cell)).decode("gb2312", "ignore") for row in rows for cell in cells)
    return "".join(chr(code) for code in range(0x21, 0x7F)) + "。，、；：！？（）《》“”" + han


class Corpus:
    """Draws lines of text.

    About four lines in ten are Chinese, three Latin words, two numbers (dates, prices, codes), and the rest any
    characters at all, so that every entry of the dictionary comes up; kinds for which the dictionary lacks the
    characters are left out. Every character of a line but the space comes from the dictionary.

    Args:
        characters: to draw from, single characters.

    Raises:
        DataError: there are none.
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = tuple(dict.fromkeys(characters))
        if not self.characters:
            raise DataError("the model's dictionary has no character that can be rendered; give images with --data")
        known = set(self.characters)
        common = set(common_characters())
        self._han = [one for one in self.characters if _is_han(one)]
        self._common = [one for one in self._han if one in common] or self._han
        self._digits = [one for one in "0123456789" if one in known]
        self._consonants = [one for one in "bcdfghjklmnpqrstvwxyz" if one in known]
        self._vowels = [one for one in VOWELS if one in known]
        self._known = known
        self._ends = [one for one in LINE_END if one in known]
        self._inner = [one for one in INNER if one in known]
        kinds = [
            (4.0, self._chinese, bool(self._han)),
            (3.0, self._latin, bool(self._consonants and self._vowels)),
            (2.0, self._number, bool(self._digits)),
            (1.0, self._anything, True),
        ]
        self._kinds = [make for _, make, possible in kinds if possible]
        weights = np.array([weight for weight, _, possible in kinds if possible])
        self._weights = weights / weights.sum()

    def line(self, rng: np.random.Generator, most: int = 20) -> str:
        """Return one line.

        Args:
            rng: source of randomness.
            most: characters, at most.

        Returns:
            str: of 1 to ``most`` characters, neither beginning nor ending with a space, no two spaces in a row.
        """
        make = self._kinds[int(rng.choice(len(self._kinds), p=self._weights))]
        return make(rng, most)[:most].rstrip() or self._one(rng, self.characters)

    def _chinese(self, rng: np.random.Generator, most: int) -> str:
        length = int(rng.integers(1, most + 1))
        source = [self._common if rng.random() < COMMON_SHARE else self._han for _ in range(length)]
        text = [self._one(rng, characters) for characters in source]
        if self._ends and length > 2 and rng.random() < 0.4:
            text[int(rng.integers(1, length))] = self._one(rng, self._ends)
        if self._digits and length > 3 and rng.random() < 0.2:
            text[1:3] = [self._one(rng, self._digits) for _ in range(2)]
        return "".join(text)

    def _latin(self, rng: np.random.Generator, most: int) -> str:
        words: list[str] = []
        style = int(rng.integers(3))
        for _ in range(int(rng.integers(1, MOST_WORDS + 1))):
            word = self._cased(self._word(rng), style)
            if words and len(" ".join([*words, word])) > most:
                break
            words.append(word)
        text = " ".join(words)
        if self._ends and rng.random() < 0.2:
            text = text[: most - 1] + self._one(rng, self._ends)
        return text

    def _word(self, rng: np.random.Generator) -> str:
        """Return consonants and vowels in turn, now and then two consonants."""
        letters = []
        for place in range(int(rng.integers(2, 10))):
            vowel = place % 2 == 1 and rng.random() < 0.85
            letters.append(self._one(rng, self._vowels if vowel else self._consonants))
        return "".join(letters)

    def _cased(self, word: str, style: int) -> str:
        """Return the word in lower case, with a capital or in capitals, as far as the dictionary has them."""
        cased = (word, word.capitalize(), word.upper())[style]
        return "".join(new if new in self._known else old for new, old in zip(cased, word, strict=True))

    def _number(self, rng: np.random.Generator, most: int) -> str:
        patterns = ("####-##-##", "##:##", "$#.##", "¥###.##", "##%", "(###) ###-####", "#,###.##", "No.####", "######")
        pattern = patterns[int(rng.integers(len(patterns)))]
        known = [one for one in pattern if one in "# " or one in self._known]
        return "".join(self._one(rng, self._digits) if one == "#" else one for one in known)[:most].strip()

    def _anything(self, rng: np.random.Generator, most: int) -> str:
        text = [self._one(rng, self.characters) for _ in range(int(rng.integers(1, most + 1)))]
        if self._inner and len(text) > 2 and rng.random() < 0.2:
            text[1] = self._one(rng, self._inner)
        return "".join(text)

    @staticmethod
    def _one(rng: np.random.Generator, characters: Sequence[str]) -> str:
        return characters[int(rng.integers(len(characters)))]


def _is_han(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK UNIFIED IDEOGRAPH")
