from __future__ import annotations

import onnx_ir as ir
import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.executor.registry import OpKey, register, registered, resolve


def node(op_type: str, domain: str = "", name: str = "here") -> ir.Node:
    return ir.Node(domain, op_type, inputs=[], num_outputs=1, name=name)


def test_a_second_implementation_of_the_same_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ai\.onnx::Relu-14 is computed by relu already"):
        register("Relu", 14)(lambda x: x)


@pytest.mark.parametrize(
    ("op_type", "opset", "function"),
    [
        ("ReduceMean", 17, "reduce_mean_13"),
        ("ReduceMean", 18, "reduce_mean_18"),
        ("Squeeze", 12, "squeeze_11"),
        ("Squeeze", 13, "squeeze_13"),
        ("Softmax", 12, "softmax_1"),
        ("Softmax", 20, "softmax_13"),
        ("Clip", 10, "clip_6"),
        ("Clip", 11, "clip_11"),
        ("Conv", 20, "conv"),
        ("Conv", 22, "conv"),
    ],
)
def test_the_opset_chooses_the_version(op_type: str, opset: int, function: str) -> None:
    assert resolve(node(op_type), opset).__name__ == function


def test_the_long_name_of_the_domain_means_the_same() -> None:
    assert resolve(node("Relu", "ai.onnx"), 14) is resolve(node("Relu"), 14)


def test_a_miss_names_key_node_and_the_way_around() -> None:
    with pytest.raises(ModelError) as caught:
        resolve(node("Einsum", name="odd"), 14)
    text = str(caught.value)
    assert "ai.onnx::Einsum-12" in text
    assert "'odd'" in text
    assert "register('Einsum', 12, domain='')" in text
    assert "\n" not in text


def test_an_operator_of_another_domain_can_be_added() -> None:
    @register("Twice", 1, domain="test.ocrslim")
    def twice(x: object) -> object:
        return x

    assert resolve(node("Twice", "test.ocrslim"), 1) is twice
    assert OpKey("test.ocrslim", "Twice", 1) in registered()
    with pytest.raises(ModelError, match=r"test\.ocrslim::Twice-2"):
        resolve(node("Twice", "test.ocrslim"), 2)
