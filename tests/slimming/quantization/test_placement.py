"""What becomes int8 and what stays float, on graphs small enough to know the answer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.targets import get_target
from ocrslim.errors import InputError
from ocrslim.slimming.quantization.placement import MOST_TERMS_FLOAT, Residual, Site, place

OPENVINO = get_target("openvino", ["avx2"])
ONNXRUNTIME = get_target("onnxruntime", ["avx2"])
TENSORRT = get_target("tensorrt")


class Net:
    """A graph under construction: an image ``[1, 3, 16, 16]`` and a chain of nodes; a call returns a value's name."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: list = []
        self.value = self.conv("x", 80, 3, name="stem")

    def conv(
        self, source: str, out: int, channels: int, k: int = 1, group: int = 1, bias: bool = True, name: str = ""
    ) -> str:
        name = name or f"conv{len(self.nodes)}"
        weight = np.random.default_rng(len(self.nodes)).normal(size=(out, channels // group, k, k)).astype(np.float32)
        self.constant(f"{name}.w", weight)
        inputs = [source, f"{name}.w"]
        if bias:
            self.constant(f"{name}.b", np.ones(out, np.float32))
            inputs.append(f"{name}.b")
        self.nodes.append(
            helper.make_node(
                "Conv", inputs, [f"{name}.y"], name=name, group=group, pads=[k // 2] * 4, kernel_shape=[k, k]
            )
        )
        return f"{name}.y"

    def op(self, op_type: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [f"{name}.y"], name=name, **attributes))
        return f"{name}.y"

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def model(self, output: str) -> ir.Model:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def site(model: ir.Model, node: str, target=ONNXRUNTIME) -> Site:
    return next(site for site in place(model, target).sites if site.node == node)


def test_a_chain_of_convolutions() -> None:
    net = Net()
    deep = net.conv(net.value, 80, 80, name="deep")
    depthwise = net.conv(deep, 80, 80, k=3, group=80, name="depthwise")
    full = net.conv(depthwise, 8, 80, k=3, name="full")
    shallow = net.conv(full, 80, 8, name="shallow")
    shallow_but_wide = net.conv(full, 80, 8, k=3, name="shallow_but_wide")
    model = net.model(net.op("Add", shallow, shallow_but_wide))
    placement = place(model, OPENVINO)
    assert [site.node for site in placement.sites] == ["deep", "full", "shallow_but_wide"]
    assert "stem" in placement.float_nodes["stem"]
    assert "depthwise" in placement.float_nodes["depthwise"]
    assert "8 products" in placement.float_nodes["shallow"]
    assert [site.reason.split()[0] for site in placement.sites] == ["pointwise", "3x3", "3x3"]


@pytest.mark.parametrize(("channels", "quantized"), [(MOST_TERMS_FLOAT, False), (MOST_TERMS_FLOAT + 1, True)])
def test_the_bound_on_the_number_of_products(channels: int, quantized: bool) -> None:
    net = Net()
    wide = net.conv(net.value, channels, 80, name="wide")
    model = net.model(net.op("Relu", net.conv(wide, 9, channels, name="it")))
    assert ("it" in {site.node for site in place(model, OPENVINO).sites}) == quantized


def test_squeeze_and_excitation_stays_float() -> None:
    net = Net()
    pooled = net.op("GlobalAveragePool", net.value)
    inner = net.op("Relu", net.conv(pooled, 80, 80, name="squeeze"))
    gate = net.op("HardSigmoid", net.conv(inner, 80, 80, name="excite"))
    scaled = net.op("Mul", net.value, gate)
    model = net.model(net.op("Relu", net.conv(scaled, 80, 80, name="after")))
    placement = place(model, OPENVINO)
    assert [site.node for site in placement.sites] == ["after"]
    assert all("squeeze" in placement.float_nodes[name] for name in ("squeeze", "excite"))


@pytest.mark.parametrize(("axes", "keep", "pooled"), [([2, 3], 1, True), ([-1, -2], 1, True), ([1], 1, False)])
def test_a_mean_over_the_image_is_a_pooling(axes: list[int], keep: int, pooled: bool) -> None:
    net = Net()
    net.constant("axes", np.array(axes, np.int64))
    mean = net.op("ReduceMean", net.value, "axes", keepdims=keep)
    channels = 80 if pooled else 1
    model = net.model(net.op("Relu", net.conv(mean, 8, channels, k=1 if pooled else 9, name="it")))
    assert ("it" in place(model, OPENVINO).float_nodes) == pooled


def product(transposed: int = 0, weight: tuple[int, ...] = (80, 8), alpha: float = 1.0) -> Net:
    net = Net()
    flat = net.op("Flatten", net.op("GlobalMaxPool", net.value))
    net.constant("w", np.ones(weight, np.float32))
    net.value = net.op("Gemm", flat, "w", name="it", transB=transposed, alpha=alpha)
    return net


def test_products_with_a_constant_matrix() -> None:
    net = Net()
    flat = net.op("Flatten", net.op("GlobalMaxPool", net.value))
    net.constant("w", np.ones((80, 8), np.float32))
    net.constant("b", np.ones(8, np.float32))
    constant = net.op("Add", net.op("MatMul", flat, "w", name="constant"), "b")
    turned = net.op("Transpose", constant, perm=[1, 0])
    model = net.model(net.op("MatMul", turned, constant, name="attention"))
    placement = place(model, ONNXRUNTIME)
    assert [site.node for site in placement.sites] == ["constant"]
    found = placement.sites[0]
    assert (found.kind, found.weight_axis, found.bias_name, found.has_bias) == ("matmul", 1, "b", False)
    # ONNX Runtime multiplies int8 matrices into floats, so the output needs no grid.
    assert found.output_value is None
    assert "attention" in placement.float_nodes["attention"]


def test_the_axis_of_a_gemm_follows_its_transposition() -> None:
    plain, turned = product(), product(1, (8, 80))
    assert site(plain.model(plain.op("Relu", plain.value)), "it").weight_axis == 1
    assert site(turned.model(turned.op("Relu", turned.value)), "it").weight_axis == 0
    scaled = product(alpha=0.5)
    assert "it" in place(scaled.model(scaled.op("Relu", scaled.value)), ONNXRUNTIME).float_nodes


@pytest.mark.parametrize(
    ("after", "value", "floor"),
    [
        (["Relu"], "relu2.y", None),
        (["HardSwish"], "it.y", -3.2),
        (["Gelu"], "it.y", -3.5),
        (["Sigmoid"], "it.y", None),
        (["Relu", "Relu"], "it.y", None),
        (["HardSwish", "Gelu"], "it.y", -3.5),
        (["HardSwish", "Sigmoid"], "it.y", None),
    ],
)
def test_where_the_output_is_quantized(after: list[str], value: str, floor: float | None) -> None:
    net = Net()
    made = net.conv(net.value, 8, 80, name="it")
    read = [net.op(op_type, made) for op_type in after]
    model = net.model(read[0] if len(read) == 1 else net.op("Add", *read))
    if value == "relu2.y":
        model = net.model(net.op("Sigmoid", read[0]))
    found = site(model, "it")
    assert (found.raw_output, found.output_value, found.output_floor) == ("it.y", value, floor)
    assert site(model, "it", OPENVINO).output_value is None


def test_the_output_of_the_model_stays_float() -> None:
    net = Net()
    model = net.model(net.conv(net.value, 8, 80, name="last"))
    assert "output" in place(model, ONNXRUNTIME).float_nodes["last"]
    assert [site.node for site in place(model, OPENVINO).sites] == ["last"]
    net = Net()
    model = net.model(net.op("Relu", net.conv(net.value, 8, 80, name="last")))
    assert "output" in place(model, ONNXRUNTIME).float_nodes["last"]


def test_a_shared_bias_is_not_anyones_own() -> None:
    net = Net()
    one = net.conv(net.value, 80, 80, name="one")
    two = net.conv(one, 80, 80, name="two")
    bare = net.conv(two, 80, 80, name="bare", bias=False)
    net.nodes[2].input[2] = "one.b"
    model = net.model(net.op("Sigmoid", bare))
    assert [(found.bias_name, found.has_bias) for found in place(model, ONNXRUNTIME).sites] == [
        (None, True),
        (None, True),
        (None, False),
    ]


def test_keeping_a_node_float() -> None:
    net = Net()
    model = net.model(net.op("Relu", net.conv(net.conv(net.value, 80, 80, name="one"), 80, 80, name="two")))
    placement = place(model, OPENVINO, keep_float=["one"])
    assert [site.node for site in placement.sites] == ["two"]
    assert "request" in placement.float_nodes["one"]
    with pytest.raises(InputError, match="'three'"):
        place(model, OPENVINO, keep_float=["three"])


def test_tensorrt_quantizes_the_other_input_of_a_sum() -> None:
    net = Net()
    start = net.op("Relu", net.value)
    inner = net.op("Relu", net.conv(start, 80, 80, name="first"))
    summed = net.op("Add", net.conv(inner, 80, 80, name="second"), start, name="sum")
    model = net.model(net.op("Relu", summed))
    assert place(model, TENSORRT).residuals == (Residual("sum", 1, start),)
    assert place(model, TENSORRT).values() == (start, inner)
    assert place(model, OPENVINO).residuals == ()
    assert place(model, ONNXRUNTIME).residuals == ()
    # A site that becomes float has no sum to become part of.
    assert place(model, TENSORRT, ["second"]).residuals == ()


def test_a_sum_behind_a_product_with_a_bias_of_its_own() -> None:
    net = Net()
    turned = net.op("Transpose", net.value, perm=[0, 2, 3, 1])
    product = net.op("MatMul", turned, net.constant("w", np.ones((80, 80), np.float32)), name="product")
    biased = net.op("Add", net.constant("b", np.ones(80, np.float32)), product, name="bias")
    model = net.model(net.op("Relu", net.op("Add", turned, biased, name="sum")))
    assert place(model, TENSORRT).residuals == (Residual("sum", 0, turned),)


@pytest.mark.parametrize("case", ["read twice", "depthwise", "twice the same"])
def test_sums_that_become_part_of_nothing(case: str) -> None:
    net = Net()
    start = net.op("Relu", net.value)
    made = net.conv(start, 80, 80, k=3, group=80 if case == "depthwise" else 1, name="it")
    summed = net.op("Add", made, made if case == "twice the same" else start, name="sum")
    model = net.model(net.op("Mul", summed, made) if case == "read twice" else net.op("Relu", summed))
    assert place(model, TENSORRT).residuals == ()


def test_of_two_sites_in_a_sum_one_is_quantized() -> None:
    net = Net()
    start = net.op("Relu", net.value)
    left, right = (net.conv(start, 80, 80, name=name) for name in ("left", "right"))
    model = net.model(net.op("Relu", net.op("Add", left, right, name="sum")))
    assert place(model, TENSORRT).residuals == (Residual("sum", 1, right),)
