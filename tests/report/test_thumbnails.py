"""Thumbnails are small JPEGs, and no more of them than there is room for."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrslim.errors import DataError
from ocrslim.report.thumbnails import HIGHEST, WIDEST, Album


def decoded(uri: str) -> np.ndarray:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR))


def test_a_wide_picture_is_made_smaller(picture: Path) -> None:
    found = Album(10**6).add(picture)
    assert found is not None
    assert (found.width, found.height, found.full_width, found.full_height) == (WIDEST, 100, 640, 200)
    assert decoded(found.uri).shape == (100, WIDEST, 3)


@pytest.mark.parametrize(
    ("shape", "size"), [((48, 100), (48, 100)), ((2000, 500), (HIGHEST, 120)), ((2, 3000), (1, WIDEST))]
)
def test_sizes(tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.full((*shape, 3), 200, np.uint8))
    found = Album(10**6).add(path)
    assert found is not None
    assert (found.height, found.width) == size == decoded(found.uri).shape[:2]


def test_the_album_is_full_at_some_time(picture: Path) -> None:
    first = Album(10**6).add(picture)
    assert first is not None
    album = Album(2 * len(first.uri) + 10)
    assert [album.add(picture) is not None for _ in range(4)] == [True, True, False, False]
    assert Album(0).add(picture) is None


def test_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such image file"):
        Album(1000).add(tmp_path / "none.png")
