"""The options are the engines' own names, and sessions run with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest

from ocrslim.engines.onnxruntime import OnnxRuntimeSession
from ocrslim.engines.openvino import OpenVinoSession
from ocrslim.engines.options import session_options

Maker = Callable[..., Path]


def test_onnxruntime_is_given_them(mixer: Maker) -> None:
    given = OnnxRuntimeSession(mixer(), 3)._session.get_session_options()
    for name, value in session_options("onnxruntime", 3).items():
        found = given.get_session_config_entry(name) if "." in name else getattr(given, name)
        assert str(getattr(found, "name", found)) == str(value)
    plain = OnnxRuntimeSession(mixer(), 1, optimize=False)._session.get_session_options()
    assert plain.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def test_openvino_is_given_them(mixer: Maker) -> None:
    compiled = OpenVinoSession(mixer(), 1)._request.get_compiled_model()
    for name, value in session_options("openvino", 1).items():
        if name != "CPU_RUNTIME_CACHE_CAPACITY":  # which it takes and does not tell
            found = compiled.get_property(name)
            said = found.get_type_name() if isinstance(found, openvino.Type) else getattr(found, "name", found)
            assert said == value


@pytest.mark.parametrize("engine", ["paddle", "tensorrt"])
def test_others_have_none(engine: str) -> None:
    assert session_options(engine, 2) == {}


def test_a_user_who_sets_them_gets_the_same_answers(mixer: Maker) -> None:
    path, batch = mixer(), np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    model = openvino.Core().compile_model(str(path), "CPU", dict(session_options("openvino", 1)))
    assert np.array_equal(model(batch)[0], OpenVinoSession(path, 1).run(batch))
