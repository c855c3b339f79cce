"""Small models in ONNX's text form, and ONNX Runtime without optimisation as the judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Judge = Callable[[ir.Model, Array], Array]
Build = Callable[..., ir.Model]


@pytest.fixture(scope="session")
def build() -> Build:
    """Return a function from ONNX text to a checked model: ``build(body, constants, opset=20, ...)``.

    The graph is ``x`` to ``y``; ``body`` is its nodes, ``constants`` become initializers.
    """

    def make(
        body: str,
        constants: Mapping[str, Array] | None = None,
        opset: int = 20,
        x: str = "float[N,3,H,W]",
        y: str = "float[?]",
    ) -> ir.Model:
        outputs = "float y" if y == "float[?]" else f"{y} y"
        text = f'<ir_version: 9, opset_import: ["" : {opset}]> g ({x} x) => ({outputs}) {{ {body} }}'
        proto = onnx.parser.parse_model(text)
        for name, array in (constants or {}).items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        onnx.checker.check_model(proto)
        return ir.from_proto(proto)

    return make


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Return a function that runs a model of one input in ONNX Runtime, operator by operator as written."""

    def run(model: ir.Model, x: Array) -> Array:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        result: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
        return result

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def images() -> Callable[[str, tuple[int, ...]], Array]:
    """Return a function that makes inputs of a shape as an image would be: smooth, within -1 and 1."""

    def make(name: str, shape: tuple[int, ...]) -> Array:
        random = np.random.default_rng(sum(map(ord, name)) + sum(shape))
        coarse = random.uniform(-1, 1, (*shape[:2], shape[2] // 8 + 1, shape[3] // 8 + 1))
        fine = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, : shape[2], : shape[3]]
        return np.clip(fine + random.normal(0, 0.05, shape), -1, 1).astype(np.float32)

    return make
