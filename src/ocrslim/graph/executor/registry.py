"""Which function computes which ONNX operator: keyed by domain, operator and the version of its schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import onnx
import onnx_ir as ir

from ocrslim.errors import ModelError

__all__ = ["OpFunction", "OpKey", "register", "registered", "resolve"]

OpFunction = Callable[..., Any]
"""Takes the node's inputs (tensors, ``None`` for an omitted one) by position and its attributes by keyword; returns
a tensor, or a tuple of them for an operator with several outputs."""


Function = TypeVar("Function", bound=OpFunction)


class OpKey(NamedTuple):
    """An operator as its schema names it; ``since_version`` is the opset in which that schema came up."""

    domain: str
    op_type: str
    since_version: int

    def __str__(self) -> str:
        return f"{self.domain or 'ai.onnx'}::{self.op_type}-{self.since_version}"


_FUNCTIONS: dict[OpKey, OpFunction] = {}


def register(op_type: str, *since_versions: int, domain: str = "") -> Callable[[Function], Function]:
    """Return a decorator that makes a function the implementation of the given versions of an operator.

    Args:
        op_type: as in the ONNX schema.
        since_versions: each schema version that the function computes.
        domain: empty for the ONNX operators.

    Raises:
        ValueError: one of the versions has an implementation already.
    """

    def decorate(function: Function) -> Function:
        for version in since_versions:
            key = OpKey(domain, op_type, version)
            if key in _FUNCTIONS:
                raise ValueError(f"{key} is computed by {_FUNCTIONS[key].__qualname__} already")
            _FUNCTIONS[key] = function
        return function

    return decorate


def registered() -> frozenset[OpKey]:
    """Return the keys of all operators that have an implementation."""
    return frozenset(_FUNCTIONS)


def resolve(node: ir.Node, opset: int) -> OpFunction:
    """Return the function that computes ``node``.

    Args:
        node: of the graph.
        opset: version of the node's domain that the model imports.

    Raises:
        ModelError: there is none; the text names the full key, the node and the way around.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    key = OpKey(domain, node.op_type, _since_version(node.op_type, domain, opset))
    function = _FUNCTIONS.get(key)
    if function is None:
        raise ModelError(
            f"operator {key} of node {node.name!r} can't be run here; to go on, give it an implementation:"
            f" ocrslim.graph.executor.registry.register({key.op_type!r}, {key.since_version}, domain={domain!r})"
        )
    return function


def _since_version(op_type: str, domain: str, opset: int) -> int:
    """Return the schema version that an opset means; the opset itself for an operator that ONNX doesn't know."""
    try:
        return int(onnx.defs.get_schema(op_type, opset, domain).since_version)
    except onnx.defs.SchemaError:
        return opset
