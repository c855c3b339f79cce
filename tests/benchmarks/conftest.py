"""The benchmarks are scripts beside the package: their folder goes on the path. Rendered lines stand for data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ocrslim.ocr.render import render_lines

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

MODEL = "PP-OCRv6_tiny_rec"


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``rec/labels/{train,val}.txt`` and rendered digits and letters."""
    root = tmp_path_factory.mktemp("lines")
    labels = root / "rec" / "labels"
    labels.mkdir(parents=True)
    (root / "rec" / "images").mkdir()
    told: dict[str, list[str]] = {"train": [], "val": []}
    for index, (image, text) in enumerate(render_lines(tuple("abcdefghij0123456789"), 24, 0)):
        name = f"../images/{index}.png"
        cv2.imwrite(str(labels / name), image)
        told["train" if index < 12 else "val"].append(f"{name}\t{text}\n")
    for part, written in told.items():
        (labels / f"{part}.txt").write_text("".join(written), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny(zoo: Callable[[str], Path]) -> Path:
    """Return the smallest recogniser's ONNX file."""
    return zoo(MODEL)
