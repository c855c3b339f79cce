"""The rung before the ladder: what labels teach a recogniser's last layer; see :mod:`.training.last_layer`.

A float model that reads the user's lines better is what is then made int8. Nothing else changes: its shapes, its time
and its size are those of the model that came in, and by the labels of lines that were held back it has to be better,
exactly and with case, spaces and full-width signs folded, or it is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor

from ocrslim.config.profile import RecProfile
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.errors import DataError, ModelError
from ocrslim.evaluate import readable_samples
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.passes.base import array_of, only_reader
from ocrslim.graph.points import distillation_points
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.label_encode import TextEncoder
from ocrslim.ocr.labels import RecSample, Skipped
from ocrslim.ocr.metrics.recognition import RecognitionMetric, accuracy, loose_accuracy
from ocrslim.ocr.render import render_lines
from ocrslim.ocr.transforms import RecWidth, line_width, resize_for_rec
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.training.data import Spell, TrainingData
from ocrslim.slimming.training.distillation import DistillationSettings
from ocrslim.slimming.training.last_layer import LastLayer, Line, fit_last_layer

__all__ = [
    "FEWEST",
    "Lesson",
    "Place",
    "Taught",
    "as_lines",
    "find_last_layer",
    "fitting_charset",
    "gains",
    "last_layer",
    "open_features",
    "other_text",
    "read_features",
    "speller",
    "teach",
    "with_last_layer",
]

FEWEST = 200  # labelled lines; fewer would be learned by heart
LONGEST = 10_000  # characters of a label: no bound of ours
OTHER_TEXT = 800  # rendered lines of the model's characters
NAME = "taught"  # of the files
USUAL_RATIO = DistillationSettings.label_ratio


@dataclass(frozen=True)
class Place:
    """The last layer in a graph: names of what it reads, and of its constants."""

    features: str
    weight: str
    bias: str


@dataclass(frozen=True)
class Taught:
    """What labels taught a recogniser's last layer.

    Args:
        lines: that taught.
        held: lines that it was judged on, by the float model.
        points: of accuracy gained on them.
        folded: of accuracy with case, spaces and full-width signs folded.
    """

    lines: int
    held: int
    points: float
    folded: float


@dataclass(frozen=True)
class Lesson:
    """What a last layer is taught with.

    Args:
        source: the recogniser.
        data: its ``train_samples`` teach, its ``held_samples`` judge.
        profile: pre-processing.
        folder: for files that are of no use afterwards; their names begin with :data:`NAME`.
        log: of the run.
        threads: of the engine.
        seed: of the order and of rendered text.
        ratio: ``--label-ratio``.
        most: lines that teach.
        judged: lines that judge.
        rec_width: that held-back lines are judged at; see :func:`ocrslim.ocr.transforms.line_width`. What teaches has
            widths of its own: squeezed into one, long lines teach less. PP-OCRv3 rec, judged at one width, gained 2.0
            points on 1,601 lines so, and 1.2 where it was taught at that width.
        ignore_space: leave spaces out of texts when they are compared.
    """

    source: ModelSource
    data: TrainingData
    profile: RecProfile
    folder: Path
    log: RunLog
    threads: int
    seed: int
    ratio: float = USUAL_RATIO
    most: int = 6000
    judged: int = 2000
    rec_width: RecWidth = "padded"
    ignore_space: bool = False


def teach(graph: ir.Model, lesson: Lesson) -> tuple[ir.Model, Taught] | None:
    """Return the graph with the last layer that labels taught, and what that gained; ``None`` where it is no better.

    Args:
        graph: canonical, of a recogniser; not changed.
        lesson: what it is taught with.

    Raises:
        ModelError: the dictionary has another number of entries than the model has classes.
    """
    log, samples = lesson.log, [cast("RecSample", sample) for sample in lesson.data.train_samples[: lesson.most]]
    if find_last_layer(graph) is None:
        log.say("the last layer is no MatMul and Add of constants that nothing else reads: labels can't teach it")
        return None
    if len(samples) < FEWEST:
        log.say(f"{len(samples)} labelled lines are too few to teach the last layer, {FEWEST} are needed")
        return None
    before = last_layer(graph)
    charset = fitting_charset(lesson.source, len(before.bias))
    with log.stage("teach the last layer"):
        session = open_features(graph, lesson.folder / f"{NAME}-features.onnx", lesson.threads)
        found = _learned(before, session, charset, lesson, samples)
    return None if found is None else (with_last_layer(graph, found[0]), found[1])


def _learned(
    before: LastLayer, session: InferenceSession, charset: Charset, lesson: Lesson, samples: Sequence[RecSample]
) -> tuple[LastLayer, Taught] | None:
    """Return a last layer that reads held-back lines better, and how much; ``None`` where it doesn't."""
    log, profile, damaged = lesson.log, lesson.profile, lesson.data.damaged
    with log.bar("features") as update:
        lines = as_lines(read_features(session, samples, profile, damaged, update), charset)
    if len(lines) < FEWEST:
        log.say(f"{len(lines)} of {len(samples)} labelled lines can teach the last layer, {FEWEST} are needed")
        return None
    others = _other_text(session, lesson, len(before.weight))
    with log.bar("teach") as update:
        after = fit_last_layer(before, lines, others, lesson.seed, lesson.ratio / USUAL_RATIO, update)
    held = [cast("RecSample", sample) for sample in lesson.data.held_samples[: lesson.judged]]
    with log.bar("compare") as update:
        read = list(read_features(session, held, profile, damaged, update, lesson.rec_width))
    points, folded, error = gains(before, after, read, charset, lesson.ignore_space)
    log.say(
        f"labels of {len(lines)} lines: {points:+.2f} points of accuracy on {len(read)} held-back ones (standard error"
        f" {error:.2f}), {folded:+.2f} with case, spaces and full-width signs folded"
    )
    if min(points, folded) <= 0.0 or points <= error:
        log.say("not used: it has to gain by both, and more than a standard error")
        return None
    return after, Taught(len(lines), len(read), points, folded)


def _other_text(session: InferenceSession, lesson: Lesson, count: int) -> Tensor:
    """Return frames of rendered text, or none where nothing can be rendered: labels can teach all the same."""
    try:
        return other_text(session, lesson.source.characters or (), lesson.profile, lesson.seed)
    except DataError as error:
        lesson.log.say(f"without rendered text beside the labels: {error}")
        return torch.empty(0, count)


def find_last_layer(graph: ir.Model) -> Place | None:
    """Return the linear layer that makes the logits, a MatMul and an Add of constants that nothing else reads.

    Args:
        graph: canonical.
    """
    add = _made_by(graph, distillation_points(graph).logits, "Add")
    if add is None:
        return None
    bias = next((value for value in add.inputs if array_of(value) is not None), None)
    product = next((value.producer() for value in add.inputs if value is not None and value is not bias), None)
    if bias is None or product is None or product.op_type != "MatMul" or only_reader(product.outputs[0]) is None:
        return None
    features, weight = product.inputs
    array, offset = array_of(weight), array_of(bias)
    if (
        features is None
        or weight is None
        or array is None
        or offset is None
        or array.ndim != 2
        or offset.shape != array.shape[1:]
    ):
        return None
    alone = all(value.is_initializer() and only_reader(value) is not None for value in (weight, bias))
    alone = alone and features.producer() is not None
    return Place(str(features.name), str(weight.name), str(bias.name)) if alone else None


def with_last_layer(graph: ir.Model, layer: LastLayer) -> ir.Model:
    """Return a copy of a canonical graph with other constants in its last layer, under the same names.

    Args:
        graph: has a last layer, see :func:`find_last_layer`.
        layer: of the same shapes.
    """
    place, module = find_last_layer(graph), GraphModule(graph)
    assert place is not None
    constants = dict(module.named_initializers())
    with torch.no_grad():
        constants[place.weight].copy_(layer.weight)
        constants[place.bias].copy_(layer.bias)
    return module.to_ir()


def last_layer(graph: ir.Model) -> LastLayer:
    """Return the last layer of a canonical graph that has one."""
    place = find_last_layer(graph)
    assert place is not None
    return LastLayer(_constant(graph, place.weight), _constant(graph, place.bias))


def _made_by(graph: ir.Model, name: str, operator: str) -> ir.Node | None:
    return next((node for node in graph.graph if node.op_type == operator and node.outputs[0].name == name), None)


def _constant(graph: ir.Model, name: str) -> Tensor:
    array = array_of(graph.graph.initializers[name])
    assert array is not None
    return torch.from_numpy(array.astype(np.float32))


def open_features(graph: ir.Model, path: Path, threads: int) -> InferenceSession:
    """Load the network up to its last layer: in ONNX Runtime, since float is the same in every engine.

    Args:
        graph: has a last layer, see :func:`find_last_layer`; not changed.
        path: of the ONNX file to write for it.
        threads: of the engine.
    """
    place = find_last_layer(graph)
    assert place is not None
    model = graph.clone()
    value = next(value for node in model.graph for value in node.outputs if value.name == place.features)
    model.graph.outputs[:] = [value]
    RemoveUnusedNodesPass()(model)
    ir.save(model, path)
    return open_session(path, "onnxruntime", threads)


def read_features(
    session: InferenceSession,
    samples: Sequence[RecSample],
    profile: RecProfile,
    damaged: dict[str, str],
    progress: Callable[[int, int], None],
    rec_width: RecWidth = "padded",
) -> Iterator[tuple[RecSample, Tensor]]:
    """Yield the lines that can be read, each with what the last layer is given of it, ``[T, C]``.

    Args:
        session: see :func:`open_features`.
        samples: the lines.
        profile: pre-processing.
        damaged: path -> reason, of the images that can't be read; added to.
        progress: told (done, total).
        rec_width: see :func:`ocrslim.ocr.transforms.line_width`.
    """
    left_out: list[Skipped] = []
    for sample, image in readable_samples(samples, left_out, progress):
        yield sample, _run(session, image, profile, rec_width)
    damaged.update((item.where, item.reason) for item in left_out)


def as_lines(read: Iterable[tuple[RecSample, Tensor]], charset: Charset) -> list[Line]:
    """Return the lines that can teach: labelled, and with frames enough to spell the label.

    A label of which the model does not have every character would teach to leave some out.

    Args:
        read: see :func:`read_features`.
        charset: of the model.
    """
    spell = speller(charset)
    spelled = ((spell(sample.text or ""), features) for sample, features in read)
    lines = [Line(features, torch.from_numpy(classes)) for classes, features in spelled if classes is not None]
    return [line for line in lines if line.fits]


def fitting_charset(source: ModelSource, classes: int) -> Charset:
    """Return the characters of a recogniser.

    Args:
        source: the recogniser.
        classes: that it answers with.

    Raises:
        ModelError: its dictionary has another number of entries.
    """
    charset = Charset.from_source(source)
    if len(charset) != classes:
        raise ModelError(
            f"{source.name}: the model gives {classes} classes, its dictionary needs {len(charset)};"
            " is it another model's?"
        )
    return charset


def speller(charset: Charset) -> Spell:
    """Return what tells a text in the classes of a model, or ``None`` where it does not have every character."""
    encoder = TextEncoder(charset, LONGEST)

    def spell(text: str) -> NDArray[np.int64] | None:
        classes = encoder.ctc(text)
        whole = classes is not None and "".join(charset.classes[number] for number in classes) == text
        return classes if whole else None

    return spell


def other_text(session: InferenceSession, characters: Sequence[str], profile: RecProfile, seed: int) -> Tensor:
    """Return features of rendered lines of all of a model's characters ``[n, C]``.

    Args:
        session: see :func:`open_features`.
        characters: of the model.
        profile: pre-processing.
        seed: of the rendering.
    """
    lines = render_lines(characters, OTHER_TEXT, seed)
    return torch.cat([_run(session, image, profile, "padded") for image, _ in lines])


def _run(session: InferenceSession, image: NDArray[np.uint8], profile: RecProfile, rec_width: RecWidth) -> Tensor:
    width = session.input_shape[3] or line_width(image, profile, rec_width)
    return torch.from_numpy(session.run(resize_for_rec(image, profile, width)[None])[0])


def gains(
    before: LastLayer,
    after: LastLayer,
    read: Sequence[tuple[RecSample, Tensor]],
    charset: Charset,
    ignore_space: bool = False,
) -> tuple[float, float, float]:
    """Return by how many points lines are read better, exactly and folded, and the standard error of the first.

    Args:
        before: a last layer.
        after: another.
        read: labelled lines, see :func:`read_features`.
        charset: of the model.
        ignore_space: see :class:`ocrslim.ocr.metrics.recognition.RecognitionMetric`.
    """
    metrics = []
    for layer in (before, after):
        metric = RecognitionMetric(ignore_space)
        for (sample, _), frames in zip(read, layer.best([features for _, features in read]), strict=True):
            metric.update(charset.spell(frames), sample.text or "", str(sample.image))
        metrics.append(metric.records)
    was, now = metrics
    changed = sum(a.correct != b.correct for a, b in zip(was, now, strict=True))
    error = 100 * math.sqrt(changed) / len(read) if read else math.inf
    return 100 * (accuracy(now) - accuracy(was)), 100 * (loose_accuracy(now) - loose_accuracy(was)), error
