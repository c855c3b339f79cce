"""YAML whose every value knows its line, and a reader that checks names and types as it reads.

A mistake is answered by one line: the file, the line, the key, what was expected, and the nearest known name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ocrslim.config.safe_yaml import LOADER, UNREADABLE, check_yaml
from ocrslim.errors import InputError

__all__ = ["Located", "Section", "nearest", "read_located"]

_T = TypeVar("_T")

DEEPEST = 40  # levels; real files have eight, and an anchor that holds itself has no end
MOST = 20_000  # values with every alias written out; the example's files have two hundred
LARGEST = 1 << 20  # bytes; the example's files have three thousand
SHOWN = 80  # characters of a wrong value
_FRACTION = re.compile(r"\s*([0-9.]+)\s*/\s*([0-9.]+)\s*")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class Located:
    """A value of a YAML file.

    Args:
        value: a scalar (text, number, truth value or ``None``), a list of :class:`Located`, or a dict of them by name.
        where: ``file:line``, for errors.
    """

    value: Any
    where: str


def read_located(path: Path) -> Located:
    """Read a YAML file; anchors, aliases and merges are resolved, tags that make objects are refused.

    Args:
        path: the file.

    Raises:
        InputError: it is missing, unreadable, larger than 1 MiB, not YAML, nested too deep, of too many values, or
            names a key twice.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such configuration file")
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{path}: {size} bytes; a configuration has at most {LARGEST}")
        text = path.read_bytes().decode("utf-8-sig")
        loader = LOADER(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: can't be read as text in UTF-8 ({' '.join(str(error).split())})") from error
    try:
        check_yaml(text, DEEPEST, MOST)
        root = loader.get_single_node()
        if root is None:
            raise InputError(f"{path}: the file is empty")
        return _locate(loader, root, path, 0)
    except UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        said = getattr(error, "problem", None) or str(error)
        raise InputError(f"{path}{line}: not valid YAML ({' '.join(str(said).split())})") from error
    finally:
        loader.dispose()


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint: the known name that is most like ``name``, or all of them where none is.

    >>> nearest("epoch", ["epochs", "eval_iter"])
    'did you mean epochs?'
    >>> nearest("x", ["epochs", "eval_iter"])
    'known are epochs, eval_iter'
    """
    lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f"did you mean {lower[found[0]]}?" if found else f"known are {', '.join(known)}"


class Section:
    """A mapping of the file, read key by key.

    Args:
        node: the mapping; ``None`` as its value stands for an empty one.
        name: its path in the file, such as ``Train.loader``; for errors.
        known: the keys that it may have.

    Raises:
        InputError: it is no mapping, or has a key that is not known.
    """

    def __init__(self, node: Located, name: str, known: Sequence[str]) -> None:
        if node.value is None:
            node = Located({}, node.where)
        if not isinstance(node.value, dict):
            raise InputError(f"{node.where}: {name} must be a mapping of {', '.join(known)}, got {_show(node)}")
        self.where = node.where
        self.name = name
        self.known = tuple(known)
        self._items: dict[str, Located] = node.value
        for key, item in self._items.items():
            if key not in self.known:
                raise InputError(f"{item.where}: {self._path(key)} is unknown; {nearest(key, self.known)}")

    def without_effect(self, keys: Sequence[str], warn: Callable[[str], object], why: str = "") -> None:
        """Say of the keys that are there that they have no effect.

        Args:
            keys: that are known and not read.
            warn: told a line for each.
            why: added to it.
        """
        for key in keys:
            if key in self:
                warn(f"{self.node(key).where}: {self._path(key)}: has no effect{f', {why}' if why else ''}")

    def __contains__(self, key: str) -> bool:
        """Return whether the key is there and not null."""
        return key in self._items and self._items[key].value is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that are there, in the file's order."""
        return iter(self._items)

    def node(self, key: str) -> Located:
        """Return a value as it is; null where the key is missing.

        Raises:
            KeyError: the program asks for a key that it does not declare.
        """
        if key not in self.known:
            raise KeyError(key)
        return self._items.get(key, Located(None, self.where))

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; ``default=None`` makes the key required.

        Raises:
            InputError: the key is missing, or its value is no text.
        """
        if key not in self and default is not None:
            return default
        return self._typed(key, "a text", lambda value: value if isinstance(value, str) and value else None)

    def optional_text(self, key: str) -> str | None:
        """Return a text, or ``None`` where the key is missing, null, or the word ``None`` as Paddle writes it."""
        found = self.text(key, "None")
        return None if found == "None" else found

    def choice(self, key: str, among: Sequence[str], default: str | None = None) -> str:
        """Return one of some texts.

        Raises:
            InputError: it is none of them.
        """
        found = self.text(key, default)
        if found not in among:
            raise self.error(key, f"is {found!r}; {nearest(found, among)}")
        return found

    def flag(self, key: str, default: bool) -> bool:
        """Return a truth value.

        Raises:
            InputError: it is neither true nor false.
        """
        if key not in self:
            return default
        return self._typed(key, "true or false", lambda value: value if isinstance(value, bool) else None)

    def integer(self, key: str, default: int | None = None, least: int = 0) -> int:
        """Return a whole number of at least ``least``; ``default=None`` makes the key required.

        Raises:
            InputError: it is no whole number, or too small.
        """
        if key not in self and default is not None:
            return default

        def read(value: Any) -> int | None:
            found = _whole(value)
            return found if found is not None and found >= least else None

        return self._typed(key, f"a whole number of at least {least}", read)

    def number(self, key: str, default: float | None = None, least: float = 0.0, most: float = 1e12) -> float:
        """Return a number; texts such as ``5e-5`` (YAML 1.1 takes that for text) and ``1./255.`` are numbers too.

        Args:
            key: its name.
            default: ``None`` makes the key required.
            least: smallest value allowed.
            most: largest value allowed.

        Raises:
            InputError: it is no number, or out of bounds.
        """
        if key not in self and default is not None:
            return default
        bounds = f"a number from {least:g} to {most:g}" if most < 1e12 else f"a number of at least {least:g}"

        def read(value: Any) -> float | None:
            found = _real(value)
            return found if found is not None and least <= found <= most else None

        return self._typed(key, bounds, read)

    def numbers(self, key: str, default: Sequence[float] | None = None, count: int | None = None) -> tuple[float, ...]:
        """Return a list of numbers; a single number is a list of one.

        Raises:
            InputError: it is no list of numbers, or has not ``count`` of them.
        """
        if key not in self and default is not None:
            return tuple(default)
        what = f"a list of {count} numbers" if count else "a list of numbers"

        def read(value: Any) -> tuple[float, ...] | None:
            items = [item.value for item in value] if isinstance(value, list) else [value]
            found = [_real(item) for item in items]
            if any(item is None for item in found) or (count and len(found) != count):
                return None
            return tuple(item for item in found if item is not None)

        return self._typed(key, what, read)

    def texts(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return a list of texts; a single text is a list of one.

        Raises:
            InputError: it is no list of texts.
        """
        if key not in self and default is not None:
            return tuple(default)

        def read(value: Any) -> tuple[str, ...] | None:
            items = [item.value for item in value] if isinstance(value, list) else [value]
            return tuple(items) if all(isinstance(item, str) for item in items) else None

        return self._typed(key, "a list of texts", read)

    def items(self, key: str) -> list[Located]:
        """Return a list's entries; a missing key is an empty list.

        Raises:
            InputError: it is no list.
        """
        if key not in self:
            return []
        return self._typed(key, "a list", lambda value: value if isinstance(value, list) else None)

    def error(self, key: str, said: str) -> InputError:
        """Return the error about a key of this section."""
        return InputError(f"{self.node(key).where}: {self._path(key)} {said}")

    def _typed(self, key: str, what: str, read: Callable[[Any], _T | None]) -> _T:
        if key not in self:
            raise InputError(f"{self.where}: {self._path(key)} is missing; expected {what}")
        node = self.node(key)
        found = read(node.value)
        if found is None:
            raise self.error(key, f"must be {what}, got {_show(node)}")
        return found

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _locate(loader: yaml.SafeLoader, node: yaml.Node, path: Path, depth: int) -> Located:
    where = f"{path}:{node.start_mark.line + 1}"
    if depth > DEEPEST:
        raise InputError(f"{where}: nested more than {DEEPEST} deep; does an anchor hold itself?")
    if isinstance(node, yaml.ScalarNode):
        try:
            return Located(loader.construct_object(node), where)
        except UNREADABLE as error:
            said = f"{node.value!r} can't be read as {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(problem=said, problem_mark=node.start_mark) from error
    if node.tag not in (loader.DEFAULT_SEQUENCE_TAG, loader.DEFAULT_MAPPING_TAG):
        raise yaml.constructor.ConstructorError(problem=f"the tag {node.tag}", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return Located([_locate(loader, item, path, depth + 1) for item in node.value], where)
    assert isinstance(node, yaml.MappingNode)
    written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    loader.flatten_mapping(node)
    found: dict[str, Located] = {}
    for key, item in node.value:
        name = str(loader.construct_object(key, deep=True))
        # A merge (<<) puts its keys before those that are written, which then override it.
        if name in found and written.count(key.value) > 1:
            raise InputError(f"{path}:{key.start_mark.line + 1}: {name} is named twice in one mapping")
        at = _locate(loader, item, path, depth + 1)
        # A missing value has no place of its own, and an alias has its anchor's; the key's is what a reader looks for.
        found[name] = Located(at.value, f"{path}:{key.start_mark.line + 1}")
    return Located(found, where)


def _show(node: Located) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    said = repr(node.value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    found = _real(value)
    return int(found) if found is not None and abs(found) < 1e15 and found == int(found) else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1e300 else None
    if not isinstance(value, str):
        return None
    if _NUMBER.fullmatch(value):
        return _real(float(value.strip()))  # `float` leaves some separators that `\s` takes, as U+001F
    fraction = _FRACTION.fullmatch(value)
    try:
        return float(fraction.group(1)) / float(fraction.group(2)) if fraction else None
    except (ValueError, ZeroDivisionError):
        return None
