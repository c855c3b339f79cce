"""A Paddle model as both readers tell it: ``.pdmodel`` and PIR ``.json`` come out alike, for one converter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ocrslim.errors import ModelError

__all__ = ["Network", "Operation", "Variable"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Variable:
    """What the model says about a value.

    Args:
        shape: sizes, -1 for an open one; ``None`` where the rank is unknown.
        dtype: of an element; ``None`` for what is no tensor.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None


@dataclass(frozen=True)
class Operation:
    """One operation, in the words of Paddle's classic operators (``conv2d``, slot ``Input``, attribute ``strides``).

    Args:
        type: the classic operator.
        inputs: names of values by slot; a slot that is not given is missing.
        outputs: names of values by slot, the main one first.
        attributes: plain Python values; element types are numpy dtypes.
        said: the operator as the file spells it, for messages.
    """

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""

    @property
    def name(self) -> str:
        """The name of its first output, which is the name of its ONNX node too."""
        return next((names[0] for names in self.outputs.values() if names), self.type)

    def error(self, problem: str) -> ModelError:
        """Return an error about this operation: its operator, its node, the problem and what to do."""
        return ModelError(
            f"operator {self.said or self.type} of node {self.name!r}: {problem}; convert the model to ONNX with"
            " another tool and give that file, or give the operator a converter in"
            " ocrslim.graph.importers.paddle.operators"
        )


@dataclass(frozen=True)
class Network:
    """A whole model.

    Args:
        path: of the program, for messages.
        inputs: names of the values that are fed, in order.
        outputs: names of the values that are fetched, in order.
        operations: in the order in which they run; no name is given twice.
        variables: by name.
        parameters: arrays by name.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    variables: Mapping[str, Variable]
    parameters: Mapping[str, Array]
