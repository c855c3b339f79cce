"""YAML of unknown origin, looked through before anything is built of it.

A file of a few hundred bytes can stand for billions of values (an alias to a list of aliases to a list of ...), and a
line of brackets can break the stack of the C parser's composer. The events of the parser come one by one and without
recursion, so they are counted first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

__all__ = ["LOADER", "UNREADABLE", "check_yaml"]

UNREADABLE = (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError)
"""What PyYAML raises for a damaged file: its own errors, and those of the conversions inside, as of ``!!int ""``, of
``!!bool x`` or of a date of month 13."""

LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C parser where there is one: it reads a dictionary of 18,000 entries in 60 ms, the Python one in seconds."""

LONGEST_NUMBER = 400  # characters; 1:1:1:... is a number to YAML 1.1, and takes quadratic time
_NUMBERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
_BEGIN = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_END = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def check_yaml(text: str, deepest: int, most: int) -> None:
    r"""Refuse a text whose values are nested too deep or, with every alias written out, too many.

    Args:
        text: the file.
        deepest: levels of lists and mappings.
        most: values: scalars, lists and mappings, keys too.

    Raises:
        yaml.YAMLError: it is no YAML, or beyond one of the bounds; ``problem`` and ``problem_mark`` say what and where.

    >>> check_yaml("a: &x [1, 2]\nb: *x", deepest=2, most=9)
    >>> check_yaml("a: &x [1, 2]\nb: *x", deepest=2, most=8)
    Traceback (most recent call last):
    yaml.composer.ComposerError: more than 8 values
      in "<unicode string>", line 2, column 4
    """
    _Counter(deepest, most).count(yaml.parse(text, Loader=LOADER))


class _Counter:
    """Counts values; each open list or mapping has the number of its own on a stack."""

    def __init__(self, deepest: int, most: int) -> None:
        self.deepest = deepest
        self.most = most
        self.open: list[tuple[str | None, int]] = []  # anchor, values before it
        self.anchors: dict[str, int | None] = {}  # anchor -> values in it; None while it is open
        self.total = 0

    def count(self, events: Iterable[Any]) -> None:
        """Go through the events of a file."""
        for event in events:
            if isinstance(event, yaml.AliasEvent):
                self.total += self._alias(event)
            elif isinstance(event, _BEGIN):
                self._begin(event)
            elif isinstance(event, _END):
                anchor, before = self.open.pop()
                if anchor is not None:
                    self.anchors[anchor] = self.total - before
            elif isinstance(event, yaml.ScalarEvent):
                self.total += 1
                _check_scalar(event)
                if event.anchor is not None:
                    self.anchors[event.anchor] = 1
            if self.total > self.most:
                raise _problem(f"more than {self.most} values", event)

    def _begin(self, event: Any) -> None:
        if len(self.open) >= self.deepest:
            raise _problem(f"nested more than {self.deepest} deep", event)
        self.open.append((event.anchor, self.total))
        self.total += 1
        if event.anchor is not None:
            self.anchors[event.anchor] = None

    def _alias(self, event: Any) -> int:
        size = self.anchors.get(event.anchor, 1)  # an unknown anchor is the composer's to refuse
        if size is None:
            raise _problem(f"nested more than {self.deepest} deep: the anchor {event.anchor} holds itself", event)
        return size


def _check_scalar(event: Any) -> None:
    if len(event.value) <= LONGEST_NUMBER:
        return
    plain = event.implicit[0] and not event.style and event.value[0] in "+-.0123456789"
    if plain or event.tag in _NUMBERS:
        raise _problem(f"a number of {len(event.value)} characters", event)


def _problem(said: str, event: Any) -> yaml.YAMLError:
    return yaml.composer.ComposerError(problem=said, problem_mark=event.start_mark)
