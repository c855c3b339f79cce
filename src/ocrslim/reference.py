"""The pair of models that another pair is held against: the float models that it was made from, or any other two."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ocrslim.engines.session import open_session
from ocrslim.errors import InputError, ModelError
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.made_for import engine_for
from ocrslim.reader import Detector, Reader, Recognizer

__all__ = ["FLOAT", "float_original", "load_reference"]

FLOAT = "float"  # --against: the models that the compressed ones were made from


def load_reference(ours: Reader, against: Sequence[str]) -> Reader:
    """Load the pair that ``ours`` is held against; it reads in the same engine by the same profile.

    Args:
        ours: the pair that is looked at.
        against: ``["float"]`` for the models that ours were compressed from, or a det and a rec model.

    Returns:
        Reader: where one of its models is the same file as ours, that is shared. A recogniser that comes without a
        dictionary takes ours.

    Raises:
        InputError: neither of our models was compressed, or a model cannot be used.
        EngineError: the engine cannot run a model.
    """
    if len(against) == 1 and against[0] == FLOAT:
        originals = float_original(ours.detector.source), float_original(ours.recognizer.source)
        if originals == (None, None):
            raise InputError(
                "--against float: neither model lies in a folder that compress wrote (with result.json);"
                " name the others: --against DET REC"
            )
        det, rec = originals[0] or ours.detector.source, originals[1] or ours.recognizer.source
    elif len(against) == 2:
        det, rec = open_model(against[0]), open_model(against[1])
    else:
        raise InputError(f"--against {' '.join(against)}: say float, or name a det and a rec model")
    if (det.task, rec.task) != ("det", "rec"):
        raise InputError(f"--against: {det.name} is a {det.task} and {rec.name} a {rec.task} model; name det, then rec")
    detector, recognizer = ours.detector, ours.recognizer
    engine_for([det, rec], detector.session.engine)  # says what was made for another one
    if det.sha256 != detector.source.sha256:
        session = open_session(det.file_for(detector.session.engine), detector.session.engine, detector.session.threads)
        detector = Detector(det, session, detector.profile)
    if rec.sha256 != recognizer.source.sha256:
        if rec.characters is None:
            rec = replace(rec, characters=recognizer.source.characters, use_space=recognizer.source.use_space)
        session = open_session(rec.file_for(detector.session.engine), detector.session.engine, detector.session.threads)
        recognizer = Recognizer(rec, session, recognizer.profile)
    return Reader(detector, recognizer, ours.drop_score)


def float_original(source: ModelSource) -> ModelSource | None:
    """Return the model that one was compressed from, by the ``result.json`` beside it; ``None`` without one.

    A Paddle model is opened as such, not as the ONNX file in the cache that it was converted into.

    Raises:
        ModelError: the file names a model that is not there, or none.
    """
    path = source.path.parent / "result.json"
    if not os.path.isfile(path):
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["model"]
        origins = [Path(told[key]) for key in ("paddle", "path") if key == "path" or told.get(key)]
        name = str(told.get("name"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: names no model.path; name the float models: --against DET REC") from error
    for origin in origins:
        if os.path.exists(origin):  # Path.exists raises OSError for a name that is too long
            return open_model(origin)
    if name in MODELS:
        return open_model(name)
    raise ModelError(f"{path}: the float model {origins[0]} is not there any more; name it: --against DET REC")
