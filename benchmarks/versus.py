"""The table of ``vs_paddleslim.py``, on the terminal and in Markdown, and what it says in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cells import is_quiet
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from stopwatch import Cost, Timing

__all__ = ["ASKED", "OURS", "THEIRS", "Row", "markdown", "terminal", "verdicts"]

OURS, THEIRS = "ocrslim", "PaddleSlim"
ASKED = 4.0  # times less time per image and step
HEADINGS = (
    *("model", "by", "s / image, step (CPU)", "start-up, s (CPU)", "calibration, s (CPU)", "whole command, s (CPU)"),
    *("peak memory, MiB", "metric", "n", "float", "int8", "drop, points (95 %)"),
)


@dataclass(frozen=True)
class Row:
    """One model, compressed by one program.

    Args:
        model: official name.
        by: :data:`OURS` or :data:`THEIRS`.
        batch: images in a step.
        timing: what it cost; ``None`` where there is no figure, and ``note`` says why.
        metric: ``accuracy`` or ``hmean``.
        n: images that it was scored on.
        float_score: of the float model, 0 to 1, on the same engine.
        int8_score: of what was made.
        drop: points lost, with the paired bootstrap's interval.
        low: of the interval.
        high: of the interval.
        note: one line.
        others: cores that other programs kept busy meanwhile; ``None`` where the system does not tell.
    """

    model: str
    by: str
    batch: int
    timing: Timing | None = None
    metric: str = ""
    n: int = 0
    float_score: float | None = None
    int8_score: float | None = None
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    others: float | None = None

    @property
    def per_image(self) -> Cost | None:
        """What a step takes, for one of its images."""
        step = self.timing.step if self.timing else None
        return None if step is None else Cost(step.wall / self.batch, step.cpu / self.batch)

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON's types."""
        each = self.per_image
        return asdict(self) | {"per_image": None if each is None else asdict(each)}

    def cells(self) -> tuple[str, ...]:
        """Return what stands under :data:`HEADINGS`."""
        timing, quiet = self.timing, is_quiet(self.others)
        drop = "–" if self.drop is None else f"{self.drop:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        return (
            self.model,
            self.by,
            _cost(self.per_image, ".3f", quiet),
            _cost(timing.start if timing else None, ".1f", quiet),
            _cost(timing.prepare if timing else None, ".1f", quiet),
            _cost(timing.total if timing else None, ".0f", quiet),
            _figure(timing.peak_mb if timing else None, ".0f"),
            self.metric or "–",
            str(self.n) if self.n else "–",
            _figure(self.float_score, ".4f"),
            _figure(self.int8_score, ".4f"),
            drop,
        )


def terminal(rows: Sequence[Row]) -> Table:
    """Return the table for a terminal, a line between models."""
    table = Table(title="Side by side with PaddleSlim", title_justify="left", box=SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading)
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1].model != row.model
        table.add_row(*map(Text, row.cells()), end_section=last, style="bold" if row.by == OURS else None)
    return table


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return the table and the notes below it as Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    said = (note.replace("\n", " ") for note in notes)
    return "\n".join([*lines, "", *(f"- {note}" for note in said), ""])


def verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """Say for each model what we gain and what we lose against PaddleSlim, whichever it is."""
    for row in rows:
        if row.note:
            yield f"{row.model}, {row.by}: {row.note}"
    found: Mapping[tuple[str, str], Row] = {(row.model, row.by): row for row in rows}
    for (model, by), ours in found.items():
        theirs = found.get((model, THEIRS))
        if by == OURS and theirs is not None:
            said = [*_costs(ours, theirs), *_score(ours, theirs)]
            if said:
                yield f"{model}, {OURS} against {THEIRS}: " + "; ".join(said)


def _costs(ours: Row, theirs: Row) -> Iterator[str]:
    a, b, image, their_image = ours.timing, theirs.timing, ours.per_image, theirs.per_image
    if a is None or b is None or image is None or their_image is None:
        return
    quiet = is_quiet(ours.others) and is_quiet(theirs.others)
    times = their_image.wall / image.wall if quiet else their_image.cpu / image.cpu
    reached = "" if times >= ASKED else f", less than the {ASKED:g} that were asked"
    what = "time" if quiet else "processor time"
    yield f"{times:.1f} times less {what} per image and step{reached}"
    calibrated = f"with calibration {_cost(a.to_training, '.1f', quiet)}"
    yield f"start-up {_cost(a.start, '.1f', quiet)} s against {_cost(b.start, '.1f', quiet)}, {calibrated}"
    yield f"the whole command {_cost(a.total, '.0f', quiet)} s against {_cost(b.total, '.0f', quiet)}"
    if a.peak_mb is not None and b.peak_mb is not None:
        word = "less" if a.peak_mb < b.peak_mb else "MORE"
        yield f"{word} memory, {a.peak_mb:.0f} against {b.peak_mb:.0f} MiB"


def _score(ours: Row, theirs: Row) -> Iterator[str]:
    if ours.int8_score is None or theirs.int8_score is None:
        return
    points = 100 * (ours.int8_score - theirs.int8_score)
    if points == 0:
        yield f"the same {ours.metric}"
    else:
        yield f"{abs(points):.2f} points {'more' if points > 0 else 'LESS'} {ours.metric}"


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _cost(value: Cost | None, form: str, quiet: bool) -> str:
    """Return wall and processor seconds; a wall time that other programs disturbed is void, and not shown."""
    if value is None:
        return "–"
    return f"{value.wall:{form}} ({value.cpu:{form}})" if quiet else f"– ({value.cpu:{form}})"
