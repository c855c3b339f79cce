"""Random text: made of the dictionary and nothing else, and in time of all of it."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.errors import DataError
from ocrslim.ocr.corpus import Corpus, common_characters


def _lines(corpus: Corpus, n: int, most: int = 20, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [corpus.line(rng, most) for _ in range(n)]


def test_common_characters_are_level_one_of_gb_2312() -> None:
    characters = common_characters()
    han = [one for one in characters if unicodedata.name(one).startswith("CJK UNIFIED")]
    assert len(han) == 3755
    assert han[0] == "啊"
    assert han[-1] == "座"
    assert len(set(characters)) == len(characters)
    assert set("azAZ09~!。") <= set(characters)


@given(
    characters=st.sets(st.sampled_from("abeiotzAEZ0123789中国人的一.,-$¥:%()#あΩ"), min_size=1),
    most=st.integers(1, 30),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_a_line_is_within_its_length_and_its_dictionary(characters: set[str], most: int, seed: int) -> None:
    for line in _lines(Corpus(sorted(characters)), 10, most, seed):
        assert 1 <= len(line) <= most
        assert set(line) <= characters | {" "}
        assert line == line.strip()
        assert "  " not in line


def test_lines_are_a_function_of_the_generator() -> None:
    corpus = Corpus(common_characters())
    assert _lines(corpus, 20) == _lines(corpus, 20)
    assert _lines(corpus, 20) != _lines(corpus, 20, seed=1)


def test_all_kinds_of_lines_come_up_in_their_shares() -> None:
    lines = _lines(Corpus(common_characters()), 2000)
    latin = [line for line in lines if re.fullmatch(r"[A-Za-z ]+[。，、；：！？.,:;!?]?", line)]
    numbers = [line for line in lines if re.fullmatch(r"[\d\-:.,$¥%() No]+", line)]
    chinese = [line for line in lines if sum(one > "一" for one in line) > len(line) / 2]
    assert 0.25 <= len(latin) / 2000 <= 0.36
    assert 0.15 <= len(numbers) / 2000 <= 0.25
    assert 0.38 <= len(chinese) / 2000 <= 0.55


def test_latin_words_are_written_in_three_ways() -> None:
    lines = [line for line in _lines(Corpus("abcdefgiouABCDEFGIOU"), 300) if line.isalpha() and len(line) > 3]
    assert any(line.islower() for line in lines)
    assert any(line.isupper() for line in lines)
    assert any(line[0].isupper() and line[1:].islower() for line in lines)


def test_a_dictionary_without_capitals_gets_none() -> None:
    assert not any(one.isupper() for line in _lines(Corpus("abcdefgiou"), 200) for one in line)


def test_every_entry_comes_up() -> None:
    entries = [chr(0x4E00 + i) for i in range(300)] + list("abcXYZ019") + list("♀Ωあ①")
    assert {one for line in _lines(Corpus(entries), 2000) for one in line} - {" "} == set(entries)


def test_common_characters_are_drawn_more_often_than_rare_ones() -> None:
    common = common_characters()
    rare = set(sorted({chr(code) for code in range(0x4E00, 0x9FA5)} - set(common))[:3755])
    text = "".join(_lines(Corpus([*common, *sorted(rare)]), 1000))
    assert 0.1 < sum(one in rare for one in text) / sum(one > "一" for one in text) < 0.35


def test_digits_alone_make_numbers() -> None:
    lines = _lines(Corpus("0123456789-.:"), 200)
    assert all(re.fullmatch(r"[\d\-.: ]+", line) for line in lines)
    assert any(re.fullmatch(r"\d{4}-\d\d-\d\d", line) for line in lines)


def test_no_characters_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(DataError, match="--data"):
        Corpus([])


@pytest.mark.parametrize("most", [1, 2, 3, 24])
def test_no_line_is_longer_than_asked_or_has_idle_spaces(most: int) -> None:
    corpus = Corpus(common_characters())
    rng = np.random.default_rng(most)
    for _ in range(400):
        line = corpus.line(rng, most)
        assert 1 <= len(line) <= most
        assert line == line.strip()
        assert "  " not in line


@settings(max_examples=60)
@given(characters=st.text("ab1一。-Ω", min_size=1, max_size=7), seed=st.integers(0, 1000))
def test_lines_are_made_of_the_dictionary_whatever_it_is(characters: str, seed: int) -> None:
    corpus = Corpus(characters)
    rng = np.random.default_rng(seed)
    text = "".join(corpus.line(rng) for _ in range(20))
    assert set(text) <= {*characters, " "}
    assert text.strip()


def test_lines_are_a_function_of_the_generators_state() -> None:
    corpus = Corpus(common_characters())
    one, other = ([corpus.line(np.random.default_rng(seed)) for seed in range(50)] for _ in range(2))
    assert one == other
    assert len(set(one)) > 45


def test_every_entry_comes_up_however_rare() -> None:
    entries = [*common_characters()[:40], "龘", "Ω", "☃"]
    corpus = Corpus(entries)
    rng = np.random.default_rng(0)
    seen = set("".join(corpus.line(rng) for _ in range(3000)))
    assert {"龘", "Ω", "☃"} <= seen
