"""Two readings of a page held against each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrslim.ocr.difference import Difference, compare_readings

Lines = list[tuple[NDArray[np.float32], str]]


def _box(x: float, y: float, width: float = 20, height: float = 10) -> NDArray[np.float32]:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


def test_every_kind_of_difference() -> None:
    ours: Lines = [(_box(0, 0), "same"), (_box(0, 20), "kitten"), (_box(0, 40), "alone")]
    theirs: Lines = [(_box(0, 21), "sitting"), (_box(1, 0), "same"), (_box(0, 80), "there"), (_box(0, 99), "too")]
    assert compare_readings(ours, theirs) == Difference(
        equal=((0, 1),), changed=((1, 0),), only_ours=(2,), only_theirs=(2, 3), distance=pytest.approx(3 / 7 + 3)
    )


def test_lines_are_pairs_and_single_boxes() -> None:
    assert Difference(((0, 0),), ((1, 1),), (2,), (2, 3), 0.5).lines == 5
    assert Difference().lines == 0


@pytest.mark.parametrize(("shift", "paired"), [(0.0, True), (6.5, True), (7.0, False), (30.0, False)])
def test_a_pair_overlaps_by_more_than_half(shift: float, paired: bool) -> None:
    # Two boxes of width 20 that are shifted by s overlap by (20 - s) / (20 + s).
    found = compare_readings([(_box(0, 0), "x")], [(_box(shift, 0), "x")])
    assert bool(found.equal) is paired


def test_a_box_without_an_area_has_no_partner() -> None:
    flat = (_box(0, 0, 20, 0), "x")
    found = compare_readings([flat], [flat])
    assert (found.only_ours, found.only_theirs, found.distance) == ((0,), (0,), 2.0)


def test_two_boxes_in_one_place_share_no_partner() -> None:
    found = compare_readings([(_box(0, 0), "x"), (_box(0, 0), "x")], [(_box(0, 0), "x")])
    assert (found.equal, found.only_ours) == (((0, 0),), (1,))


lines = st.lists(
    st.tuples(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda at: _box(*at)), st.sampled_from("abc")),
    max_size=6,
)


@given(lines, lines)
def test_every_line_is_in_one_place(ours: Lines, theirs: Lines) -> None:
    found = compare_readings(ours, theirs)
    pairs = (*found.equal, *found.changed)
    assert sorted([*(a for a, _ in pairs), *found.only_ours]) == list(range(len(ours)))
    assert sorted([*(b for _, b in pairs), *found.only_theirs]) == list(range(len(theirs)))
    assert all(ours[a][1] == theirs[b][1] for a, b in found.equal)
    assert all(ours[a][1] != theirs[b][1] for a, b in found.changed)
    assert 0 <= found.distance <= found.lines


@given(lines)
def test_a_reading_equals_itself(ours: Lines) -> None:
    found = compare_readings(ours, ours)
    assert found.distance == len(found.changed) + len(found.only_ours) + len(found.only_theirs)
