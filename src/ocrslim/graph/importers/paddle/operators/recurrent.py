"""Recurrent layers: the LSTM of the CRNN recognisers of PP-OCRv2 and before."""

from __future__ import annotations

import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []

_ONNX_GATES = (0, 3, 1, 2)  # Paddle keeps input, forget, cell, output; ONNX input, output, forget, cell


@converter("rnn")
def _rnn(op: Operation, graph: GraphBuilder) -> ir.Value:
    """An LSTM of one or more layers, in one direction or both; X ``[T, N, in]`` to ``[T, N, directions * hidden]``.

    ``WeightList`` holds, for each layer and direction, the matrices ``[4 hidden, in]`` and ``[4 hidden, hidden]``, and
    behind them all, in the same order, the two biases ``[4 hidden]`` each. ``PreState`` are the first states h and c,
    ``[layers * directions, N, hidden]`` each.
    """
    if op.attributes.get("mode") != "LSTM" or graph.has(op, "SequenceLength"):
        raise op.error("only an LSTM without sequence lengths can be converted")
    directions = 2 if op.attributes.get("is_bidirec", False) else 1
    layers, hidden = int(op.attributes["num_layers"]), int(op.attributes["hidden_size"])
    x = graph.input(op, "Input")
    half = len(op.inputs["WeightList"]) // 2
    for layer in range(layers):
        first = 2 * directions * layer
        pairs = range(first, first + 2 * directions, 2)
        w = _joined(graph, [_gates(op, graph, index, hidden) for index in pairs])
        r = _joined(graph, [_gates(op, graph, index + 1, hidden) for index in pairs])
        biases = [_gates(op, graph, half + index + which, hidden) for index in pairs for which in (0, 1)]
        rows = [graph.emit("Concat", biases[2 * number : 2 * number + 2], {"axis": 0}) for number in range(directions)]
        states = [_state(op, graph, which, layer * directions, directions) for which in (0, 1)]
        attributes = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
        y = graph.emit("LSTM", [x, w, r, _joined(graph, rows), None, *states], attributes)
        # [T, directions, N, hidden] -> [T, N, directions * hidden]
        turned = graph.emit("Transpose", [y], {"perm": [0, 2, 1, 3]})
        x = graph.emit("Reshape", [turned, graph.constant([0, 0, directions * hidden], "shape")])
    return x


def _gates(op: Operation, graph: GraphBuilder, index: int, hidden: int) -> ir.Value:
    """Return a weight or bias with its four blocks of rows in the order of ONNX."""
    blocks = graph.emit(
        "Split",
        [graph.input(op, "WeightList", index), graph.constant([hidden] * 4, "blocks")],
        {"axis": 0},
        4,
    ).producer()
    assert blocks is not None
    return graph.emit("Concat", [blocks.outputs[place] for place in _ONNX_GATES], {"axis": 0})


def _joined(graph: GraphBuilder, parts: list[ir.Value]) -> ir.Value:
    """Stack what belongs to each direction along a new first axis."""
    whole = [graph.emit("Unsqueeze", [part, graph.constant([0], "axis")]) for part in parts]
    return whole[0] if len(whole) == 1 else graph.emit("Concat", whole, {"axis": 0})


def _state(op: Operation, graph: GraphBuilder, which: int, first: int, count: int) -> ir.Value:
    """Return the first states of one layer's directions."""
    bounds = [
        graph.constant([number], kind) for number, kind in ((first, "start"), (first + count, "end"), (0, "axis"))
    ]
    return graph.emit("Slice", [graph.input(op, "PreState", which), *bounds])
