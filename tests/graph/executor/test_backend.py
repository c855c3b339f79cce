"""The official node tests of ONNX for every operator that has an implementation; each exclusion has its reason."""

from __future__ import annotations

import fnmatch
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.executor.registry import registered

OPERATORS = sorted({key.op_type for key in registered()})

EXCLUDED = {  # pattern of the test's name -> why it is not run
    "test_*_expanded*": "the operator as a function of others, which is not what is tested",
    "test_batchnorm_*_training_mode": "a deployed model does not train its statistics",
    "test_cast_*FLOAT8*": "torch's 8-bit floats are no part of PP-OCR models",
    "test_cast_*FLOAT4*": "torch has no 4-bit float",
    "test_cast_*INT4*": "torch has no 4-bit integer",
    "test_cast_*INT2*": "torch has no 2-bit integer",
    "test_cast_e8m0*": "torch's 8-bit exponents are no part of PP-OCR models",
    "test_cast_*BFLOAT16*": "numpy has no bfloat16, which the test data are read with",
    "test_identity_opt": "optional values are no tensors",
    "test_identity_sequence": "sequences are no tensors",
    "test_maxpool_with_argmax_*": "the indices as a second output: no PP-OCR model reads them",
    "test_add_uint[136]*": "torch has no arithmetic of unsigned integers beyond 8 bits",
    "test_sub_uint[136]*": "torch has no arithmetic of unsigned integers beyond 8 bits",
    "test_div_uint[136]*": "torch has no arithmetic of unsigned integers beyond 8 bits",
    "test_resize_*cubic*": "cubic interpolation: PP-OCR models resize to the nearest",
    "test_resize_*antialias*": "antialiasing: the same",
    "test_resize_tf_crop_and_resize*": "cropping by regions of interest: the same",
    "test_resize_*_not_larger": "a policy on the aspect ratio: the same",
    "test_resize_*_not_smaller": "a policy on the aspect ratio: the same",
}


@functools.cache
def _official() -> tuple[TestCase, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases compute infinities on purpose
        return tuple(load_model_tests(kind="node"))


def _operators(model: onnx.ModelProto) -> set[str]:
    return {f"{node.domain}{node.op_type}" for node in model.graph.node}


@functools.cache
def _cases() -> tuple[Any, ...]:
    cases = []
    for case in _official():
        if case.model is None or len(case.model.graph.node) != 1 or not _operators(case.model) <= set(OPERATORS):
            continue
        reasons = [reason for pattern, reason in EXCLUDED.items() if fnmatch.fnmatch(case.name, pattern)]
        marks = [pytest.mark.skip(reason=reasons[0])] if reasons else []
        cases.append(pytest.param(case, id=case.name, marks=marks))
    return tuple(cases)


def _run(model: onnx.ModelProto, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Run a model; its first floating input, or its first, is the graph's input, the others become initializers."""
    names = [value.name for value in model.graph.input]
    first = next((number for number, array in enumerate(inputs) if array.dtype.kind == "f"), 0)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not inputs:  # Constant takes none
        copy.graph.input.append(onnx.helper.make_tensor_value_info("unused", onnx.TensorProto.FLOAT, [1]))
        inputs, names = [np.zeros(1, np.float32)], ["unused"]
    del copy.graph.input[:]
    copy.graph.input.append(onnx.helper.make_tensor_value_info(names[first], onnx.TensorProto.FLOAT, None))
    for number, (name, array) in enumerate(zip(names, inputs, strict=True)):
        if number != first:
            copy.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    copy.graph.node[0].name = "node"
    module = GraphModule(ir.from_proto(copy))
    outputs = [value.name for value in model.graph.output]
    with torch.no_grad():
        made = module(torch.from_numpy(np.array(inputs[first])), fetch=outputs)
    return [made[name].detach().numpy() for name in outputs]


def _arrays(values: Sequence[Any]) -> list[np.ndarray]:
    return [onnx.numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item for item in values]


@pytest.mark.parametrize("case", _cases())
def test_official_node_case(case: TestCase) -> None:
    for inputs, outputs in case.data_sets:
        results = _run(case.model, _arrays(inputs))
        assert len(results) == len(outputs)
        for result, output in zip(results, _arrays(outputs), strict=True):
            assert result.dtype == output.dtype
            assert result.shape == output.shape
            np.testing.assert_allclose(result, output, rtol=case.rtol, atol=case.atol)


def test_every_operator_of_the_ten_models_has_an_implementation() -> None:
    names = (
        "Add AveragePool BatchNormalization Cast Clip Concat Constant Conv ConvTranspose Div Erf GlobalAveragePool"
        " HardSigmoid HardSwish Identity MatMul MaxPool Mul Pow ReduceMean Relu Reshape Resize Shape Sigmoid Slice"
        " Softmax Sqrt Squeeze Sub Transpose Unsqueeze"
    )
    needed = set(names.split())
    assert len(needed) == 32
    assert needed <= set(OPERATORS)


def test_every_operator_has_official_cases_that_run() -> None:
    tested = set()
    for parameter in _cases():
        if not parameter.marks:
            tested |= _operators(parameter.values[0].model)
    assert set(OPERATORS) - tested <= {"Constant"}


def test_an_exclusion_that_excludes_nothing_is_an_error() -> None:
    names = [parameter.id for parameter in _cases()]
    idle = [pattern for pattern in EXCLUDED if not fnmatch.filter(names, pattern)]
    assert idle == []


@pytest.mark.parametrize(
    "name",
    [
        "test_resize_upsample_scales_cubic",
        "test_maxpool_with_argmax_2d_precomputed_pads",
        "test_batchnorm_example_training_mode",
    ],
)
def test_what_is_not_supported_says_so(name: str) -> None:
    case = next(case for case in _official() if case.name == name)
    inputs, _ = case.data_sets[0]
    with pytest.raises(ModelError, match=r"not supported|export the model"):
        _run(case.model, list(inputs))
