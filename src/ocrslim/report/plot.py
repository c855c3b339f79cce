"""Points and curves as SVG that needs nothing else, in the colours of :mod:`ocrslim.report.bars`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocrslim.report.bars import in_both_schemes, ticks, xml_text

__all__ = ["Point", "curves", "scatter"]

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 66, 56
SMALL_WIDTH, SMALL_HEIGHT = 380, 250
SMALLEST = 1e-12  # value; below it an axis is not logarithmic
NEARLY_EQUAL = 1e-3  # of the larger one
SPREAD = 4.0  # largest / smallest value from which an axis is logarithmic
DASHES = ("", "6 4", "2 3")  # told apart without colours too


def _rules(palette: Mapping[str, str]) -> dict[str, str]:
    return {
        ".paper": f"fill: {palette['paper']}",
        "text": f"fill: {palette['ink']}",
        ".faint": f"fill: {palette['faint']}",
        ".grid": f"stroke: {palette['line']}",
        ".error": f"stroke: {palette['faint']}; stroke-width: 1.5",
        ".dot": f"fill: {palette['bar']}",
        ".chosen": f"fill: {palette['mark']}",
        ".hollow": f"fill: {palette['paper']}; stroke: {palette['faint']}; stroke-width: 1.5",
        ".level": f"stroke: {palette['mark']}; stroke-width: 1.5; stroke-dasharray: 6 4",
        ".front": f"fill: none; stroke: {palette['faint']}; stroke-width: 1.5",
        ".s0": f"stroke: {palette['bar']}",
        ".s1": f"stroke: {palette['mark']}",
        ".s2": f"stroke: {palette['ink']}",
    }


STYLE = (
    ".ocrslim-plot text { font: 12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }"
    " .ocrslim-plot .title { font-size: 15px; font-weight: bold }"
    " .ocrslim-plot .curve { fill: none; stroke-width: 2 }"
    f" {in_both_schemes('ocrslim-plot', _rules)}"
)


@dataclass(frozen=True)
class Point:
    """One point.

    Args:
        x: to the right.
        y: upwards; ``None`` is not known, and stands on the bottom line.
        label: short; beside the point.
        told: shown when the reader points at it.
        low: where the bar through it begins; ``None`` for none.
        high: where that ends.
        chosen: drawn in the colour of marks, and larger.
        front: joined with the others of the kind by a line: nothing else is as fast and loses as little.
    """

    x: float
    y: float | None
    label: str
    told: str
    low: float | None = None
    high: float | None = None
    chosen: bool = False
    front: bool = False


def scatter(
    titles: tuple[str, str], axes: tuple[str, str], points: Sequence[Point], level: tuple[float, str] | None = None
) -> str:
    """Return the picture as SVG.

    Args:
        titles: the first line and the second.
        axes: what x and y measure, with their units; x is logarithmic where its values lie far apart.
        points: at least one; of those with a ``y``, none may be.
        level: a y at which a line crosses the picture, and what it means.
    """
    bounds = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    rows = _ticks([0.0, *bounds, level[0] if level else 0.0])
    frame = _Frame(*_columns([point.x for point in points]), rows, WIDTH, HEIGHT, TOP)
    parts = [*_head("ocrslim-plot", titles, WIDTH, HEIGHT), *frame.grid(*axes)]
    if level is not None:
        y = frame.y(level[0])
        parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(WIDTH - RIGHT, y - 5, level[1], "faint", "end"))
    path = " ".join(
        f"{frame.x(point.x):.1f},{frame.y(point.y):.1f}"
        for point in sorted(points, key=lambda point: point.x)
        if point.front and point.y is not None
    )
    if " " in path:
        parts.append(f'<polyline class="front" points="{path}"/>')
    ordered = sorted(enumerate(points), key=lambda item: item[1].chosen)  # the chosen one on top
    for number, point in ordered:
        parts += _point(frame, point, number)
    return "\n".join([*parts, "</svg>", ""])


def curves(title: str, axis: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a small picture of a few curves as SVG.

    Args:
        title: what is drawn.
        axis: what x measures.
        series: name -> points (x, y) in the order of x; at least one point in all.
    """
    values = [value for points in series.values() for value in points]
    columns, rows = _ticks([x for x, _ in values]), _ticks([y for _, y in values])
    frame = _Frame(columns, False, rows, SMALL_WIDTH, SMALL_HEIGHT, 52)
    told = "; ".join(f"{name}: {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in series.items() if points)
    parts = [*_head("ocrslim-plot", (title, told), SMALL_WIDTH, SMALL_HEIGHT, False), *frame.grid(axis, "")]
    x = float(LEFT)
    for number, (name, points) in enumerate(series.items()):
        kind, dash = number % len(DASHES), DASHES[number % len(DASHES)]
        path = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="curve s{kind}" stroke-dasharray="{dash or "none"}" points="{path}"/>')
        parts += [
            f'<circle class="curve s{kind}" cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="2.5">'
            f"<title>{xml_text(f'{name}, {a:g}: {b:.4g}')}</title></circle>"
            for a, b in points
        ]
        if len(series) > 1:
            line = f'class="curve s{kind}" stroke-dasharray="{dash or "none"}"'
            parts.append(f'<line {line} x1="{x:.0f}" x2="{x + 24:.0f}" y1="38" y2="38"/>')
            parts.append(_text(x + 30, 42, name, "faint"))
            x += 150
    return "\n".join([*parts, "</svg>", ""])


def _ticks(values: Sequence[float]) -> list[float]:
    """Return the numbers on an axis; nearly equal values get room, for ``ticks`` tells them by six digits."""
    low, high = min(values), max(values)
    room = NEARLY_EQUAL * max(abs(low), abs(high))
    return ticks(low, high) if high - low > room else ticks(low - room, high + room)


def _columns(values: Sequence[float]) -> tuple[list[float], bool]:
    """Return the numbers on the axis of x, and whether it is logarithmic."""
    low, high = min(values), max(values)
    if low < SMALLEST or high < SPREAD * low:
        return _ticks(values), False
    numbers = [
        float(f"{factor * 10.0**power:.6g}")
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 5)
    ]
    first = max(index for index, number in enumerate(numbers) if number <= low * 1.0001)
    last = min(index for index, number in enumerate(numbers) if number >= high * 0.9999)
    return numbers[first : last + 1], True


@dataclass(frozen=True)
class _Frame:
    """Where a value lies, in a picture whose axes end at their first and last numbers."""

    columns: Sequence[float]
    logarithmic: bool
    rows: Sequence[float]
    width: int
    height: int
    top: int

    def x(self, value: float) -> float:
        low, high = self.columns[0], self.columns[-1]
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.rows[0], self.rows[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM

    def grid(self, x_axis: str, y_axis: str) -> list[str]:
        parts = []
        for value in self.rows:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{self.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{value:g}", "faint", "end"))
        for value in self.columns:
            x = self.x(value)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{self.bottom}"/>')
            parts.append(_text(x, self.bottom + 18, f"{value:g}", "faint", "middle"))
        parts.append(_text((LEFT + self.width - RIGHT) / 2, self.height - 14, x_axis, "", "middle"))
        if y_axis:
            x, y = 16, (self.top + self.bottom) / 2
            parts.append(
                f'<text x="{x}" y="{y:.1f}" text-anchor="middle" transform="rotate(-90 {x} {y:.1f})">'
                f"{xml_text(y_axis)}</text>"
            )
        return parts


def _head(name: str, titles: tuple[str, str], width: int, height: int, second: bool = True) -> list[str]:
    title, under = titles
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" role="img" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}">',
        f"<title>{xml_text(title)}</title><desc>{xml_text(under)}</desc><style>{xml_text(STYLE)}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        _text(16, 22, title, "title"),
    ]
    return [*parts, _text(16, 44, under, "faint")] if second else parts


def _point(frame: _Frame, point: Point, number: int) -> list[str]:
    x, y = frame.x(point.x), frame.bottom if point.y is None else frame.y(point.y)
    kind = "hollow" if point.y is None else "dot chosen" if point.chosen else "dot"
    parts = [f"<g><title>{xml_text(point.told)}</title>"]
    if point.low is not None and point.high is not None:
        low, high = frame.y(point.low), frame.y(point.high)
        parts.append(f'<line class="error" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{7 if point.chosen else 5}"/>')
    # Points of one axis lie close together: every other label stands higher.
    lift = 8 + 14 * (number % 2) if point.y is None else 7
    parts.append(_text(x + 8, y - lift, point.label, "", "start"))
    return [*parts, "</g>"]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{xml_text(text)}</text>'
