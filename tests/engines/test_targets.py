"""Targets: the integers and the placement of each engine, by the CPU's flags."""

from __future__ import annotations

import dataclasses

import pytest

from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.session import ENGINES, PADDLE_ENGINES
from ocrslim.engines.targets import TARGETS, get_target
from ocrslim.errors import InputError
from ocrslim.spec import PerAxis, PerTensor

every_target = pytest.mark.parametrize("name", TARGETS)
adapting = pytest.mark.parametrize("name", ["onnxruntime", "openvino"])  # to the CPU


@adapting
@pytest.mark.parametrize(
    ("flags", "bits", "low", "high"),
    [
        (["avx2", "fma"], 7, -64, 63),
        (["avx2", "avx512f", "avx512bw"], 7, -64, 63),  # AVX-512 without VNNI saturates, too
        ([], 7, -64, 63),  # nothing known: the careful choice
        (["avx2", "avx512f", "avx512_vnni"], 8, -128, 127),
        (["avx2", "avx_vnni"], 8, -128, 127),
        (["asimd"], 8, -128, 127),
        (["asimd", "asimddp", "i8mm"], 8, -128, 127),
    ],
)
def test_weights_keep_to_seven_bits_where_sums_saturate(
    name: str, flags: list[str], bits: int, low: int, high: int
) -> None:
    weight = get_target(name, flags).weight
    assert (weight.bits, weight.quant_min, weight.quant_max) == (bits, low, high)
    assert weight.signed
    assert weight.symmetric
    assert weight.granularity == PerAxis(0)


@pytest.mark.parametrize("weight", [63, 127])
def test_seven_bits_are_just_what_sixteen_bit_sums_hold(weight: int) -> None:
    # The reason for [-64, 63]: a pair of products of the largest u8 with the largest weight.
    assert (2 * 255 * weight <= 2**15 - 1) == (weight == 63)
    assert 2 * 255 * -64 >= -(2**15)


def test_paddle_has_symmetric_integers_of_eight_bits_on_every_cpu() -> None:
    # Its dequantize_linear multiplies with scale / 127 and has no zero point.
    for flags in ([], ["avx2", "avx_vnni"], ["asimd"]):
        target = get_target("paddle", flags)
        assert (target.weight.bits, target.weight.granularity) == (8, PerAxis(0))
        assert (target.activation.quant_min, target.activation.quant_max) == (-128, 127)
        assert target.weight.symmetric
        assert target.activation.symmetric
        assert (target.engine, target.quantize_outputs, target.quantize_bias) == ("paddle", False, False)


def test_tensorrt_has_symmetric_int8_and_quantized_sums_on_every_cpu() -> None:
    for flags in ([], ["avx2", "avx_vnni"], ["asimd"]):
        target = get_target("tensorrt", flags)
        assert (target.weight.bits, target.weight.symmetric, target.weight.granularity) == (8, True, PerAxis(0))
        assert (target.activation.quant_min, target.activation.quant_max) == (-128, 127)
        assert (target.activation.symmetric, target.activation.granularity) == (True, PerTensor())
        assert (target.quantize_outputs, target.quantize_bias, target.quantize_residuals) == (False, False, True)
        assert target.engine == "onnxruntime"
        assert "not measured" in target.notes[-1]
    assert not any(get_target(name, []).quantize_residuals for name in TARGETS if name != "tensorrt")


@adapting
def test_activations_are_unsigned_and_asymmetric(name: str) -> None:
    activation = get_target(name, []).activation
    assert (activation.quant_min, activation.quant_max) == (0, 255)
    assert not activation.symmetric
    assert activation.granularity == PerTensor()


def test_the_engines_differ_in_outputs_and_bias() -> None:
    ort, ov = get_target("onnxruntime", []), get_target("openvino", [])
    assert (ort.engine, ort.quantize_outputs, ort.quantize_bias) == ("onnxruntime", True, True)
    assert (ov.engine, ov.quantize_outputs, ov.quantize_bias) == ("openvino", False, False)


@every_target
def test_a_target_has_an_engine_and_says_why(name: str) -> None:
    target = get_target(name, [])
    assert target.engine in (*ENGINES, *PADDLE_ENGINES)
    assert len(target.notes) >= 2
    assert all("\n" not in note for note in target.notes)
    assert target.notes[0].startswith("8-bit weights" if name in ("paddle", "tensorrt") else "7-bit weights")


@every_target
def test_this_machine_is_the_default(name: str) -> None:
    assert get_target(name) == get_target(name, cpu_info().flags)


@every_target
def test_targets_are_frozen(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_target(name, []).engine = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["tflite", "", "OpenVINO"])
def test_an_unknown_target_names_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="onnxruntime, openvino"):
        get_target(name)
