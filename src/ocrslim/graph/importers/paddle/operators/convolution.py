"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__ = ["padding"]


def padding(op: Operation, graph: GraphBuilder) -> dict[str, Any]:
    """Return the ONNX attributes for Paddle's padding of two spatial axes.

    [h, w] pads both sides alike, [top, bottom, left, right] each on its own; SAME puts an odd pixel at the end.

    Raises:
        ModelError: the algorithm is unknown or the data are not NCHW.
    """
    layout = op.attributes.get("data_format", "NCHW")
    if layout not in ("NCHW", "AnyLayout"):
        raise op.error(f"the layout {layout} can't be converted; export the model in NCHW")
    algorithm = op.attributes.get("padding_algorithm", "EXPLICIT")
    if algorithm == "SAME":
        return {"auto_pad": "SAME_UPPER"}
    if algorithm == "VALID":
        return {"auto_pad": "VALID"}
    if algorithm != "EXPLICIT":
        raise op.error(f"its padding_algorithm {algorithm} is unknown")
    pads = graph.integers(op, "paddings", [0, 0])
    top, bottom, left, right = pads if len(pads) == 4 else (pads[0], pads[0], pads[1], pads[1])
    return {"pads": [top, left, bottom, right]}


@converter("conv2d", "depthwise_conv2d")
def _conv(op: Operation, graph: GraphBuilder) -> ir.Value:
    attributes = padding(op, graph)
    # Paddle's SAME ignores dilation.
    same = "auto_pad" in attributes and attributes["auto_pad"] == "SAME_UPPER"
    attributes |= {
        "strides": graph.integers(op, "strides", [1, 1]),
        "dilations": [1, 1] if same else graph.integers(op, "dilations", [1, 1]),
        "group": op.attributes.get("groups", 1),
    }
    inputs = [graph.input(op, "Input"), graph.input(op, "Filter")]
    if graph.has(op, "Bias"):
        inputs.append(graph.input(op, "Bias"))
    return graph.emit("Conv", inputs, attributes)


@converter("conv2d_transpose", "depthwise_conv2d_transpose")
def _conv_transpose(op: Operation, graph: GraphBuilder) -> ir.Value:
    attributes = padding(op, graph)
    if attributes.get("auto_pad") == "SAME_UPPER":
        raise op.error("padding_algorithm SAME can't be converted")
    if graph.has(op, "OutputSizeTensor") or graph.integers(op, "output_size", []):
        raise op.error("an output_size can't be converted; export the model with output_padding")
    attributes |= {
        "strides": graph.integers(op, "strides", [1, 1]),
        "dilations": graph.integers(op, "dilations", [1, 1]),
        "group": op.attributes.get("groups", 1),
    }
    if extra := graph.integers(op, "output_padding", []):
        attributes["output_padding"] = extra
    return graph.emit("ConvTranspose", [graph.input(op, "Input"), graph.input(op, "Filter")], attributes)
