"""PIR's operators in the words of the classic ones: what their inputs, outputs and attributes are called there.

PIR gives inputs by position. Many a number or list that the classic operators keep in an attribute is an input in PIR;
where it is made by ``full`` or ``full_int_array`` it is a constant and goes back into the attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["OPERATORS", "Counterpart", "Slot"]


@dataclass(frozen=True)
class Slot:
    """Where an input goes.

    Args:
        name: the classic slot of a tensor; empty where there is none.
        attribute: the classic attribute of a constant; empty for what is always a tensor.
        several: the slot of a list of tensors, where that is another one.
    """

    name: str
    attribute: str = ""
    several: str = ""


@dataclass(frozen=True)
class Counterpart:
    """The classic operator that a PIR operator is.

    Args:
        type: its name.
        slots: of the inputs, in PIR's order.
        output: slot of the first output, the only one that is needed.
        renamed: classic names of attributes by PIR's, where they differ.
    """

    type: str
    slots: tuple[Slot, ...]
    output: str = "Out"
    renamed: Mapping[str, str] = field(default_factory=dict)


def _slots(text: str) -> tuple[Slot, ...]:
    """Read ``X Shape,ShapeTensor=shape``: two inputs, the second one's slots and attribute."""
    slots = []
    for word in text.split():
        names, _, attribute = word.partition("=")
        name, _, several = names.partition(",")
        slots.append(Slot(name, attribute, several))
    return tuple(slots)


def _op(type_: str, slots: str = "X", output: str = "Out", **renamed: str) -> Counterpart:
    return Counterpart(type_, _slots(slots), output, renamed)


_SAME = (  # of one input X, with the same name and the same attributes
    *("abs", "ceil", "cos", "erf", "exp", "floor", "log", "mish", "reciprocal", "relu", "relu6", "round", "rsqrt"),
    *("sigmoid", "sign", "sin", "sqrt", "square", "tanh", "swish", "silu", "gelu", "softmax", "log_softmax", "elu"),
    *("softplus", "logical_not", "assign", "share_data", "print"),
)
_PAIRS = {
    "add": "elementwise_add",
    "subtract": "elementwise_sub",
    "multiply": "elementwise_mul",
    "divide": "elementwise_div",
    "maximum": "elementwise_max",
    "minimum": "elementwise_min",
    "elementwise_pow": "elementwise_pow",
    "floor_divide": "elementwise_floordiv",
    "remainder": "elementwise_mod",
    **{name: name for name in ("equal", "not_equal", "greater_equal", "greater_than", "less_equal", "less_than")},
    **{name: name for name in ("logical_and", "logical_or", "bmm")},
}
_REDUCTIONS = ("max", "mean", "min", "prod", "sum")
_INTERPOLATION = "X OutSize,SizeTensor SizeTensor Scale"

OPERATORS: Mapping[str, Counterpart] = MappingProxyType(
    {
        **{name: _op(name) for name in _SAME},
        **{name: _op(classic, "X Y") for name, classic in _PAIRS.items()},
        **{name: _op(f"reduce_{name}", "X =dim", axis="dim", keepdim="keep_dim") for name in _REDUCTIONS},
        "add_n": _op("sum"),
        "arange": _op("range", "Start End Step"),
        "argmax": _op("arg_max", "X =axis"),
        "argmin": _op("arg_min", "X =axis"),
        "assign_value": _op("assign_value", ""),
        "batch_norm": _op("batch_norm", "X Mean Variance Scale Bias", "Y", data_format="data_layout"),
        "bilinear_interp": _op("bilinear_interp_v2", _INTERPOLATION, data_format="data_layout"),
        "cast": _op("cast", dtype="out_dtype"),
        "clip": _op("clip", "X Min=min Max=max"),
        "concat": _op("concat", "X AxisTensor=axis"),
        "conv2d": _op("conv2d", "Input Filter", "Output"),
        "conv2d_transpose": _op("conv2d_transpose", "Input Filter OutputSizeTensor=output_size", "Output"),
        "depthwise_conv2d": _op("depthwise_conv2d", "Input Filter", "Output"),
        "depthwise_conv2d_transpose": _op(
            "depthwise_conv2d_transpose", "Input Filter OutputSizeTensor=output_size", "Output"
        ),
        "dropout": _op("dropout", "X Seed =dropout_prob", mode="dropout_implementation"),
        "expand": _op("expand_v2", "X Shape,expand_shapes_tensor=shape"),
        "flatten": _op("flatten_contiguous_range"),
        "full": _op("fill_constant", ""),
        "full_int_array": _op("integers", ""),
        "full_like": _op("fill_any_like", "X =value"),
        "full_with_tensor": _op("fill_constant", "ValueTensor=value ShapeTensor,ShapeTensorList=shape"),
        "gather": _op("gather", "X Index Axis=axis"),
        "group_norm": _op("group_norm", "X Scale Bias", "Y", data_format="data_layout"),
        "hardsigmoid": _op("hard_sigmoid"),
        "hardswish": _op("hard_swish"),
        "index_select": _op("index_select", "X Index", axis="dim"),
        "instance_norm": _op("instance_norm", "X Scale Bias", "Y"),
        "layer_norm": _op("layer_norm", "X Scale Bias", "Y"),
        "leaky_relu": _op("leaky_relu", negative_slope="alpha"),
        "matmul": _op("matmul_v2", "X Y", transpose_x="trans_x", transpose_y="trans_y"),
        "max_pool2d_with_index": _op("max_pool2d_with_index", kernel_size="ksize"),
        "nearest_interp": _op("nearest_interp_v2", _INTERPOLATION, data_format="data_layout"),
        "pad": _op("pad", "X =pad_value"),
        "pad3d": _op("pad3d", "X Paddings=paddings"),
        "pool2d": _op("pool2d", "X =ksize", kernel_size="ksize"),
        "pow": _op("pow", y="factor"),
        "prelu": _op("prelu", "X Alpha"),
        "reshape": _op("reshape2", "X Shape,ShapeTensor=shape"),
        "rnn": _op("rnn", "Input PreState WeightList SequenceLength DropoutState"),
        "scale": _op("scale", "X ScaleTensor=scale"),
        "shape": _op("shape", "Input"),
        "shape64": _op("shape", "Input"),
        "slice": _op("slice", "Input StartsTensor,StartsTensorList=starts EndsTensor,EndsTensorList=ends"),
        "split": _op("split", "X SectionsTensorList=sections AxisTensor=axis"),
        "split_with_num": _op("split", "X AxisTensor=axis"),
        "squeeze": _op("squeeze2", "X AxesTensor=axes"),
        "stack": _op("stack", output="Y"),
        "strided_slice": _op(
            "strided_slice",
            "Input StartsTensor,StartsTensorList=starts EndsTensor,EndsTensorList=ends"
            " StridesTensor,StridesTensorList=strides",
        ),
        "sync_batch_norm": _op("sync_batch_norm", "X Mean Variance Scale Bias", "Y", data_format="data_layout"),
        "tile": _op("tile", "X RepeatTimes=repeat_times"),
        "transpose": _op("transpose2", perm="axis"),
        "unbind": _op("unbind"),
        "unsqueeze": _op("unsqueeze2", "X AxesTensor=axes"),
        "unstack": _op("unstack", output="Y"),
        "where": _op("where", "Condition X Y"),
    }
)
"""By PIR's name, without the dialect before and the underscore of the variants that write in place."""
