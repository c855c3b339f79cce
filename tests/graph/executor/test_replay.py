"""A replay is what a whole run would give, and runs only what it has to."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule


class Twice(nn.Module):
    """Doubles, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return twice ``x``."""
        self.count += 1
        return 2 * x


@pytest.fixture
def module() -> GraphModule:
    """Return x -> a = relu x -> b = sigmoid a, c = a + b -> y = softmax c."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "relu"),
        helper.make_node("Sigmoid", ["a"], ["b"], "sigmoid"),
        helper.make_node("Add", ["a", "b"], ["c"], "add"),
        helper.make_node("Softmax", ["c"], ["y"], "softmax"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:])
    return GraphModule(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))).eval()


X = torch.tensor([[-1.0, 0.5, 2.0], [3.0, 0.0, -2.0]])


def test_a_replay_gives_what_a_whole_run_gives(module: GraphModule) -> None:
    values = module(X, fetch=module.value_names())
    module.set_output_hook("b", Twice())
    whole = module(X, fetch=("c", "y"))
    found = module.replay(values, ["sigmoid"], ("c", "y"))
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert not torch.equal(found["c"], values["c"])


def test_stored_values_stay_as_they_are(module: GraphModule) -> None:
    values = module(X, fetch=module.value_names())
    before = {name: value.clone() for name, value in values.items()}
    module.set_output_hook("b", Twice())
    module.replay(values, ["sigmoid"], ("y",))
    assert values.keys() == before.keys()
    assert all(torch.equal(values[name], before[name]) for name in before)


def test_neither_what_comes_before_nor_what_is_not_asked_for_is_run(module: GraphModule) -> None:
    values = module(X, fetch=module.value_names())
    hooks = {name: Twice() for name in ("a", "b", "y")}
    for name, hook in hooks.items():
        module.set_output_hook(name, hook)
    module.replay(values, ["sigmoid"], ("c",))
    assert {name: hook.count for name, hook in hooks.items()} == {"a": 0, "b": 1, "y": 0}


def test_a_value_before_the_replay_is_the_stored_one(module: GraphModule) -> None:
    values = module(X, fetch=module.value_names())
    found = module.replay(values, ["softmax"], ("a", "y"))
    assert torch.equal(found["a"], values["a"])
    assert torch.equal(found["y"], values["y"])


def test_a_value_that_is_needed_and_not_stored_is_named(module: GraphModule) -> None:
    values = dict(module(X, fetch=module.value_names()))
    del values["a"]
    with pytest.raises(ModelError, match="'add' reads 'a'"):
        module.replay(values, ["add"], ("c",))
