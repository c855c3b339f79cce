"""The recipe: read images, folders and PDF files with a det and a rec model, and show where two pairs differ.

:func:`predict_files` is what ``ocrslim predict`` does; :func:`ocrslim.load` reads one image at a time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ocrslim import __version__
from ocrslim.atomic import write_bytes
from ocrslim.errors import DataError, InputError
from ocrslim.ocr.difference import Difference, compare_readings
from ocrslim.ocr.pages import Page, SkippedPage, count_pages, find_files, read_pages
from ocrslim.ocr.pdf import DPI
from ocrslim.reader import DROP_SCORE, PageReading, Reader, TextLine, load_pair
from ocrslim.reference import load_reference
from ocrslim.report.picture import draw_comparison, draw_reading
from ocrslim.report.result import write_json
from ocrslim.report.run_log import progress_bar

__all__ = ["RESULT", "SCHEMA_VERSION", "predict_files"]

RESULT = "predict.json"
KEYS = {"ocrslim", "schema", "pages"}  # by which a result is known for ours
SCHEMA_VERSION = 1  # of report/predict.schema.json
JPEG_QUALITY = 90
LONGEST_STEM = 100  # bytes of a picture's name


@dataclass
class _Run:
    """What is being gathered.

    Args:
        ours: the pair that reads.
        theirs: the pair that it is held against, if any.
        out: folder for pictures.
    """

    ours: Reader
    theirs: Reader | None
    out: Path | None
    pages: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[SkippedPage] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def predict_files(
    inputs: Sequence[Path],
    det: str | Path,
    rec: str | Path,
    *,
    engine: str | None = None,
    profile: str | None = None,
    dictionary: Path | None = None,
    threads: int = 2,
    dpi: int = DPI,
    drop_score: float = DROP_SCORE,
    against: Sequence[str] = (),
    out: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Read files and return what ``ocrslim predict --json`` prints; ``report/predict.schema.json`` describes it.

    A page that cannot be read is named and passed over; one whose picture can't be written has a note in its place.
    No file is overwritten but ``predict.json`` of an earlier run in ``out`` and the pictures that it names.

    Args:
        inputs: images, folders and PDF files.
        det: the detector; see :func:`ocrslim.graph.importers.source.open_model`.
        rec: the recogniser.
        engine: that runs all models; see :func:`ocrslim.load`.
        profile: see :func:`ocrslim.config.profile.load_profile`; each model's own where ``None``.
        dictionary: of a recogniser that comes without one.
        threads: of the engine.
        dpi: pixels per inch of PDF pages.
        drop_score: lines that were read with less confidence are left out.
        against: ``["float"]``, or another det and rec model: read with them too and tell where the two differ.
        out: a folder for the result and a picture of each page.
        console: where a progress bar is shown; nowhere if ``None``.

    Raises:
        InputError: a model, a path or a setting cannot be used, or the result can't be written.
        DataError: no page at all could be read.
        EngineError: the engine failed.
    """
    started = time.perf_counter()
    _refuse_read_folder(inputs, out)
    _refuse_foreign_result(out)
    files = find_files(inputs, out)
    total = count_pages(files)
    ours = load_pair(
        det, rec, engine=engine, profile=profile, dictionary=dictionary, threads=threads, drop_score=drop_score
    )
    run = _Run(ours, load_reference(ours, against) if against else None, out)
    if out is not None:
        _make_folder(out)
        run.names |= _others_names(out)
    with progress_bar("pages", console or Console(quiet=True)) as update:
        for done, page in enumerate(read_pages(files, dpi), 1):
            if isinstance(page, Page):
                _read(run, page)
            else:
                run.skipped.append(page)
            update(done, max(done, total), {"skipped": len(run.skipped)} if run.skipped else None)
    if not run.pages:
        first = run.skipped[0]
        raise DataError(f"none of {len(run.skipped)} pages can be read; {first.file}: {first.reason}")
    result = _result(run, dpi) | {"seconds": round(time.perf_counter() - started, 3)}
    if out is not None:
        _write_result(out, result)
    return result


def _read(run: _Run, page: Page) -> None:
    """Read a page with one pair or both, and draw it."""
    started = time.perf_counter()
    boxes = run.ours.detector(page.image)
    reading = run.ours.read_boxes(page.image, boxes)
    seconds = time.perf_counter() - started
    told = _page(page, reading) | {"seconds": round(seconds, 4)}
    other, difference = None, None
    if run.theirs is not None:
        if run.theirs.detector is not run.ours.detector:
            boxes = run.theirs.detector(page.image)
        other = run.theirs.read_boxes(page.image, boxes)
        difference = compare_readings(_pairs(reading), _pairs(other))
        run.differences.append(difference)
        told["difference"] = _difference(difference, other)
    if run.out is not None:
        told |= _draw(run, page, reading, other, difference)
    run.pages.append(told)


def _draw(
    run: _Run, page: Page, ours: PageReading, theirs: PageReading | None, difference: Difference | None
) -> dict[str, str]:
    """Write a page's picture and return its name, or why there is none: what was read goes on without it."""
    assert run.out is not None
    name = _free_name(run.names, page)
    picture: NDArray[np.uint8]
    try:
        if run.theirs is None or theirs is None or difference is None:
            picture = draw_reading(page.image, _pairs(ours))
        else:
            captions = (f"here: {_names(run.ours)}", f"against: {_names(run.theirs)}")
            picture = draw_comparison(page.image, _pairs(ours), _pairs(theirs), difference, captions)
    except DataError as error:  # an OpenCV that can't draw every script
        return {"note": f"{name}: {error}"}
    written, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not written:
        return {"note": f"{name}: OpenCV can't write this picture"}
    try:
        write_bytes(run.out / name, data.tobytes())
    except OSError as error:  # the disk is full
        return {"note": f"{name}: this picture can't be written ({error.strerror})"}
    return {"picture": name}


def _free_name(taken: set[str], page: Page) -> str:
    """Return a name for a page's picture that no other file there has: ``scan.jpg``, ``book-p007.jpg``."""
    # An image's name may have as many bytes as a file system takes, and a number and a temporary ending are added.
    stem = _shown(Path(page.file.stem)).encode()[:LONGEST_STEM].decode("utf-8", "ignore")
    if page.number is not None:
        stem += f"-p{page.number:03}"
    name, count = f"{stem}.jpg", 1
    while name.casefold() in taken:  # some file systems do not tell A from a
        count += 1
        name = f"{stem}-{count}.jpg"
    taken.add(name.casefold())
    return name


def _refuse_read_folder(inputs: Sequence[Path], out: Path | None) -> None:
    """Refuse to lay pictures among those that are read: the next run would read them too.

    Raises:
        InputError: ``out`` is one of the folders.
    """
    if out is None or not os.path.isdir(out):
        return
    if any(os.path.isdir(path) and os.path.samefile(path, out) for path in inputs):
        raise InputError(f"--out {out}: is a folder that is read; name another one, such as {out / 'read'}")


def _refuse_foreign_result(out: Path | None) -> None:
    """Refuse to replace a ``predict.json`` that another program wrote.

    Raises:
        InputError: there is one without what a result of ours says.
    """
    if out is None or not os.path.lexists(out / RESULT):
        return
    try:
        found = json.loads((out / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not found.keys() >= KEYS:
        raise InputError(f"--out {out}: the {RESULT} there is none of ocrslim's; move it away or name another folder")


def _others_names(out: Path) -> set[str]:
    """Return the names of the files in a folder that are not pictures of an earlier run, as its result tells them."""
    try:
        pages = json.loads((out / RESULT).read_text(encoding="utf-8"))["pages"]
        before = {str(page.get("picture")).casefold() for page in pages}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        before = set()
    return {path.name.casefold() for path in out.iterdir()} - before


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {path}: can't be made ({error.strerror}); name another folder") from error


def _write_result(out: Path, result: dict[str, Any]) -> None:
    try:
        write_json(out / RESULT, result)
    except OSError as error:
        raise InputError(f"--out {out}: {RESULT} can't be written ({error.strerror}); make room there") from error


def _shown(path: Path) -> str:
    """Return a path as text that any JSON reader takes: a byte that is no UTF-8 becomes a replacement character."""
    return os.fsencode(path).decode("utf-8", "replace")


def _pairs(reading: PageReading) -> list[tuple[NDArray[np.float32], str]]:
    return [(line.points, line.text) for line in reading.lines]


def _page(page: Page, reading: PageReading) -> dict[str, Any]:
    return {
        "file": _shown(page.file),
        "page": page.number,
        "width": reading.width,
        "height": reading.height,
        "text": reading.text,
        "lines": [_line(line) for line in reading.lines],
        "dropped": reading.dropped,
    }


def _line(line: TextLine) -> dict[str, Any]:
    return {
        "text": line.text,
        "score": round(line.score, 5),
        "box_score": round(line.box_score, 5),
        "points": [[round(float(x), 2), round(float(y), 2)] for x, y in line.points],
    }


def _difference(difference: Difference, other: PageReading) -> dict[str, Any]:
    return {
        "equal": len(difference.equal),
        "changed": [{"line": ours, "other": _line(other.lines[theirs])} for ours, theirs in difference.changed],
        "only_here": list(difference.only_ours),
        "only_there": [_line(other.lines[index]) for index in difference.only_theirs],
        "norm_edit_distance": _similarity([difference]),
    }


def _similarity(differences: Sequence[Difference]) -> float:
    """Return 1-NED: 1 less the mean distance of all pairs and single boxes; 1 where there is none."""
    lines = sum(difference.lines for difference in differences)
    return round(1 - sum(difference.distance for difference in differences) / lines, 6) if lines else 1.0


def _result(run: _Run, dpi: int) -> dict[str, Any]:
    session = run.ours.detector.session
    settings = {
        "threads": session.threads,
        "dpi": dpi,
        "drop_score": run.ours.drop_score,
        "det": asdict(run.ours.detector.profile),
        "rec": asdict(run.ours.recognizer.profile),
    }
    result: dict[str, Any] = {
        "ocrslim": __version__,
        "schema": SCHEMA_VERSION,
        "engine": session.engine,
        "engine_version": session.version,
        "models": _models(run.ours),
        "settings": settings,
        "pages": run.pages,
        "skipped": [{"file": _shown(item.file), "page": item.number, "reason": item.reason} for item in run.skipped],
    }
    return result if run.theirs is None else result | {"against": _against(run.theirs, run.differences)}


def _against(theirs: Reader, differences: Sequence[Difference]) -> dict[str, Any]:
    equal, changed = (sum(len(getattr(item, name)) for item in differences) for name in ("equal", "changed"))
    return {
        "models": _models(theirs),
        "boxes_in_both": equal + changed,
        "only_here": sum(len(item.only_ours) for item in differences),
        "only_there": sum(len(item.only_theirs) for item in differences),
        "texts_equal": equal,
        "texts_changed": changed,
        "pages_changed": sum(len(item.equal) < item.lines for item in differences),
        "norm_edit_distance": _similarity(differences),
    }


def _names(reader: Reader) -> str:
    return f"{reader.detector.source.name} + {reader.recognizer.source.name}"


def _models(reader: Reader) -> Mapping[str, Any]:
    return {
        model.source.task: {"name": model.source.name, "path": _shown(model.source.path), "sha256": model.source.sha256}
        for model in (reader.detector, reader.recognizer)
    }
