from __future__ import annotations

import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle import registry
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.pir_operators import OPERATORS
from ocrslim.graph.importers.paddle.registry import converted, converter, resolve

# The operators of the deployed PP-OCR detectors and recognisers, v2 to v6.
PP_OCR = (
    *("conv2d", "depthwise_conv2d", "conv2d_transpose", "batch_norm", "layer_norm", "elementwise_add", "swish"),
    *("elementwise_mul", "elementwise_sub", "elementwise_div", "elementwise_pow", "relu", "relu6", "hard_swish"),
    *("hard_sigmoid", "gelu", "sigmoid", "softmax", "pool2d", "matmul", "matmul_v2", "mul", "fc", "transpose2"),
    *("reshape2", "flatten_contiguous_range", "squeeze2", "unsqueeze2", "slice", "strided_slice", "shape", "concat"),
    *("stack", "split", "scale", "cast", "fill_constant", "assign", "nearest_interp_v2", "bilinear_interp_v2"),
    *("dropout", "mean", "reduce_mean", "exp", "sqrt", "square", "pad3d", "clip", "rnn"),
)


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CONVERTERS", dict(registry._CONVERTERS))


@pytest.mark.parametrize("type_", PP_OCR)
def test_the_operators_of_pp_ocr_have_converters(type_: str) -> None:
    assert type_ in converted()


def test_a_duplicate_raises() -> None:
    @converter("mine", "mine_too")
    def first(op: Operation, graph: object) -> None: ...

    assert resolve(Operation("mine_too", {}, {})) is first
    with pytest.raises(ValueError, match="mine has a converter already"):
        converter("mine")(first)


def test_a_miss_names_operator_and_node_and_the_way_out() -> None:
    operation = Operation("yolo_box", {}, {"Boxes": ("box_0",)}, {}, "pd_op.yolo_box")
    with pytest.raises(ModelError) as caught:
        resolve(operation)
    assert str(caught.value) == (
        "operator pd_op.yolo_box of node 'box_0': has no converter; convert the model to ONNX with another tool and"
        " give that file, or give the operator a converter in ocrslim.graph.importers.paddle.operators"
    )


def test_an_operation_without_outputs_is_named_after_its_kind() -> None:
    assert Operation("print", {}, {}).name == "print"
    assert "node 'print'" in str(Operation("print", {}, {}).error("why"))


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_counterpart_of_pir_has_a_converter(name: str) -> None:
    counterpart = OPERATORS[name]
    assert counterpart.type in converted()
    assert not name.endswith("_")
    assert all(slot.name or slot.attribute for slot in counterpart.slots)
