"""Folding: what is constant is computed once, and what changes nothing is dropped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ocrslim.graph.passes.base import Pass, array_of, attribute, make_initializer, merge, scalar_of

__all__ = ["DropNoOps", "FoldConstants", "FoldShapes"]

MOST_FOLDED = 1 << 24  # elements beside those of the file: what a file asks for is no reason to take any memory
PER_CONSTANT = 4  # elements that may be made for each that the file has: a Cast, a Transpose, a sum and a product
LOOPED = 256  # as many elements' time take those operators for one, for which the evaluator has a loop in Python
IMPOSSIBLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the evaluator raises for operands that an operator can't take, such as six elements for a shape of four."""


class FoldConstants(Pass):
    """Compute what depends on constants alone.

    1. A node of one output whose inputs are all constants becomes an initializer of the output's name, where
       :data:`WORK` has a rule that bounds the result, and as long as all that one pass makes is within bounds. So
       quantizing and random operators stay, nodes with subgraphs, and those that can't be computed.
    2. ``Shape`` of a value whose sizes are all known becomes an initializer.
    """

    def __init__(self) -> None:
        """Start a pass; over all its rounds it makes a bounded number of elements."""
        super().__init__()
        self._left: float | None = None

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        if self._left is None:
            tensors = (value.const_value for value in model.graph.initializers.values())
            self._left = MOST_FOLDED + PER_CONSTANT * sum(tensor.size for tensor in tensors if tensor is not None)
        changed = False
        for node in tuple(model.graph):
            array = self._value(node, model.graph.opset_imports)
            if array is None or node.outputs[0].is_graph_output():
                continue
            output = node.outputs[0]
            name = output.name or "constant"
            output.name = f"{name}.folded"
            output.replace_all_uses_with(make_initializer(model.graph, name, array))
            model.graph.remove(node, safe=True)
            changed = True
        return changed

    def _value(self, node: ir.Node, opsets: Mapping[str, int]) -> Any:
        if len(node.outputs) != 1 or not node.inputs:
            return None
        if node.op_type == "Shape":  # rule 2
            source = node.inputs[0]
            if source is not None and source.shape is not None and source.shape.is_static():
                sizes = source.shape.numpy()[attribute(node, "start", 0) : attribute(node, "end", None)]
                return np.array(sizes, np.int64)
        rule = WORK.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            return None
        arrays = [None if value is None else array_of(value) for value in node.inputs]
        if any(array is None and value is not None for array, value in zip(arrays, node.inputs, strict=True)):
            return None
        return self._computed(node, arrays, opsets, rule)

    def _computed(self, node: ir.Node, arrays: list[Any], opsets: Mapping[str, int], rule: Rule) -> Any:
        """Compute rule 1, where that is possible and not too much."""
        given = [array for array in arrays if array is not None]
        assert self._left is not None
        if not given or any(_is_text(array.dtype) for array in given):
            return None
        try:
            with np.errstate(all="ignore"):  # infinity is an answer too
                work = rule(given) + sum(array.size for array in given[1:])
                if not work <= self._left:  # nor is NaN
                    return None
                self._left -= work
                array = _evaluate(node, arrays, opsets)
        except IMPOSSIBLE:
            return None
        return None if _is_text(array.dtype) else array


def _is_text(dtype: Any) -> bool:
    return np.dtype(dtype).kind in "OSU"


Rule = Callable[[list[Any]], float]
"""From an operator's constants to how many elements it makes and goes through, at most."""


def _broadcast(arrays: list[Any]) -> float:
    return float(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))) * len(arrays))


def _first(arrays: list[Any]) -> float:
    return float(arrays[0].size * max(1, arrays[0].ndim))  # NonZero makes a row for each axis


def _expanded(arrays: list[Any]) -> float:
    return float(math.prod(np.broadcast_shapes(arrays[0].shape, tuple(map(int, arrays[1])))))


def _tiled(arrays: list[Any]) -> float:
    data, repeats = arrays  # before opset 6 there were three, which have no rule
    return float(data.size * np.prod(repeats.astype(np.float64)))


def _range(arrays: list[Any]) -> float:
    start, limit, delta = (float(array.reshape(())) for array in arrays)
    return float(np.abs(np.float64(limit - start) / delta))


def _padded(arrays: list[Any]) -> float:
    most = np.abs(arrays[1].astype(np.float64)).sum()  # a bound for each axis, whichever are padded
    return float(np.prod(np.array(arrays[0].shape) + most))


def _product(arrays: list[Any]) -> float:
    first, second = arrays
    return float(first.size * second.size / first.shape[-1])


def _looped(arrays: list[Any]) -> float:
    return float(LOOPED * sum(array.size for array in arrays))


ELEMENTWISE = """Abs Add And Ceil Clip Cos Div Elu Equal Exp Floor Greater GreaterOrEqual HardSigmoid HardSwish Identity
    LeakyRelu Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign Sin Softplus
    Sqrt Sub Sum Tanh Where Xor"""
WITHIN = """ArgMax ArgMin Cast CumSum Flatten NonZero ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Reshape Shape Size Slice Softmax Squeeze Transpose Trilu Unsqueeze"""
WORK: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), _broadcast),
    **dict.fromkeys(WITHIN.split(), _first),
    **dict.fromkeys(("Erf", "ScatterElements", "ScatterND"), _looped),
    "Concat": lambda arrays: float(sum(array.size for array in arrays)),
    "ConstantOfShape": lambda arrays: float(np.prod(arrays[0].astype(np.float64)) + arrays[0].size),
    "Expand": _expanded,
    "Gather": lambda arrays: float(arrays[0].size) * arrays[1].size / min(arrays[0].shape),  # whichever the axis
    "MatMul": _product,
    "OneHot": lambda arrays: float(arrays[0].size * np.max(arrays[1].astype(np.float64))),
    "Pad": _padded,
    "Range": _range,
    "Tile": _tiled,
}
"""What is computed at all; the result of an operator that is not here may be of any size."""


def _evaluate(node: ir.Node, arrays: list[Any], opsets: Mapping[str, int]) -> Any:
    """Run one node in ONNX's reference implementation."""
    names = ["" if array is None else f"i{number}" for number, array in enumerate(arrays)]
    attributes = [ir.to_proto(item) for item in node.attributes.values()]
    proto = onnx.helper.make_node(node.op_type, names, ["y"], domain=node.domain)
    proto.attribute.extend(attributes)
    inputs = [onnx.ValueInfoProto(name=name) for name in names if name]
    graph = onnx.helper.make_graph([proto], "fold", inputs, [onnx.ValueInfoProto(name="y")])
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    single = onnx.helper.make_model(graph, opset_imports=imports)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    results: Any = ReferenceEvaluator(single).run(None, feeds)
    return np.asarray(results[0])


class FoldShapes(Pass):
    """Make the targets of Reshape constant, so that no arithmetic on shapes is left.

    The target is a Concat of parts, Casts between integer types being transparent.

    1. A part that reads the first k sizes of the very value that is reshaped, and stands first, becomes k zeros,
       which keep them.
    2. One single size that is not known, beside known ones without a -1, becomes -1: "what is left over".
    3. The Reshape of a value of one axis to one axis is dropped, whatever the size: there is only one.
    4. The Reshape of ``x op c``, c of one element, to the shape of x is dropped.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        changed = False
        for node in tuple(model.graph):
            if node.op_type != "Reshape" or array_of(node.inputs[1]) is not None:
                continue
            data, target = node.inputs[0], node.inputs[1]
            assert data is not None
            assert target is not None
            if self._keeps_shape(data, target):
                changed |= merge(node, data, rename=False)  # rules 3 and 4
                continue
            if attribute(node, "allowzero", 0):
                continue
            sizes = self._sizes(data, _through_casts(target))
            if sizes is not None:
                name = f"{target.name}.folded"
                node.replace_input_with(1, make_initializer(model.graph, name, np.array(sizes, np.int64)))
                changed = True
        return changed

    @staticmethod
    def _keeps_shape(data: ir.Value, target: ir.Value) -> bool:
        if data.shape is not None and len(data.shape) == 1 and _length(target) == 1:
            return True  # rule 3
        shape, maker = target.producer(), data.producer()
        if shape is None or shape.op_type != "Shape" or shape.attributes or maker is None:
            return False
        if maker.op_type not in ("Add", "Sub", "Mul", "Div") or shape.inputs[0] not in maker.inputs:
            return False
        source = shape.inputs[0]
        others = [value for value in maker.inputs if value is not source]
        ranks = [np.ndim(array) for array in map(array_of, others) if array is not None and array.size == 1]
        rank = 1 if source is None or source.shape is None else len(source.shape)
        return len(ranks) == 1 and ranks[0] <= rank  # rule 4

    @staticmethod
    def _sizes(data: ir.Value, target: ir.Value) -> list[int] | None:
        concat = target.producer()
        if concat is None or concat.op_type != "Concat":
            return None
        sizes: list[int | None] = []
        for value in concat.inputs:
            assert value is not None
            part = _through_casts(value)
            array = array_of(part)
            if array is not None:
                sizes += [int(size) for size in array.reshape(-1)]
            elif not sizes and (count := _leading_sizes(part, data)):
                sizes += [0] * count  # rule 1
            elif _length(part) == 1:
                sizes.append(None)
            else:
                return None
        unknown = sum(size is None for size in sizes)
        if unknown > 1 or (unknown and -1 in sizes):
            return None
        return [-1 if size is None else size for size in sizes]  # rule 2


def _through_casts(value: ir.Value) -> ir.Value:
    """Return what a chain of Casts, Identities and one-element Unsqueezes or Reshapes was made from."""
    node = value.producer()
    while node is not None and node.op_type in ("Cast", "Identity") and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _slice_of_shape(value: ir.Value) -> tuple[ir.Value, int, int] | None:
    """Return (x, start, end) where a value is ``Shape(x)[start:end]``, with 0 <= start < end."""
    node = value.producer()
    if node is None or node.op_type != "Slice" or node.inputs[0] is None:
        return None
    shape = _through_casts(node.inputs[0]).producer()
    bounds = [scalar_of(item) for item in node.inputs[1:]]
    if shape is None or shape.op_type != "Shape" or shape.attributes or shape.inputs[0] is None or None in bounds:
        return None
    start, end, *rest = (int(bound) for bound in bounds if bound is not None)
    if not 0 <= start < end or (len(rest) > 1 and rest[1] != 1):
        return None
    return shape.inputs[0], start, end


def _leading_sizes(part: ir.Value, data: ir.Value) -> int:
    """Return k where a value is the first k sizes of ``data``, else 0."""
    found = _slice_of_shape(part)
    return found[2] if found is not None and found[0] is data and found[1] == 0 else 0


def _length(value: ir.Value) -> int | None:
    """Return how many elements an integer vector has, where that is known."""
    if value.shape is not None and len(value.shape) == 1 and isinstance(value.shape[0], int):
        return value.shape[0]
    node = value.producer()
    if node is not None and node.op_type == "Unsqueeze":
        return 1 if node.inputs[0] is not None and node.inputs[0].shape == ir.Shape(()) else None
    found = _slice_of_shape(value)
    return None if found is None else found[2] - found[1]


class DropNoOps(Pass):
    """Drop nodes that change nothing; the value before them is read instead.

    1. Identity, and Dropout of a deployed model.
    2. Cast to the type that the value has.
    3. Adding or subtracting 0, multiplying with or dividing by 1, of one element.
    4. Transpose after Transpose becomes one, none where they undo each other.
    5. Unsqueeze after Squeeze of the same axes.
    6. Reshape to a constant target that keeps every size.
    """

    NEUTRAL = (("Add", 0.0), ("Sub", 0.0), ("Mul", 1.0), ("Div", 1.0))

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        changed = False
        for node in tuple(model.graph):
            if node.op_type == "Transpose" and self._join_transposes(node):
                changed = True
            source = self._source(node)
            if source is not None:
                changed |= merge(node, source, rename=False)
        return changed

    def _source(self, node: ir.Node) -> ir.Value | None:
        """Return the value that the node's output equals."""
        first = node.inputs[0] if node.inputs else None
        rule = {
            "Identity": self._passed,
            "Dropout": self._passed,
            "Cast": self._uncast,
            "Transpose": self._untransposed,
            "Unsqueeze": self._unsqueezed,
            "Reshape": self._unreshaped,
        }.get(node.op_type, self._neutral if node.op_type in dict(self.NEUTRAL) else None)
        return None if first is None or rule is None or len(node.outputs) != 1 else rule(node, first)

    @staticmethod
    def _passed(node: ir.Node, first: ir.Value) -> ir.Value | None:
        return first if len(node.inputs) < 3 else None  # rule 1; the third input of Dropout may make it train

    @staticmethod
    def _uncast(node: ir.Node, first: ir.Value) -> ir.Value | None:
        return first if first.dtype == attribute(node, "to", None) else None  # rule 2

    @staticmethod
    def _untransposed(node: ir.Node, first: ir.Value) -> ir.Value | None:
        perm = attribute(node, "perm", None)
        return first if perm is not None and list(perm) == sorted(perm) else None  # rule 4

    @staticmethod
    def _unreshaped(node: ir.Node, first: ir.Value) -> ir.Value | None:
        target = array_of(node.inputs[1])
        if target is None or first.shape is None or len(target) != len(first.shape) or attribute(node, "allowzero", 0):
            return None
        return first if all(_same(size, old) for size, old in zip(target, first.shape, strict=True)) else None  # rule 6

    def _neutral(self, node: ir.Node, first: ir.Value) -> ir.Value | None:
        del first  # rule 3: the constant may be either
        number = dict(self.NEUTRAL)[node.op_type]
        places = (1,) if node.op_type in ("Sub", "Div") else (1, 0)
        for place in places:
            array, other = array_of(node.inputs[place]), node.inputs[1 - place]
            if array is None or array.size != 1 or float(array.reshape(())) != number or other is None:
                continue
            if other.shape is not None and array.ndim <= len(other.shape):
                return other
        return None

    @staticmethod
    def _join_transposes(node: ir.Node) -> bool:
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None or before.op_type != "Transpose":
            return False
        first, second = attribute(before, "perm", None), attribute(node, "perm", None)
        if first is None or second is None:
            return False
        node.replace_input_with(0, before.inputs[0])
        node.attributes["perm"] = ir.AttrInt64s("perm", [first[axis] for axis in second])
        return True

    @staticmethod
    def _unsqueezed(node: ir.Node, first: ir.Value) -> ir.Value | None:
        before = first.producer()  # rule 5
        if before is None or before.op_type != "Squeeze" or min(len(before.inputs), len(node.inputs)) < 2:
            return None
        dropped, added = array_of(before.inputs[1]), array_of(node.inputs[1])
        if dropped is None or added is None or sorted(dropped.tolist()) != sorted(added.tolist()) or min(added) < 0:
            return None
        return before.inputs[0]


def _same(size: Any, old: Any) -> bool:
    """Return whether a Reshape target keeps a size: 0 does, and the known size itself does."""
    return int(size) == 0 or (isinstance(old, int) and int(size) == old)
