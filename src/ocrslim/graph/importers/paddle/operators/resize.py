"""Enlarging and shrinking maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []

SPATIAL = {"axes": [2, 3]}


@converter("nearest_interp_v2", "bilinear_interp_v2", "nearest_interp", "bilinear_interp")
def _interpolate(op: Operation, graph: GraphBuilder) -> ir.Value:
    layout = op.attributes.get("data_layout", "NCHW")
    if layout not in ("NCHW", "AnyLayout"):
        raise op.error(f"the layout {layout} can't be converted; export the model in NCHW")
    attributes = _coordinates(op)
    x = graph.input(op)
    scale = _scale(op)
    if graph.has(op, "SizeTensor") or graph.has(op, "OutSize"):
        sizes = graph.vector(op, "", "OutSize", "SizeTensor")
        return graph.emit("Resize", [x, None, None, sizes], attributes | SPATIAL)
    if graph.has(op, "Scale"):
        flat = graph.emit("Reshape", [graph.input(op, "Scale"), graph.constant([-1], "axis")])
        pair = graph.emit("Expand", [flat, graph.constant([2], "two")])
        return graph.emit("Resize", [x, None, pair], attributes | SPATIAL)
    if scale:
        return graph.emit(
            "Resize", [x, None, graph.constant(np.array([1, 1, *scale], np.float32), "scales")], attributes
        )
    height, width = (int(op.attributes.get(key, -1)) for key in ("out_h", "out_w"))
    if height <= 0 or width <= 0:
        raise op.error("says neither a scale nor a size")
    return graph.emit("Resize", [x, None, None, graph.constant([height, width], "size")], attributes | SPATIAL)


def _scale(op: Operation) -> list[float]:
    """Return [height, width] factors; empty without."""
    found = op.attributes.get("scale") or []
    factors = [float(item) for item in found] if isinstance(found, (list, tuple)) else [float(found)]
    factors = factors * 2 if len(factors) == 1 else factors
    return factors if len(factors) == 2 and min(factors) > 0 else []


def _coordinates(op: Operation) -> dict[str, Any]:
    """Return how ONNX names Paddle's way from an output pixel i to its source.

    With r = in / out, and r' = (in - 1) / (out - 1) where corners are aligned:
    nearest: floor(r i), or floor(r' i + 1/2);
    bilinear: r' i, or else r (i + 1/2) - 1/2 in align_mode 0 and r i in align_mode 1.
    """
    corners = bool(op.attributes.get("align_corners", True))
    if op.type.startswith("nearest"):
        way, rounding = ("align_corners", "round_prefer_ceil") if corners else ("asymmetric", "floor")
        return {"mode": "nearest", "coordinate_transformation_mode": way, "nearest_mode": rounding}
    way = "align_corners"
    if not corners:
        way = "half_pixel" if op.attributes.get("align_mode", 1) == 0 else "asymmetric"
    return {"mode": "linear", "coordinate_transformation_mode": way}
