"""A cut model is smaller, sound, and computes what the whole one computes with the same channels silenced."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from ocrslim.engines.session import ENGINES, open_session
from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels

Follow = Callable[[str], Channels]
Masked = Callable[[Channels, Collection[int]], ir.Model]


def some_units(channels: Channels, seed: int, groups: float = 0.7) -> list[int]:
    """Return random units of random groups, up to all but one of each."""
    random = np.random.default_rng(seed)
    removed: list[int] = []
    for group in channels.groups:
        if not group.reason and random.random() < groups:
            count = random.integers(1, group.width)
            removed += random.choice(group.units, count, replace=False).tolist()
    return removed


def an_input(name: str, seed: int) -> np.ndarray:
    shape = (2, 3, 48, 160) if name.endswith("rec") else (2, 3, 96, 64)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def logits(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """Run a graph up to what its last Softmax or Sigmoid reads."""
    last = model.graph.outputs[0].producer()
    name = last.inputs[0].name
    with torch.no_grad():
        return GraphModule(model).eval()(torch.from_numpy(x), fetch=[name])[name].numpy()


def far(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference, relative to the largest value where that is above 1."""
    return float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_silenced_model(name: str, followed: Follow, masked: Masked, tmp_path: Path) -> None:
    channels = followed(name)
    removed = some_units(channels, seed=len(name))
    smaller = cut(channels, removed)
    x = an_input(name, 0)
    expected = masked(channels, removed)
    assert far(logits(smaller, x), logits(expected, x)) < 1e-4
    path = tmp_path / "cut.onnx"
    ir.save(smaller, path)
    onnx.checker.check_model(path, full_check=True)
    with torch.no_grad():
        answer = GraphModule(expected).eval()(torch.from_numpy(x)).numpy()
    for engine in ENGINES:
        session = open_session(path, engine, 1)
        assert far(session.run(x), answer) < 1e-4, engine
        assert session.run(an_input(name, 1)[:1]).shape[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_silenced_model_whatever_goes(name: str, seed: int, followed: Follow, masked: Masked) -> None:
    channels = followed(name)
    removed = some_units(channels, seed, groups=(0.2, 0.5, 0.8, 1.0, 1.0)[seed])
    x = an_input(name, seed)
    assert far(logits(cut(channels, removed), x), logits(masked(channels, removed), x)) < 1e-4


@pytest.mark.parametrize("name", ["PP-OCRv4_mobile_rec", "PP-OCRv4_mobile_det"])
def test_is_smaller_and_keeps_its_names(name: str, followed: Follow) -> None:
    channels = followed(name)
    removed = [unit for group in channels.groups if not group.reason for unit in group.units[: group.width // 2]]
    smaller = cut(channels, removed)
    whole = channels.model
    assert [node.name for node in smaller.graph] == [node.name for node in whole.graph]
    assert set(whole.graph.initializers) <= set(smaller.graph.initializers)
    assert [value.name for value in smaller.graph.outputs] == [value.name for value in whole.graph.outputs]
    assert smaller.metadata_props == whole.metadata_props
    sizes = [sum(value.const_value.size for value in model.graph.initializers.values()) for model in (smaller, whole)]
    assert sizes[0] < 0.8 * sizes[1]
    shapes = {value.name: value.shape for node in smaller.graph for value in node.outputs}
    sizes_now = channels.sizes(removed)
    for node in smaller.graph:
        if node.op_type == "Conv":
            output = node.outputs[0].name
            assert shapes[output][1] == sizes_now[output][1], "shapes are inferred anew"


def test_nothing_removed_is_the_same_model(followed: Follow) -> None:
    channels = followed("PP-OCRv6_tiny_rec")
    same = cut(channels, [])
    for name, value in channels.model.graph.initializers.items():
        assert np.array_equal(same.graph.initializers[name].const_value.numpy(), value.const_value.numpy())


def test_the_whole_model_is_not_changed(followed: Follow) -> None:
    channels = followed("PP-OCRv6_tiny_rec")
    before = {name: value.const_value for name, value in channels.model.graph.initializers.items()}
    cut(channels, some_units(channels, 3, groups=1.0))
    assert all(channels.model.graph.initializers[name].const_value is tensor for name, tensor in before.items())


def test_refuses_what_must_stay(followed: Follow) -> None:
    channels = followed("PP-OCRv6_tiny_rec")
    answer = next(group for group in channels.groups if group.reason)
    with pytest.raises(ModelError, match="can't be cut: Softmax"):
        cut(channels, answer.units[:1])
    some = next(group for group in channels.groups if not group.reason)
    with pytest.raises(ModelError, match=f"all {some.width} channels of {some.name} would be cut"):
        cut(channels, some.units)
    with pytest.raises(ModelError, match="no unit 999999999"):
        cut(channels, [999999999])


SHAPE = (1, 3, 8, 16)
X = np.random.default_rng(1).uniform(-1, 1, (2, *SHAPE[1:])).astype(np.float32)
SIZES = {
    "three": np.array([0, 0, -1]),
    "split": np.array([3, 5]),
    "i0": np.array([0]),
    "i1": np.array([1]),
    "i2": np.array([2]),
    "i6": np.array([6]),
    "big": np.array([1 << 60]),
    "roi": np.zeros(0, np.float32),
    "resized": np.array([2, 8, 16, 32]),
}
CUTS = {
    "grouped": ("a = Conv(x, w) g = Conv<group=2>(a, k) y = Conv(g, v)", {"k": (8, 4, 1, 1)}),
    "multiplied depthwise": ("a = Conv(x, w) g = Conv<group=8>(a, k) y = Conv(g, u)", {"k": (16, 1, 3, 3)}),
    "transposed depthwise": (
        "a = Conv(x, w) g = ConvTranspose<group=8, strides=[2,2]>(a, k) y = Conv(g, v)", {"k": (8, 1, 2, 2)}
    ),
    "split in two": ("a = Conv(x, w) p, q = Split<axis=1>(a, split) b = Conv(p, three_in) c = Conv(q, five_in)"
                     " y = Add(b, c)", {"three_in": (4, 3, 1, 1), "five_in": (4, 5, 1, 1)}),
    "split evenly": ("a = Conv(x, w) p, q = Split<axis=1, num_outputs=2>(a) b = Conv(p, t) c = Conv(q, s)"
                     " y = Add(b, c)", {"t": (4, 4, 1, 1), "s": (4, 4, 1, 1)}),
    "slice": ("a = Conv(x, w) p = Slice(a, i2, i6, i1) q = Slice(a, i6, big, i1) b = Conv(p, t) c = Conv(q, s)"
              " y = Add(b, c)", {"t": (4, 4, 1, 1), "s": (4, 2, 1, 1)}),
    "split from the back": ("a = Conv(x, w) p, q = Split<axis=-3>(a, split) b = Conv(p, three_in) c = Conv(q, five_in)"
                            " y = Add(b, c)", {"three_in": (4, 3, 1, 1), "five_in": (4, 5, 1, 1)}),
    "slice from the back": ("a = Conv(x, w) p = Slice(a, i2, i6, back) q = Slice(a, i6, big, back) b = Conv(p, t)"
                            " c = Conv(q, s) y = Add(b, c)",
                            {"t": (4, 4, 1, 1), "s": (4, 2, 1, 1), "back": np.array([-3])}),
    "resize to sizes": ("a = Conv(x, w) r = Resize(a, , , resized) y = Conv(r, v)", {}),
    "batch norm": ("a = Conv(x, w) n = BatchNormalization(a, s, b, m, d) y = Conv(n, v)",
                   {"s": (8,), "b": (8,), "m": (8,), "d": np.full(8, 2, np.float32)}),
    "normalized": ("f = Reshape(x, three) t = Transpose<perm=[0,2,1]>(f) a = MatMul(t, wide)"
                   " n = LayerNormalization(a, s, b) y = MatMul(n, narrow)",
                   {"wide": (3, 8), "s": (8,), "b": (8,), "narrow": (8, 5)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("seed", range(3))
def test_operators_that_name_sizes(kind: str, seed: int, build: Callable[..., ir.Model], masked: Masked) -> None:
    body, constants = CUTS[kind]
    weights = {"w": (8, 3, 1, 1), "v": (5, 8, 1, 1), "u": (5, 16, 1, 1)}
    used = {name: value for name, value in (weights | SIZES | constants).items() if name in body}
    channels = Channels(build(body, used), SHAPE)
    assert any(not group.reason for group in channels.groups)
    removed = some_units(channels, seed, groups=1.0)
    smaller, expected = (in_onnxruntime(model) for model in (cut(channels, removed), masked(channels, removed)))
    assert far(smaller, expected) < 1e-4  # the judge writes a normalization out, which rounds


def in_onnxruntime(model: ir.Model) -> np.ndarray:
    proto = ir.to_proto(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {"x": X})[0]
    return answer


def test_a_shape_that_two_reshapes_share_is_changed_for_one_only(build: Callable[..., ir.Model]) -> None:
    body = (
        "f = Reshape(x, three) t = Transpose<perm=[0,2,1]>(f) a = MatMul(t, w) r = Reshape(a, same) b = MatMul(r, u)"
        " z = Reshape(b, same) s = Softmax(z) y = Relu(s)"
    )
    constants = {"three": np.array([0, 0, -1]), "same": np.array([0, -1, 8]), "w": (3, 8), "u": (8, 8)}
    channels = Channels(build(body, constants), SHAPE)
    group = channels.groups[0]
    smaller = cut(channels, group.units[:3])
    shapes = [node.inputs[1] for node in smaller.graph if node.op_type == "Reshape"][1:]
    assert [value.const_value.numpy().tolist() for value in shapes] == [[0, -1, 5], [0, -1, 8]]


def test_new_weights_are_cut_as_the_old_ones(build: Callable[..., ir.Model]) -> None:
    model = build("a = Conv(x, w) y = Conv(a, v)", {"w": (8, 3, 1, 1), "v": (5, 8, 1, 1)})
    channels = Channels(model, SHAPE)
    new = np.arange(40, dtype=np.float32).reshape(5, 8, 1, 1)
    smaller = cut(channels, channels.groups[0].units[1:], {"v": new})
    assert smaller.graph.initializers["v"].const_value.numpy().ravel().tolist() == [0, 8, 16, 24, 32]
