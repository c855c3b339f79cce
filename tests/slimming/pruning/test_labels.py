"""Labels are disjoint sets: what was joined, however indirectly, is one; what is fixed once stays fixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.slimming.pruning.labels import Labels

PAIRS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30)


def test_fresh_labels_are_all_different() -> None:
    labels = Labels()
    first, second = labels.fresh(3), labels.fresh(2)
    assert len({*first.tolist(), *second.tolist()}) == 5
    assert labels.roots(first).tolist() == first.tolist()


@given(pairs=PAIRS)
def test_joined_labels_are_the_parts_that_hang_together(pairs: list[tuple[int, int]]) -> None:
    labels = Labels()
    all_of_them = labels.fresh(12)
    for one, other in pairs:
        labels.join(all_of_them[[one]], all_of_them[[other]])
    parts = [{label} for label in range(12)]  # the same by brute force
    for one, other in pairs:
        joined = next(part for part in parts if one in part) | next(part for part in parts if other in part)
        parts = [part for part in parts if not part & joined] + [joined]
    roots = labels.roots(all_of_them)
    for part in parts:
        assert {int(roots[label]) for label in part} == {min(part)}


def test_rows_join_their_columns() -> None:
    labels = Labels()
    rows = labels.fresh(6).reshape(2, 3)
    labels.join(rows, rows[:1])
    assert labels.roots(rows).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_lengths_have_to_fit() -> None:
    labels = Labels()
    with pytest.raises(ValueError, match="broadcast"):
        labels.join(labels.fresh(3), labels.fresh(2))


def test_a_set_is_fixed_by_any_of_its_labels_whenever_they_were_joined() -> None:
    labels = Labels()
    first, second = labels.fresh(2), labels.fresh(2, "the model's answer")
    labels.fix(first[:1], "too late")
    labels.join(first, second)
    roots = labels.roots(first)
    reasons = labels.reasons()
    assert set(reasons) == set(roots.tolist())
    assert reasons[int(roots[1])] == "the model's answer"


def test_the_first_reason_of_a_label_stands() -> None:
    labels = Labels()
    one = labels.fresh(1, "first")
    labels.fix(one, "second")
    assert labels.reasons() == {0: "first"}
    assert np.array_equal(labels.roots(one), [0])
