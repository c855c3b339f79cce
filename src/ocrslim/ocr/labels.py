"""PaddleOCR's label files, folders of images and LMDBs, read to samples; what can't be used is named with its reason.

A label file has one image a line, ``image<TAB>label``, in UTF-8. For detection the label is JSON,
``[{"transcription": "...", "points": [[x, y], ...]}, ...]``; for recognition it is the text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocrslim.config.profile import Task
from ocrslim.errors import DataError
from ocrslim.ocr.lmdb import lmdb_folders, read_lmdb_labels
from ocrslim.ocr.polygon import Points

__all__ = [
    "IGNORED",
    "DetSample",
    "RecSample",
    "Skipped",
    "TextBox",
    "find_data_dir",
    "guess_task",
    "list_images",
    "read_det_labels",
    "read_rec_labels",
    "read_samples",
]


IGNORED = ("*", "###")  # transcriptions of boxes that count neither way
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
FARTHEST = 1e6  # pixels; a coordinate beyond is a mistake
LOOKED_AT = 1000  # lines, where something about the whole file is guessed


@dataclass(frozen=True)
class TextBox:
    """One labelled text.

    Args:
        points: f32 ``[k, 2]``, k at least 3: the corners' x and y in pixels.
        text: what it says.
        ignore: unreadable, by the labeller's mark; neither a hit nor a miss.
    """

    points: Points
    text: str
    ignore: bool = False


@dataclass(frozen=True)
class DetSample:
    """An image for detection.

    Args:
        image: path; see :func:`ocrslim.ocr.image.read_image`.
        boxes: its texts; none where there is no text, or no label.
        set_name: the folder that holds the image.
    """

    image: Path
    boxes: tuple[TextBox, ...]
    set_name: str


@dataclass(frozen=True)
class RecSample:
    """An image of one line.

    Args:
        image: path; see :func:`ocrslim.ocr.image.read_image`.
        text: what it says; ``None`` where the image has no label.
        set_name: the folder that holds the image.
    """

    image: Path
    text: str | None
    set_name: str


@dataclass(frozen=True)
class Skipped:
    """Something that was left out.

    Args:
        where: ``file:line``, or the image's path.
        reason: why.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class _Line:
    """A line of a label file that has an image and a label."""

    where: str
    image: str
    label: str


def read_samples(
    task: Task, path: Path, data_dir: Path | None = None
) -> tuple[list[DetSample] | list[RecSample], list[Skipped]]:
    """Read whatever the user calls data.

    Args:
        task: det or rec.
        path: a label file, an LMDB (of lines only), or a folder of images; the latter has no labels.
        data_dir: what the image paths in a label file are relative to; see :func:`find_data_dir`.

    Returns:
        tuple: the samples in their order; what was skipped.

    Raises:
        DataError: there is no such path, it holds nothing to use, or it holds labels for the other task.
    """
    if path.is_dir():
        return _read_folder(task, path)
    found = guess_task(path)
    if found != task:
        kinds = {"det": "text detection (boxes as JSON)", "rec": "text recognition (plain text)"}
        raise DataError(f"{path}: holds labels for {kinds[found]}, but {task} labels are needed")
    return read_det_labels(path, data_dir) if task == "det" else read_rec_labels(path, data_dir)


def read_det_labels(path: Path, data_dir: Path | None = None) -> tuple[list[DetSample], list[Skipped]]:
    """Read a label file of boxes.

    A box that has no polygon is skipped and the rest of its image is kept, unless no box is left. An image that is
    labelled with an empty list is one without text: whatever is detected on it is wrong. (PaddleOCR leaves it out.)

    Args:
        path: the label file.
        data_dir: what image paths are relative to; see :func:`find_data_dir`.

    Raises:
        DataError: the file can't be read, is no text, or none of its images can be found.
    """
    samples: list[DetSample] = []
    skipped: list[Skipped] = []
    for line, image in _images(path, data_dir, skipped):
        try:
            labels = json.loads(line.label)
        except (ValueError, RecursionError) as error:
            skipped.append(Skipped(line.where, f"the label is not JSON ({error})"))
            continue
        if not isinstance(labels, list):
            skipped.append(Skipped(line.where, "the label is not a list of boxes"))
            continue
        boxes: list[TextBox] = []
        for number, label in enumerate(labels, 1):
            try:
                boxes.append(_box(label))
            except ValueError as error:
                skipped.append(Skipped(line.where, f"box {number}: {error}"))
        if boxes or not labels:
            samples.append(DetSample(image, tuple(boxes), image.parent.name))
        else:
            skipped.append(Skipped(line.where, "none of the image's boxes can be used"))
    return samples, skipped


def read_rec_labels(path: Path, data_dir: Path | None = None) -> tuple[list[RecSample], list[Skipped]]:
    """Read a label file of texts.

    What follows a second tab is not looked at. An empty text is skipped; PaddleOCR drops it in silence.

    Args:
        path: the label file.
        data_dir: what image paths are relative to; see :func:`find_data_dir`.

    Raises:
        DataError: as :func:`read_det_labels`.
    """
    samples: list[RecSample] = []
    skipped: list[Skipped] = []
    for line, image in _images(path, data_dir, skipped):
        if line.label:
            samples.append(RecSample(image, line.label, image.parent.name))
        else:
            skipped.append(Skipped(line.where, "the text is empty"))
    return samples, skipped


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and all below it, by their names' endings, sorted; not the hidden ones."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def find_data_dir(path: Path) -> Path:
    """Return what the image paths in a label file are relative to.

    It is the nearest of the file's folder and its parents under which the first image is found; if that one is
    missing everywhere, the next image decides.

    Raises:
        DataError: the file can't be read, or no image is found in any of the folders.
    """
    lines, _ = _read_lines(path)
    return _find_data_dir(path, lines)


def guess_task(path: Path) -> Task:
    """Return the task that a label file or an LMDB is for: det as soon as one line is a list of boxes.

    Raises:
        DataError: the file can't be read or has no line with a label, or the folder isn't an LMDB.
    """
    if path.is_dir():
        if lmdb_folders(path):
            return "rec"
        raise DataError(f"{path}: a folder of images doesn't say whether it is for det or rec; name the task")
    lines, skipped = _read_lines(path)
    if not lines:
        raise DataError(f"{path}: no line with an image and a label ({_first(skipped)})")
    labels = [line.label.strip() for line in lines[:LOOKED_AT]]
    # A line of text may well be "[]", but hardly all of them.
    boxes = any(label.startswith("[") and '"points"' in label for label in labels)
    return "det" if boxes or all(label == "[]" for label in labels) else "rec"


def _read_folder(task: Task, folder: Path) -> tuple[list[DetSample] | list[RecSample], list[Skipped]]:
    databases, images = lmdb_folders(folder), list_images(folder)
    if databases and images:
        raise DataError(
            f"{folder}: holds both an LMDB ({databases[0]}) and image files ({images[0]}); name one of them"
        )
    if databases and task == "det":
        raise DataError(f"{folder}: an LMDB holds text lines, but det labels are needed; give a label file")
    if databases:
        return _read_lmdb(databases)
    if not images:
        raise DataError(f"{folder}: no images in this folder ({', '.join(sorted(SUFFIXES))})")
    if task == "det":
        return [DetSample(image, (), image.parent.name) for image in images], []
    return [RecSample(image, None, image.parent.name) for image in images], []


def _read_lmdb(folders: list[Path]) -> tuple[list[RecSample], list[Skipped]]:
    samples: list[RecSample] = []
    skipped: list[Skipped] = []
    for folder in folders:
        for image, label in read_lmdb_labels(folder):
            try:
                text = label.decode("utf-8") if label is not None else None
            except UnicodeDecodeError:
                skipped.append(Skipped(str(image), "the label is not in UTF-8"))
                continue
            if text:
                samples.append(RecSample(image, text, folder.name))
            else:
                reason = "the image or its label is missing" if text is None else "the text is empty"
                skipped.append(Skipped(str(image), reason))
    return samples, skipped


def _images(path: Path, data_dir: Path | None, skipped: list[Skipped]) -> Iterator[tuple[_Line, Path]]:
    """Yield the lines whose image is there, with its path; note the others."""
    lines, unusable = _read_lines(path)
    skipped += unusable
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(f"--data-dir {data_dir}: no such folder")
    if not lines:
        raise DataError(f"{path}: no line with an image and a label ({_first(skipped)})")
    base = _find_data_dir(path, lines) if data_dir is None else data_dir
    found = False
    for line in lines:
        image = base / line.image
        if os.path.isfile(image):
            found = True
            yield line, image
        else:
            skipped.append(Skipped(line.where, f"no such image: {image}"))
    if not found:
        raise DataError(f"{path}: none of its {len(lines)} images is under {base}; give the right --data-dir")


def _read_lines(path: Path) -> tuple[list[_Line], list[Skipped]]:
    """Split a label file into lines, by newlines only; a byte order mark and carriage returns at the ends are dropped.

    Raises:
        DataError: the file is missing, can't be read, or is no UTF-8 text.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such label file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4096]:
        raise DataError(f"{path}: not a label file in UTF-8; each line is image<TAB>label")
    lines: list[_Line] = []
    skipped: list[Skipped] = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n"), 1):
        where = f"{path}:{number}"
        try:
            fields = raw.decode("utf-8").rstrip("\r").split("\t")
        except UnicodeDecodeError:
            skipped.append(Skipped(where, "not in UTF-8"))
            continue
        if len(fields) > 1 and fields[0].strip():
            lines.append(_Line(where, fields[0], fields[1]))
        else:
            empty = not any(field.strip() for field in fields)
            skipped.append(Skipped(where, "empty line" if empty else "no image and label with a tab between"))
    return lines, skipped


def _find_data_dir(path: Path, lines: list[_Line]) -> Path:
    parents = path.absolute().parents
    for line in lines[:LOOKED_AT]:
        for folder in parents:
            if os.path.isfile(folder / line.image):
                return folder
    what = f"first image, {lines[0].image}, is" if lines else "images are"
    raise DataError(f"{path}: its {what} neither under {parents[0]} nor under a parent of it; give --data-dir")


def _box(label: Any) -> TextBox:
    """Return the box that a label describes.

    Raises:
        ValueError: it describes none; the text says why.
    """
    if not isinstance(label, dict) or "points" not in label or "transcription" not in label:
        raise ValueError("has no transcription and points")
    try:
        points = np.asarray(label["points"], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its points are not pairs of numbers") from None
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError("its points are not pairs of numbers")
    if len(points) < 3:
        raise ValueError(f"has {len(points)} points, at least 3 are needed")
    if not (np.abs(points) <= FARTHEST).all():
        raise ValueError("a coordinate is not finite, or beyond a million pixels")
    text = str(label["transcription"])
    return TextBox(points.astype(np.float32), text, text in IGNORED)


def _first(skipped: list[Skipped]) -> str:
    return f"{skipped[0].where}: {skipped[0].reason}" if skipped else "it is empty"
