"""Upsampling by a pointwise convolution and a copy, where that is faster than a transposed convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ocrslim.graph.passes.base import Array, Pass, array_of, attribute, make_initializer, only_reader

__all__ = ["ShuffleUpsampling", "UnshuffleUpsampling"]

MOST_CHANNELS = 4
"""With more channels the copy costs what it gains (measured with OpenVINO on the detectors' 24 channels)."""


SHUFFLED = "_shuffled"  # behind the names of the weights


class ShuffleUpsampling(Pass):
    """Write a transposed convolution whose windows don't overlap as a pointwise convolution and a DepthToSpace.

    OpenVINO keeps images in blocks of 16 channels, so that the detectors' one-channel map at full size, and the Sigmoid
    on it, cost what 16 channels do: a sixth of the time of PP-OCRv4 mobile det. The same products are summed.

    1. Only of at most :data:`MOST_CHANNELS` output channels, in one group, with a square kernel as large as the
       strides, without padding, dilation or a size asked for: each pixel makes kernel x kernel pixels of its own.
    2. The convolution makes a channel of each output channel and place in the window; it keeps the node's name.
    3. DepthToSpace (mode CRD) puts them into their places; its output keeps the value's name.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        changed = False
        for node in tuple(model.graph):
            weight = array_of(node.inputs[1]) if node.op_type == "ConvTranspose" else None
            if weight is not None and self._applies(node, weight.shape):
                self._shuffle(model.graph, node, weight)
                changed = True
        return changed

    @staticmethod
    def _applies(node: ir.Node, shape: tuple[int, ...]) -> bool:
        """Rule 1."""
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return (
            len(shape) == 4
            and shape[1] <= MOST_CHANNELS
            and shape[2] == shape[3]
            and tuple(attribute(node, "strides", (1, 1))) == shape[2:]
            and attribute(node, "group", 1) == 1
            and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
            and not any((*attribute(node, "pads", ()), *attribute(node, "output_padding", ())))
            and set(attribute(node, "dilations", (1,))) == {1}
            and "output_shape" not in node.attributes
            and (bias is None or array_of(bias) is not None)
        )

    @staticmethod
    def _shuffle(graph: ir.Graph, node: ir.Node, weight: np.ndarray) -> None:
        inputs, channels, size, _ = weight.shape
        value, old = node.inputs[1], node.outputs[0]
        assert value is not None
        # out[c, s*y + i, s*x + j] = sum_k in[k, y, x] * weight[k, c, i, j]; CRD: channel c*s*s + i*s + j.
        pointwise = weight.transpose(1, 2, 3, 0).reshape(channels * size * size, inputs, 1, 1)
        arguments = [node.inputs[0], make_initializer(graph, f"{value.name}{SHUFFLED}", pointwise)]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            constant = array_of(bias)
            assert constant is not None
            repeated = np.repeat(constant, size * size)
            arguments.append(make_initializer(graph, f"{bias.name}{SHUFFLED}", repeated))
        convolution = ir.node("Conv", arguments, attributes={"kernel_shape": [1, 1]})
        made = convolution.outputs[0]
        depth = ir.node("DepthToSpace", [made], attributes={"blocksize": int(size), "mode": "CRD"})
        graph.insert_before(node, [convolution, depth])
        new, name, node_name = depth.outputs[0], old.name, node.name
        new.shape, new.type = old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        new.name, made.name = name, f"{name}_before_shuffle"
        convolution.name, depth.name = node_name, f"{node_name}_shuffle"  # rules 2 and 3


class UnshuffleUpsampling(Pass):
    """Undo :class:`ShuffleUpsampling`: a file that it was written into is the same model, for any target.

    1. A pointwise convolution without padding, of at most :data:`MOST_CHANNELS` output channels after the shuffle,
       that only a DepthToSpace (mode CRD) reads, and whose bias is the same for each place in a window.
    2. Names are those that it had before; where the weight's was another, the weight's own.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        changed = False
        for node in tuple(model.graph):
            convolution = node.inputs[0].producer() if node.op_type == "DepthToSpace" and node.inputs[0] else None
            if convolution is not None and self._applies(convolution, node):
                self._unshuffle(model.graph, convolution, node)
                changed = True
        return changed

    @staticmethod
    def _applies(convolution: ir.Node, depth: ir.Node) -> bool:
        """Rule 1."""
        places = int(attribute(depth, "blocksize", 0)) ** 2
        weight = array_of(convolution.inputs[1]) if convolution.op_type == "Conv" else None
        if weight is None or weight.ndim != 4 or weight.shape[2:] != (1, 1) or attribute(depth, "mode", "DCR") != "CRD":
            return False
        bias = convolution.inputs[2] if len(convolution.inputs) > 2 else None
        array = None if bias is None else array_of(bias)
        return (
            0 < places <= len(weight) <= MOST_CHANNELS * places
            and len(weight) % places == 0
            and only_reader(convolution.outputs[0]) is depth
            and attribute(convolution, "group", 1) == 1
            and attribute(convolution, "auto_pad", "NOTSET") == "NOTSET"
            and set(attribute(convolution, "strides", (1,))) == {1}
            and not any(attribute(convolution, "pads", ()))
            and (bias is None or (array is not None and _is_even(array, len(weight), places)))
        )

    @staticmethod
    def _unshuffle(graph: ir.Graph, convolution: ir.Node, depth: ir.Node) -> None:
        size, value, old = int(attribute(depth, "blocksize", 0)), convolution.inputs[1], depth.outputs[0]
        weight = array_of(value)
        assert weight is not None
        assert value is not None
        windows = weight.reshape(-1, size, size, weight.shape[1]).transpose(3, 0, 1, 2)
        arguments = [convolution.inputs[0], make_initializer(graph, _before(value), windows)]
        bias = convolution.inputs[2] if len(convolution.inputs) > 2 else None
        if bias is not None:
            constant = array_of(bias)
            assert constant is not None
            arguments.append(make_initializer(graph, _before(bias), constant[:: size * size]))
        node = ir.node("ConvTranspose", arguments, attributes={"strides": [size, size], "kernel_shape": [size, size]})
        graph.insert_before(convolution, [node])
        new, name, node_name = node.outputs[0], old.name, convolution.name
        new.shape, new.type = old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove([depth, convolution], safe=True)
        new.name, node.name = name, node_name  # rule 2


def _is_even(bias: Array, channels: int, places: int) -> bool:
    """Return whether each channel has one number for all places of its window."""
    return bias.shape == (channels,) and bool((np.ptp(bias.reshape(-1, places), axis=1) == 0).all())


def _before(value: ir.Value) -> str:
    """Return what a weight was called before the shuffle."""
    return str(value.name).removesuffix(SHUFFLED)
