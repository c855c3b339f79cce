"""Paddle's PP-OCRv4 models beside their quantized ONNX form, made without torch: any environment can run them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes import common

from ocrslim.engines.targets import get_target
from ocrslim.errors import OcrslimError
from ocrslim.export.bundle import write_sidecars
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.paddle.files import PaddleFiles, find
from ocrslim.graph.importers.paddle.importer import import_paddle
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.quantization.placement import place

Array = np.ndarray[Any, np.dtype[Any]]

WORDS = (
    "Total 48.20",
    "OCR on Paddle",
    "mobile v4 rec",
    "Street 17",
    "Open daily",
    "No entry",
    "Exit 12 b",
    "tea, 250 g",
)


def run_onnx(model: ir.Model, x: Array, fetch: list[str] | None = None) -> list[Array]:
    """Run a graph as it is written, and return its outputs, or other values of it."""
    model = model.clone()
    if fetch is not None:
        values = {value.name: value for node in model.graph for value in node.outputs}
        values |= {value.name: value for value in model.graph.inputs}
        del model.graph.outputs[:]
        model.graph.outputs.extend(values[name] for name in fetch)
    proto = ir.to_proto(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: x}))


@dataclass(frozen=True)
class Twin:
    """A real model in both worlds.

    Args:
        task: det or rec.
        files: Paddle's.
        canonical: ours, float.
        quantized: ours, with Q/DQ nodes as :func:`ocrslim.export.onnx_qdq.export_qdq` names them.
        x: an input, text on it.
    """

    task: str
    files: PaddleFiles
    canonical: ir.Model
    quantized: ir.Model
    x: Array


def quantize(model: ir.Model, x: Array) -> ir.Model:
    """Quantize for Paddle by absolute maxima: what ``export_qdq`` writes for that target, written here anew."""
    sites = place(model, get_target("paddle")).sites
    names = sorted({site.input_value for site in sites})
    found = dict(zip(names, run_onnx(model, x, names), strict=True))
    model = model.clone()
    graph = model.graph
    nodes = {node.name: node for node in graph}
    values = {value.name: value for node in graph for value in node.outputs}

    def constant(name: str, array: Array) -> ir.Value:
        if name not in graph.initializers:
            tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
            value = ir.Value(
                name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            graph.register_initializer(value)
        return graph.initializers[name]

    def add(kind: str, inputs: list[ir.Value], name: str, attributes: Mapping[str, Any]) -> ir.Value:
        node = ir.node(kind, inputs, attributes=attributes)
        node.outputs[0].name = name
        graph.append(node)
        return node.outputs[0]

    quantized: dict[str, ir.Value] = {}
    for site in sites:
        tensor = graph.initializers[site.weight_name].const_value
        assert tensor is not None
        weight = tensor.numpy()
        others = tuple(axis for axis in range(weight.ndim) if axis != site.weight_axis)
        scale = np.maximum(np.abs(weight).max(others) / 127, 1e-9).astype(np.float32)
        shape = [-1 if axis == site.weight_axis else 1 for axis in range(weight.ndim)]
        integers = np.round(weight / scale.reshape(shape)).astype(np.int8)
        parts = [
            constant(f"{site.weight_name}_quantized", integers),
            constant(f"{site.weight_name}_scale", scale),
            constant(f"{site.weight_name}_zero_point", np.zeros(len(scale), np.int8)),
        ]
        node, data = nodes[site.node], site.input_value
        node.replace_input_with(1, add("DequantizeLinear", parts, f"{site.node}_w", {"axis": site.weight_axis}))
        grid = [
            constant(f"{data}_scale", np.array(np.abs(found[data]).max() / 127, np.float32)),
            constant(f"{data}_zero_point", np.array(0, np.int8)),
        ]
        if data not in quantized:
            quantized[data] = add("QuantizeLinear", [values[data], *grid], f"{data}_quantized", {})
        node.replace_input_with(0, add("DequantizeLinear", [quantized[data], *grid], f"{site.node}_a", {}))
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    return model


@pytest.fixture(scope="session")
def paddle_zoo() -> Callable[[str], Path]:
    """Return a function from an official name to its folder in Paddle's format, fetched once into the cache."""
    from ocrslim.graph.importers.paddle.zoo import pull_paddle

    def folder(name: str) -> Path:
        try:
            return pull_paddle(name)
        except OcrslimError as error:
            pytest.skip(f"model {name} can't be fetched here: {error}")

    return folder


@pytest.fixture(scope="session")
def twin(paddle_zoo: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Twin]:
    """Return a function from a task to PP-OCRv4 in both worlds."""
    made: dict[str, Twin] = {}

    def make(task: str) -> Twin:
        if task not in made:
            files = find(paddle_zoo(f"PP-OCRv4_mobile_{task}"))
            assert files is not None
            canonical = canonicalize(load_onnx(import_paddle(files, tmp_path_factory.mktemp("cache"))))
            x = np.concatenate([image_of(words) for words in WORDS]) if task == "rec" else page()
            made[task] = Twin(task, files, canonical, quantize(canonical, x), x)
        return made[task]

    return make


@pytest.fixture
def compressed(twin: Callable[[str], Twin], tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function from a task and a target to a folder as ``ocrslim compress`` writes it, made once a test."""

    def make(task: str, target: str) -> Path:
        made, folder = twin(task), tmp_path / f"{task}-{target}"
        folder.mkdir()
        ir.save(made.quantized, folder / "model.onnx")
        source = open_model(made.files.program.parent)
        write_sidecars(folder, source.inference_yml, source.characters)
        facts = {"model": {"name": source.name, "task": task}, "target": target}
        (folder / "result.json").write_text(json.dumps(facts), encoding="utf-8")
        (folder / "MODEL_CARD.md").write_text(f"# {source.name}\n", encoding="utf-8")
        return folder

    return make


def image_of(words: str, height: int = 48, width: int = 256) -> Array:
    """Return a line of text as a recogniser reads it, ``[1, 3, height, width]`` in [-1, 1]: dark letters on light."""
    image = np.full((height, width), 230, np.uint8)
    cv2.putText(image, words, (6, height - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 20, 2, cv2.LINE_AA)
    plane = image.astype(np.float32) / 127.5 - 1
    return np.repeat(plane[None, None], 3, axis=1)


def page() -> Array:
    """Return all the lines below each other, as a detector sees them."""
    return np.concatenate([image_of(words) for words in WORDS[:4]], axis=2)


@pytest.fixture(scope="session")
def run() -> Callable[..., list[Array]]:
    """Return a function that runs a graph as it is written."""
    return run_onnx
