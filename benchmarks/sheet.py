"""The one table of the benchmark, on the terminal and in Markdown, and what it says about us."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

__all__ = ["FLOAT", "OURS", "Row", "markdown", "terminal", "verdicts"]

FLOAT, OURS = "float", "ocrslim"
HEADINGS = ("model", "engine", "by", "metric", "n", "score", "drop, points (95 %)", "time", "minutes", "variant")


@dataclass(frozen=True)
class Row:
    """One model on one engine, quantized by one program.

    Args:
        model: official name.
        engine: that ran it.
        by: ``float``, ``ocrslim`` or a rival.
        variant: which setting of a rival was the best.
        metric: ``accuracy`` or ``hmean``.
        n: images.
        score: of the metric, 0 to 1; ``None`` where there is no figure, and ``note`` says why.
        drop: points lost against float on the same engine, with the paired bootstrap's interval.
        low: of the interval.
        high: of the interval.
        time: relative to float on the same engine; ``None`` where it was not taken on a quiet machine.
        minutes: that making the file took; likewise.
        bytes: of the file.
        note: one line.
    """

    model: str
    engine: str
    by: str
    variant: str = ""
    metric: str = ""
    n: int = 0
    score: float | None = None
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    time: float | None = None
    minutes: float | None = None
    bytes: int | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON's types."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """Return what stands under :data:`HEADINGS`."""
        drop = "–" if self.drop is None else f"{self.drop:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        return (
            self.model,
            self.engine,
            self.by,
            self.metric,
            str(self.n) if self.n else "–",
            _figure(self.score, ".4f"),
            drop,
            _figure(self.time, ".2f"),
            _figure(self.minutes, ".1f"),
            self.note or self.variant,
        )


def terminal(rows: Sequence[Row]) -> Table:
    """Return the table for a terminal, a line between models."""
    table = Table(title="int8 side by side", title_justify="left", box=SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != "variant")
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1].model != row.model
        style = "bold" if row.by == OURS else None
        table.add_row(*map(Text, row.cells()), end_section=last, style=style)
    return table


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return the table and the notes below it as Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row.cells()) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """Say for each engine and rival on how many models we lose, in accuracy and in time."""
    found = {(row.engine, row.by, row.model): row for row in rows if row.score is not None}
    pairs = dict.fromkeys((row.engine, row.by) for row in rows if row.by not in (FLOAT, OURS))
    for engine, rival in pairs:
        both = [
            (ours, theirs)
            for (of_engine, by, model), ours in found.items()
            if (of_engine, by) == (engine, OURS) and (theirs := found.get((engine, rival, model))) is not None
        ]
        if both:
            yield f"{engine}, ocrslim against {rival}, {len(both)} models: {_worse(both)}; {_slower(both)}"


def _worse(both: Sequence[tuple[Row, Row]]) -> str:
    lost = {
        ours.model: 100 * (theirs.score - ours.score)
        for ours, theirs in both
        if ours.score is not None and theirs.score is not None and ours.score < theirs.score
    }
    return "none less accurate" if not lost else f"less accurate on {_listed(lost, '{:.2f} points')}"


def _slower(both: Sequence[tuple[Row, Row]]) -> str:
    timed = [(ours, theirs) for ours, theirs in both if ours.time is not None and theirs.time is not None]
    if not timed:
        return "not timed"
    lost = {
        ours.model: ours.time / theirs.time
        for ours, theirs in timed
        if ours.time is not None and theirs.time is not None and ours.time > theirs.time
    }
    return f"none of {len(timed)} slower" if not lost else f"slower on {_listed(lost, '{:.2f} times')}"


def _listed(figures: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} ({form.format(figure)})" for name, figure in figures.items())


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
