"""The pieces that the report is put together of: sections, tables, charts, lists of facts. All text is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ocrslim.report.html_words import LANGUAGES, TAGS, Lang, Said, as_html, escape

__all__ = ["Html", "Section", "chart", "facts", "heading", "paragraph", "section", "table", "text"]


@dataclass(frozen=True)
class Html:
    """Markup, as opposed to text that is still to be escaped."""

    markup: str


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Args:
        key: names it among the sections of its run; part of its address in the page.
        title: of it.
        body: markup.
    """

    key: str
    title: Said
    body: Sequence[Html]


def text(words: Said | Html | str) -> str:
    """Return markup: of text, escaped."""
    return words.markup if isinstance(words, Html) else as_html(words)


def paragraph(words: Said | Html | str, kind: str = "") -> Html:
    """Return a paragraph.

    Args:
        words: what it says.
        kind: class of the style sheet.
    """
    style = f' class="{kind}"' if kind else ""
    return Html(f"<p{style}>{text(words)}</p>")


def heading(words: Said | Html | str, level: int, name: str = "") -> Html:
    """Return a heading.

    Args:
        words: what it says.
        level: 1 to 6.
        name: address in the page; empty for none.
    """
    address = f' id="{escape(name)}"' if name else ""
    return Html(f"<h{level}{address}>{text(words)}</h{level}>")


def section(part: Section, level: int, owner: str = "") -> Html:
    """Return a section with its heading.

    Args:
        part: see there.
        level: of the heading.
        owner: address of the heading of the run that it belongs to, where there are several; begins its own.
    """
    name = f"{owner}-{part.key}" if owner else part.key
    body = "\n".join(piece.markup for piece in part.body)
    by = f"{owner} {name}".strip()  # sections of one title are told apart by their runs
    return Html(f'<section aria-labelledby="{by}">\n{heading(part.title, level, name).markup}\n{body}\n</section>')


def table(
    caption: Said, head: Sequence[Said], rows: Iterable[Sequence[Said | Html | str]], numbers: Sequence[int] = ()
) -> Html:
    """Return a table that scrolls by itself where the page is too narrow for it.

    Args:
        caption: what the table tells.
        head: of the columns.
        rows: cells; the first of each names the row.
        numbers: columns whose cells stand at the right.
    """

    def kind(column: int) -> str:
        return "number" if column in numbers else "text"

    heads = "".join(f'<th scope="col" class="{kind(column)}">{text(cell)}</th>' for column, cell in enumerate(head))
    body = []
    for first, *rest in rows:
        cells = "".join(f'<td class="{kind(column)}">{text(cell)}</td>' for column, cell in enumerate(rest, 1))
        body.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    lines = "\n".join(body)
    return Html(
        f'<div class="scroll" tabindex="0"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{lines}</tbody></table></div>"
    )


def chart(name: Said, draw: Callable[[Lang], str]) -> Html:
    """Return a picture, drawn once in each language.

    Args:
        name: what it shows.
        draw: returns the SVG.
    """
    parts = []
    for lang in LANGUAGES:
        label = escape(getattr(name, lang))
        parts.append(
            f'<div class="scroll {lang}" lang="{TAGS[lang]}" role="group" aria-label="{label}" tabindex="0">'
            f"{draw(lang)}</div>"
        )
    return Html(f"<figure>{''.join(parts)}</figure>")


def facts(rows: Iterable[tuple[Said, Said | Html | str]]) -> Html:
    """Return a list of names and values."""
    parts = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows)
    return Html(f'<dl class="facts">{parts}</dl>')
