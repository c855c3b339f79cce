"""What is shared computes the same in both models, and is all that comes before the first cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.shared import find_shared
from ocrslim.slimming.shared import Shared

Follow = Callable[[str], Channels]


@pytest.mark.parametrize("name", ["PP-OCRv3_mobile_det", "PP-OCRv4_mobile_rec", "PP-OCRv6_tiny_det"])
def test_the_smaller_model_goes_on_from_the_whole_one(name: str, followed: Follow) -> None:
    channels = followed(name)
    groups = [group for group in channels.groups if not group.reason]
    smaller = cut(channels, groups[len(groups) // 2].units[:1])
    shared = find_shared(channels.model, smaller)
    assert shared.values
    assert shared.weights
    assert set(shared.values) <= shared.inside
    shape = (2, 3, 48, 160) if name.endswith("rec") else (2, 3, 96, 64)
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))
    student, last = GraphModule(smaller).eval(), smaller.graph.outputs[0].name
    own = [weight for name, weight in student.named_initializers() if name in shared.weights]
    assert own
    for weight in own:  # nothing behind reads them
        weight.data.zero_()
    with torch.no_grad():
        given = GraphModule(channels.model).eval()(x, fetch=shared.values)
        found = student(x, fetch=[last], given=given)[last]
        assert torch.equal(found, GraphModule(smaller).eval()(x))


def test_nothing_is_shared_where_the_first_layer_is_cut(followed: Follow) -> None:
    channels = followed("PP-OCRv4_mobile_rec")
    first = next(group for group in channels.groups if not group.reason)
    assert find_shared(channels.model, cut(channels, first.units[:8])) == Shared()


def test_a_layer_with_other_weights_is_not_shared(followed: Follow) -> None:
    channels = followed("PP-OCRv4_mobile_rec")
    first = next(node for node in channels.model.graph if node.op_type == "Conv")
    weight = first.inputs[1]
    values = weight.const_value.numpy() + 1
    smaller = cut(channels, (), {weight.name: values})
    assert find_shared(channels.model, smaller) == Shared()
    assert find_shared(channels.model, cut(channels, ())).values == (), "what is shared as a whole hands nothing on"


SPLIT = """
<ir_version: 8, opset_import: ["": 18]>
net (float[1,4,2,2] x) => (float[1,2,2,2] a, float[1,2,2,2] b) { a, b = Split <axis = 1, num_outputs = 2> (x) }
"""


def test_a_node_with_other_inputs_is_not_shared() -> None:
    whole = ir.serde.deserialize_model(onnx.parser.parse_model(SPLIT))
    smaller = whole.clone()
    assert find_shared(whole, smaller).inside == {"a", "b"}
    smaller.graph[0].resize_inputs(2)
    assert find_shared(whole, smaller).inside == frozenset()
