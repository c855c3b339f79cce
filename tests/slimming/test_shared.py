"""The walk that finds what two models have in common."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ocrslim.slimming.shared import Shared, shared_part

TEXT = """
    <ir_version: 9, opset_import: ["" : 20]> g (float[1,2] x, float[2] v) => (float[1,2] y)
    { a = Relu(x) b = Add(a, v) c = Mul(a, v) d = Add(b, c) y = Sigmoid(d) }
"""


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    constant = proto.graph.input.pop()
    proto.graph.initializer.append(onnx.helper.make_tensor(constant.name, onnx.TensorProto.FLOAT, [2], [1.0, 2.0]))
    found = ir.from_proto(proto)
    for node in found.graph:
        node.name = str(node.outputs[0].name)
    return found


def test_what_is_behind_a_changed_node_is_not_shared() -> None:
    found = shared_part(model(), lambda node: node.name != "c")
    assert found == Shared(("a", "b"), frozenset(), frozenset({"a", "b"}))


def test_a_constant_that_only_the_shared_part_reads_is_named() -> None:
    assert shared_part(model(), lambda node: node.name != "d").weights == {"v"}


def test_a_first_node_that_is_changed_shares_nothing() -> None:
    assert shared_part(model(), lambda node: node.name != "a") == Shared()
