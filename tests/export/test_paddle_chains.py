"""Chains in programs written by hand: what is folded becomes neutral, and the bias finds its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ocrslim.export.learned import Bias, Learned
from ocrslim.export.paddle_chains import Chain, Chains, argument, set_argument
from ocrslim.export.paddle_quant import make_op, set_attribute
from ocrslim.graph.importers.paddle.framework import AttributeType, message
from ocrslim.graph.importers.paddle.program import Program

Array = np.ndarray[Any, np.dtype[Any]]

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(4, 2, 1, 1)).astype(np.float32)
BATCH_NORM = {"Scale": "bn.w", "Bias": "bn.b", "Mean": "bn.m", "Variance": "bn.v"}
OUT = ("Out", "Y", "Output")


def program_of(*ops: Any) -> Program:
    desc = message("ProgramDesc")
    desc.blocks.add(idx=0, parent_idx=-1).ops.extend(ops)
    return Program(desc)


def conv(source: str = "x", made: str = "c", weight: str = "w") -> Any:
    return make_op("conv2d", {"Input": source, "Filter": weight}, {"Output": made}, {})


def binary(kind: str, source: str, constant: str, made: str) -> Any:
    return make_op(f"elementwise_{kind}", {"X": source, "Y": constant}, {"Out": made}, {})


def batch_norm(source: str, made: str) -> Any:
    epsilon = {"epsilon": (AttributeType.FLOAT, 1e-3)}
    return make_op("batch_norm", {"X": source, **BATCH_NORM}, {"Y": made}, epsilon)


def learned(biases: Mapping[str, Bias | None], *floats: str) -> Learned:
    return Learned({name: np.ones(1, np.float32) for name in floats}, {}, biases, ())


def chain_of(ops: list[Any], parameters: dict[str, Array], held: Learned) -> Chain:
    found = Chains(program_of(*ops), {"w": WEIGHT, **parameters}, held).find()
    return found[0][2]


def channels(*names: str) -> dict[str, Array]:
    return {name: RNG.normal(size=4).astype(np.float32) for name in names}


def test_a_folded_batch_norm_becomes_the_identity_and_takes_the_bias() -> None:
    parameters = channels(*BATCH_NORM.values())
    chain = chain_of([conv(), batch_norm("c", "y")], parameters, learned({"w": Bias("conv.bias", np.ones(4))}))
    assert chain.places == ["bn.b"]
    assert chain.neutral["bn.m"] == pytest.approx(np.zeros(4))
    # (y - mean) / sqrt(variance + epsilon) * scale + bias = y + bias
    assert np.sqrt(chain.neutral["bn.v"] + np.float32(1e-3)) == pytest.approx(np.ones(4), abs=1e-7)
    assert chain.neutral["bn.w"] == pytest.approx(np.ones(4))


def test_a_batch_norm_that_our_graph_has_is_left_alone() -> None:
    parameters = channels(*BATCH_NORM.values())
    chain = chain_of([conv(), batch_norm("c", "y")], parameters, learned({"w": None}, *BATCH_NORM.values()))
    assert chain == Chain()


def test_a_chain_of_four_is_followed_to_its_end() -> None:
    parameters = channels("b0", "m", "b1") | {"s": np.ones(1, np.float32), "later": np.ones(1, np.float32)}
    ops = [
        conv(),
        binary("add", "c", "b0", "1"),
        binary("mul", "1", "m", "2"),
        binary("div", "2", "s", "3"),
        binary("sub", "3", "b1", "4"),
        binary("mul", "4", "later", "y"),
    ]
    chain = chain_of(ops, parameters, learned({"w": Bias("b0", np.ones(4))}, "later"))
    assert {name: float(array.reshape(-1)[0]) for name, array in chain.neutral.items()} == {
        "b0": 0.0,
        "m": 1.0,
        "s": 1.0,
        "b1": 0.0,
    }
    assert chain.places == ["b0"]  # what is subtracted is no place
    assert all(chain.neutral[name].shape == parameters[name].shape for name in chain.neutral)


def test_the_constant_that_our_graph_calls_the_bias_comes_first() -> None:
    parameters = channels("first", "second")
    ops = [conv(), binary("add", "c", "first", "1"), binary("add", "1", "second", "y")]
    assert chain_of(ops, parameters, learned({"w": Bias("second", np.ones(4))})).places == ["second", "first"]
    assert chain_of(ops, parameters, learned({"w": Bias("new", np.ones(4))})).places == ["first", "second"]


def test_one_number_for_all_channels_is_no_place_for_a_bias() -> None:
    chain = chain_of([conv(), binary("add", "c", "b", "y")], {"b": np.ones(1, np.float32)}, learned({"w": None}))
    assert (chain.places, list(chain.neutral)) == ([], ["b"])


def test_a_value_with_two_readers_ends_the_chain() -> None:
    ops = [conv(), make_op("relu", {"X": "c"}, {"Out": "r"}, {}), binary("add", "c", "b", "y")]
    assert chain_of(ops, channels("b"), learned({"w": None})) == Chain()


def test_a_squeeze_is_looked_through() -> None:
    squeeze = make_op("squeeze2", {"X": "c"}, {"Out": "q"}, {})
    chain = chain_of([conv(), squeeze, binary("add", "q", "b", "y")], channels("b"), learned({"w": None}))
    assert chain.places == ["b"]


def test_what_was_folded_forward_becomes_neutral_too_but_takes_no_bias() -> None:
    parameters = {"s": np.full(2, 3.0, np.float32), "t": np.full(2, 5.0, np.float32)}
    ops = [binary("mul", "x", "s", "1"), binary("add", "1", "t", "2"), conv("2", "y")]
    chain = chain_of(ops, parameters, learned({"w": Bias("new", np.ones(4))}))
    assert chain.neutral["s"].tolist() == [1.0, 1.0]
    assert chain.neutral["t"].tolist() == [0.0, 0.0]
    assert chain.places == []


def test_between_two_convolutions_an_operator_belongs_to_the_first() -> None:
    parameters = {"v": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32), **channels("b")}
    ops = [conv(), binary("add", "c", "b", "1"), conv("1", "y", "v")]
    held = learned({"w": Bias("b", np.ones(4)), "v": Bias("v.bias", np.ones(4))})
    found = Chains(program_of(*ops), {"w": WEIGHT, **parameters}, held).find()
    assert [(output, weight, list(chain.neutral)) for output, weight, chain in found] == [
        ("c", "w", ["b"]),
        ("y", "v", []),
    ]


def test_a_convolution_that_our_graph_lacks_is_passed_over() -> None:
    assert Chains(program_of(conv()), {"w": WEIGHT}, learned({})).find() == []


@pytest.mark.parametrize(("groups", "size"), [(1, 3), (2, 6)])
def test_a_transposed_convolution_counts_its_channels_by_groups(groups: int, size: int) -> None:
    op = make_op("conv2d_transpose", {"Input": "x", "Filter": "w"}, {"Output": "c"}, {})
    set_attribute(op, "groups", AttributeType.INT, groups)
    weight = np.ones((4, 3, 2, 2), np.float32)
    add = binary("add", "c", "b", "y")
    held = learned({"w": Bias("b", np.ones(size))})
    found = Chains(program_of(op, add), {"w": weight, "b": np.ones(size, np.float32)}, held).find()
    assert found[0][2].places == ["b"]


def test_arguments_are_found_by_role_and_replaced_by_name() -> None:
    op = binary("add", "x", "x", "y")
    assert [argument(op, role) for role in ("X", "Y", "Out", "Z")] == ["x", "x", "y", ""]
    assert argument(op, "Out", op.inputs) == ""
    set_argument(op, "x", "z")
    assert [argument(op, role) for role in ("X", "Y", "Out")] == ["z", "z", "y"]
