"""Docstrings of this project for mkdocstrings: what is written for Sphinx and doctest becomes Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Roles", "to_markdown"]

ROLE = re.compile(r":(?:py:)?[a-z]+:`~?([^`<>]+)`")
LITERAL = re.compile(r"``([^`]+)``")
EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Turn roles into links where their object is on a page, double backquotes into single ones, doctests into blocks.

    Args:
        text: a docstring without its indentation.
    """
    text = LITERAL.sub(r"`\1`", ROLE.sub(_link, text))
    return EXAMPLE.sub(lambda found: f"\n```pycon\n{found.group()}\n```", text)


def _link(found: re.Match[str]) -> str:
    name = found.group(1)
    shown = name.replace("_", "&#95;")  # two of them would make it bold
    return f'<autoref optional identifier="{name}"><code>{shown}</code></autoref>'


class Roles(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object, whatever it is."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
