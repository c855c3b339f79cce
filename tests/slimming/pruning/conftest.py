"""The ten models with their channels followed, and the judge of a cut: the whole graph with the channels silenced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.base import array_of, attribute
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.pruning.groups import Channels

Masked = Callable[[Channels, Collection[int]], ir.Model]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def short_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock takes its rounds and no longer."""
    monkeypatch.setattr("ocrslim.slimming.pruning.cost.SECONDS", 0.0)


@pytest.fixture(scope="session")
def followed(zoo: Callable[[str], Path]) -> Callable[[str], Channels]:
    """Return a function from an official name to the model's channels."""

    @cache
    def make(name: str) -> Channels:
        shape = (1, 3, 48, 320) if name.endswith("rec") else (1, 3, 96, 128)
        return Channels(canonicalize(load_onnx(zoo(name))), shape)

    return make


def _normalize_over(model: ir.Model, node: ir.Node, kept: int) -> None:
    """Write a LayerNormalization out so that it counts only ``kept`` channels; the others are zero."""
    x, scale = node.inputs[0], node.inputs[1]
    bias = node.inputs[2]
    last = model.graph.inputs[0].name  # any unique prefix will do

    def constant(name: str, array: object) -> ir.Value:
        tensor = ir.tensor(np.asarray(array), name=f"{last}.{node.name}.{name}")
        value = ir.Value(name=tensor.name, const_value=tensor)
        model.graph.register_initializer(value)
        return value

    def add(op_type: str, *inputs: ir.Value | None) -> ir.Value:
        made = ir.node(op_type, list(inputs), name=f"{node.name}.{len(model.graph)}")
        made.outputs[0].name = f"{made.name}.y"
        model.graph.insert_before(node, made)
        return made.outputs[0]

    axis, share = constant("axis", np.array([-1])), constant("share", np.float32(kept / len(array_of(scale))))
    epsilon = constant("epsilon", np.float32(attribute(node, "epsilon", 1e-5)))
    mean = add("Div", add("ReduceMean", x, axis), share)
    square = add("Div", add("ReduceMean", add("Mul", x, x), axis), share)
    variance = add("Sub", square, add("Mul", mean, mean))
    scaled = add("Div", add("Sub", x, mean), add("Sqrt", add("Add", variance, epsilon)))
    result = add("Add", add("Mul", scaled, scale), bias)
    node.outputs[0].replace_all_uses_with(result)
    model.graph.remove(node, safe=True)


@pytest.fixture(scope="session")
def masked() -> Masked:
    """Return a function that zeroes channels: what makes them with its bias, and what reads them."""

    def make(channels: Channels, removed: Collection[int]) -> ir.Model:
        model = channels.model.clone()
        for node in tuple(model.graph):
            if node.op_type == "LayerNormalization":
                stay = channels.kept(str(node.inputs[1].name), removed)[0]
                if not stay.all():
                    _normalize_over(model, node, int(stay.sum()))
        for value in model.graph.initializers.values():
            if value.name not in channels.shapes:
                continue
            array = np.array(array_of(value))
            for axis, stay in channels.kept(str(value.name), removed).items():
                shape = [-1 if index == axis else 1 for index in range(array.ndim)]
                array = np.where(stay.reshape(shape), array, np.zeros_like(array))
            value.const_value = ir.tensor(array, name=value.name)
        return model

    return make


@pytest.fixture(scope="session")
def build() -> Callable[..., ir.Model]:
    """Return a function from ONNX text to a checked model ``x`` -> ``y``; constants are random floats by shape.

    ``build("c = Conv(x, w) y = Relu(c)", {"w": (8, 3, 1, 1)})``; an array is taken as it is.
    """

    def make(body: str, constants: dict[str, object], x: str = "float[N,3,H,W]") -> ir.Model:
        text = f'<ir_version: 9, opset_import: ["" : 20]> g ({x} x) => (float y) {{ {body} }}'
        proto = onnx.parser.parse_model(text.replace("'", '"'))
        random = np.random.default_rng(0)
        for name, value in constants.items():
            array = random.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        for number, node in enumerate(proto.graph.node):
            node.name = node.output[0] or f"{node.op_type}_{number}"
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        return ir.from_proto(proto)

    return make


@pytest.fixture(scope="session")
def chain(build: Callable[..., ir.Model]) -> Channels:
    """Return a chain of layers: pointwise 32, depthwise, pointwise 24 beside 16 wide ones, 3x3, an answer of 1."""
    body = (
        "a = Conv(x, aw, ab) ar = Relu(a) d = Conv<group=32, pads=[1,1,1,1]>(ar, dw, db) b = Conv(d, bw, bb)"
        " br = Relu(b) c = Conv(br, cw, cb) cr = Relu(c) e = Conv<pads=[1,1,1,1]>(cr, ew, eb) er = Relu(e)"
        " z = Conv(er, zw, zb) y = Sigmoid(z)"
    )
    widths = {"a": (32, 3, 1), "d": (32, 1, 3), "b": (24, 32, 1), "c": (16, 24, 1), "e": (16, 16, 3), "z": (1, 16, 1)}
    constants: dict[str, object] = {}
    random = np.random.default_rng(3)
    for name, (out, depth, size) in widths.items():
        weight = random.normal(size=(out, depth, size, size)) / np.sqrt(depth * size * size)
        constants |= {f"{name}w": weight.astype(np.float32), f"{name}b": random.normal(size=out).astype(np.float32)}
    return Channels(build(body, constants), (1, 3, 16, 16))


@pytest.fixture(scope="session")
def batches() -> list[torch.Tensor]:
    """Return four batches of smooth images ``[4, 3, 16, 16]``."""
    generator = torch.Generator().manual_seed(5)
    coarse = [torch.rand(4, 3, 4, 4, generator=generator) * 2 - 1 for _ in range(4)]
    return [torch.nn.functional.interpolate(images, size=(16, 16), mode="bilinear") for images in coarse]
