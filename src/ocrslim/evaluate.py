"""The recipe: score a model on labelled images, in the engine that will run it.

:func:`evaluate_file` is what ``ocrslim eval`` does; :func:`evaluate` scores samples that are at hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ocrslim.config.profile import DetProfile, Profile, RecProfile, Task, load_profile
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.errors import DataError, InputError, ModelError
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.made_for import engine_for
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.db import DBPostProcess
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import IGNORED, DetSample, RecSample, Skipped, read_samples
from ocrslim.ocr.metrics.bootstrap import Interval, compute_figures, figures_per_set, paired_bootstrap
from ocrslim.ocr.metrics.detection import COVERED, IOU, DetectionMetric, DetRecord, hmean
from ocrslim.ocr.metrics.recognition import RecognitionMetric, RecRecord, accuracy
from ocrslim.ocr.transforms import RecWidth, line_width, normalize, resize_for_det, resize_for_rec
from ocrslim.report.run_log import progress_bar

__all__ = ["EvalResult", "RecWidth", "evaluate", "evaluate_file", "read_line", "read_page", "readable_samples"]

_S = TypeVar("_S", DetSample, RecSample)

LONG_LABEL = 25  # characters: PaddleOCR's max_text_length, beyond which its evaluation drops a label in silence


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation found.

    Args:
        task: det, rec, or end-to-end (both together).
        engine: that ran the model.
        n: images that were scored.
        skipped: what was left out.
        metrics: by name; with ``--loose``, ``loose`` holds them for folded texts.
        per_set: for each set, ``n`` and its metrics; a set is the name of the folder that holds the image.
        protocol: everything that the figures depend on.
        seconds: that the evaluation took.
        records: one for each image, for :meth:`drop_from`.
    """

    task: Task | Literal["end-to-end"]
    engine: str
    n: int
    skipped: tuple[Skipped, ...]
    metrics: dict[str, Any]
    per_set: dict[str, dict[str, Any]]
    protocol: dict[str, Any]
    seconds: float
    records: tuple[DetRecord, ...] | tuple[RecRecord, ...]

    @property
    def headline(self) -> str:
        """The name of the metric that judges: ``hmean`` or ``accuracy``."""
        return "accuracy" if self.task == "rec" else "hmean"

    def to_json(self) -> dict[str, Any]:
        """Return what ``ocrslim eval --json`` prints."""
        return {
            "task": self.task,
            "engine": self.engine,
            "n": self.n,
            "skipped": [asdict(item) for item in self.skipped],
            "metrics": self.metrics,
            "per_set": self.per_set,
            "protocol": self.protocol,
            "seconds": round(self.seconds, 3),
        }

    def drop_from(self, other: EvalResult, n: int = 1000, seed: int = 0) -> Interval:
        """Return the bootstrap interval of what this model loses of the headline metric against ``other``.

        Args:
            other: another model's result on the same images; a positive drop means that it is better.
            n: rounds.
            seed: of the draws.

        Raises:
            ValueError: the results are of other images.
        """
        compute: Callable[[Any], float] = accuracy if self.task == "rec" else hmean
        return paired_bootstrap(other.records, self.records, compute, n, seed)


def evaluate_file(
    model: str | Path,
    data: Path,
    *,
    dictionary: Path | None = None,
    data_dir: Path | None = None,
    task: Task | None = None,
    engine: str | None = None,
    profile: str | None = None,
    loose: bool = False,
    rec_width: RecWidth = "dynamic",
    threads: int = 2,
    limit: int | None = None,
    console: Console | None = None,
) -> EvalResult:
    """Score a model on a label file.

    Args:
        model: a zoo name, an ONNX file or a model folder.
        data: a label file or an LMDB.
        dictionary: of a recogniser that comes without; see :func:`ocrslim.graph.importers.source.open_model`.
        data_dir: what image paths in the label file are relative to.
        task: what the model must be for; ``None`` takes it as it is.
        engine: see :func:`evaluate`; ``None`` is that of :func:`ocrslim.made_for.engine_for`.
        profile: see :func:`ocrslim.config.profile.load_profile`.
        loose: see :func:`evaluate`.
        rec_width: see :func:`evaluate`.
        threads: see :func:`evaluate`.
        limit: score the first ``limit`` images only.
        console: where a progress bar is shown; nowhere if ``None``.

    Raises:
        InputError: the model, the data or a setting cannot be used.
        EngineError: the engine failed.
    """
    source = open_model(model, dictionary)
    if task is not None and task != source.task:
        raise InputError(f"--task {task}: {source.name} is a {source.task} model")
    chosen = load_profile(profile, source.inference_yml)
    samples, skipped = read_samples(source.task, data, data_dir)
    if limit is not None:
        samples = samples[:limit]
    with progress_bar(source.name, console or Console(quiet=True)) as update:
        return evaluate(
            source,
            samples,
            engine=engine_for([source], engine),
            profile=chosen,
            threads=threads,
            loose=loose,
            rec_width=rec_width,
            skipped=skipped,
            progress=update,
        )


def evaluate(
    source: ModelSource,
    samples: Sequence[DetSample | RecSample],
    *,
    engine: str = "openvino",
    profile: Profile,
    threads: int = 2,
    loose: bool = False,
    rec_width: RecWidth = "dynamic",
    ignore_space: bool = False,
    session: InferenceSession | None = None,
    skipped: Iterable[Skipped] = (),
    progress: Callable[[int, int], object] | None = None,
) -> EvalResult:
    """Score a model on labelled samples, one image at a time.

    Args:
        source: the model.
        samples: with labels, for the model's task.
        engine: one of :data:`ocrslim.engines.session.ENGINES`.
        profile: pre- and post-processing.
        threads: of the engine.
        loose: for rec, add the metrics of texts in NFKC without case and spaces.
        rec_width: ``dynamic`` gives each line its own width, as deployment does; ``padded`` rounds that up to whole
            32 pixels, as :func:`ocrslim.load` does; ``fixed`` squeezes all lines into the profile's width, as
            PaddleOCR's evaluation does.
        ignore_space: see :class:`ocrslim.ocr.metrics.recognition.RecognitionMetric`.
        session: an open session of another file than the source's, such as its int8 model; ``engine`` and
            ``threads`` are then its own.
        skipped: what was left out before, for the report.
        progress: told (done, total) after each image.

    Raises:
        InputError: the samples are for the other task; or the model has no dictionary, or another number of classes
            than it has entries.
        DataError: the samples have no labels, or none can be read.
        EngineError: the engine failed.
    """
    started = time.perf_counter()
    left_out = list(skipped)
    scored: _Scored
    if source.task == "det":
        pages = _det_samples(source, samples)
        session = session or open_session(source.file_for(engine), engine, threads)
        scored = _score_det(session, profile.det, readable_samples(pages, left_out, progress))
    else:
        lines = _rec_samples(source, samples)
        charset = Charset.from_source(source)
        session = session or open_session(source.file_for(engine), engine, threads)
        metric = RecognitionMetric(ignore_space)
        readable = readable_samples(lines, left_out, progress)
        scored = _score_rec(session, profile.rec, charset, metric, rec_width, loose, readable)
    if not scored.records:
        raise DataError(f"none of {len(samples)} images can be read; {left_out[-1].reason}")
    protocol = {"profile": profile.name, "engine_version": session.version, "threads": session.threads}
    return EvalResult(
        source.task,
        session.engine,
        len(scored.records),
        tuple(left_out),
        scored.metrics,
        scored.per_set,
        protocol | scored.protocol,
        time.perf_counter() - started,
        scored.records,
    )


def read_page(
    session: InferenceSession, post_process: DBPostProcess, profile: DetProfile, image: NDArray[np.uint8]
) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Find the texts on one image.

    Args:
        session: a detector.
        post_process: of the same profile.
        profile: resizing and normalisation.
        image: BGR u8 ``[H, W, 3]``.

    Returns:
        tuple: boxes, f32 ``[4, 2]`` in pixels of the image; their scores.

    Raises:
        ModelError: the model gives no map of probabilities.
    """
    resized, ratio_h, ratio_w = resize_for_det(image, profile)
    maps = session.run(normalize(resized, profile.mean, profile.std)[None])
    if maps.ndim != 4 or maps.shape[:2] != (1, 1):
        raise ModelError(f"the model gives {list(maps.shape)}, a detector gives [1, 1, H, W]; is it another task's?")
    # The ratios are those of the image after padding, if it was tiny; boxes are found in that.
    return post_process(maps[0, 0], round(resized.shape[0] / ratio_h), round(resized.shape[1] / ratio_w))


def read_line(
    session: InferenceSession,
    charset: Charset,
    profile: RecProfile,
    image: NDArray[np.uint8],
    rec_width: RecWidth = "dynamic",
) -> tuple[str, float]:
    """Read one line of text.

    Args:
        session: a recogniser.
        charset: its classes.
        profile: resizing and normalisation.
        image: BGR u8 ``[H, W, 3]``.
        rec_width: see :func:`evaluate`; a model that takes one width only is given that.

    Returns:
        tuple: the text, and its mean probability.

    Raises:
        ModelError: the model has another number of classes than the charset.
    """
    width = session.input_shape[3] or line_width(image, profile, rec_width)
    frames = session.run(resize_for_rec(image, profile, width)[None])
    if frames.ndim != 3 or frames.shape[2] != len(charset):
        raise ModelError(
            f"the model gives {list(frames.shape)}, its dictionary needs [1, T, {len(charset)}]; is it another model's?"
        )
    return charset.decode(frames[0])


@dataclass(frozen=True)
class _Scored:
    """The part of :class:`EvalResult` that depends on the task."""

    records: tuple[DetRecord, ...] | tuple[RecRecord, ...]
    metrics: dict[str, Any]
    per_set: dict[str, dict[str, Any]]
    protocol: dict[str, Any]


def _score_det(
    session: InferenceSession, profile: DetProfile, pages: Iterator[tuple[DetSample, NDArray[np.uint8]]]
) -> _Scored:
    metric = DetectionMetric()
    post_process = DBPostProcess(profile)
    without_text = 0
    for sample, image in pages:
        without_text += not sample.boxes
        boxes, _ = read_page(session, post_process, profile, image)
        metric.update(boxes, sample.boxes, str(sample.image), sample.set_name)
    protocol = asdict(profile) | {
        "iou_above": IOU,
        "ignored_texts": list(IGNORED),
        "ignored_cover_above": COVERED,
        # Scored all the same; PaddleOCR's evaluation drops such an image in silence.
        "images_without_text": without_text,
        "invalid_polygons": sum(record.invalid for record in metric.records),
    }
    figures = DetectionMetric.FIGURES
    return _Scored(
        tuple(metric.records),
        metric.compute(),
        figures_per_set(metric.records, lambda records: compute_figures(figures, records)),
        protocol,
    )


def _score_rec(
    session: InferenceSession,
    profile: RecProfile,
    charset: Charset,
    metric: RecognitionMetric,
    rec_width: RecWidth,
    loose: bool,
    lines: Iterator[tuple[RecSample, NDArray[np.uint8]]],
) -> _Scored:
    for sample, image in lines:
        text, _ = read_line(session, charset, profile, image, rec_width)
        metric.update(text, sample.text or "", str(sample.image), sample.set_name)

    def figures(records: Sequence[RecRecord]) -> dict[str, Any]:
        found: dict[str, Any] = dict(compute_figures(RecognitionMetric.FIGURES, records))
        return found | {"loose": compute_figures(RecognitionMetric.LOOSE_FIGURES, records)} if loose else found

    labels = [record.label for record in metric.records]
    protocol: dict[str, Any] = {
        "height": profile.height,
        "width": session.input_shape[3] or (profile.width if rec_width == "fixed" else rec_width),
        "least_width": profile.width,
        "most_width": profile.max_width,
        "mean": profile.mean,
        "std": profile.std,
        "batch": 1,
        "ignore_space": metric.ignore_space,
        # Scored all the same; PaddleOCR's evaluation drops such labels in silence.
        f"labels_over_{LONG_LABEL}_characters": sum(len(label) > LONG_LABEL for label in labels),
        "labels_with_characters_not_in_the_dictionary": sum(not charset.knows(label) for label in labels),
    }
    if loose:
        protocol["loose"] = "NFKC, case and spaces folded"
    return _Scored(tuple(metric.records), figures(metric.records), figures_per_set(metric.records, figures), protocol)


def _det_samples(source: ModelSource, samples: Sequence[DetSample | RecSample]) -> list[DetSample]:
    found = [sample for sample in samples if isinstance(sample, DetSample)]
    if len(found) < len(samples):
        raise InputError(f"{source.name} is a det model, but the samples are lines of text")
    if not any(sample.boxes for sample in found):
        raise DataError("the images have no labels to score by; give a label file")
    return found


def _rec_samples(source: ModelSource, samples: Sequence[DetSample | RecSample]) -> list[RecSample]:
    found = [sample for sample in samples if isinstance(sample, RecSample)]
    if len(found) < len(samples):
        raise InputError(f"{source.name} is a rec model, but the samples are images with boxes")
    if not found or any(sample.text is None for sample in found):
        raise DataError("the images have no labels to score by; give a label file")
    return found


def readable_samples(
    samples: Sequence[_S], left_out: list[Skipped], progress: Callable[[int, int], object] | None
) -> Iterator[tuple[_S, NDArray[np.uint8]]]:
    """Yield the samples whose image can be read, with the image; note the others.

    Args:
        samples: in the order in which they are read.
        left_out: what cannot be read is appended here.
        progress: told (done, total) after each image.
    """
    for done, sample in enumerate(samples, 1):
        try:
            image = read_image(sample.image)
        except DataError as error:
            left_out.append(Skipped(str(sample.image), str(error)))
        else:
            yield sample, image
        if progress is not None:
            progress(done, len(samples))
