"""Small models in ONNX's text form, and ONNX Runtime without optimisation as the judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

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
        proto = onnx.parser.parse_model(text.replace("'", '"'))
        for name, array in (constants or {}).items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        onnx.checker.check_model(proto)
        if y == "float[?]":  # of unknown rank, which the checker doesn't take and every engine does
            proto.graph.output[0].type.tensor_type.ClearField("shape")
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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """These graphs are small: threads cost more than they bring, and much more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images() -> Callable[[str, tuple[int, ...]], Array]:
    """Return a function that makes inputs of a shape: dark words on a light, uneven ground, within -1 and 1."""

    def make(name: str, shape: tuple[int, ...]) -> Array:
        random = np.random.default_rng(sum(map(ord, name)) + sum(shape))
        count, channels, height, width = shape
        pages = np.empty((count, height, width, channels), np.float32)
        for page in pages:
            shade = cv2.resize(random.integers(170, 255, (2, 3, channels)).astype(np.uint8), (width, height))
            for bottom in range(36, height + 1, 48):
                word = "".join(random.choice(list("OCRSlim0123456789"), max(2, width // 24)))
                cv2.putText(shade, word, (4, bottom), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (30, 30, 40), 2, cv2.LINE_AA)
            page[:] = shade.astype(np.float32) / 127.5 - 1
        return np.clip(pages + random.normal(0, 0.02, pages.shape), -1, 1).transpose(0, 3, 1, 2).astype(np.float32)

    return make
