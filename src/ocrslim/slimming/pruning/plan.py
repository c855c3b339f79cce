"""Which channels go: group by group the step that loses least for the time that it saves, until the goal is reached.

The search is NetAdapt's (arXiv 1804.03230) with what a cut moves the answers by in the place of short trainings: every
round proposes the next smaller width of every group, times those whose scores promise most on the engine, and takes the
best of those that pay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from ocrslim.errors import InputError
from ocrslim.slimming.pruning.cost import Cost, Counter, Saving
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels, Group
from ocrslim.slimming.pruning.importance import Scores
from ocrslim.slimming.pruning.moments import Moments
from ocrslim.slimming.pruning.repair import repair

__all__ = ["Goal", "GroupRow", "PruningResult", "choose", "next_width"]

STEPS = 8  # a step takes an eighth of a group's width, in whole multiples of the alignment
SHORTLIST = 8  # candidates that are timed in a round
TIMED = 2  # times that a group may be without gain, each with a larger step, before it is left alone
REFUSED = 8  # rounds one behind the other that the clock refutes, and the search ends: what is left is less than noise
STRIDE = 1 / 3  # of what is still to be saved, that a round may take
NOTHING = 1e-9  # that a cut loses at least: noise may bring the answers nearer
WORTH_TIMING = 0.001  # share of the whole cost that counting must promise

Moved = Callable[[Collection[int]], float]
"""(units that are gone) -> how far the answers of what is left are from the whole model's."""

Progress = Callable[[float, float], None]
"""Called after each round with the cost that is reached and the one that is wanted."""


@dataclass(frozen=True)
class Goal:
    """How small.

    Args:
        ratio: cost to reach, as a share of the whole model's: ``1 / speedup``.
        align: widths are multiples of it, as the engine's kernels like them: 8 or 16.
        most: share of a group that may go.

    Raises:
        InputError: a number is out of its range.
    """

    ratio: float
    align: int = 8
    most: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise InputError(f"pruning: a cost of {self.ratio:.3g} times the model's is no goal; it is between 0 and 1")
        if self.align < 1 or not 0 < self.most < 1:
            raise InputError(f"pruning: align {self.align} must be at least 1, most {self.most} between 0 and 1")


@dataclass(frozen=True)
class GroupRow:
    """What became of a group.

    Args:
        name: of the group.
        before: channels that it had.
        after: channels that it has.
        lost: the scores of those that went.
        reason: why it was cut no further.
    """

    name: str
    before: int
    after: int
    lost: float
    reason: str


@dataclass(frozen=True)
class PruningResult:
    """The smaller model and how it came about.

    Args:
        model: the smaller graph.
        channels: of the whole one.
        removed: units that went.
        ratio: cost that was reached, as a share of the whole model's.
        reached: whether that is the goal's.
        rows: what became of each group.
        history: of each round ``ratio``, ``timed`` candidates, those that ``pay``, ``cut``: group -> width, and
            ``refuted``: the group whose cut was undone, alone.
        uncut: cost before anything was cut: below 1 where another form of the graph is faster than the user's file.
        sensitivity: of each group alone, see :func:`ocrslim.slimming.pruning.sensitivity.measure_groups`.
    """

    model: ir.Model
    channels: Channels
    removed: tuple[int, ...]
    ratio: float
    reached: bool
    rows: tuple[GroupRow, ...]
    history: tuple[Mapping[str, Any], ...]
    uncut: float = 1.0
    sensitivity: tuple[Mapping[str, Any], ...] = ()


@dataclass
class _Search:
    """The state of the search."""

    channels: Channels
    scores: Scores
    goal: Goal
    removed: set[int] = field(default_factory=set)
    vain: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)

    def left(self, group: Group) -> list[int]:
        """Return the units that are still there, the least important first."""
        return sorted((unit for unit in group.units if unit not in self.removed), key=self.scores.__getitem__)

    def candidates(self) -> dict[str, list[int]]:
        """Return group -> units that its next step would take."""
        found = {}
        for group in self.channels.groups:
            left = self.left(group) if not group.reason and not self.given_up(group) else []
            width = next_width(group.width, len(left), self.goal, self.vain.get(group.name, 0))
            if width < len(left):
                found[group.name] = left[: len(left) - width]
        return found

    def given_up(self, group: Group) -> bool:
        """Return whether nothing was gained by smaller and larger steps, or there is no larger one."""
        misses, now = self.vain.get(group.name, 0), len(self.left(group))
        if not misses:
            return False
        before, after = (next_width(group.width, now, self.goal, more) for more in (misses - 1, misses))
        return misses >= TIMED or before == after

    def learn(self, weighed: Mapping[str, Saving], refuted: Collection[str]) -> None:
        """Count what a round found of each group: a refusal is never forgotten, so that the search comes to an end."""
        for name in refuted:
            self.refusals[name] = self.refusals.get(name, 0) + 1
        for name, saving in weighed.items():
            self.vain[name] = self.refusals.get(name, 0) if saving.pays else self.vain.get(name, 0) + 1

    def lost(self, units: Collection[int]) -> float:
        """Return what the removal of some units costs."""
        return sum(self.scores[unit] for unit in units)


def choose(
    channels: Channels,
    scores: Scores,
    cost: Cost,
    goal: Goal,
    *,
    moments: Mapping[str, Moments] | None = None,
    moved: Moved | None = None,
    progress: Progress = lambda now, wanted: None,
) -> PruningResult:
    """Find channels whose removal brings the cost down to the goal.

    1. Each round looks at the next smaller width of every group; counting orders them by score lost for work saved.
    2. ``cost`` weighs the best of them. A group that saves nothing is asked for more the next time, as some kernels
       like 16 channels and not 24, and is left alone after that.
    3. Of those that pay, the ones that lose least for what they save are cut, up to a third of what is still to save;
       where the first of them would save more than is asked for, of those that reach the goal the one that loses least.
    4. What the clock refutes, as two cuts together may make an engine choose slower kernels, is undone, and half of
       it tried. A group that saves nothing even by itself is asked for more, as one of rule 2.
    5. A cost that falls to the goal is looked at again: of many noisy looks, one below the goal is too low more often
       than not. The search goes on where the new looks are above it. They undo nothing: that a cut helps was seen
       against the cost before it, a single look as well.

    Args:
        channels: of the whole model.
        scores: of every unit that may go.
        cost: by counting or by the clock.
        goal: where to stop.
        moments: of what the layers read, to repair those that lose channels; ``None`` leaves their weights as they are.
        moved: what a cut loses is how much further it moves the answers, measured beside all that is gone; ``None``
            takes the sum of its scores.
        progress: told of each round.
    """
    search = _Search(channels, scores, goal)
    counter = Counter(channels)
    now = uncut = _seen(cost, (), goal)
    history: list[Mapping[str, Any]] = []
    while now > goal.ratio and sum(bool(row["refuted"]) for row in history[-REFUSED:]) < REFUSED:
        offered = search.candidates()
        shortlist = _shortlist(search, counter, offered)
        if not shortlist:
            break
        units = [offered[name] for name in shortlist]
        weighed = dict(zip(shortlist, cost.savings(search.removed, units), strict=True))
        losses = _losses(search, offered, weighed, moved)
        chosen = _take(losses, weighed, now - goal.ratio)
        cuts = _confirmed(search, offered, chosen, cost, now)
        for name in cuts:
            search.removed.update(offered[name])
        now = _seen(cost, search.removed, goal) if cuts else now
        refuted = [] if cuts else chosen[:1]
        search.learn(weighed, refuted)
        widths = {group.name: len(search.left(group)) for group in channels.groups if group.name in cuts}
        paying = sum(saving.pays for saving in weighed.values())
        history.append({"ratio": now, "timed": len(weighed), "pay": paying, "cut": widths, "refuted": refuted})
        progress(now, goal.ratio)
    removed = tuple(sorted(search.removed))
    rows = tuple(_row(search, group) for group in channels.groups)
    model = cut(channels, removed, repair(channels, removed, moments or {}))
    return PruningResult(model, channels, removed, now, now <= goal.ratio, rows, tuple(history), uncut)


def next_width(whole: int, now: int, goal: Goal, more: int = 0) -> int:
    """Return the next smaller width of a group: a ragged one is rounded down first; ``now`` where there is none.

    Args:
        whole: width in the whole model.
        now: present width.
        goal: alignment and least share.
        more: multiples of the alignment by which the step is larger than usual.

    >>> goal = Goal(0.5, align=8)
    >>> [next_width(60, now, goal) for now in (60, 56, 16)], next_width(15, 15, goal), next_width(8, 8, goal)
    ([56, 48, 16], 8, 8)
    """
    least = max(goal.align, -(-round(whole * (1 - goal.most)) // goal.align) * goal.align)
    step = 1 if now % goal.align else max(goal.align, round(whole / STEPS / goal.align) * goal.align)
    return min(now, max(least, (now - step) // goal.align * goal.align - more * goal.align))


def _shortlist(search: _Search, counter: Counter, offered: Mapping[str, Collection[int]]) -> list[str]:
    """Apply rule 1."""
    promised = dict(zip(offered, counter.savings(search.removed, list(offered.values())), strict=True))
    worth = [name for name in offered if promised[name].share > WORTH_TIMING]
    return sorted(worth, key=lambda name: search.lost(offered[name]) / promised[name].share)[:SHORTLIST]


def _losses(
    search: _Search, offered: Mapping[str, Collection[int]], weighed: Mapping[str, Saving], moved: Moved | None
) -> dict[str, float]:
    """Return what each cut that pays loses."""
    paying = [name for name, saving in weighed.items() if saving.pays]
    if moved is None:
        return {name: search.lost(offered[name]) for name in paying}
    before = moved(search.removed) if paying else 0.0
    return {name: max(moved(search.removed.union(offered[name])) - before, NOTHING) for name in paying}


def _take(losses: Mapping[str, float], weighed: Mapping[str, Saving], gap: float) -> list[str]:
    """Apply rule 3."""
    paying = sorted(losses, key=lambda name: losses[name] / weighed[name].share)
    if paying and weighed[paying[0]].share > gap:  # the last cut
        return [min((name for name in paying if weighed[name].share >= gap), key=losses.__getitem__)]
    chosen: list[str] = []
    total = 0.0
    for name in paying:
        if chosen and total + weighed[name].share > gap * STRIDE:
            break
        chosen.append(name)
        total += weighed[name].share
    return chosen


def _confirmed(
    search: _Search, offered: Mapping[str, Collection[int]], chosen: Sequence[str], cost: Cost, now: float
) -> Sequence[str]:
    """Apply rule 4: return the groups whose cuts together make the model faster than it is."""
    while chosen and cost.ratio(search.removed.union(*(offered[name] for name in chosen))) >= now:
        chosen = chosen[: len(chosen) // 2]
    return chosen


def _seen(cost: Cost, removed: Collection[int], goal: Goal) -> float:
    """Return the cost without some units; apply rule 5."""
    now = cost.ratio(removed)
    return cost.again(removed) if now <= goal.ratio else now


def _row(search: _Search, group: Group) -> GroupRow:
    left = search.left(group) if not group.reason else list(group.units)
    gone = set(group.units).difference(left)
    reason = group.reason
    if not reason and search.given_up(group):
        reason = "smaller is not faster"
    elif not reason and next_width(group.width, len(left), search.goal) == len(left):
        reason = f"{len(left)} channels are the least" if gone else f"too narrow for multiples of {search.goal.align}"
    elif not reason:
        reason = "the goal was reached" if gone else "others lose less for the time that they save"
    return GroupRow(group.name, group.width, len(left), search.lost(gone), reason)
