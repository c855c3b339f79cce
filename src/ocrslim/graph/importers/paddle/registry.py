"""Which function turns which Paddle operator into ONNX nodes: keyed by the classic operator's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation

__all__ = ["Converter", "converted", "converter", "resolve"]

Converter = Callable[[Operation, GraphBuilder], "ir.Value | Sequence[ir.Value]"]
"""Appends nodes and returns the value of the operation's first output slot, or the values of all its names there."""

_CONVERTERS: dict[str, Converter] = {}


def converter(*types: str) -> Callable[[Converter], Converter]:
    """Return a decorator that makes a function the converter of the given operators.

    Raises:
        ValueError: one of them has a converter already.
    """

    def decorate(function: Converter) -> Converter:
        for type_ in types:
            if type_ in _CONVERTERS:
                raise ValueError(f"{type_} has a converter already")
            _CONVERTERS[type_] = function
        return function

    return decorate


def converted() -> frozenset[str]:
    """Return the names of all operators that can be converted."""
    return frozenset(_CONVERTERS)


def resolve(operation: Operation) -> Converter:
    """Return the converter of an operation.

    Raises:
        ModelError: there is none; the text names the operator, the node and the way around.
    """
    found = _CONVERTERS.get(operation.type)
    if found is None:
        raise operation.error("has no converter")
    return found
