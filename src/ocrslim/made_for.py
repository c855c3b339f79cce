"""Which engine an int8 model was made for: in another the same file may read garbage, and nothing says so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from ocrslim.errors import InputError
from ocrslim.export.bundle import RESULT, is_quantized
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource

__all__ = ["USUAL_ENGINE", "engine_for"]

USUAL_ENGINE = "openvino"


def engine_for(sources: Sequence[ModelSource], engine: str | None) -> str:
    """Return the engine that is to run models together; what was made for another than was asked for is told on stderr.

    Args:
        sources: the models.
        engine: that was asked for; ``None`` takes the one that the int8 models were made for, else ``openvino``.

    Raises:
        InputError: nobody said which, and the models were made for several.
    """
    made = [(source, found) for source in sources if (found := _made_for(source)) is not None]
    if engine is None:
        engines = {judged for _, (_, judged) in made}
        if len(engines) > 1:
            told = " and ".join(f"{source.path.parent} for {target}" for source, (target, _) in made)
            raise InputError(f"{told}: were made for different engines; take models of one, or say --engine")
        return engines.pop() if engines else USUAL_ENGINE
    for source, (target, judged) in made:
        if engine != judged and engine.partition("-")[0] != target:
            where = source.path.parent
            sys.stderr.write(f"ocrslim: {where}: was made for {target}; in {engine} it may read garbage\n")
    return engine


def _made_for(source: ModelSource) -> tuple[str, str] | None:
    """Return the target of a quantized model and the engine it was judged in; ``None`` where nothing says so."""
    path = (source.paddle.program if source.paddle else source.path).parent / RESULT
    if not os.path.isfile(path):
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        target, judged = result["target"], result.get("engine", result["target"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # it is somebody else's
    if not isinstance(target, str) or not isinstance(judged, str) or not is_quantized(load_onnx(source.path)):
        return None
    return target, judged
