"""Models that are loaded and ready to read: a detector finds boxes, a recogniser reads a line, a pair reads a page.

>>> import ocrslim
>>> page = ocrslim.load("my-det", "my-rec")("page.jpg")  # doctest: +SKIP
>>> print(page.text)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile, RecProfile, load_profile
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.errors import InputError, ModelError
from ocrslim.evaluate import read_page
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.made_for import engine_for
from ocrslim.ocr.crop import crop_line
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.db import DBPostProcess
from ocrslim.ocr.image import read_image
from ocrslim.ocr.polygon import Points
from ocrslim.ocr.reading_order import reading_order
from ocrslim.ocr.transforms import padded_width, resize_for_rec

__all__ = [
    "DROP_SCORE",
    "DetectedBox",
    "Detector",
    "LineText",
    "PageReading",
    "Reader",
    "Recognizer",
    "TextLine",
    "as_bgr",
    "load_model",
    "load_pair",
]

DROP_SCORE = 0.5  # PaddleOCR's drop_score: a line that was read with less confidence is left out

Channels = Literal["BGR", "RGB"]
Image: TypeAlias = NDArray[np.uint8] | str | Path


@dataclass(frozen=True)
class DetectedBox:
    """A place where there is text.

    Args:
        points: f32 ``[4, 2]``, x and y in pixels of the image, clockwise from the corner at the top left.
        score: mean probability within it.
    """

    points: Points
    score: float


@dataclass(frozen=True)
class LineText:
    """What one line says.

    Args:
        text: empty where nothing was read.
        score: mean probability of its characters.
    """

    text: str
    score: float


@dataclass(frozen=True)
class TextLine:
    """A line of a page.

    Args:
        points: as in :class:`DetectedBox`.
        text: that was read there.
        score: mean probability of its characters.
        box_score: mean probability of the box.
    """

    points: Points
    text: str
    score: float
    box_score: float


@dataclass(frozen=True)
class PageReading:
    """A page that was read.

    Args:
        lines: in reading order.
        width: of the image, pixels.
        height: of the image, pixels.
        dropped: boxes in which nothing was read, or with too little confidence.
    """

    lines: tuple[TextLine, ...]
    width: int
    height: int
    dropped: int = 0

    @property
    def text(self) -> str:
        """The lines' texts, each on a line."""
        return "\n".join(line.text for line in self.lines)


class Detector:
    """Finds the text on an image.

    Args:
        source: a det model.
        session: that runs it.
        profile: pre- and post-processing.
    """

    def __init__(self, source: ModelSource, session: InferenceSession, profile: DetProfile) -> None:
        self.source, self.session, self.profile = source, session, profile
        self._post_process = DBPostProcess(profile)

    def __call__(self, image: Image, channels: Channels = "BGR") -> list[DetectedBox]:
        """Return the boxes on an image, in reading order.

        Args:
            image: a file, or u8 ``[H, W, 3]``, ``[H, W, 4]`` or ``[H, W]``.
            channels: the order of an array's channels; a file's does not matter.

        Raises:
            InputError: the image cannot be used.
            EngineError: the engine failed.
        """
        boxes, scores = read_page(self.session, self._post_process, self.profile, as_bgr(image, channels))
        return [DetectedBox(boxes[index], scores[index]) for index in reading_order(boxes)]


class Recognizer:
    """Reads lines of text.

    Args:
        source: a rec model, with its dictionary.
        session: that runs it.
        profile: resizing, normalisation and how many lines make a batch.

    Raises:
        ModelError: the model has no dictionary.
    """

    def __init__(self, source: ModelSource, session: InferenceSession, profile: RecProfile) -> None:
        self.source, self.session, self.profile = source, session, profile
        self.charset = Charset.from_source(source)
        fixed = session.input_shape[0]
        self._batch = profile.batch if fixed is None else fixed

    def __call__(self, image: Image, channels: Channels = "BGR") -> LineText:
        """Read one line.

        Args:
            image: as in :meth:`Detector.__call__`, cut out of its page: the line from left to right.
            channels: the same.

        Raises:
            InputError: the image cannot be used.
            EngineError: the engine failed.
        """
        return self.read_lines([as_bgr(image, channels)])[0]

    def read_lines(self, images: Sequence[NDArray[np.uint8]]) -> list[LineText]:
        """Read many lines, those of similar shape together: each batch is as wide as its widest line needs.

        Args:
            images: BGR, u8 ``[H, W, 3]``.

        Returns:
            list: in the order of the images.

        Raises:
            ModelError: the model has another number of classes than its dictionary.
            EngineError: the engine failed.
        """
        ratios = [image.shape[1] / image.shape[0] for image in images]
        order = sorted(range(len(images)), key=ratios.__getitem__)
        found: dict[int, LineText] = {}
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            width = self.session.input_shape[3] or padded_width([ratios[index] for index in chosen], self.profile)
            batch = [resize_for_rec(images[index], self.profile, width) for index in chosen]
            while len(batch) < (self.session.input_shape[0] or 0):
                batch.append(np.zeros_like(batch[0]))  # a model of one batch size only takes whole batches
            frames = self.session.run(np.stack(batch))
            if frames.ndim != 3 or frames.shape[2] != len(self.charset):
                raise ModelError(
                    f"{self.source.name}: gives {list(frames.shape)}, its dictionary needs"
                    f" [N, T, {len(self.charset)}]; is it another model's?"
                )
            found |= {index: LineText(*self.charset.decode(frames[place])) for place, index in enumerate(chosen)}
        return [found[index] for index in range(len(images))]


class Reader:
    """Reads pages: det, crop, rec, in reading order.

    Args:
        detector: finds the lines.
        recognizer: reads them.
        drop_score: lines with less confidence are left out, 0 to 1.
    """

    def __init__(self, detector: Detector, recognizer: Recognizer, drop_score: float = DROP_SCORE) -> None:
        self.detector, self.recognizer, self.drop_score = detector, recognizer, drop_score

    def __call__(self, image: Image, channels: Channels = "BGR") -> PageReading:
        """Read a page.

        Args:
            image: as in :meth:`Detector.__call__`.
            channels: the same.

        Raises:
            InputError: the image cannot be used.
            EngineError: the engine failed.
        """
        page = as_bgr(image, channels)
        return self.read_boxes(page, self.detector(page))

    def read_boxes(self, page: NDArray[np.uint8], boxes: Sequence[DetectedBox]) -> PageReading:
        """Read what stands in boxes.

        Args:
            page: BGR, u8 ``[H, W, 3]``.
            boxes: of this page.

        Raises:
            ModelError: the model has another number of classes than its dictionary.
            EngineError: the engine failed.
        """
        texts = self.recognizer.read_lines([crop_line(page, box.points) for box in boxes])
        lines = tuple(
            TextLine(box.points, line.text, line.score, box.score)
            for box, line in zip(boxes, texts, strict=True)
            if line.text and line.score >= self.drop_score
        )
        return PageReading(lines, page.shape[1], page.shape[0], len(boxes) - len(lines))


def load_model(
    model: str | Path,
    *,
    engine: str | None = None,
    profile: str | None = None,
    dictionary: str | Path | None = None,
    threads: int = 2,
) -> Detector | Recognizer:
    """Load one model in the engine that runs it; the arguments are those of :func:`ocrslim.load`.

    Raises:
        InputError: the model, the engine or a setting cannot be used.
        EngineError: the engine cannot run the model.
    """
    source = open_model(model, dictionary)
    return _loaded(source, engine_for([source], engine), profile, threads)


def _loaded(source: ModelSource, engine: str, profile: str | None, threads: int) -> Detector | Recognizer:
    chosen = load_profile(profile, source.inference_yml)
    session = open_session(source.file_for(engine), engine, threads)
    if source.task == "det":
        return Detector(source, session, chosen.det)
    return Recognizer(source, session, chosen.rec)


def load_pair(
    det: str | Path,
    rec: str | Path,
    *,
    engine: str | None = None,
    profile: str | None = None,
    dictionary: str | Path | None = None,
    threads: int = 2,
    drop_score: float = DROP_SCORE,
) -> Reader:
    """Load a detector and a recogniser; the arguments are those of :func:`ocrslim.load`.

    Raises:
        InputError: as :func:`load_model`, the two are not a det and a rec model, or nobody says in which of two engines
            to run them.
        EngineError: as :func:`load_model`.
    """
    if not 0 <= drop_score <= 1:
        raise InputError(f"drop_score {drop_score}: a probability from 0 to 1 is needed")
    sources = open_model(det), open_model(rec, dictionary)
    engine = engine_for(sources, engine)
    first, second = (_loaded(source, engine, profile, threads) for source in sources)
    if not isinstance(first, Detector) or not isinstance(second, Recognizer):
        tasks = f"{first.source.name} is a {first.source.task} and {second.source.name} a {second.source.task} model"
        raise InputError(f"{tasks}; a det model is needed first, then a rec model")
    return Reader(first, second, drop_score)


def as_bgr(image: Image, channels: Channels = "BGR") -> NDArray[np.uint8]:
    """Return any image that is taken as BGR, u8 ``[H, W, 3]``.

    Args:
        image: a file, or u8 ``[H, W, 3]``, ``[H, W, 4]`` or ``[H, W]``.
        channels: the order of an array's channels.

    Raises:
        InputError: it is no image of 8 bits, or the file cannot be read.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if channels not in ("BGR", "RGB"):
        raise InputError(f"channels {channels!r}: say BGR (as OpenCV reads) or RGB (as Pillow reads)")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"an image is a path or a uint8 array [H, W, 3], [H, W, 4] or [H, W]; got {got}")
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise InputError(f"an image has 3 channels, or 4 with transparency; got {list(image.shape)}")
    colours = image[:, :, :3]
    return np.ascontiguousarray(colours[:, :, ::-1] if channels == "RGB" else colours)
