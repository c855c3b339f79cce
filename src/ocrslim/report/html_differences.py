"""The images on which the two models differ, side by side, as a section of the report."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ocrslim.errors import DataError
from ocrslim.report.html_parts import Html, Section, heading, paragraph, table, text
from ocrslim.report.html_words import Said, escape, plain, said
from ocrslim.report.result import made_of
from ocrslim.report.thumbnails import Album, Thumbnail

__all__ = ["differences"]

POINTS = re.compile(r"-?\d{1,7},-?\d{1,7}(?: -?\d{1,7},-?\d{1,7}){2,63}")  # of a polygon, as SVG has them
MOST_BOXES = 500  # drawn on one picture
LONGEST = 200  # characters of a text


def differences(result: Mapping[str, Any], album: Album, prefix: str, level: int) -> Section:
    """Show them with both models' answers.

    Args:
        result: of the run.
        album: makes the thumbnails.
        prefix: of addresses in the page.
        level: of the headings below the section's.
    """
    found, of = result.get("differences"), result["data"]["n_eval"]
    title = said("differences")
    if found is None:
        return Section("differences", title, [paragraph(said("differences unknown"))])
    if not found["n"]:
        return Section("differences", title, [paragraph(said("no differences", of=of))])
    shown = found["shown"]
    made = said(made_of(result))
    counts = {"n": found["n"], "of": of, "shown": len(shown)}
    if result["drop"][result["engine"]].get("against", "labels") == "labels":
        counts |= {"worse": found["worse"], "better": found["better"]}
        told = said(
            "differences of",
            **counts,
            made=said(f"the {made_of(result)}"),
            other=found["n"] - found["worse"] - found["better"],
        )
    else:
        told = said("differences of agreement", **counts)
    if result["model"]["task"] == "rec":
        return Section("differences", title, [_lines(told, shown, album, made)])
    pages = [_page(number, item, album, prefix, level, made) for number, item in enumerate(shown, 1)]
    return Section("differences", title, [paragraph(told), paragraph(said("boxes legend"), "small"), *pages])


def _picture(item: Mapping[str, Any], album: Album) -> Thumbnail | Said:
    """Return the thumbnail, or why there is none."""
    path = item.get("image")
    if not path:
        return said("image not kept")
    try:
        return album.add(Path(path)) or said("image left out")
    except (DataError, ValueError):  # a path with a null byte is a ValueError
        return said("no image", path=path)


def _lines(told: Said, shown: Sequence[Mapping[str, Any]], album: Album, made: Said) -> Html:
    """Return a table: the picture of each line, and how each model read it; ``made`` names the one that is not float.

    Whatever was made, its answers are called ``int8`` in ``result.json``.
    """
    rows: list[list[Said | Html | str]] = []
    for number, item in enumerate(shown, 1):
        picture = _picture(item, album)
        if isinstance(picture, Thumbnail):
            name = escape(Path(item["image"]).name)
            size = f'width="{picture.width}" height="{picture.height}"'
            cell: Said | Html = Html(f'<img src="{picture.uri}" {size} alt="{number}: {name}">')
        else:
            cell = picture
        label, before, after = (_short(item.get(key)) for key in ("label", "float", "int8"))
        rows.append([str(number), cell, label, _marked(before, after), _marked(after, before)])
    heads = [*(said(key) for key in ("number", "image", "label", "float")), made]
    return table(told, heads, rows)


def _short(value: object) -> str:
    words = "" if value is None else str(value)
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"


def _marked(ours: str, theirs: str) -> Html:
    """Return a text in which the letters are marked that the other has not."""
    if not ours:
        return Html(f"<em>{text(said('nothing read'))}</em>")
    parts = []
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        piece = escape(ours[start:end])
        if piece:
            parts.append(piece if kind == "equal" else f"<mark>{piece}</mark>")
    return Html("".join(parts))


def _page(number: int, item: Mapping[str, Any], album: Album, prefix: str, level: int, made: Said) -> Html:
    """Return a page twice, with each model's boxes."""
    picture = _picture(item, album)
    name = plain(Path(str(item.get("image") or "")).name)
    head = heading(said("image of", n=number, name=name), level).markup
    if isinstance(picture, Said):
        body = paragraph(picture).markup
        panels = [_caption(item, key, made) for key in ("float", "int8")]
        return Html(f"{head}{body}{''.join(f'<p>{panel}</p>' for panel in panels)}")
    address = f"{prefix}image{number}"
    pixels = (
        f'<image id="{escape(address)}" href="{picture.uri}" width="{picture.full_width}"'
        f' height="{picture.full_height}" preserveAspectRatio="none"/>'
    )
    panels = []
    for key in ("float", "int8"):
        # The pixels stand in the page once; the second picture refers to the first.
        inside = pixels if key == "float" else f'<use href="#{escape(address)}"/>'
        label = f"{'float' if key == 'float' else made.en}: {name.en}"
        panels.append(
            f"<div><p>{_caption(item, key, made)}</p>"
            f'<svg role="img" aria-label="{escape(label)}"'
            f' viewBox="0 0 {picture.full_width} {picture.full_height}">{inside}{_polygons(item, key)}</svg></div>'
        )
    return Html(f'{head}<div class="pair">{"".join(panels)}</div>')


def _caption(item: Mapping[str, Any], key: str, made: Said) -> str:
    answer = item.get(key) if isinstance(item.get(key), Mapping) else {}
    assert isinstance(answer, Mapping)
    both, alone = _boxes(answer, "both"), _boxes(answer, "alone")
    told = text(said("boxes", n=len(both) + len(alone), alone=len(alone)))
    if isinstance(answer.get("matched"), int) and isinstance(item.get("labelled"), int):
        told += f"; {text(said('matched', matched=answer['matched'], labelled=item['labelled']))}"
    return f"<strong>{text(said('float') if key == 'float' else made)}</strong>: {told}"


def _polygons(item: Mapping[str, Any], key: str) -> str:
    answer = item.get(key)
    if not isinstance(answer, Mapping):
        return ""
    drawn = [f'<polygon points="{points}"/>' for points in _boxes(answer, "both")[:MOST_BOXES]]
    alone = [f'<polygon class="alone" points="{points}"/>' for points in _boxes(answer, "alone")[:MOST_BOXES]]
    return "".join([*drawn, *alone])


def _boxes(answer: Mapping[str, Any], key: str) -> list[str]:
    """Return the boxes that are written as they should be; a damaged one is nothing to draw."""
    found = answer.get(key)
    items = found if isinstance(found, list) else []
    return [points for points in items if isinstance(points, str) and POINTS.fullmatch(points)]
