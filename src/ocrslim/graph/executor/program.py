"""An ONNX graph as a list of steps, and which of them a set of wanted values needs."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.errors import ModelError
from ocrslim.graph.executor.registry import OpFunction, resolve

__all__ = ["Plan", "Step", "compile_steps", "constants_of", "plan", "to_torch"]


@dataclass(frozen=True)
class Step:
    """One node, ready to run.

    Args:
        node: its name.
        op_type: its operator.
        function: takes the inputs by position; the attributes are bound.
        inputs: names of values; ``None`` for an omitted one.
        outputs: names of values; an empty one is not wanted.
    """

    node: str
    op_type: str
    function: OpFunction
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The steps to run for some values.

    Args:
        steps: in order; each with the names of the values that no later step reads.
        constants: names of the constants that the steps read.
    """

    steps: tuple[tuple[Step, tuple[str, ...]], ...]
    constants: tuple[str, ...] = field(default=())


def compile_steps(model: ir.Model) -> list[Step]:
    """Return a step for each node that computes something, in the graph's order.

    Raises:
        ModelError: an operator or an attribute is not supported, or a node lacks a name or has the name of another.
    """
    model.graph.sort()
    steps = []
    seen: set[str] = set()
    for node in model.graph:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            continue
        if not node.name or node.name in seen:
            raise ModelError(f"two nodes, or none, are named {node.name!r}; canonicalize the model first")
        seen.add(node.name)
        opset = model.graph.opset_imports.get(node.domain, 1)
        function = resolve(node, opset)
        inputs = tuple(None if value is None else value.name for value in node.inputs)
        outputs = tuple(value.name or "" for value in node.outputs)
        steps.append(Step(node.name, node.op_type, partial(function, **_attributes(node, function)), inputs, outputs))
    return steps


def constants_of(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Return the tensors of all initializers and ``Constant`` nodes by the name of their value.

    Raises:
        ModelError: one of them has no value.
    """
    found: dict[str, ir.TensorProtocol] = {}
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            raise ModelError(f"initializer {name!r} has no value")
        found[name] = value.const_value
    for node in model.graph:
        if node.op_type == "Constant" and node.outputs[0].name:
            tensor = ir.convenience.get_const_tensor(node.outputs[0])
            if tensor is None:
                raise ModelError(f"constant {node.outputs[0].name!r} has no value")
            found[node.outputs[0].name] = tensor
    return found


def plan(steps: Sequence[Step], wanted: Iterable[str], given: Collection[str], constants: Collection[str]) -> Plan:
    """Choose the steps that ``wanted`` needs and see where each value is read for the last time.

    Args:
        steps: of the whole graph, in order.
        wanted: names of values.
        given: names of the graph's inputs, and of other values that are known.
        constants: names of the constants.

    Raises:
        ModelError: no step makes one of the values.
    """
    wanted = tuple(wanted)
    makers = {name: number for number, step in enumerate(steps) for name in step.outputs if name and name not in given}
    needed: set[int] = set()
    pending = list(wanted)
    read: set[str] = set()
    while pending:
        name = pending.pop()
        if name in read:
            continue
        read.add(name)
        if name in makers:
            needed.add(makers[name])
            pending += [value for value in steps[makers[name]].inputs if value]
        elif name not in given and name not in constants:
            raise ModelError(f"no value of the graph is named {name!r}")
    chosen = [steps[number] for number in sorted(needed)]
    kept = set(wanted)
    last_reader: dict[str, int] = {}
    for number, step in enumerate(chosen):
        for value in (*step.outputs, *step.inputs):
            if value and value not in kept:
                last_reader[value] = number
    dead: list[list[str]] = [[] for _ in chosen]
    for name, number in last_reader.items():
        dead[number].append(name)
    return Plan(
        tuple((step, tuple(names)) for step, names in zip(chosen, dead, strict=True)),
        tuple(sorted(name for name in read if name in constants)),
    )


def to_torch(tensor: ir.TensorProtocol) -> Tensor:
    """Return a copy of an ONNX tensor.

    Raises:
        ModelError: torch has no such type.
    """
    array = tensor.numpy()
    try:
        return torch.from_numpy(np.array(array, copy=True, order="C")).reshape(array.shape)
    except TypeError as error:
        raise ModelError(f"tensor {tensor.name!r} has the type {tensor.dtype.name}, which is not supported") from error


def _attributes(node: ir.Node, function: OpFunction) -> dict[str, Any]:
    """Return the attributes as keyword arguments, and ``num_outputs`` where the function asks for it."""
    accepted = {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    arguments: dict[str, Any] = {}
    for name, attribute in node.attributes.items():
        if name not in accepted:
            raise ModelError(f"attribute {name!r} of {node.op_type} node {node.name!r} is not supported")
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            value = to_torch(value)
        arguments[name] = value
    if "num_outputs" in accepted:
        arguments["num_outputs"] = sum(1 for value in node.outputs if value.name)
    return arguments
