"""The rung before the ladder: what labels teach a recogniser's last layer; see :mod:`.training.last_layer`.

A float model that reads the user's lines better is what is then made int8. Nothing else changes: its shapes, its time
and its size are those of the model that came in, and by the labels of lines that were held back it has to be better,
exactly and with case, spaces and full-width signs folded, or it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from ocrslim.errors import DataError
from ocrslim.export.onnx_float import export_float
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.passes.base import array_of, only_reader
from ocrslim.graph.points import distillation_points
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.image import read_image
from ocrslim.ocr.label_encode import TextEncoder
from ocrslim.ocr.labels import RecSample
from ocrslim.ocr.metrics.recognition import RecognitionMetric, accuracy, loose_accuracy
from ocrslim.ocr.render import render_lines
from ocrslim.ocr.transforms import padded_width, resize_for_rec
from ocrslim.scene import Scene, Taught
from ocrslim.slimming.training.distillation import DistillationSettings
from ocrslim.slimming.training.last_layer import LastLayer, Line, fit_last_layer

__all__ = [
    "as_lines",
    "find_last_layer",
    "gains",
    "last_layer",
    "open_features",
    "other_text",
    "read_features",
    "teach",
    "with_last_layer",
]

FEWEST = 200  # labelled lines; fewer would be learned by heart
LONGEST = 10_000  # characters of a label: no bound of ours
OTHER_TEXT = 800  # rendered lines of the model's characters
NAME = "taught"  # of the files


@dataclass(frozen=True)
class _Place:
    """The last layer in a graph: names of what it reads, and of its constants."""

    features: str
    weight: str
    bias: str


def teach(scene: Scene) -> tuple[Scene, Taught | None]:
    """Return the scene of a float model that labels taught, and what that gained; or the scene as it was.

    Args:
        scene: of a recogniser, whose ``data.train_samples`` may have labels.
    """
    place = find_last_layer(scene.graph)
    samples = [cast("RecSample", sample) for sample in scene.data.train_samples[: scene.effort.taught]]
    if place is None or len(samples) < FEWEST:
        scene.log.note("no last layer that labels can teach" if place is None else f"{len(samples)} labelled lines")
        return scene, None
    with scene.log.stage("teach the last layer"):
        found = _taught(scene, samples)
        if found is None:
            return scene, None
        layer, taught = found
        graph = with_last_layer(scene.graph, layer)
        path = scene.folder / f"{NAME}.onnx"
        export_float(graph, scene.target, path)
        return replace(scene, graph=graph, teacher=GraphModule(graph).eval(), original=scene.open(path)), taught


def _taught(scene: Scene, samples: Sequence[RecSample]) -> tuple[LastLayer, Taught] | None:
    """Return the last layer that is better by the labels of held-back lines, and how much; ``None`` where none is."""
    log, settings, profile = scene.log, scene.settings, scene.profile.rec
    charset, damaged = Charset.from_source(scene.source), scene.data.damaged
    session = open_features(scene.graph, scene.folder / f"{NAME}-features.onnx", settings.threads)
    with log.bar("features") as update:
        lines = as_lines(read_features(session, samples, profile, damaged, update), charset)
    if len(lines) < FEWEST:
        log.say(f"{len(lines)} of {len(samples)} labelled lines can teach the last layer, {FEWEST} are needed")
        return None
    before = last_layer(scene.graph)
    others = other_text(session, scene.source.characters or (), profile, settings.seed)
    ratio = settings.distillation.label_ratio / DistillationSettings.label_ratio
    with log.bar("teach") as update:
        after = fit_last_layer(before, lines, others, settings.seed, ratio, update)
    held = [cast("RecSample", sample) for sample in scene.data.held_samples[: scene.effort.judged]]
    with log.bar("compare") as update:
        read = list(read_features(session, held, profile, damaged, update))
    points, folded = gains(before, after, read, charset)
    log.say(
        f"labels of {len(lines)} lines: {points:+.2f} points of accuracy on {len(read)} held-back ones, {folded:+.2f}"
        " with case, spaces and full-width signs folded"
    )
    if min(points, folded) <= 0.0:
        log.say("not used: it has to gain by both")
        return None
    return after, Taught(len(lines), len(read), points, folded)


def find_last_layer(graph: ir.Model) -> _Place | None:
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
    if features is None or weight is None or array is None or offset is None or array.ndim != 2 or offset.ndim != 1:
        return None
    alone = all(value.is_initializer() and only_reader(value) is not None for value in (weight, bias))
    return _Place(str(features.name), str(weight.name), str(bias.name)) if alone else None


def with_last_layer(graph: ir.Model, layer: LastLayer) -> ir.Model:
    """Return a copy of a canonical graph with other constants in its last layer, under the same names.

    Args:
        graph: has a last layer, see :func:`find_last_layer`.
        layer: of the same shapes.
    """
    place = find_last_layer(graph)
    assert place is not None
    model = graph.clone()
    for name, tensor in ((place.weight, layer.weight), (place.bias, layer.bias)):
        value = model.graph.initializers[name]
        assert value.const_value is not None
        array = tensor.numpy().astype(value.const_value.dtype.numpy())
        value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)
    return model


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
) -> Iterator[tuple[RecSample, Tensor]]:
    """Yield the lines that can be read, each with what the last layer is given of it, ``[T, C]``.

    Args:
        session: see :func:`open_features`.
        samples: the lines.
        profile: pre-processing.
        damaged: path -> reason, of the images that can't be read; added to.
        progress: told (done, total).
    """
    for done, sample in enumerate(samples, 1):
        try:
            image = read_image(sample.image)
        except DataError as error:
            damaged[str(sample.image)] = str(error)
            continue
        yield sample, _run(session, image, profile)
        progress(done, len(samples))


def as_lines(read: Iterable[tuple[RecSample, Tensor]], charset: Charset) -> list[Line]:
    """Return the lines that can teach: labelled, and with frames enough to spell the label.

    Args:
        read: see :func:`read_features`.
        charset: of the model.
    """
    encoder = TextEncoder(charset, LONGEST)
    found = ((features, encoder.ctc(sample.text or "")) for sample, features in read)
    lines = [Line(features, torch.from_numpy(classes)) for features, classes in found if classes is not None]
    return [line for line in lines if line.fits]


def other_text(session: InferenceSession, characters: Sequence[str], profile: RecProfile, seed: int) -> Tensor:
    """Return features of rendered lines of all of a model's characters ``[n, C]``.

    Args:
        session: see :func:`open_features`.
        characters: of the model.
        profile: pre-processing.
        seed: of the rendering.
    """
    return torch.cat([_run(session, image, profile) for image, _ in render_lines(characters, OTHER_TEXT, seed)])


def _run(session: InferenceSession, image: NDArray[np.uint8], profile: RecProfile) -> Tensor:
    width = padded_width([image.shape[1] / image.shape[0]], profile)
    return torch.from_numpy(session.run(resize_for_rec(image, profile, width)[None])[0])


def gains(
    before: LastLayer, after: LastLayer, read: Sequence[tuple[RecSample, Tensor]], charset: Charset
) -> tuple[float, float]:
    """Return by how many points of accuracy lines are read better, exactly and with case and spaces folded.

    Args:
        before: a last layer.
        after: another.
        read: labelled lines, see :func:`read_features`.
        charset: of the model.
    """
    metrics = []
    for layer in (before, after):
        metric = RecognitionMetric()
        for (sample, _), frames in zip(read, layer.best([features for _, features in read]), strict=True):
            metric.update(charset.spell(frames), sample.text or "", str(sample.image))
        metrics.append(metric.records)
    was, now = metrics
    return 100 * (accuracy(now) - accuracy(was)), 100 * (loose_accuracy(now) - loose_accuracy(was))
