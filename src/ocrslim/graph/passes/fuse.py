"""Fusing: the operators that an exporter spelt out, written as one again."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from ocrslim.graph.passes.base import Pass, array_of, attribute, is_scalar, only_reader, replace, scalar_of

__all__ = ["FuseGelu", "FuseHardSwish", "FuseLayerNormalization"]


class FuseHardSwish(Pass):
    """Recognise HardSwish (ONNX opset 14).

    1. ``(x * clip(x + 3, 0, 6)) / 6``, the division also as a product with 1/6.
    2. ``x * (clip(x + 3, 0, 6) / 6)``.
    3. ``x * hardsigmoid(x)`` of slope 1/6 and offset 1/2.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        changed = False
        for node in tuple(model.graph):
            if node.graph is None:
                continue
            x = self._argument(node)
            if x is not None:
                replace(node, "HardSwish", [x], {})
                changed = True
        return changed

    def _argument(self, node: ir.Node) -> ir.Value | None:
        product = _sixth(node)
        if product is not None:  # rule 1
            return self._times(product, lambda x, other: _clipped(other) is x)
        return self._times(node, self._gate)

    @staticmethod
    def _gate(x: ir.Value, other: ir.Value) -> bool:
        maker = other.producer()
        if maker is None:
            return False
        if maker.op_type == "HardSigmoid":  # rule 3
            slope, offset = attribute(maker, "alpha", 0.2), attribute(maker, "beta", 0.5)
            return maker.inputs[0] is x and abs(slope - 1 / 6) < 1e-7 and offset == 0.5
        inner = _sixth(maker)  # rule 2
        return inner is not None and _clipped(inner.outputs[0]) is x

    @staticmethod
    def _times(node: ir.Node, accepts: Callable[[ir.Value, ir.Value], bool]) -> ir.Value | None:
        """Return x where a node is ``x * other`` and ``accepts(x, other)``."""
        if node.op_type != "Mul":
            return None
        a, b = node.inputs
        for x, other in ((a, b), (b, a)):
            if x is not None and other is not None and accepts(x, other):
                return x
        return None


def _sixth(node: ir.Node) -> ir.Node | None:
    """Return the node whose output this one divides by 6."""
    if node.op_type == "Div":
        value = node.inputs[0] if is_scalar(node.inputs[1], 6.0) else None
    else:
        value = _beside(node, 1 / 6) if node.op_type == "Mul" else None
    return None if value is None or only_reader(value) is None else value.producer()


def _clipped(value: ir.Value) -> ir.Value | None:
    """Return x where a value is ``clip(x + 3, 0, 6)``."""
    clip = value.producer()
    if clip is None or clip.op_type != "Clip" or len(clip.inputs) != 3 or clip.inputs[0] is None:
        return None
    if scalar_of(clip.inputs[1]) != 0.0 or not is_scalar(clip.inputs[2], 6.0):
        return None
    add = clip.inputs[0].producer()
    return None if add is None or add.op_type != "Add" else _beside(add, 3.0)


def _beside(node: ir.Node, number: float) -> ir.Value | None:
    """Return the other input where one of two is the constant ``number``."""
    a, b = node.inputs
    if is_scalar(b, number):
        return a
    return b if is_scalar(a, number) else None


class FuseGelu(Pass):
    """Recognise the exact GELU (arXiv 1606.08415; ONNX opset 20).

    With ``g = erf(x / sqrt(2)) + 1``, the division also as a product:

    1. ``(x * g) * 0.5``
    2. ``x * (g * 0.5)``
    3. ``(x * 0.5) * g``
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        if model.graph.opset_imports.get("", 0) < 20:
            return False
        changed = False
        for node in tuple(model.graph):
            if node.graph is None or node.op_type != "Erf" or node.inputs[0] is None:
                continue
            x = self._scaled(node.inputs[0].producer())
            last = None if x is None else self._last(node, x)
            if x is not None and last is not None:
                replace(last, "Gelu", [x], {})
                changed = True
        return changed

    @staticmethod
    def _scaled(node: ir.Node | None) -> ir.Value | None:
        if node is not None and node.op_type == "Div" and is_scalar(node.inputs[1], math.sqrt(2)):
            return node.inputs[0]
        return _beside(node, math.sqrt(0.5)) if node is not None and node.op_type == "Mul" else None

    @staticmethod
    def _last(erf: ir.Node, x: ir.Value) -> ir.Node | None:
        """Return the node that makes the result."""
        add = only_reader(erf.outputs[0])
        if add is None or add.op_type != "Add" or _beside(add, 1.0) is not erf.outputs[0]:
            return None
        first = only_reader(add.outputs[0])
        if first is None or first.op_type != "Mul":
            return None
        other = first.inputs[1] if first.inputs[0] is add.outputs[0] else first.inputs[0]
        maker = None if other is None else other.producer()
        if maker is not None and maker.op_type == "Mul" and _beside(maker, 0.5) is x:
            return first  # rule 3
        second = only_reader(first.outputs[0])
        if second is None or second.op_type != "Mul":
            return None
        if other is x:
            return second if _beside(second, 0.5) is first.outputs[0] else None  # rule 1
        return second if is_scalar(other, 0.5) and x in second.inputs else None  # rule 2


class FuseLayerNormalization(Pass):
    """Recognise LayerNormalization over the last axis (arXiv 1607.06450; ONNX opset 17).

    1. With ``d = x - mean(x)``: ``d / sqrt(mean(d ** 2) + epsilon) * scale + bias``; scale and bias are constant and of
       one axis, epsilon is constant, the square may be a product of d with itself.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rule."""
        changed = False
        for node in tuple(model.graph):
            if node.graph is None or node.op_type != "Div":
                continue
            found = self._match(node)
            if found is not None:
                last, inputs, epsilon = found
                replace(last, "LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon})
                changed = True
        return changed

    def _match(self, div: ir.Node) -> tuple[ir.Node, list[ir.Value | None], float] | None:
        x = self._centred(div.inputs[0])
        epsilon = None if x is None else self._epsilon(div.inputs[1], div.inputs[0], x)
        mul = only_reader(div.outputs[0])
        if x is None or epsilon is None or mul is None or mul.op_type != "Mul":
            return None
        scale = self._vector(mul, div.outputs[0])
        add = only_reader(mul.outputs[0])
        if scale is None or add is None or add.op_type != "Add":
            return None
        bias = self._vector(add, mul.outputs[0])
        return None if bias is None else (add, [x, scale, bias], epsilon)

    def _centred(self, value: ir.Value | None) -> ir.Value | None:
        """Return x where a value is ``x - mean(x)``."""
        sub = None if value is None else value.producer()
        if sub is None or sub.op_type != "Sub":
            return None
        x = sub.inputs[0]
        return x if x is not None and self._mean_of(sub.inputs[1], x) is x else None

    def _epsilon(self, value: ir.Value | None, centred: ir.Value | None, x: ir.Value) -> float | None:
        """Return epsilon where a value is ``sqrt(mean(centred ** 2) + epsilon)``."""
        root = None if value is None else value.producer()
        add = root.inputs[0].producer() if root is not None and root.op_type == "Sqrt" and root.inputs[0] else None
        if add is None or add.op_type != "Add":
            return None
        square = self._mean_of(add.inputs[0], x)
        maker = None if square is None else square.producer()
        if maker is None or maker.inputs[0] is not centred:
            return None
        is_power = maker.op_type == "Pow" and is_scalar(maker.inputs[1], 2.0)
        is_product = maker.op_type == "Mul" and maker.inputs[1] is centred
        return scalar_of(add.inputs[1]) if is_power or is_product else None

    @staticmethod
    def _mean_of(value: ir.Value | None, like: ir.Value) -> ir.Value | None:
        """Return what a value is the mean of, over the last axis, kept as 1."""
        node = None if value is None else value.producer()
        if node is None or node.op_type != "ReduceMean" or len(node.inputs) < 2 or not attribute(node, "keepdims", 1):
            return None
        axes = array_of(node.inputs[1])
        if axes is None or axes.size != 1:
            return None
        axis = int(axes.reshape(()))
        is_last = axis == -1 or (like.shape is not None and axis == len(like.shape) - 1)
        return node.inputs[0] if is_last else None

    @staticmethod
    def _vector(node: ir.Node, beside: ir.Value) -> ir.Value | None:
        """Return the constant of one axis that a node takes beside a value."""
        other = node.inputs[1] if node.inputs[0] is beside else node.inputs[0]
        array = array_of(other)
        return other if array is not None and array.ndim == 1 and array.size > 1 else None
