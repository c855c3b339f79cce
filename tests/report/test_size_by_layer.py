"""Every byte of the constants belongs to one layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.report.layers import layer_sizes


def test_constants_belong_to_the_layer_behind_their_quantizers(
    result: dict[str, Any], write_run: Callable[..., Path]
) -> None:
    first, second = layer_sizes(write_run(result) / "model.onnx")
    # 16 weights in int8, a scale of 4 bytes, a zero point of 1, 4 biases; in float32 16 weights and 4 biases.
    assert (first.node, first.op, first.bytes, first.float_bytes) == ("second", "Conv", 16 + 4 + 1 + 16, 4 * (16 + 4))
    assert (second.node, second.op, second.bytes, second.float_bytes) == ("first", "Conv", 32, 32)
    assert second.dtype == "float"


def test_of_a_real_model_no_byte_is_lost(zoo: Callable[[str], Path]) -> None:
    path = zoo("PP-OCRv6_tiny_rec")
    graph = load_onnx(path).graph
    constants = [node.attributes["value"].as_tensor() for node in graph if node.op_type == "Constant"]
    held = [value.const_value for value in graph.initializers.values() if value.const_value is not None]
    layers = layer_sizes(path)
    assert sum(layer.bytes for layer in layers) == sum(tensor.nbytes for tensor in (*constants, *held))
    assert [layer.bytes for layer in layers] == sorted((layer.bytes for layer in layers), reverse=True)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        layer_sizes(tmp_path / "none.onnx")
