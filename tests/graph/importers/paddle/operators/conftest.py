from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.network import Network, Operation, Variable


@pytest.fixture(scope="session")
def make_network() -> Callable[[str, Mapping[str, Any]], ir.Model]:
    """Return a function that converts ``y = x + c``, c being what an operation without inputs makes."""

    def make(type_: str, attributes: Mapping[str, Any]) -> ir.Model:
        variable = Variable((2,), np.dtype(np.float32))
        operations = (
            Operation(type_, {}, {"Out": ("constant",)}, attributes, type_),
            Operation("elementwise_add", {"X": ("x",), "Y": ("constant",)}, {"Out": ("y",)}, {"axis": -1}),
        )
        variables = dict.fromkeys(("x", "constant", "y"), variable)
        return to_onnx(Network(Path("m.pdmodel"), ("x",), ("y",), operations, variables, {}))

    return make
