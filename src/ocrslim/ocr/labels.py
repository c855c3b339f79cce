"""PaddleOCR's label files, folders of images and LMDBs, read to samples; what can't be used is named with its reason.

A label file has one image a line, ``image<TAB>label``, in UTF-8. For detection the label is JSON,
``[{"transcription": "...", "points": [[x, y], ...]}, ...]``; for recognition it is the text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ocrslim.config.profile import Task
from ocrslim.errors import DataError
from ocrslim.ocr.label_file import MOST_OBJECTS, IndexedSamples, LabelLine, LineIndex, Skipped, read_lines
from ocrslim.ocr.lmdb import LmdbTexts, lmdb_folders, lmdb_image
from ocrslim.ocr.polygon import Points
from ocrslim.ocr.sequences import Picked, join

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
MOST_POINTS = 1000  # of one polygon: to see whether it crosses itself takes the square of them
MOST_BOXES = 20_000  # of one image
LOOKED_AT = 1000  # lines, where something about the whole file is guessed
T = TypeVar("T")

_NUMBER = r"-?(?:0|[1-9][0-9]{0,5})(?:\.[0-9]+)?"
_PAIR = rf"\[ ?{_NUMBER}, ?{_NUMBER} ?\]"
_TEXT = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
_BOX = (
    rf'\{{"transcription": ?{_TEXT}, ?"points": ?\[{_PAIR}(?:, ?{_PAIR}){{2,15}}\]'
    r'(?:, ?"difficult": ?(?:true|false|0|1))?\}'
)
_SOUND = re.compile(rf"\[(?:{_BOX}(?:, ?{_BOX})*)?\]")
"""A label that PaddleOCR's tools wrote, whose boxes can all be used: told without making them. All else is parsed."""


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


def read_samples(
    task: Task, path: Path, data_dir: Path | None = None
) -> tuple[Sequence[DetSample] | Sequence[RecSample], list[Skipped]]:
    """Read whatever the user calls data.

    Args:
        task: det or rec.
        path: a label file, an LMDB (of lines only), or a folder of images; the latter has no labels.
        data_dir: what the image paths in a label file are relative to; see :func:`find_data_dir`.

    Returns:
        tuple: the samples in their order; what was skipped. Of more than :data:`MOST_OBJECTS` samples each is made
            when it is asked for, and the label file must stay as it is as long as they are in use.

    Raises:
        DataError: there is no such path, it holds nothing to use, or it holds labels for the other task.
    """
    if os.path.isdir(path):  # Path.is_dir raises OSError for a name that is too long
        return _read_folder(task, path)
    found = guess_task(path)
    if found != task:
        kinds = {"det": "text detection (boxes as JSON)", "rec": "text recognition (plain text)"}
        raise DataError(f"{path}: holds labels for {kinds[found]}, but {task} labels are needed")
    return read_det_labels(path, data_dir) if task == "det" else read_rec_labels(path, data_dir)


def read_det_labels(path: Path, data_dir: Path | None = None) -> tuple[Sequence[DetSample], list[Skipped]]:
    """Read a label file of boxes.

    A box that has no polygon is skipped and the rest of its image is kept, unless no box is left. An image that is
    labelled with an empty list is one without text: whatever is detected on it is wrong. (PaddleOCR leaves it out.)

    Args:
        path: the label file.
        data_dir: what image paths are relative to; see :func:`find_data_dir`.

    Raises:
        DataError: the file can't be read, is no text, or none of its images can be found.
    """
    return _read_label_file(path, data_dir, _det_sample, lambda label: _SOUND.fullmatch(label) is not None)


def read_rec_labels(path: Path, data_dir: Path | None = None) -> tuple[Sequence[RecSample], list[Skipped]]:
    """Read a label file of texts.

    What follows a second tab is not looked at. An empty text is skipped; PaddleOCR drops it in silence.

    Args:
        path: the label file.
        data_dir: what image paths are relative to; see :func:`find_data_dir`.

    Raises:
        DataError: as :func:`read_det_labels`.
    """
    return _read_label_file(path, data_dir, _rec_sample, bool)


def _read_label_file(
    path: Path,
    data_dir: Path | None,
    make: Callable[[Path, str, str, list[Skipped]], T | None],
    is_sound: Callable[[str], bool],
) -> tuple[Sequence[T], list[Skipped]]:
    """Read a label file.

    Args:
        path: the file.
        data_dir: what image paths are relative to.
        make: (image, label, where, what is skipped) -> the sample, if there is one.
        is_sound: whether a label surely makes a sample, of which nothing is skipped.
    """
    base = _base(path, data_dir)
    skipped: list[Skipped] = []
    index = LineIndex(path)
    kept: list[T] | None = []
    for line in _with_image(path, base, skipped):
        if kept is not None or not is_sound(line.label):
            sample = make(base / line.image, line.label, f"{path}:{line.number}", skipped)
            if sample is None:
                continue
            if kept is not None:
                kept.append(sample)
        index.add(line)
        if len(index) > MOST_OBJECTS:
            kept = None
    if kept is not None:
        return kept, skipped

    def again(image: str, label: str) -> T:
        sample = make(base / image, label, str(path), [])
        assert sample is not None  # it was made of the same line before
        return sample

    return IndexedSamples(index, again), skipped


def _rec_sample(image: Path, label: str, where: str, skipped: list[Skipped]) -> RecSample | None:
    if label:
        return RecSample(image, label, image.parent.name)
    skipped.append(Skipped(where, "the text is empty"))
    return None


def _det_sample(image: Path, label: str, where: str, skipped: list[Skipped]) -> DetSample | None:
    try:
        labels = json.loads(label)
    except (ValueError, RecursionError) as error:
        skipped.append(Skipped(where, f"the label is not JSON ({error})"))
        return None
    if not isinstance(labels, list) or len(labels) > MOST_BOXES:
        problem = f"has more than {MOST_BOXES} boxes" if isinstance(labels, list) else "is not a list of boxes"
        skipped.append(Skipped(where, f"the label {problem}"))
        return None
    boxes: list[TextBox] = []
    for number, each in enumerate(labels, 1):
        try:
            boxes.append(_box(each))
        except ValueError as error:
            skipped.append(Skipped(where, f"box {number}: {error}"))
    if boxes or not labels:
        return DetSample(image, tuple(boxes), image.parent.name)
    skipped.append(Skipped(where, "none of the image's boxes can be used"))
    return None


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
    return _find_data_dir(path, _head(path)[0])


def guess_task(path: Path) -> Task:
    """Return the task that a label file or an LMDB is for: det as soon as one line is a list of boxes.

    Raises:
        DataError: the file can't be read or has no line with a label, or the folder isn't an LMDB.
    """
    if os.path.isdir(path):
        if lmdb_folders(path):
            return "rec"
        raise DataError(f"{path}: a folder of images doesn't say whether it is for det or rec; name the task")
    lines, skipped = _head(path)
    if not lines:
        raise DataError(f"{path}: no line with an image and a label ({_first(skipped)})")
    labels = [line.label.strip() for line in lines]
    # A line of text may well be "[]", but hardly all of them.
    boxes = any(label.startswith("[") and '"points"' in label for label in labels)
    return "det" if boxes or all(label == "[]" for label in labels) else "rec"


def _read_folder(task: Task, folder: Path) -> tuple[Sequence[DetSample] | Sequence[RecSample], list[Skipped]]:
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


def _read_lmdb(folders: list[Path]) -> tuple[Sequence[RecSample], list[Skipped]]:
    skipped: list[Skipped] = []
    parts: list[Sequence[RecSample]] = []
    for folder in folders:
        texts = LmdbTexts(folder, lambda image, reason: skipped.append(Skipped(str(image), reason)))
        picked = Picked(texts, np.arange(len(texts), dtype=np.int64), _lmdb_sample(folder))
        parts.append(list(picked) if len(picked) <= MOST_OBJECTS else picked)
    return list(parts[0]) if len(parts) == 1 and isinstance(parts[0], list) else join(parts), skipped


def _lmdb_sample(folder: Path) -> Callable[[tuple[int, str]], RecSample]:
    return lambda found: RecSample(lmdb_image(folder, found[0]), found[1], folder.name)


def _base(path: Path, data_dir: Path | None) -> Path:
    """Return what the image paths in a label file are relative to, once it is sure that there are some."""
    lines, skipped = _head(path)
    if data_dir is not None and not os.path.isdir(data_dir):
        raise DataError(f"--data-dir {data_dir}: no such folder")
    if not lines:
        raise DataError(f"{path}: no line with an image and a label ({_first(skipped)})")
    return _find_data_dir(path, lines) if data_dir is None else data_dir


def _with_image(path: Path, base: Path, skipped: list[Skipped]) -> Iterator[LabelLine]:
    """Yield the lines whose image is there; note the others."""
    folder, found, count = str(base), False, 0
    for line in read_lines(path, skipped):
        count += 1
        # Text, not a Path: of a million lines that is seconds.
        if os.path.isfile(os.path.join(folder, line.image)):
            found = True
            yield line
        else:
            skipped.append(Skipped(f"{path}:{line.number}", f"no such image: {base / line.image}"))
    if not found:
        raise DataError(f"{path}: none of its {count} images is under {base}; give the right --data-dir")


def _head(path: Path) -> tuple[list[LabelLine], list[Skipped]]:
    """Return the first lines, and what was skipped among them."""
    skipped: list[Skipped] = []
    return list(islice(read_lines(path, skipped), LOOKED_AT)), skipped


def _find_data_dir(path: Path, lines: list[LabelLine]) -> Path:
    parents = path.absolute().parents
    for line in lines:
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
    if not 3 <= len(points) <= MOST_POINTS:
        bound = "at least 3 are needed" if len(points) < 3 else f"at most {MOST_POINTS} are read"
        raise ValueError(f"has {len(points)} points, {bound}")
    if not (np.abs(points) <= FARTHEST).all():
        raise ValueError("a coordinate is not finite, or beyond a million pixels")
    text = str(label["transcription"])
    return TextBox(points.astype(np.float32), text, text in IGNORED)


def _first(skipped: list[Skipped]) -> str:
    return f"{skipped[0].where}: {skipped[0].reason}" if skipped else "it is empty"
