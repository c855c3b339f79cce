"""Headers of files that OpenCV wrote, and of files that nobody should decode."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.errors import DataError
from ocrslim.ocr.image import MOST_SCANS, decode_image, read_image
from ocrslim.ocr.image_header import KINDS, Header, read_header

KIND_OF = {".png": "PNG", ".jpg": "JPEG", ".gif": "GIF", ".webp": "WebP", ".tiff": "TIFF", ".bmp": "BMP"}
sizes = pytest.mark.parametrize("size", [(1, 1), (30, 50), (257, 300)])


def encode(suffix: str, size: tuple[int, int], options: tuple[int, ...] = (), dtype: type = np.uint8) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(dtype)
    done, content = cv2.imencode(suffix, image, options)
    assert done
    return bytes(content.tobytes())


@sizes
@pytest.mark.parametrize("suffix", KIND_OF)
def test_the_size_is_that_of_the_decoded_image(suffix: str, size: tuple[int, int]) -> None:
    content = encode(suffix, size)
    assert read_header(content) == Header(KIND_OF[suffix], size[1], size[0])
    assert decode_image(content, "a").shape == (*size, 3)


@pytest.mark.parametrize("options", [(cv2.IMWRITE_WEBP_QUALITY, 101), (cv2.IMWRITE_WEBP_QUALITY, 50)])
def test_lossless_and_lossy_webp(options: tuple[int, ...]) -> None:
    assert read_header(encode(".webp", (33, 77), options)) == Header("WebP", 77, 33)


def test_a_progressive_jpeg_has_several_scans_and_many_are_refused() -> None:
    content = encode(".jpg", (64, 64), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    header = read_header(content)
    assert header is not None
    assert 2 <= header.scans <= 20
    assert decode_image(content, "a").shape == (64, 64, 3)
    scan = content.rindex(b"\xff\xda")
    bomb = content[:scan] + content[scan:-2] * (MOST_SCANS + 1) + content[-2:]
    with pytest.raises(DataError, match=rf"a JPEG of \d+ scans; at most {MOST_SCANS}"):
        decode_image(bomb, "a")


def test_16_bits_count_double_in_a_tiff() -> None:
    header = read_header(encode(".tiff", (40, 20), dtype=np.uint16))
    assert header == Header("TIFF", 20, 80)


def tiff(order: str, big: bool, entries: dict[int, tuple[int, int]]) -> bytes:
    """Return a TIFF of nothing but its first directory: tag -> (type, value)."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 16)
    body = struct.pack(order + "Q", len(entries))
    if not big:
        head = head[:2] + struct.pack(order + "HI", 42, 8)
        body = struct.pack(order + "H", len(entries))
    for tag, (kind, value) in entries.items():
        number = struct.pack(order + {3: "H", 4: "I", 16: "Q"}[kind], value).ljust(8 if big else 4, b"\0")
        body += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, 1) + number
    return head + body


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_in_both_byte_orders_and_sizes(order: str, big: bool) -> None:
    wide = 16 if big else 4
    assert read_header(tiff(order, big, {256: (3, 500), 257: (wide, 70_000)})) == Header("TIFF", 500, 70_000)
    tiled = {256: (3, 5), 257: (3, 6), 322: (4, 90_000), 323: (4, 80_000)}
    assert read_header(tiff(order, big, tiled)) == Header("TIFF", 90_000, 80_000)


def retyped(content: bytes, kind: int) -> bytes:
    """Return a little-endian TIFF whose width and height have another type; their values lie in the low bytes."""
    changed = bytearray(content)
    first = struct.unpack_from("<I", content, 4)[0]
    for entry in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", content, first)[0], 12):
        if struct.unpack_from("<H", content, entry)[0] in (256, 257):
            struct.pack_into("<H", changed, entry + 2, kind)
    return bytes(changed)


@pytest.mark.parametrize("kind", [3, 4, 8, 9])
def test_every_type_of_number_that_the_decoder_takes_for_a_size_is_read(kind: int) -> None:
    content = retyped(encode(".tiff", (30, 50)), kind)
    assert read_header(content) == Header("TIFF", 50, 30)
    assert decode_image(content, "a").shape == (30, 50, 3)


def with_size(content: bytes, side: int, kind: int = 4) -> bytes:
    """Return a TIFF with another size."""
    changed = bytearray(retyped(content, kind))
    first = struct.unpack_from("<I", content, 4)[0]
    for entry in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", content, first)[0], 12):
        if struct.unpack_from("<H", content, entry)[0] in (256, 257):
            struct.pack_into("<I", changed, entry + 8, side)
    return bytes(changed)


def test_a_bomb_with_signed_numbers_is_refused_by_its_size() -> None:
    with pytest.raises(DataError, match="60000 x 60000 pixels"):
        decode_image(with_size(encode(".tiff", (30, 50)), 60_000, 9), "bomb")


@pytest.mark.parametrize("kind", [2, 5, 7, 11, 99])
def test_a_size_of_another_type_is_refused(kind: int) -> None:
    with pytest.raises(DataError, match="no image that can be decoded"):
        decode_image(retyped(encode(".tiff", (30, 50)), kind), "a")


@pytest.mark.parametrize("sides", [(60_000, 4), (4, 60_000)])
def test_of_a_size_that_comes_twice_the_larger_counts(sides: tuple[int, int]) -> None:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, side) for tag in (256, 257) for side in sides)
    content = b"II*\0" + struct.pack("<IH", 8, 4) + entries + bytes(100)
    with pytest.raises(DataError, match="60000 x 60000 pixels"):
        decode_image(content, "bomb")


@pytest.mark.parametrize("stray", [b"\0\0", b"\xff\0", b"any bytes", b"\xff\xff\0\xff"])
def test_bytes_before_a_marker_are_skipped_as_the_decoder_does(stray: bytes) -> None:
    content = encode(".jpg", (30, 50))
    place = 4 + int.from_bytes(content[4:6], "big")  # behind APP0
    content = content[:place] + stray + content[place:]
    assert read_header(content) == Header("JPEG", 50, 30)
    assert decode_image(content, "a").shape == (30, 50, 3)
    frame = content.index(b"\xff\xc0")
    with pytest.raises(DataError, match="60000 x 60000 pixels"):
        decode_image(content[: frame + 5] + struct.pack(">HH", 60_000, 60_000) + content[frame + 9 :], "bomb")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tiff"])
def test_a_header_without_a_size_is_refused_before_it_is_decoded(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(encode(suffix, (30, 50)))
    place, size = {".png": (16, 8), ".gif": (6, 4), ".bmp": (18, 8)}.get(suffix, (content.find(b"\xff\xc0") + 5, 4))
    if suffix == ".tiff":
        content[:] = with_size(bytes(content), 0)
    else:
        content[place : place + size] = bytes(size)
    if suffix == ".gif":
        inner = content.index(b"\x2c\0\0\0\0") + 5
        content[inner : inner + 4] = bytes(4)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="its header tells no size"):
        decode_image(bytes(content), "a")


def huge(kind: str) -> bytes:
    """Return a small file whose header claims 60,000 x 60,000 pixels."""
    side = 60_000
    if kind == "TIFF":
        return tiff("<", False, {256: (4, side), 257: (4, side), 258: (3, 8), 277: (3, 3)}) + b"\0" * 100
    content = bytearray(encode({value: key for key, value in KIND_OF.items()}[kind], (30, 50)))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", side, side)
    elif kind == "JPEG":
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", side, -side)
    else:
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + 2 * (side - 1).to_bytes(3, "little") + bytes(content[12:])
        content[:] = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    return bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_refused_by_their_header_alone(kind: str) -> None:
    started = time.process_time()
    with pytest.raises(DataError, match="60000 x 60000 pixels; images of at most"):
        decode_image(huge(kind), "bomb")
    assert time.process_time() - started < 0.5


def test_a_gifs_image_beyond_its_canvas_counts() -> None:
    content = bytearray(encode(".gif", (30, 50)))
    place = content.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 50, 30))
    content[place + 5 : place + 9] = struct.pack("<HH", 65_000, 65_000)
    with pytest.raises(DataError, match="65000 x 65000"):
        decode_image(bytes(content), "a")


def test_an_image_30000_pixels_wide_is_read_and_one_beyond_the_bound_is_not(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((8, 30_000), 7, np.uint8))
    assert read_image(tmp_path / "wide.png").shape == (8, 30_000, 3)
    cv2.imwrite(str(tmp_path / "wider.png"), np.full((1, 70_000), 7, np.uint8))
    with pytest.raises(DataError, match=r"70000 x 1 pixels; .*neither side over 65,535"):
        read_image(tmp_path / "wider.png")


def cmyk_jpeg(dc: int) -> bytes:
    """Return a baseline JPEG (T.81) of one 8 x 8 block in each of four components, all of one value."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    components = b"".join(struct.pack(">BBB", number, 0x11, 0) for number in range(1, 5))
    # Codes: DC of category 7 is "0", the end of a block is "0"; a negative value is written as its complement.
    bits = "0" + format(dc if dc > 0 else dc + 127, "07b") + "0"
    packed = (bits * 4).ljust(40, "1")
    data = int(packed, 2).to_bytes(5, "big").replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8"
        + segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))  # CMYK as Adobe writes it, inverted
        + segment(0xDB, b"\0" + b"\x08" * 64)
        + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + components)
        + segment(0xC4, b"\x00" + b"\x01" + b"\0" * 15 + b"\x07")
        + segment(0xC4, b"\x10" + b"\x01" + b"\0" * 15 + b"\x00")
        + segment(0xDA, b"\x04" + b"".join(struct.pack(">BB", n, 0) for n in range(1, 5)) + b"\0\x3f\0")
        + data
        + b"\xff\xd9"
    )


def test_cmyk_is_converted() -> None:
    bright, dark = (int(decode_image(cmyk_jpeg(dc), "a").mean()) for dc in (120, -120))
    assert decode_image(cmyk_jpeg(120), "a").shape == (8, 8, 3)
    assert bright > 200
    assert dark < 60


def animated(suffix: str) -> bytes:
    frames = [np.full((20, 30, 3), value, np.uint8) for value in (250, 10, 100)]
    animation = cv2.Animation()
    animation.frames, animation.durations = frames, [100] * 3
    done, content = cv2.imencodeanimation(suffix, animation)
    assert done
    return bytes(np.asarray(content).tobytes())


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame_is_taken(suffix: str) -> None:
    image = decode_image(animated(suffix), "a")
    assert image.shape == (20, 30, 3)
    assert image.mean() > 230


@pytest.mark.parametrize(
    "content",
    [
        b"P6 2 2 255 " + bytes(12),
        b"\x76\x2f\x31\x01" + bytes(60),  # OpenEXR
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),  # JPEG 2000
        b"#?RADIANCE\n" + bytes(60),
        b"%PDF-1.4",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_other_kinds_are_not_handed_to_a_decoder(content: bytes) -> None:
    assert read_header(content) is None
    with pytest.raises(DataError, match=r"no image that can be decoded .PNG, JPEG, GIF"):
        decode_image(content, "a.png")


@pytest.mark.parametrize("offset", [2**63 - 9, 2**63, 2**64 - 1])
def test_a_tiff_that_points_to_where_no_file_reaches(offset: int) -> None:
    content = b"MM\0+\0\x08\0\0" + offset.to_bytes(8, "big") + bytes(64)
    assert read_header(content) is None
    with pytest.raises(DataError):
        decode_image(content, "x.tif")


@pytest.mark.parametrize("suffix", KIND_OF)
@given(cut=st.integers(0, 200))
def test_a_header_cut_off_anywhere_is_no_crash(suffix: str, cut: int) -> None:
    content = encode(suffix, (30, 50))[:cut]
    said, shape = "", (30, 50, 3)
    try:
        shape = decode_image(content, "a").shape
    except DataError as error:
        said = str(error)
    assert "\n" not in said
    assert shape == (30, 50, 3)


def test_a_webp_cut_short_is_told() -> None:
    with pytest.raises(DataError, match="cut short"):
        decode_image(encode(".webp", (64, 64))[:-20], "a")


LARGE = 64 << 20
HOSTILE = {  # how a file begins, and what is repeated until it is large
    "filling": (b"\xff\xd8", b"\xff"),
    "markers": (b"\xff\xd8", b"\xff\xd0"),
    "filling and markers": (b"\xff\xd8", b"\xff\xff\xd0"),
    "segments": (b"\xff\xd8", b"\xff\xe0\0\2"),
    "frames": (b"\xff\xd8", b"\xff\xc0\0\x09\x08\0\x10\0\x10\0\0"),
    "scans": (b"\xff\xd8", b"\xff\xda"),
    "blocks": (b"GIF89a\x10\0\x10\0\0\0\0\x21\xf9", b"\1\1"),
    "extensions": (b"GIF89a\x10\0\x10\0\0\0\0", b"\x21\xf9\0"),
    "images": (b"GIF89a\x10\0\x10\0\0\0\0", b"\x2c" + bytes(8) + b"\0\2\0"),
    "tags": (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 63), b"\0"),
    "few tags": (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 16), b"\1"),
    "classic tags": (b"II*\0" + struct.pack("<IH", 8, 65535), b"\1\0\3\0\1\0\0\0\1\0\0\0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_large_file_of_nothing_but_headers_takes_no_time_and_is_refused(kind: str) -> None:
    begin, part = HOSTILE[kind]
    content = begin + part * (LARGE // len(part))
    started = time.process_time()
    header = read_header(content)
    assert time.process_time() - started < 1
    assert (header is None) == (kind not in ("filling", "scans", "classic tags"))


def test_filling_before_a_marker_is_passed_over() -> None:
    content = encode(".jpg", (30, 50))
    assert read_header(content[:2] + b"\xff" * 1000 + content[2:]) == Header("JPEG", 50, 30)
    assert read_header(b"\xff\xd8" + b"\xff" * 1000) == Header("JPEG", 0, 0, False, 0)


def test_a_long_gif_is_read() -> None:
    content = encode(".gif", (30, 50))
    place = content.index(b"\x2c\0\0\0\0")
    longer = content[:place] + b"\x21\xfe" + (b"\xff" + b"a" * 255) * 100_000 + b"\0" + content[place:]
    assert read_header(longer) == Header("GIF", 50, 30)
