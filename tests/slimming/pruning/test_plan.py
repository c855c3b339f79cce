"""The search: widths, which groups go first, when it stops, and what it says of each group."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ocrslim.errors import InputError
from ocrslim.slimming.pruning.cost import Counter, Saving
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import magnitude
from ocrslim.slimming.pruning.moments import collect_moments
from ocrslim.slimming.pruning.plan import Goal, choose, next_width


class Scripted:
    """A cost that pays only for some groups, a hundredth for each channel."""

    def __init__(self, channels: Channels, paying: Collection[str]) -> None:
        self.worth = {unit: 0.01 for group in channels.groups if group.name in paying for unit in group.units}
        self.asked: list[int] = []

    def savings(self, removed: Collection[int], candidates: Sequence[Collection[int]]) -> list[Saving]:
        self.asked.append(len(candidates))
        shares = [sum(self.worth.get(unit, 0.0) for unit in candidate) for candidate in candidates]
        return [Saving(share, share > 0) for share in shares]

    def ratio(self, removed: Collection[int]) -> float:
        return 1.0 - sum(self.worth.get(unit, 0.0) for unit in removed)

    def again(self, removed: Collection[int]) -> float:
        return self.ratio(removed)


@pytest.mark.parametrize(
    ("ratio", "align", "most", "words"),
    [(1.0, 8, 0.5, "no goal"), (0.0, 8, 0.5, "no goal"), (0.5, 0, 0.5, "align 0"), (0.5, 8, 1.0, "most 1.0")],
)
def test_goals_out_of_range(ratio: float, align: int, most: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Goal(ratio, align, most)


@pytest.mark.parametrize(
    ("whole", "now", "align", "expected"),
    [
        (480, 480, 8, 416),  # an eighth is 60: rounded to 64
        (480, 416, 8, 352),
        (480, 128, 8, 120),  # never less than a quarter
        (480, 120, 8, 120),
        (32, 32, 8, 24),
        (32, 32, 16, 16),
        (18, 18, 8, 16),  # ragged: rounded down
        (15, 15, 8, 8),
        (8, 8, 8, 8),
        (6, 6, 8, 6),
        (12, 12, 16, 12),
    ],
)
def test_next_width(whole: int, now: int, align: int, expected: int) -> None:
    assert next_width(whole, now, Goal(0.5, align)) == expected


@given(whole=st.integers(1, 2000), align=st.sampled_from([1, 8, 16]), most=st.floats(0.1, 0.9))
def test_widths_fall_to_their_end_in_multiples(whole: int, align: int, most: float) -> None:
    goal, now, seen = Goal(0.5, align, most), whole, []
    while (smaller := next_width(whole, now, goal)) < now:
        seen.append(smaller)
        now = smaller
    assert all(width % align == 0 and width > 0 for width in seen)
    assert now >= min(whole, whole * (1 - most) - 1)
    assert len(seen) <= max(10, 1000 if align == 1 else 20)


def test_reaches_the_goal_with_the_least_important_channels(chain: Channels) -> None:
    scores = magnitude(chain)
    done = choose(chain, scores, Counter(chain), Goal(0.7))
    assert done.reached
    assert 0.5 < done.ratio <= 0.7
    assert done.ratio == pytest.approx(Counter(chain).ratio(done.removed))
    for group, row in zip(chain.groups, done.rows, strict=True):
        gone = set(group.units) & set(done.removed)
        assert row.before - row.after == len(gone)
        assert row.after % 8 == 0 or not gone
        if gone:
            assert row.lost == pytest.approx(sum(scores[unit] for unit in gone))
            left = [scores[unit] for unit in group.units if unit not in gone]
            assert max(scores[unit] for unit in gone) <= min(left)
    shapes = {name: value.shape for name, value in done.model.graph.initializers.items()}
    assert shapes["aw"][0] == next(row.after for row in done.rows if row.name == "a")


def test_only_what_pays_is_cut(chain: Channels) -> None:
    cost = Scripted(chain, {"b"})
    done = choose(chain, magnitude(chain), cost, Goal(0.9))
    assert done.reached
    assert {row.name for row in done.rows if row.after < row.before} == {"b"}
    reasons = {row.name: row.reason for row in done.rows}
    assert reasons["z"] == "the model's answer"


def test_what_never_pays_is_given_up(chain: Channels) -> None:
    cost = Scripted(chain, set())
    done = choose(chain, magnitude(chain), cost, Goal(0.9))
    assert not done.reached
    assert done.removed == ()
    assert done.ratio == 1.0
    assert len(cost.asked) == 2  # every group is timed twice, the second time with more channels less
    assert {row.reason for row in done.rows} == {"smaller is not faster", "the model's answer"}


def test_a_goal_out_of_reach_ends_where_every_group_is_narrow(chain: Channels) -> None:
    done = choose(chain, magnitude(chain), Counter(chain), Goal(0.01))
    assert not done.reached
    assert {row.name: row.after for row in done.rows} == {"a": 8, "b": 8, "c": 8, "e": 8, "z": 1}
    assert all("are the least" in row.reason for row in done.rows if row.name != "z")


def test_rounds_take_a_third_of_what_is_missing(chain: Channels) -> None:
    told: list[tuple[float, float]] = []
    choose(
        chain,
        magnitude(chain),
        Counter(chain),
        Goal(0.5, align=1),
        progress=lambda now, wanted: told.append((now, wanted)),
    )
    assert len(told) > 3
    assert [now for now, _ in told] == sorted((now for now, _ in told), reverse=True)
    assert {wanted for _, wanted in told} == {0.5}


def test_readers_are_repaired_where_moments_are_known(chain: Channels, batches: list[Tensor]) -> None:
    scores, cost = magnitude(chain), Counter(chain)
    bare = choose(chain, scores, cost, Goal(0.8))
    repaired = choose(chain, scores, cost, Goal(0.8), moments=collect_moments(chain, batches))
    assert bare.removed == repaired.removed
    one, other = (
        {name: value.const_value.numpy() for name, value in done.model.graph.initializers.items()}
        for done in (bare, repaired)
    )
    assert {name: array.shape for name, array in one.items()} == {name: array.shape for name, array in other.items()}
    assert any((one[name] != other[name]).any() for name in ("bw", "cw", "ew", "zw"))


class Uneven(Scripted):
    """A cost that pays only where at least 16 channels of a group go at once."""

    def savings(self, removed: Collection[int], candidates: Sequence[Collection[int]]) -> list[Saving]:
        found = super().savings(removed, candidates)
        return [
            saving if len(candidate) >= 16 else Saving(0.0, False)
            for saving, candidate in zip(found, candidates, strict=True)
        ]


def test_what_8_channels_do_not_gain_16_may(chain: Channels) -> None:
    done = choose(chain, magnitude(chain), Uneven(chain, {"a"}), Goal(0.85))
    assert done.reached
    assert {row.name: row.before - row.after for row in done.rows if row.after < row.before} == {"a": 16}


def test_the_last_cut_is_the_one_that_loses_least(chain: Channels) -> None:
    scores = {unit: 1.0 for group in chain.groups for unit in group.units}
    cost = Scripted(chain, {"a", "b", "c"})
    small = next(group for group in chain.groups if group.name == "c")
    for unit in small.units:
        scores[unit], cost.worth[unit] = 0.9, 0.005  # less for what it saves, yet less in all
    done = choose(chain, scores, cost, Goal(0.97))
    assert {row.name for row in done.rows if row.after < row.before} == {"c"}
    assert done.ratio == pytest.approx(0.96)


def test_what_is_measured_beside_the_other_cuts_decides_and_not_the_scores(chain: Channels) -> None:
    first, second = (set(next(group.units for group in chain.groups if group.name == name)) for name in "ab")
    scores = {unit: 1.0 for group in chain.groups for unit in group.units} | dict.fromkeys(first, 0.1)
    cost = Scripted(chain, {"a", "b"})

    def moved(removed: Collection[int]) -> float:
        """The second eight channels of the group of the lowest scores cost a lot."""
        gone = len(first.intersection(removed))
        return 0.01 * gone + (5.0 if gone > 8 else 0.0) + 0.02 * len(second.intersection(removed))

    told = choose(chain, scores, cost, Goal(0.85), moved=moved)
    untold = choose(chain, scores, cost, Goal(0.85))
    after = {row.name: row.before - row.after for row in told.rows}
    assert told.reached
    assert after["a"] <= 8 < next(row.before - row.after for row in untold.rows if row.name == "a")
    assert after["b"] > 0


def test_what_is_fast_enough_as_it_is_loses_nothing(chain: Channels) -> None:
    class Rewritten(Scripted):
        def ratio(self, removed: Collection[int]) -> float:
            return 0.8 * super().ratio(removed)

    done = choose(chain, magnitude(chain), Rewritten(chain, {"a"}), Goal(0.85))
    assert done.reached
    assert done.removed == ()
    assert (done.uncut, done.ratio) == (pytest.approx(0.8), pytest.approx(0.8))


def test_a_first_look_that_flatters_does_not_end_the_search(chain: Channels) -> None:
    class Flattering(Scripted):
        """The first look at a model that is cut sees a twentieth less than it takes."""

        def __init__(self) -> None:
            super().__init__(chain, {"a", "b"})
            self.looked_again: list[int] = []

        def ratio(self, removed: Collection[int]) -> float:
            return super().ratio(removed) - (0.05 if removed else 0.0)

        def again(self, removed: Collection[int]) -> float:
            self.looked_again.append(len(removed))
            return Scripted.ratio(self, removed)

    cost = Flattering()
    done = choose(chain, magnitude(chain), cost, Goal(0.8))
    assert done.reached
    assert done.ratio == pytest.approx(1.0 - 0.01 * len(done.removed))
    assert len(done.removed) == 24, "at 16 the first look was enough, those after it were not"
    assert cost.looked_again == [16, 24], "only what seems to reach the goal is looked at again"
    # What no look but the first holds fast enough is not called reached.
    cost = Flattering()
    narrow = choose(chain, magnitude(chain), cost, Goal(0.56))
    assert cost.looked_again == [40], "of 32 and 24 channels all but 8 each: .55, then .60"
    assert not narrow.reached
    assert narrow.ratio == pytest.approx(0.6)


def test_cuts_that_the_clock_refutes_together_are_undone(chain: Channels) -> None:
    class Quarrelling(Scripted):
        """Cuts of each group save time; of both together the engine makes slower kernels."""

        def ratio(self, removed: Collection[int]) -> float:
            both = all(set(removed).intersection(group.units) for group in chain.groups if group.name in ("a", "b"))
            return super().ratio(removed) + (0.5 if both else 0.0)

    scores = {unit: 2.0 for group in chain.groups for unit in group.units}
    first, second = (next(group.units for group in chain.groups if group.name == name) for name in "ab")
    scores |= dict.fromkeys(first[:8], 0.5) | dict.fromkeys(
        second, 1.0
    )  # the search begins with one and turns to the other
    done = choose(chain, scores, Quarrelling(chain, {"a", "b"}), Goal(0.85))
    assert done.reached
    assert any(row["refuted"] for row in done.history)
    assert len({row.name for row in done.rows if row.after < row.before}) == 1
    ratios = [1.0, *(row["ratio"] for row in done.history)]
    assert all(after <= before for before, after in pairwise(ratios)), "never slower than before"
    assert all(not row["cut"] for row in done.history if row["refuted"])


@given(st.integers(0, 2**32 - 1))
def test_the_search_ends_whatever_the_clock_says(chain: Channels, seed: int) -> None:
    class Moody(Scripted):
        """Answers at random, always the same to the same question; a second look at a cut is another question."""

        def savings(self, removed: Collection[int], candidates: Sequence[Collection[int]]) -> list[Saving]:
            shares = [self.draw(removed, candidate) - 0.3 for candidate in candidates]
            return [Saving(share, share > 0) for share in shares]

        def ratio(self, removed: Collection[int]) -> float:
            return 0.8 + 0.2 * self.draw(removed, ()) if removed else 1.0

        def again(self, removed: Collection[int]) -> float:
            return 0.8 + 0.2 * self.draw(removed, (-1,))

        def draw(self, removed: Collection[int], candidate: Collection[int]) -> float:
            return random.Random(f"{seed} {sorted(removed)} {sorted(candidate)}").random()

    cost = Moody(chain, ())
    done = choose(chain, magnitude(chain), cost, Goal(0.75))
    assert not done.reached
    assert len(done.history) < 200
    done = choose(chain, magnitude(chain), cost, Goal(0.9))  # some first looks are below it, and looked at again
    assert len(done.history) < 200
    assert not done.reached or done.ratio == cost.again(done.removed) <= 0.9
