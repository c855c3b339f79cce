"""Mutations of real files: blind ones of any bytes, and ones that know protobuf, JSON, YAML or label lines."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from ocrslim.config.safe_yaml import LOADER, check_yaml

__all__ = ["MUTATORS", "mutate"]

NUMBERS = (0, 1, -1, 2, 7, 63, 127, 128, 255, 256, 1000, 0x7FFF, 0x8000, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31)
NUMBERS += (-(1 << 31), (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63))
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    *NUMBERS,
    0.5,
    -1.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "-1",
)
VALUES += (
    "nan",
    "1e999",
    "../x",
    "/etc/passwd",
    "\0",
    "\n",
    "\u2028",
    "\x1b[31m",
    "字",
    "x" * 3000,
    [],
    {},
    [[]],
    [{}],
)
VALUES += ({"a": 1}, [1, 2, 3], [0.0] * 200, {"#": "0.a_str", "D": "x"}, 10**400, -(10**30), "*", "###")
TEXTS = (
    "../../x",
    "/etc/passwd",
    "..\\x",
    "x" * 5000,
    "\0",
    "",
    "weights.bin",
    "\ud7ff字",
    "\x1b[2J",
    "a/b/../../../c",
)
MOST_BYTES = 1 << 20  # a mutated file grows no further
Mutator = Callable[[bytes, Random], bytes]


def mutate(data: bytes, kind: str, other: bytes, rng: Random) -> bytes:
    """Return ``data`` changed in one to four places.

    Args:
        data: a file.
        kind: key of :data:`MUTATORS`; half of the changes are blind all the same.
        other: another file, to splice with.
        rng: decides all.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        roll = rng.random()
        if roll < 0.05:
            data = _splice(data, other, rng)
        elif roll < 0.5 or kind not in MUTATORS:
            data = rng.choice(_BLIND)(data, rng)
        else:
            data = MUTATORS[kind](data, rng)
        data = data[:MOST_BYTES]
    return data


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _head_flip(data: bytes, rng: Random) -> bytes:
    """Change a byte among the first, where headers are."""
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(min(64, len(changed)))] = rng.randrange(256)
    return bytes(changed)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(data: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 256)) :]


def _repeat(data: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((1, 8, 64, 1024))]
    return data[:start] + part * rng.choice((2, 3, 50, 1000)) + data[start:]


def _insert(data: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.choice((1, 4, 32))) + data[start:]


def _length(data: bytes, rng: Random) -> bytes:
    """Overwrite 1 to 8 bytes with a number that breaks lengths and sizes, in either order."""
    width = rng.choice((1, 2, 4, 4, 8))
    number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
    start = rng.randrange(max(1, len(data) - width))
    return data[:start] + number.to_bytes(width, rng.choice(("little", "big"))) + data[start + width :]


def _ascii_number(data: bytes, rng: Random) -> bytes:
    """Replace a run of digits, as in texts and in the headers of tar."""
    places = [place for place, byte in enumerate(data[:65536]) if 48 <= byte <= 57]
    if not places:
        return _length(data, rng)
    start = end = rng.choice(places)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:start] + str(rng.choice(NUMBERS)).encode() + data[end:]


def _splice(data: bytes, other: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_BLIND: tuple[Mutator, ...] = (_flip, _head_flip, _cut, _remove, _repeat, _insert, _length, _ascii_number)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at ``place``, and where it ends; ``ValueError`` where there is none."""
    number = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
    raise ValueError


def _as_varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _fields(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return (key, start, start of the value, end) of each field of a message; ``ValueError`` where it is none."""
    found, place = [], 0
    while place < len(data):
        key, value = _varint(data, place)
        wire = key & 7
        if wire == 0:
            _, end = _varint(data, value)
        elif wire == 2:
            length, value = _varint(data, value)
            end = value + length
        elif wire in (1, 5):
            end = value + (8 if wire == 1 else 4)
        else:
            raise ValueError
        if end > len(data) or not key >> 3:
            raise ValueError
        found.append((key, place, value, end))
        place = end
    return found


def _protobuf(data: bytes, rng: Random, depth: int = 0) -> bytes:
    """Change one field of a message or of one within it, so that all lengths around it stay right."""
    try:
        fields = _fields(data)
    except ValueError:
        fields = []
    if not fields:
        return rng.choice(_BLIND)(data, rng) if depth < 2 or rng.random() < 0.5 else rng.choice(TEXTS).encode()
    key, start, value, end = rng.choice(fields)
    roll = rng.random()
    if key & 7 == 2 and roll < 0.75 and depth < 12:
        inner = _protobuf(data[value:end], rng, depth + 1)
        field = _as_varint(key) + _as_varint(len(inner)) + inner
    elif roll < 0.85 and key & 7 == 0:
        field = _as_varint(key) + _as_varint(rng.choice(NUMBERS))
    elif roll < 0.9:
        field = b""
    elif roll < 0.95:
        field = data[start:end] * rng.choice((2, 3, 100))
    else:
        field = _as_varint(rng.randrange(1, 40) << 3 | key & 7) + data[value if key & 7 != 2 else start + 1 : end]
    return data[:start] + field + data[end:]


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of each value in a tree."""
    found: list[tuple[Any, Any]] = []
    open_ = [tree]
    while open_:
        node = open_.pop()
        keys: Any = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            open_.append(node[key])
    return found


def _change_tree(tree: Any, rng: Random) -> Any:
    places = _places(tree)
    if not places:
        return rng.choice(VALUES)
    node, key = rng.choice(places)
    roll = rng.random()
    if roll < 0.6:
        node[key] = rng.choice(VALUES)
    elif roll < 0.7:
        del node[key]
    elif roll < 0.8:
        node[key] = [node[key]]
    elif roll < 0.9 and isinstance(node, dict):
        node[str(rng.choice(VALUES))] = node.pop(key)
    else:
        other, place = rng.choice(places)
        node[key] = json.loads(json.dumps(other[place])) if place in _keys(other) else None
    return tree


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def _json(data: bytes, rng: Random) -> bytes:
    if rng.random() < 0.05:
        return b'{"a":' * rng.choice((50, 100_000)) if rng.random() < 0.5 else b"[" * rng.choice((50, 100_000))
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return rng.choice(_BLIND)(data, rng)
    return json.dumps(_change_tree(tree, rng)).encode("utf-8", "replace")


_YAML_PIECES = (
    *("&a ", "*a", "!!python/name:os.system ", "!!int ", "!!binary ", "!!set ", "<<: *a", "- ", "? ", ": ", "| ", "> "),
    *(
        "{",
        "[",
        "}",
        "]",
        "%YAML 9.9\n",
        "---\n",
        "...\n",
        "\t",
        "'",
        '"',
        "#",
        "\u2028",
        "1:1:1:1",
        "2001-13-45",
        ".nan",
    ),
    *("&a [*a]", "[" * 5000, "- " * 5000, "{a: " * 5000, "0x" + "f" * 5000, "1:" * 3000 + "1", "!<x> ", "&a [x, x, x]"),
)


def _yaml(data: bytes, rng: Random) -> bytes:
    if rng.random() < 0.5:
        text = data.decode("utf-8", "replace")
        place = rng.randrange(len(text) + 1)
        return (text[:place] + rng.choice(_YAML_PIECES) + text[place:]).encode()
    if rng.random() < 0.03:
        levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, rng.choice((3, 12)))]
        return "\n".join(["l0: &l0 [x, x]", *levels, ""]).encode() + data
    try:
        check_yaml(data.decode("utf-8"), 40, 5000)  # what was made to hurt would hurt here, too
        tree = yaml.load(data, Loader=LOADER)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError):
        return rng.choice(_BLIND)(data, rng)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    try:
        return yaml.dump(_change_tree(tree, rng), Dumper=dumper, allow_unicode=True).encode("utf-8", "replace")
    except (yaml.YAMLError, TypeError, ValueError):
        return data


def _lines(data: bytes, rng: Random) -> bytes:
    """Change the label, the separators or the ends of one line."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    image, tab, label = lines[place].partition(b"\t")
    roll = rng.random()
    if roll < 0.6 and label[:1] == b"[":
        lines[place] = image + tab + _json(label, rng)
    elif roll < 0.7:
        lines[place] = rng.choice(TEXTS).encode("utf-8", "replace") + tab + label
    elif roll < 0.75:
        lines[place] = image + tab + b"[" + b",".join([label[1:-1]] * rng.choice((2, 200))) + b"]"
    elif roll < 0.85:
        lines[place] = rng.choice((b"", b"\t", b"\t\t", b"\r", image, image + b"  " + label, b"\xff\xfe", b" " + tab))
    elif roll < 0.9:
        lines[place] = image + tab + label * rng.choice((2, 500))
    else:
        ends = rng.choice((b"\r\n", b"\n\n", b"\r", b"\n\r"))
        return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"", b"\n")) + ends.join(lines)
    return b"\n".join(lines)


def _tar(data: bytes, rng: Random) -> bytes:
    """Change a header's name, size, type or link and mend its checksum, so that it is believed."""
    headers = [place for place in range(0, len(data) - 511, 512) if data[place + 257 : place + 262] == b"ustar"]
    if not headers:
        return rng.choice(_BLIND)(data, rng)
    start = rng.choice(headers)
    header = bytearray(data[start : start + 512])
    roll = rng.random()
    if roll < 0.35:
        name = rng.choice(("../../x/inference.pdmodel", "/tmp/inference.pdmodel", "a/../b/inference.yml", "..", "."))
        header[0:100] = name.encode().ljust(100, b"\0")
    elif roll < 0.6:
        size = rng.choice((0, 1, 511, 1 << 20, 1 << 32, (1 << 33) - 1, 1 << 62))
        field = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
        header[124:136] = field if rng.random() < 0.8 else b"\xff" * 12
    elif roll < 0.85:
        header[156] = rng.choice(b"0123456789xgLKSDMNV\0")
    else:
        header[157:257] = rng.choice(("../../../etc/passwd", "inference.pdmodel", "")).encode().ljust(100, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) + data[start + 512 :]


def _image(data: bytes, rng: Random) -> bytes:
    """Put two sizes in a row somewhere in the header, as every kind of image has them."""
    form = rng.choice(("<HH", ">HH", "<ii", ">II"))
    top = 0xFFFF if form in ("<HH", ">HH") else (1 << 31) - 1
    sizes = [rng.choice((0, 1, 7, 300, 2000, 30_000, top)) for _ in range(2)]
    place = rng.choice((4, 6, 16, 18, 24, 26, rng.randrange(200)))
    body = struct.pack(form, *sizes)
    return data[:place] + body + data[place + len(body) :]


MUTATORS: dict[str, Mutator] = {
    "protobuf": _protobuf,
    "json": _json,
    "yaml": _yaml,
    "lines": _lines,
    "tar": _tar,
    "image": _image,
}
"""By the kind of file; what is none of these is changed blindly."""
