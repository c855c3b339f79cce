"""What the first bytes of an image say of it: its kind, its size and whether it is whole, before it is decoded.

A file of a few kilobytes can claim a size that fills the memory, or make a decoder work for minutes. Sources: PNG
(ISO 15948), JPEG (ITU T.81), GIF89a, WebP (RFC 9649), TIFF 6.0 and BigTIFF, and Microsoft's description of BMP.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["KINDS", "Header", "read_header"]

KINDS = ("PNG", "JPEG", "GIF", "WebP", "TIFF", "BMP")
"""What is read, by the first bytes and not by the name. OpenCV knows more, rare kinds with rarely tested decoders."""

# JPEG markers that begin a frame and hold its size (table B.1): SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length
_FILLING = re.compile(b"\xff*")
# What a file may be made of. Within 256 MiB there is room for millions of empty parts, which no writer makes.
_MOST_SEGMENTS = 1 << 16  # of a JPEG, each up to 64 KiB
_MOST_BLOCKS = 1 << 21  # of a GIF, each up to 255 bytes
_MOST_TAGS = 1 << 16  # of a TIFF, whose older kind has no room for more
_TOO_MANY = "more parts than an image has"
# Bytes of a number by its type, all that libtiff takes for a size: BYTE, SHORT, LONG, LONG8, and with a sign.
_TIFF_SIZES = {1: 1, 3: 2, 4: 4, 16: 8, 6: 1, 8: 2, 9: 4, 17: 8}
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = _TIFF_TAGS = 256, 257, 258, 277, 322, 323


@dataclass(frozen=True)
class Header:
    """What a header says.

    Args:
        kind: one of :data:`KINDS`.
        width: pixels; of the canvas, where a file has several images. 0 where no size was found.
        height: pixels.
        whole: false where the file ends too early.
        scans: how many times over the whole image the decoder goes; 1 but for a progressive JPEG.
    """

    kind: str
    width: int
    height: int
    whole: bool = True
    scans: int = 1


def read_header(content: bytes) -> Header | None:
    """Return what the header says; ``None`` where the bytes are no image of a known kind, or its header is cut off.

    So is it where a file has far more parts than an image has.

    Args:
        content: the whole file.
    """
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(content)
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content[:6] in (b"GIF87a", b"GIF89a"):
            return Header("GIF", *_gif(content))
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp(content)
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return Header("TIFF", *_tiff(content))
        if content.startswith(b"BM"):
            return _bmp(content)
    except (struct.error, IndexError, ValueError, OverflowError):
        pass  # the header ends in its middle, or not at all, or points to where no file reaches
    return None


def _png(content: bytes) -> Header:
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    return Header("PNG", width, height, b"IEND" in content)


def _jpeg(content: bytes) -> Header:
    place, width, height = 2, 0, 0
    for place, marker in _markers(content):
        if marker in _FRAMES:
            # Of several frames the largest: decoders differ in which they take.
            found_height, found_width = struct.unpack_from(">HH", content, place + 5)
            width, height = max(width, found_width), max(height, found_height)
        if marker in (_SCAN, _END):
            break
    else:
        place = len(content)
    # Within the data of a scan a byte 0xFF is followed by 0, so that these pairs are markers.
    return Header("JPEG", width, height, content.rfind(b"\xff\xd9") >= place, content.count(b"\xff\xda", place))


def _markers(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the places of a JPEG's segments and their markers.

    What is no marker is skipped as libjpeg does: bytes that belong nowhere, filling, and 0xFF before a 0.
    """
    place = 2
    for _ in range(_MOST_SEGMENTS):
        place = content.find(b"\xff", place)
        filling = _FILLING.match(content, max(place, 0))
        if place < 0 or filling is None or filling.end() == len(content):
            return
        place = filling.end() - 1
        marker = content[place + 1]
        if marker == 0 or marker in _ALONE:
            place += 2
            continue
        yield place, marker
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    raise ValueError(_TOO_MANY)


def _gif(content: bytes) -> tuple[int, int]:
    """Return the size of the canvas, or of an image that is larger."""
    width, height = struct.unpack_from("<HH", content, 6)
    for left, top, inner_width, inner_height in _gif_images(content):
        width, height = max(width, left + inner_width), max(height, top + inner_height)
    return width, height


def _gif_images(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield left, top, width and height of each image."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    place, left = 13 + table(content[10]), _MOST_BLOCKS
    while place < len(content) and content[place] in (0x21, 0x2C):
        left -= 8  # as long as so many blocks takes an image, or an extension
        if content[place] == 0x2C:
            yield struct.unpack_from("<HHHH", content, place + 1)
            place += 11 + table(content[place + 9])
        else:
            place += 2
        while place < len(content) and content[place] and left > 0:  # blocks, each after its length
            place += 1 + content[place]
            left -= 1
        if left <= 0:
            raise ValueError(_TOO_MANY)
        place += 1


def _webp(content: bytes) -> Header | None:
    """Return the size of the canvas (VP8X), of a lossy (VP8) or of a lossless image (VP8L)."""
    whole = len(content) >= 8 + struct.unpack_from("<I", content, 4)[0]
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(content[place : place + 3], "little") for place in (24, 27))
    elif kind == b"VP8 ":
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", content, 26))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        return None
    return Header("WebP", width, height, whole)


def _tiff(content: bytes) -> tuple[int, int]:
    """Return the size of the first image, or of one of its tiles where that is larger.

    More than 24 bits for a pixel count as so many more rows.
    """
    order = "<" if content[:1] == b"I" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    count_format, entry_format, head = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    first = struct.unpack_from(order + ("Q" if big else "I"), content, head)[0]
    count = struct.unpack_from(order + count_format, content, first)[0]
    if count > _MOST_TAGS:
        raise ValueError(_TOO_MANY)
    place = first + struct.calcsize(order + count_format)
    step = 20 if big else 12
    tags: dict[int, int] = {}
    for entry in range(place, min(place + count * step, len(content)), step):
        tag, kind, number = struct.unpack_from(order + entry_format, content, entry)
        if tag not in _TIFF_TAGS:
            continue
        size = _TIFF_SIZES.get(kind)
        if size is None:
            raise ValueError(f"a size of type {kind}")
        value = entry + struct.calcsize(order + entry_format)
        if size * number > (8 if big else 4):
            value = struct.unpack_from(order + ("Q" if big else "I"), content, value)[0]
        # Of a tag that comes again the largest: decoders differ in which they take. What is below 0 reads as huge.
        told = int.from_bytes(content[value : value + size], "little" if order == "<" else "big")
        tags[tag] = max(tags.get(tag, 0), told)
    bits = tags.get(_BITS, 1) * tags.get(_SAMPLES, 1)
    width, height = (
        max(tags.get(_WIDTH, 0), tags.get(_TILE_WIDTH, 0)),
        max(tags.get(_HEIGHT, 0), tags.get(_TILE_HEIGHT, 0)),
    )
    return width, height * max(1, -(-bits // 24))


def _bmp(content: bytes) -> Header:
    """Return the size; a height below zero says that the rows begin at the top."""
    if struct.unpack_from("<I", content, 14)[0] == 12:  # of OS/2
        width, height = struct.unpack_from("<HH", content, 18)
    else:
        width, height = struct.unpack_from("<ii", content, 18)
    return Header("BMP", abs(width), abs(height))
