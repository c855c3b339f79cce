"""Images in the forms and the states of repair that they come in."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrslim.errors import DataError
from ocrslim.ocr.image import MAX_BYTES, decode_image, read_image

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)


def _encode(suffix: str, image: np.ndarray = IMAGE) -> bytes:
    done, content = cv2.imencode(suffix, image)
    assert done
    return bytes(content.tobytes())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_lossless_files_come_back_as_bgr(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(_encode(suffix))
    image = read_image(tmp_path / f"a{suffix}")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, IMAGE)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_files_come_back_alike(suffix: str) -> None:
    smooth = np.full((30, 50, 3), (200, 100, 30), np.uint8)
    image = decode_image(_encode(suffix, smooth), "a")
    assert image.shape == smooth.shape
    assert np.abs(image.astype(int) - smooth).max() <= 4


def test_grey_transparent_and_16_bit_images_are_converted() -> None:
    grey = IMAGE[:, :, 0]
    np.testing.assert_array_equal(decode_image(_encode(".png", grey), "a"), np.dstack([grey] * 3))
    transparent = np.dstack([IMAGE, np.zeros((30, 50), np.uint8)])
    np.testing.assert_array_equal(decode_image(_encode(".png", transparent), "a"), IMAGE)
    np.testing.assert_array_equal(decode_image(_encode(".png", IMAGE.astype(np.uint16) << 8), "a"), IMAGE)


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put an EXIF segment with one entry, Orientation (0x0112), behind the start of the image."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_exif_orientation_is_honoured(orientation: int, turns: int) -> None:
    jpeg = _encode(".jpg")
    upright = decode_image(jpeg, "a")
    np.testing.assert_array_equal(decode_image(_with_orientation(jpeg, orientation), "a"), np.rot90(upright, turns))


def test_a_name_that_is_not_ascii_is_read(tmp_path: Path) -> None:
    path = tmp_path / "发票 ü.png"
    path.write_bytes(_encode(".png"))
    np.testing.assert_array_equal(read_image(path), IMAGE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no image at all", "no image that can be decoded"),
        (_encode(".png")[:-40], "cut short"),
        (_encode(".png")[:20], "cut short"),
        (_encode(".jpg")[:-200], "cut short"),
        (_encode(".jpg")[:10], "cut short"),
        (_encode(".bmp")[:60], "no image that can be decoded"),
        (b"\xff\xd8" + b"\0" * 50 + b"\xff\xd9", "no image that can be decoded"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50 + b"IEND", "no image that can be decoded"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_short() -> None:
    jpeg = _encode(".jpg")
    thumbnail = b"Exif\0\0" + _encode(".jpg", IMAGE[:8, :8])
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert decode_image(jpeg[:2] + segment + jpeg[2:], "a").shape == IMAGE.shape
    with pytest.raises(DataError, match="cut short"):
        decode_image(jpeg[:2] + segment + jpeg[2:-100], "a")


def test_what_follows_the_end_of_an_image_does_no_harm() -> None:
    for suffix in (".png", ".jpg"):
        content = _encode(suffix)
        np.testing.assert_array_equal(decode_image(content + b"more" * 100, "a"), decode_image(content, "a"))


def _huge_png() -> bytes:
    """Return a sound PNG of 60,000 x 60,000 pixels as far as its header goes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def _huge_jpeg() -> bytes:
    content = bytearray(_encode(".jpg"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(content)


@pytest.mark.parametrize("make", [_huge_png, _huge_jpeg])
def test_an_image_that_would_fill_the_memory_is_refused_by_its_header(make: object) -> None:
    assert callable(make)
    with pytest.raises(DataError, match="60000 x 60000 pixels"):
        decode_image(make(), "bomb")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.bmp"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="images of at most 256 MiB"):
        read_image(path)


def test_folders_pipes_and_missing_files_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png", tmp_path / "missing.png", Path("/dev/zero")):
        with pytest.raises(DataError, match="no such image file"):
            read_image(path)


def test_the_real_images_are_all_read(real_data: Path) -> None:
    paths = sorted((real_data / "det" / "images").rglob("*.jpg"))[::40]
    assert len(paths) > 10
    for path in paths:
        theirs = cv2.imread(str(path), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(read_image(path), theirs)
