"""A run's folder to make reports of, and a reader of HTML."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})


def _row(label: str, engine: str, median: float, ratio: float) -> dict[str, Any]:
    return {
        **{"label": label, "engine": engine, "median_ms": median, "p10": median - 1, "p90": median + 2},
        **{"ratio": ratio, "ratio_on_engine": ratio, "runs": 30, "peak_rss_mb": 120.5, "bytes": 10, "threads": 2},
        **{"shape": [1, 3, 48, 320], "cpu": "Some CPU", "flags": ["avx2"], "other_load": 0.01},
        "versions": {"python": "3.11.7", "openvino": "2026.4.1", "onnxruntime": "1.32.0"},
    }


def _drop(points: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"metric": "accuracy", "against": "labels", "points": points, "low": low, "high": high, "n": n}


HELD = _drop(0.7, -0.4, 1.8, 1000)

RESULT: dict[str, Any] = {
    "ocrslim": "0.1.0",
    "model": {"name": "PP-OCRv9_rec", "task": "rec", "sha256": "cd" * 32, "licence": "Apache-2.0", "path": "/p"},
    "data": {
        **{"path": "/home/me/train.txt", "sha256": "ef" * 32, "n_train": 4437, "n_held": 1000, "n_eval": 1601},
        "judged_by": "the labels of /home/me/val.txt",
    },
    "settings": {"seed": 7, "data": "/home/me/train.txt", "distillation": {"loss": "auto", "kd_ratio": 1.0}},
    "target": "openvino",
    "engine": "openvino",
    "timed_on": "openvino",
    "command": "ocrslim compress PP-OCRv9_rec --target openvino --out 'my folder'",
    "notes": ["a note for readers"],
    "metrics": {
        "float": {"openvino": {"accuracy": 0.6002, "norm_edit_distance": 0.8741, "loose": {"accuracy": 0.7814}}},
        "int8": {"openvino": {"accuracy": 0.5934, "norm_edit_distance": 0.8755, "loose": {"accuracy": 0.7711}}},
    },
    "drop": {"openvino": _drop(0.68, -0.1, 1.4, 1601)},
    "latency": [
        *(_row("float", "onnxruntime", 21.35, 1.0), _row("float", "openvino", 11.36, 1.0)),
        *(_row("int8", "onnxruntime", 9.68, 0.45), _row("int8", "openvino", 8.86, 0.78)),
    ],
    "delivered": "int8",
    "size": {"float": 10857958, "int8": 3623362, "ratio": 0.3337},
    "placement": {
        "quantized": [{"node": "a", "reason": "pointwise convolution: int8 is faster"}],
        "float": [
            {"node": "c", "op": "Conv", "reason": "squeeze-and-excitation: little work, much error"},
            {"node": "d", "op": "Conv", "reason": "squeeze-and-excitation: little work, much error"},
            {"node": "e", "op": "Conv", "reason": "a reason from tomorrow"},
        ],
    },
    "differences": {
        **{"n": 3, "worse": 2, "better": 1},
        "shown": [
            {"image": "/not/there.png", "label": "total", "float": "total", "int8": "tota1"},
            {"image": None, "label": None, "float": "", "int8": "x"},
        ],
    },
    "verify": [{"kind": "frame_agreement", "value": 0.9984, "required": 0.99, "passed": True, "n": 6184, "images": 64}],
    "budget": {
        **{"max_drop": 0.3, "kept": False, "sure": False, "drop": HELD, "images_to_tell": 13445},
        "judged_by": "the labels of the part of /home/me/train.txt held back from training",
        "rungs": [
            {"rung": "calibrated (output)", "divergence": 0.01782, "drop": None, "float_sites": 0, "agrees": 0.9926},
            {
                **{"rung": "trained 50 steps", "divergence": 0.00354, "drop": HELD, "float_sites": 0, "agrees": 0.9924},
                **{"time": 0.62, "front": True},
            },
            {
                **{"rung": "1 sites float: Conv_31", "divergence": 0.00346, "float_sites": 1, "agrees": 0.9948},
                **{"drop": _drop(1.1, 0.0, 2.3, 1000), "time": 0.65, "front": False},
            },
        ],
    },
    "sensitivity": [
        {
            **{"node": "Conv_10", "op": "Conv", "sqnr_db": 18.86, "divergence_alone": 0.01, "changed_alone": 0.0135},
            **{"gain_if_float": -0.02, "work": 0.055},
        }
    ],
    "stages": [{"name": "data", "seconds": 10.4, "peak_rss_mb": 300.0}, {"name": "x", "seconds": 5.0}],
    "training": {
        **{"steps": 200, "best_step": 50, "best": {"value": 1.0, "figures": {}}, "seconds": 386.2},
        "history": [
            {"step": 0.0, "held_loss": 4.5, "score": -0.0156},
            {"step": 50.0, "loss": 3.25, "held_loss": 4.25, "score": -0.0033},
        ],
    },
    "skipped": [{"where": "a", "reason": "b"}],
    "cpu": {"model": "Some CPU", "cores": 2, "flags": ["avx2", "fma"], "has_vnni": False},
    "verdict": "int8: 0.68 points of accuracy lost",
}


@pytest.fixture
def result() -> dict[str, Any]:
    """What ``result.json`` of a recogniser's run holds."""
    return copy.deepcopy(RESULT)


@pytest.fixture
def of_kind() -> Callable[[dict[str, Any], str], dict[str, Any]]:
    """Return a function that makes of a compression's result that of ``compress --float``, or of ``prune``."""

    def changed(result: dict[str, Any], kind: str) -> dict[str, Any]:
        if kind == "int8":
            return result
        found = {key: value for key, value in result.items() if key not in ("placement", "budget", "sensitivity")}
        found["metrics"] = {"float": result["metrics"]["float"], kind: result["metrics"]["int8"]}
        found["size"] = {"float": result["size"]["float"], kind: result["size"]["int8"]}
        names = {"int8": kind}
        found["latency"] = [row | {"label": names.get(row["label"], row["label"])} for row in result["latency"]]
        if kind == "rewritten":
            del found["training"]
            return found | {"delivered": kind}
        groups = [
            {"name": "Conv_3", "before": 64, "after": 48, "lost": 0.1, "reason": "the goal was reached"},
            {
                "name": "Conv_9",
                "before": 32,
                "after": 32,
                "lost": 0.0,
                "reason": "Softmax attn: each channel's share depends on all",
            },
        ]
        pruning = {"ratio": 0.77, "reached": True, "groups": groups, "untrained": _drop(9.5, 8.0, 11.0, 1601)}
        taught = {"lines": 4437, "held": 1000, "points": 1.25, "folded": 0.5}
        return found | {"delivered": kind, "pruning": pruning, "taught": taught}

    return changed


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run's folder: its result, and a small int8 model."""

    def write(result: dict[str, Any], name: str = "run") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        onnx.save(small_model(), folder / "model.onnx")
        return folder

    return write


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image file, 640 pixels wide and 200 high."""
    path = tmp_path / "a picture.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (200, 640, 3), np.uint8))
    return path


def small_model() -> onnx.ModelProto:
    """Return a model of a float convolution and an int8 one: 8 weights in float, 16 in int8 with a scale and a bias."""
    constants = {
        "w0": np.ones((4, 2, 1, 1), np.float32),
        **{"w1": np.ones((4, 4, 1, 1), np.int8), "scale": np.float32(0.1), "zero": np.int8(0)},
        "bias": np.ones(4, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first"),
        helper.make_node("DequantizeLinear", ["w1", "scale", "zero"], ["w"], "dq"),
        helper.make_node("Conv", ["a", "w", "bias"], ["y"], "second"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 5, 5]) for name, size in (("x", 2), ("y", 4))
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Page(HTMLParser):
    """What a page consists of.

    Attributes:
        elements: each element's name and attributes, in their order.
        tables: caption -> rows of cells, in English, the heads first.
        words: all text that is shown in English.
        chinese: all text that is shown in Chinese.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self.chinese: list[str] = []
        self._open: list[tuple[str, str]] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(source)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        if tag not in VOID:
            self._open.append((tag, found.get("class") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if {"style", "script"} & set(tags):
            return
        classes = {name for _, names in self._open for name in names.split()}
        if "en" not in classes:
            self.chinese.append(data)
        if "zh" in classes:
            return
        self.words.append(data)
        if "caption" in tags:
            self._caption += data
        elif {"td", "th"} & set(tags):
            self._rows[-1][-1] += data

    def ids(self) -> list[str]:
        """Return all addresses in the page."""
        return [value for _, attributes in self.elements if (value := attributes.get("id"))]


@pytest.fixture
def parse() -> Callable[[str], Page]:
    """Return the reader of pages."""
    return Page
