"""Small images and label files, made where the test runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Return a function that writes an image of noise and returns its path."""

    def write(path: Path, height: int = 20, width: int = 40, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        assert cv2.imwrite(str(path), image)
        return path

    return write


@pytest.fixture
def write_labels(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes lines to a label file; a line that is no text is JSON after ``a.png``."""

    def write(lines: Sequence[Any], name: str = "labels.txt") -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else "images/a.png\t" + json.dumps(line) for line in lines]
        path.write_bytes("\n".join([*texts, ""]).encode())
        return path

    return write
