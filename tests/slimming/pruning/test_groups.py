"""Which channels hang together, on graphs small enough to tell by hand, and on the ten models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.slimming.pruning.groups import Channels, Group, find_groups

Build = Callable[..., ir.Model]
SHAPE = (1, 3, 8, 16)
AXES = np.array([2, 3])


def groups_of(model: ir.Model) -> dict[str, Group]:
    return {group.name: group for group in find_groups(model, SHAPE)}


def weights_of(group: Group) -> dict[str, tuple[int, str]]:
    return {name: (axis, role) for (name, axis), role in group.weights}


def test_a_convolution_and_what_reads_it(build: Build) -> None:
    model = build("a = Conv(x, w, b) r = Relu(a) y = Conv(r, v)", {"w": (8, 3, 1, 1), "b": (8,), "v": (5, 8, 1, 1)})
    groups = groups_of(model)
    assert set(groups) == {"a", "y"}
    assert groups["a"].width == 8
    assert groups["a"].exact
    assert weights_of(groups["a"]) == {"w": (0, "makes"), "b": (0, "makes"), "v": (1, "reads")}
    assert groups["y"].reason == "the model's answer"


def test_depthwise_filters_go_with_their_channels(build: Build) -> None:
    body = "a = Conv(x, w) d = Conv<group=8, pads=[1,1,1,1]>(a, k) y = Conv(d, v)"
    groups = groups_of(build(body, {"w": (8, 3, 1, 1), "k": (8, 1, 3, 3), "v": (5, 8, 1, 1)}))
    assert set(groups) == {"a", "y"}
    assert weights_of(groups["a"]) == {"w": (0, "makes"), "k": (0, "passes"), "v": (1, "reads")}


def test_several_filters_of_a_channel_are_one_unit(build: Build) -> None:
    body = "a = Conv(x, w) d = Conv<group=4>(a, k) y = Conv(d, v)"
    channels = Channels(build(body, {"w": (4, 3, 1, 1), "k": (8, 1, 3, 3), "v": (5, 8, 1, 1)}), SHAPE)
    units = channels.groups[0].units
    assert channels.units("k")[0].tolist() == np.repeat(units, 2).tolist()
    assert channels.units("v")[1].tolist() == np.repeat(units, 2).tolist()


def test_groups_of_a_convolution_lose_the_same_channels(build: Build) -> None:
    body = "a = Conv(x, w) g = Conv<group=2>(a, k) y = Conv(g, v)"
    channels = Channels(build(body, {"w": (8, 3, 1, 1), "k": (12, 4, 1, 1), "v": (5, 12, 1, 1)}), SHAPE)
    groups = {group.name: group for group in channels.groups}
    assert (groups["a"].width, groups["g"].width) == (4, 6)
    assert channels.units("w")[0].tolist() == [*groups["a"].units] * 2
    assert channels.units("v")[1].tolist() == [*groups["g"].units] * 2


def test_an_addition_ties_what_it_adds(build: Build) -> None:
    body = "a = Conv(x, w) b = Conv(x, u) s = Add(a, b) y = Conv(s, v)"
    groups = groups_of(build(body, {"w": (8, 3, 1, 1), "u": (8, 3, 1, 1), "v": (5, 8, 1, 1)}))
    assert set(groups) == {"a", "y"}
    assert set(weights_of(groups["a"])) == {"w", "u", "v"}


def test_squeeze_and_excitation_has_a_width_of_its_own(build: Build) -> None:
    body = (
        "a = Conv(x, w) p = GlobalAveragePool(a) f = Conv(p, down) r = Relu(f) g = Conv(r, up) h = HardSigmoid(g)"
        " m = Mul(a, h) y = Conv(m, v)"
    )
    shapes = {"w": (8, 3, 1, 1), "down": (4, 8, 1, 1), "up": (8, 4, 1, 1), "v": (5, 8, 1, 1)}
    groups = groups_of(build(body, shapes))
    assert set(groups) == {"a", "f", "y"}
    assert weights_of(groups["a"]) == {
        "w": (0, "makes"), "down": (1, "reads"), "up": (0, "makes"), "v": (1, "reads")
    }  # fmt: skip
    assert weights_of(groups["f"]) == {"down": (0, "makes"), "up": (1, "reads")}


def test_a_concatenation_strings_groups_together(build: Build) -> None:
    body = "a = Conv(x, w) b = Conv(x, u) c = Concat<axis=1>(a, b) y = Conv(c, v)"
    channels = Channels(build(body, {"w": (8, 3, 1, 1), "u": (4, 3, 1, 1), "v": (5, 12, 1, 1)}), SHAPE)
    first, second, last = channels.groups
    assert (first.name, second.name, last.name) == ("a", "b", "y")
    assert channels.units("v")[1].tolist() == [*first.units, *second.units]


def test_a_skip_around_a_concatenation_ties_its_halves(build: Build) -> None:
    body = "a = Conv(x, w) b = Conv(x, u) c = Concat<axis=1>(a, b) d = Conv(x, t) s = Add(c, d) y = Conv(s, v)"
    shapes = {"w": (8, 3, 1, 1), "u": (4, 3, 1, 1), "t": (12, 3, 1, 1), "v": (5, 12, 1, 1)}
    groups = groups_of(build(body, shapes))
    assert {name: group.width for name, group in groups.items()} == {"a": 8, "b": 4, "y": 5}
    assert "t" in weights_of(groups["a"])
    assert "t" in weights_of(groups["b"])


def test_a_transposed_convolution_has_its_inputs_first(build: Build) -> None:
    body = "a = Conv(x, w) t = ConvTranspose<strides=[2,2]>(a, u) y = Conv(t, v)"
    groups = groups_of(build(body, {"w": (8, 3, 1, 1), "u": (8, 6, 2, 2), "v": (5, 6, 1, 1)}))
    assert weights_of(groups["a"])["u"] == (0, "reads")
    assert weights_of(groups["t"])["u"] == (1, "makes")


def test_a_transposed_depthwise_convolution(build: Build) -> None:
    body = "a = Conv(x, w) t = ConvTranspose<strides=[2,2], group=8>(a, u) y = Conv(t, v)"
    groups = groups_of(build(body, {"w": (8, 3, 1, 1), "u": (8, 1, 2, 2), "v": (5, 8, 1, 1)}))
    assert set(groups) == {"a", "y"}
    assert weights_of(groups["a"])["u"] == (0, "passes")


def test_constants_along_channels_shrink_and_scalars_do_not(build: Build) -> None:
    body = "a = Conv(x, w) m = Mul(a, scale) s = Add(m, one) y = Conv(s, v)"
    shapes = {"w": (8, 3, 1, 1), "scale": (1, 8, 1, 1), "one": (1,), "v": (5, 8, 1, 1)}
    weights = weights_of(groups_of(build(body, shapes))["a"])
    assert weights["scale"] == (1, "passes")
    assert "one" not in weights


ATTENTION = (
    "f = Reshape(x, three) t = Transpose<perm=[0,2,1]>(f) p = MatMul(t, qkv) r = Reshape(p, five)"
    " u = Transpose<perm=[2,0,3,1,4]>(r) q1 = Slice(u, i0, i1, i0) q = Squeeze(q1, i0)"
    " k1 = Slice(u, i1, i2, i0) k = Squeeze(k1, i0) v1 = Slice(u, i2, i3, i0) v = Squeeze(v1, i0)"
    " kt = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, kt) a = Softmax(s) o = MatMul(a, v)"
    " h = Transpose<perm=[0,2,1,3]>(o) m = Reshape(h, merged) y = MatMul(m, proj)"
)


def attention(build: Build) -> ir.Model:
    """Two heads of four channels; three tokens' channels come from the image itself."""
    sizes = {"three": [0, 0, -1], "five": [0, -1, 3, 2, 4], "merged": [0, -1, 8]}
    constants = {name: np.array(value) for name, value in sizes.items()}
    constants |= {f"i{number}": np.array([number]) for number in range(4)}
    return build(ATTENTION, constants | {"qkv": (3, 24), "proj": (8, 6)})


def test_heads_of_attention_lose_the_same_channels_in_queries_keys_and_values(build: Build) -> None:
    channels = Channels(attention(build), SHAPE)
    group = channels.groups[0]
    assert (group.name, group.width, group.reason) == ("p", 4, "")
    assert channels.units("qkv")[1].tolist() == [*group.units] * 6
    assert channels.units("proj")[0].tolist() == [*group.units] * 2


def test_normalized_channels_can_go_but_not_exactly(build: Build) -> None:
    body = "t = Transpose<perm=[0,2,3,1]>(x) a = MatMul(t, w) n = LayerNormalization(a, s, b) y = MatMul(n, v)"
    group = groups_of(build(body, {"w": (3, 8), "s": (8,), "b": (8,), "v": (8, 5)}))["a"]
    assert not group.reason
    assert not group.exact
    assert weights_of(group)["s"] == (0, "passes")


def test_gemm_in_both_orders(build: Build) -> None:
    body = "p = GlobalAveragePool(x) f = Flatten(p) a = Gemm(f, w, b) y = Gemm<transB=1>(a, v)"
    weights = weights_of(groups_of(build(body, {"w": (3, 8), "b": (8,), "v": (5, 8)}))["a"])
    assert weights == {"w": (1, "makes"), "b": (0, "makes"), "v": (1, "reads")}


@pytest.mark.parametrize(
    ("body", "constants", "words"),
    [
        ("a = Conv(x, w) s = Softmax<axis=1>(a) y = Conv(s, v)", {}, "share depends on all"),
        ("a = Conv(x, w) s = ReduceMean(a, one) m = Mul(a, s) y = Conv(m, v)", {"one": np.array([1])}, "sums up"),
        ("a = Conv(x, w) s = CumSum(a, zero) y = Conv(s, v)", {"zero": np.array(1)}, "can't be followed"),
        ("a = Conv(x, w) s = Reshape(a, n) y = Reshape(s, n)", {"n": np.array([0, -1])}, "mixed with others"),
        ("a = Conv(x, w) y = Conv(a, v) z = Identity(y)", {}, ""),
        (
            "a = Conv(x, w) s = Slice(a, i0, i8, i1, i2) b = Conv(s, u) y = Relu(b)",
            {"u": (5, 4, 1, 1)} | {f"i{number}": np.array([number]) for number in (0, 1, 2, 8)},
            "every 2th",
        ),
    ],
)
def test_what_cannot_be_followed_is_left_whole_with_a_reason(
    build: Build, body: str, constants: dict[str, object], words: str
) -> None:
    group = groups_of(build(body, {"w": (8, 3, 1, 1), "v": (5, 8, 1, 1)} | constants))["a"]
    assert words in group.reason
    assert bool(group.reason) == bool(words)


def test_channels_that_no_layer_reads_stay(build: Build) -> None:
    body = "a = Conv(x, w) b = Conv(x, u) p = ReduceMax(a, axes) y = Mul(p, b)"
    groups = groups_of(build(body, {"w": (8, 3, 1, 1), "u": (8, 3, 1, 1), "axes": AXES}))
    assert groups["a"].reason == "the model's answer"


def test_a_model_whose_shapes_cannot_be_inferred_is_told_so(build: Build) -> None:
    body = "n = NonZero(x) f = Cast<to=1>(n) y = Relu(f)"
    with pytest.raises(ModelError, match="the shape of 'n' can't be inferred"):
        find_groups(build(body, {}), SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_every_group_of_the_ten_models_but_the_answer_can_be_cut(
    name: str, followed: Callable[[str], Channels]
) -> None:
    channels = followed(name)
    whole = [group for group in channels.groups if group.reason]
    assert len(whole) == 1
    assert ("Softmax" if name.endswith("rec") else "answer") in whole[0].reason
    assert len({group.name for group in channels.groups}) == len(channels.groups)
    units = [unit for group in channels.groups for unit in group.units]
    assert len(set(units)) == len(units)
    # Every convolution's outputs belong to a group.
    made = {name for group in channels.groups for (name, _), _ in group.weights}
    convolutions = [node for node in channels.model.graph if node.op_type in ("Conv", "ConvTranspose")]
    assert {str(node.inputs[1].name) for node in convolutions} <= made
