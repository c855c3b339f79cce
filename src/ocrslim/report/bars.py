"""A chart of horizontal bars as an SVG file that needs nothing else: no script, no font, no link.

Its colours follow the reader's choice of light or dark. It may stand in an HTML page as it is: its styles are named by
its class.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Bar", "bar_chart", "in_both_schemes", "ticks", "xml_text"]

WIDTH, MARGIN = 1000, 16
ROW, THICK = 20, 12
HEAD, FOOT = 104, 52  # above the first bar, below the last one
GAP = 8
LETTER = 6.7  # width of a letter of the labels, 11 px monospace, with some room
SMALLEST = 1e-30  # range of values; below it they are one value
MOST_LETTERS = 44  # of a label; a longer one loses its middle
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")  # in XML 1.0, section 2.2

# Blue and orange: told apart by those who do not see red and green apart as well (Okabe and Ito 2008).
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#59636e",
    "line": "#d8dee4",
    "bar": "#0072b2",
    "mark": "#d55e00",
}
DARK = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "faint": "#9198a1",
    "line": "#30363d",
    "bar": "#56b4e9",
    "mark": "#ffb454",
}


def in_both_schemes(scope: str, rules: Callable[[Mapping[str, str]], Mapping[str, str]]) -> str:
    """Return rules of CSS for light and dark, spelled out: not every program that shows SVG knows variables.

    Args:
        scope: class of the picture.
        rules: palette -> selector within the picture -> declarations.
    """
    light, dark = (
        " ".join(f".{scope} {name} {{ {rule} }}" for name, rule in rules(palette).items()) for palette in (LIGHT, DARK)
    )
    return f"{light} @media (prefers-color-scheme: dark) {{ {dark} }}"


def _rules(palette: Mapping[str, str]) -> dict[str, str]:
    ink, faint, line = palette["ink"], palette["faint"], palette["line"]
    return {
        ".paper": f"fill: {palette['paper']}",
        "text": f"fill: {ink}",
        ".faint": f"fill: {faint}",
        ".grid": f"stroke: {line}",
        ".zero": f"stroke: {faint}",
        ".bar": f"fill: {palette['bar']}",
        ".mark": f"stroke: {palette['mark']}; stroke-width: 3",
    }


STYLE = (
    ".ocrslim-bars text { font: 11px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }"
    f" .ocrslim-bars .title {{ font-size: 15px; font-weight: bold }} {in_both_schemes('ocrslim-bars', _rules)}"
)


@dataclass(frozen=True)
class Bar:
    """One row.

    Args:
        label: left of the bar; the full text shows when the reader points at the row.
        value: length of the bar, in units of the axis, at least 0.
        notes: right of the plot, a column each; every bar has as many.
        mark: where a short line crosses the bar; ``None`` for none.
    """

    label: str
    value: float
    notes: tuple[str, ...] = ()
    mark: float | None = None


def bar_chart(
    title: str, subtitle: str, axis: str, bars: Sequence[Bar], mark: str = "", columns: Sequence[str] = ()
) -> str:
    """Return the chart as SVG, a thousand wide and as high as its rows need.

    Args:
        title: first line.
        subtitle: second line.
        axis: what the bars measure, with its unit.
        bars: from top to bottom, at least one.
        mark: what the lines across the bars mean; empty where there are none.
        columns: headings of the bars' notes.
    """
    height = HEAD + ROW * len(bars) + FOOT
    values = [0.0, *(bar.value for bar in bars), *(bar.mark for bar in bars if bar.mark is not None)]
    lines = ticks(min(values), max(values))
    left = MARGIN + LETTER * max(len(_short(bar.label)) for bar in bars) + GAP
    right, ends = _columns([columns, *(bar.notes for bar in bars)])
    scale = _Scale(lines[0], lines[-1], left, right)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ocrslim-bars" role="img" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}">',
        f"<title>{xml_text(title)}</title><desc>{xml_text(subtitle)}</desc><style>{xml_text(STYLE)}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        _text(MARGIN, 28, title, "title"),
        _text(MARGIN, 48, subtitle, "faint"),
        *_legend(axis, mark),
        *(_text(x, HEAD - 8, heading, "faint", "end") for x, heading in zip(ends, columns, strict=True)),
    ]
    for value in lines:
        parts += _grid_line(scale.x(value), value, height)
    for number, bar in enumerate(bars):
        parts += _row(bar, HEAD + ROW * (number + 0.5), scale, ends)
    parts.append(_text((left + right) / 2, height - 14, axis, "axis", "middle"))
    return "\n".join([*parts, "</svg>", ""])


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers, some five of them, that lie around a range: multiples of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 0.7)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    span = high - low if high - low > SMALLEST else 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= span / 5.01)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class _Scale:
    """Where a value lies: ``low`` at the left of the plot, ``high`` at its right."""

    low: float
    high: float
    left: float
    right: float

    def x(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)


def _columns(rows: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """Return where the plot ends, and where each column of notes ends, right of it."""
    widths = [LETTER * max(map(_cells, column)) + 2 * GAP for column in zip(*rows, strict=True)]
    ends = [WIDTH - MARGIN - sum(widths[number + 1 :]) for number in range(len(widths))]
    return WIDTH - MARGIN - sum(widths) - GAP, ends


def _legend(axis: str, mark: str) -> list[str]:
    """Say what the bars are, and what the lines across them."""
    parts = [f'<rect class="bar" x="{MARGIN}" y="62" width="18" height="{THICK}"/>', _text(MARGIN + 24, 72, axis)]
    if mark:
        x = MARGIN + 24 + LETTER * _cells(axis) + 24
        parts += [f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="60" y2="76"/>', _text(x + 8, 72, mark)]
    return parts


def _grid_line(x: float, value: float, height: float) -> list[str]:
    """Draw a line through all rows, with its number at both ends."""
    kind = "grid zero" if value == 0 else "grid"
    return [
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 4}" y2="{height - FOOT + 4}"/>',
        _text(x, HEAD - 8, f"{value:g}", "faint", "middle"),
        _text(x, height - FOOT + 16, f"{value:g}", "faint", "middle"),
    ]


def _row(bar: Bar, middle: float, scale: _Scale, ends: Sequence[float]) -> list[str]:
    start, end, baseline = scale.x(0.0), scale.x(bar.value), middle + 4
    told = ", ".join((f"{bar.label}: {bar.value:.4g}", *bar.notes))
    parts = [
        f"<g><title>{xml_text(told)}</title>",
        _text(scale.left - GAP, baseline, _short(bar.label), "", "end"),
        f'<rect class="bar" x="{start:.2f}" y="{middle - THICK / 2:.1f}" width="{end - start:.2f}" height="{THICK}"/>',
    ]
    if bar.mark is not None:
        x = scale.x(bar.mark)
        parts.append(f'<line class="mark" x1="{x:.2f}" x2="{x:.2f}" y1="{middle - 8:.1f}" y2="{middle + 8:.1f}"/>')
    notes = (_text(x, baseline, note, "faint", "end") for x, note in zip(ends, bar.notes, strict=True))
    return [*parts, *notes, "</g>"]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{xml_text(text)}</text>'


def _cells(text: str) -> int:
    """Return how many letters wide a text is; Chinese ones count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _short(label: str) -> str:
    """Return a label without its middle where it is too long: names of nodes differ at their ends."""
    half = (MOST_LETTERS - 1) // 2
    return label if len(label) <= MOST_LETTERS else f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"


def xml_text(text: str) -> str:
    """Return a text as XML shows it; characters that XML has not are shown as U+FFFD."""
    return escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))
