from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]

CHAIN = "a = Conv(x, w, b) c = Relu(a) d = Mul(c, s) e = MatMul(d, m) y = Sigmoid(e)"


def constants() -> dict[str, Any]:
    random = np.random.default_rng(3)
    return {
        "w": random.standard_normal((4, 3, 1, 1)).astype(np.float32),
        "b": random.standard_normal(4).astype(np.float32),
        "s": np.float32(0.5),
        "m": random.standard_normal((5, 2)).astype(np.float32),
    }


@pytest.fixture
def chain(build: Build) -> GraphModule:
    return GraphModule(build(CHAIN, constants(), x="float[N,3,H,5]"))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.factor


def test_sizes_may_differ_from_call_to_call(chain: GraphModule, build: Build, judge: Judge) -> None:
    model = build(CHAIN, constants(), x="float[N,3,H,5]")
    for shape in ((1, 3, 2, 5), (3, 3, 7, 5)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(chain(torch.from_numpy(x)).detach(), judge(model, x), atol=1e-6)


def test_fetch_returns_what_is_named_and_runs_no_more(chain: GraphModule) -> None:
    late = Scaled(1.0)
    chain.set_input_hook("Sigmoid_4", 0, late)
    x = torch.randn(1, 3, 2, 5)
    values = chain(x, fetch=["c", "a", "x", "w"])
    assert list(values) == ["c", "a", "x", "w"]
    assert torch.equal(values["c"], values["a"].relu())
    assert values["x"] is x
    assert values["w"] is chain.parameter("w")
    assert late.calls == 0
    assert torch.equal(chain(x, fetch=["y"])["y"], chain(x))
    assert late.calls == 2


def test_what_is_given_is_not_computed(chain: GraphModule) -> None:
    x, early = torch.randn(1, 3, 2, 5), Scaled(1.0)
    known = chain(x, fetch=["c"])
    chain.set_output_hook("a", early)
    assert torch.equal(chain(x, fetch=["y"], given=known)["y"], chain(x, fetch=["y"])["y"])
    assert early.calls == 1
    assert torch.equal(
        chain(x, fetch=["y"], given={"c": 0 * known["c"]})["y"],
        chain(0 * x, fetch=["y"], given={"c": 0 * known["c"]})["y"],
    )


def test_fetch_of_an_unknown_name_says_so(chain: GraphModule) -> None:
    with pytest.raises(ModelError, match="no value of the graph is named 'nowhere'"):
        chain(torch.zeros(1, 3, 2, 5), fetch=["nowhere"])


def test_weights_are_parameters_by_the_names_of_the_initializers(chain: GraphModule) -> None:
    assert {name for name, _ in chain.named_initializers()} == {"w", "b", "s", "m"}
    assert chain.parameter("w").shape == (4, 3, 1, 1)
    assert {id(parameter) for parameter in chain.parameters()} == {id(p) for _, p in chain.named_initializers()}
    with pytest.raises(ModelError, match="'y' is no trained initializer"):
        chain.parameter("y")


def test_names_with_dots_percents_and_words_of_torch_live_together(build: Build) -> None:
    model = build("y = Add(x, one)", {"one": np.float32(1)})
    for name in ("conv.w_0", "conv%2Ew_0", "training", "weight/0", "forward"):
        value = ir.Value(name=name, const_value=ir.tensor(np.full(1, len(name), np.float32), name=name))
        model.graph.register_initializer(value)
    module = GraphModule(model)
    for name in ("conv.w_0", "conv%2Ew_0", "training", "weight/0", "forward"):
        assert module.parameter(name).item() == len(name)
    assert len(module.state_dict()) == 6


def test_a_weight_that_two_nodes_read_is_one_parameter(build: Build) -> None:
    model = build("a = Mul(x, w) y = Add(a, w)", {"w": np.float32([2.0])})
    module = GraphModule(model)
    assert len(list(module.parameters())) == 1
    x = torch.full((1, 3, 1, 1), 5.0)
    module(x).sum().backward()
    assert module.parameter("w").grad.item() == pytest.approx(3 * (5 + 1))


def test_what_steers_an_operator_is_not_trained(build: Build) -> None:
    body = "a = Clip(x, l, h) b = Pow(a, p) y = Resize(b, r, s)"
    fixed = {"l": np.float32(0), "h": np.float32(6), "p": np.float32(2), "r": np.zeros(0, np.float32)}
    module = GraphModule(build(body, fixed | {"s": np.float32([1, 1, 2, 2])}))
    assert list(module.parameters()) == []
    assert len(list(module.buffers())) == 5
    assert module(torch.full((1, 3, 1, 1), 9.0)).flatten().tolist() == [36.0] * 12


def test_constant_nodes_are_weights_too(build: Build) -> None:
    module = GraphModule(build("w = Constant<value=float[2]{1.0, 3.0}>() y = Mul(x, w)", x="float[2]"))
    assert module.parameter("w").tolist() == [1.0, 3.0]
    with torch.no_grad():
        module.parameter("w").mul_(2)
    written = GraphModule(module.to_ir())
    assert written(torch.ones(2)).tolist() == [2.0, 6.0]


def test_an_input_hook_reaches_one_node_alone(build: Build) -> None:
    module = GraphModule(build("a = Relu(x) b = Mul(a, k) c = Add(a, k) y = Add(b, c)", {"k": np.float32(10)}))
    x = torch.ones(1, 3, 1, 1)
    assert module(x).flatten()[0].item() == 10 + 11
    module.set_input_hook("Mul_1", 0, Scaled(3.0))
    assert module(x).flatten()[0].item() == 30 + 11
    module.set_input_hook("Add_2", 1, Scaled(0.0))
    assert module(x).flatten()[0].item() == 30 + 1
    assert module.parameter("k").item() == 10
    module.clear_hooks()
    assert module(x).flatten()[0].item() == 21
    assert list(module.hooks) == []


def test_an_output_hook_reaches_every_reader_and_the_fetch(build: Build) -> None:
    module = GraphModule(build("a = Relu(x) b = Mul(a, k) c = Add(a, k) y = Add(b, c)", {"k": np.float32(10)}))
    module.set_output_hook("a", Scaled(2.0))
    values = module(torch.ones(1, 3, 1, 1), fetch=["a", "y"])
    assert values["a"].flatten()[0].item() == 2
    assert values["y"].flatten()[0].item() == 20 + 12


def test_the_graphs_input_can_be_hooked(chain: GraphModule) -> None:
    hook = Scaled(2.0)
    x = torch.randn(1, 3, 2, 5)
    doubled = chain(2 * x)
    chain.set_output_hook("x", hook)
    assert torch.allclose(chain(x), doubled)
    assert hook.calls == 1


def test_a_shared_hook_is_one_submodule_and_learns(chain: GraphModule) -> None:
    hook = Scaled(1.0)
    chain.set_input_hook("Conv_0", 0, hook)
    chain.set_input_hook("Relu_1", 0, hook)
    chain.set_input_hook("Conv_0", 1, Scaled(1.0))
    assert len(chain.hooks) == 2
    assert len(list(chain.parameters())) == 4 + 2
    chain(torch.randn(1, 3, 2, 5)).sum().backward()
    assert hook.factor.grad is not None
    assert hook.factor.grad.item() != 0.0
    assert {name for name in chain.state_dict() if name.startswith("hooks.")} == {"hooks.0.factor", "hooks.1.factor"}


@pytest.mark.parametrize(("node", "index"), [("Nowhere", 0), ("Relu_1", 1), ("Relu_1", -1)])
def test_a_hook_needs_a_place(chain: GraphModule, node: str, index: int) -> None:
    with pytest.raises(ModelError, match=r"no node of the graph is named|has no input"):
        chain.set_input_hook(node, index, nn.Identity())
    with pytest.raises(ModelError, match="no value of the graph"):
        chain.set_output_hook("nowhere", nn.Identity())
    assert len(chain.hooks) == 0


def test_to_ir_writes_the_present_weights_and_nothing_else(chain: GraphModule, judge: Judge) -> None:
    with torch.no_grad():
        chain.parameter("b").add_(1.0)
    chain.set_output_hook("a", Scaled(7.0))  # hooks are no part of the graph
    model = chain.to_ir()
    chain.clear_hooks()
    x = np.random.default_rng(0).standard_normal((1, 3, 2, 5)).astype(np.float32)
    np.testing.assert_allclose(judge(model, x), chain(torch.from_numpy(x)).detach(), atol=1e-6)
    assert [node.name for node in model.graph] == [node.name for node in chain.model.graph]
    old = constants()
    for name, value in model.graph.initializers.items():
        written = value.const_value.numpy()
        assert written.dtype == np.float32
        np.testing.assert_allclose(written, old[name] + (name == "b"), atol=1e-6)


def test_to_ir_keeps_the_type_of_the_weights(chain: GraphModule) -> None:
    model = chain.double().to_ir()
    assert {value.const_value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT}


def test_the_given_model_is_not_touched(build: Build) -> None:
    model = build(CHAIN, constants(), x="float[N,3,H,5]")
    before = ir.to_proto(model).SerializeToString()
    module = GraphModule(model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    module.to_ir()
    assert ir.to_proto(model).SerializeToString() == before
    assert module.model is not model


def test_values_are_freed_when_no_step_reads_them_any_more(chain: GraphModule) -> None:
    alive: list[weakref.ref[Tensor]] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            copy = x.clone()
            alive.append(weakref.ref(copy))
            return copy

    class Check(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert alive[0]() is None
            return x

    chain.set_output_hook("a", Watch())
    chain.set_output_hook("e", Check())
    with torch.no_grad():
        chain(torch.randn(1, 3, 2, 5))
    assert len(alive) == 1


def test_several_inputs_or_outputs_are_told(build: Build) -> None:
    model = build("a = Relu(x) y = Relu(a)")
    model.graph.outputs.append(next(iter(model.graph)).outputs[0])
    module = GraphModule(model)
    with pytest.raises(ModelError, match="the outputs y, a: name what to fetch"):
        module(torch.zeros(1, 3, 1, 1))
    assert set(module(torch.zeros(1, 3, 1, 1), fetch=["a", "y"])) == {"a", "y"}
    model.graph.inputs.append(ir.Value(name="other", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT)))
    with pytest.raises(ModelError, match="the inputs x, other; exactly one"):
        GraphModule(model)


def test_unknown_operators_and_doubled_names_are_told_at_construction(build: Build) -> None:
    with pytest.raises(ModelError, match=r"ai\.onnx::Tan-7 of node 'Tan_0'"):
        GraphModule(build("y = Tan(x)"))
    model = build("a = Relu(x) y = Relu(a)")
    for node in model.graph:
        node.name = "same"
    with pytest.raises(ModelError, match="named 'same'; canonicalize the model first"):
        GraphModule(model)


def test_half_a_state_dict_is_loaded_by_name(chain: GraphModule, build: Build) -> None:
    other = GraphModule(build(CHAIN, {name: value * 0 for name, value in constants().items()}, x="float[N,3,H,5]"))
    other.load_state_dict(chain.state_dict())
    x = torch.randn(1, 3, 2, 5)
    assert torch.equal(other(x), chain(x))
