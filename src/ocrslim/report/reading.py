"""What ``ocrslim predict`` prints: the texts for people, and in a few lines what was skipped and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["reading_text", "summary_lines"]


def reading_text(result: Mapping[str, Any]) -> str:
    """Return the texts of all pages, with a heading each where there are several.

    Where two pairs of models were compared, lines that differ are marked as ``diff`` marks them: ``-`` is what the
    other pair reads or has alone, ``+`` what ours does; lines that agree begin with a space.

    Args:
        result: what :func:`ocrslim.predict.predict_files` returns.
    """
    parts: list[str] = []
    pages = result["pages"]
    for page in pages:
        if len(pages) > 1:
            name = page["file"] if page["page"] is None else f"{page['file']}, page {page['page']}"
            parts.append(f"==> {name} <==")
        parts += _marked(page) if "difference" in page else [line["text"] for line in page["lines"]]
        if len(pages) > 1:
            parts.append("")
    return "".join(f"{part}\n" for part in parts)


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a user has to know beside the texts: how much was read, what was skipped and why, what differs.

    Args:
        result: as in :func:`reading_text`.
    """
    skipped = result["skipped"]
    lines = [f"skipped {_name(item)}: {item['reason']}" for item in skipped]
    lines += [f"{_name(page)}: {page['note']}" for page in result["pages"] if "note" in page]
    count = len(result["pages"])
    texts = sum(len(page["lines"]) for page in result["pages"])
    lines.append(
        f"{count} of {count + len(skipped)} pages read, {len(skipped)} skipped, {texts} lines of text,"
        f" {result['seconds']:.1f} s"
    )
    if "against" in result:
        lines.append(_compared(result["against"]))
    return lines


def _compared(against: Mapping[str, Any]) -> str:
    models = " + ".join(model["name"] for model in against["models"].values())
    return (
        f"against {models}: {against['boxes_in_both']} boxes in both, {against['only_here']} only here,"
        f" {against['only_there']} only there; {against['texts_equal']} texts equal, {against['texts_changed']} differ;"
        f" 1-NED {against['norm_edit_distance']:.4f}; {against['pages_changed']} pages differ"
    )


def _marked(page: Mapping[str, Any]) -> list[str]:
    difference = page["difference"]
    changed = {item["line"]: item["other"]["text"] for item in difference["changed"]}
    parts: list[str] = []
    for index, line in enumerate(page["lines"]):
        if index in changed:
            parts += [f"-{changed[index]}", f"+{line['text']}"]
        else:
            parts.append(f"{'+' if index in difference['only_here'] else ' '}{line['text']}")
    return parts + [f"-{line['text']}" for line in difference["only_there"]]


def _name(item: Mapping[str, Any]) -> str:
    return item["file"] if item["page"] is None else f"{item['file']}, page {item['page']}"
