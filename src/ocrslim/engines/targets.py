"""What an engine's int8 kernels want: a model is quantized for one target, and right only there.

Which placement and which integers are fast and right differs between engines (measured on ten PP-OCR models):
ONNX Runtime picks an int8 convolution only where the convolution's output is quantized too, OpenVINO needs only input
and weight and loses time and accuracy on quantized outputs. Kernels for ``u8 * s8`` are the fast ones in both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ocrslim.engines.cpu import cpu_info, sums_without_saturation
from ocrslim.errors import InputError
from ocrslim.spec import PerAxis, PerTensor, QuantizationSpec

__all__ = ["PLACEMENTS", "TARGETS", "Target", "get_target"]

TARGETS: tuple[str, ...] = ("onnxruntime", "openvino", "paddle", "tensorrt")

PLACEMENTS: tuple[str, ...] = ("measured", "policy", "largest")
"""Ways to say where int8 goes; see :class:`ocrslim.compress.CompressSettings`."""

# Signed activations cost 1.65 times the time in ONNX Runtime and gave wrong results in OpenVINO.
ACTIVATION = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
# For engines without zero points.
SIGNED_WEIGHT = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(0))
SIGNED_ACTIVATION = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerTensor())

CHANNELS = "a scale for each channel of what a recogniser's convolutions read, which takes 0 to 4 % more time"


@dataclass(frozen=True)
class Target:
    """The engine that will run a model, and how its values have to be quantized.

    Args:
        name: of the target.
        engine: that runs it, one of :data:`ocrslim.engines.session.ENGINES`; of ``tensorrt`` the one that it is judged
            in, since there is no GPU where models are compressed.
        weight: of weights, per output channel; the axis is that of a convolution's weight ``[out, in, kh, kw]``,
            placement knows the axis of other operators.
        activation: of activations.
        quantize_outputs: outputs of quantized operators are quantized too. On OpenVINO the clock may want it otherwise,
            see :mod:`ocrslim.slimming.quantization.measured`.
        quantize_bias: biases are int32 with scale ``input scale * weight scale``; float otherwise.
        notes: why so, one sentence each.
        quantize_residuals: where an ``Add`` sums a quantized operator's output, its other input is quantized too.
        shuffle_upsampling: see :class:`ocrslim.graph.passes.shuffle.ShuffleUpsampling`.
        channel_scales: an activation that convolutions read may be quantized with a scale for each channel.
    """

    name: str
    engine: str
    weight: QuantizationSpec
    activation: QuantizationSpec
    quantize_outputs: bool
    quantize_bias: bool
    notes: tuple[str, ...]
    quantize_residuals: bool = False
    shuffle_upsampling: bool = False
    channel_scales: bool = False


def get_target(name: str, flags: Collection[str] | None = None) -> Target:
    """Return the target of that name for a CPU.

    Args:
        name: one of :data:`TARGETS`.
        flags: of the CPU that will run the model, as in ``/proc/cpuinfo``; those of this machine when ``None``.

    Raises:
        InputError: there is no such target.

    >>> get_target("openvino", ["avx2"]).weight.quant_max, get_target("openvino", ["avx2", "avx_vnni"]).weight.quant_max
    (63, 127)
    """
    if name not in TARGETS:
        raise InputError(f"target {name}: there is none of that name; take one of {', '.join(TARGETS)}")
    if name == "paddle":
        return _paddle()
    if name == "tensorrt":
        return _tensorrt()
    exact = sums_without_saturation(cpu_info().flags if flags is None else flags)
    weight = QuantizationSpec(8 if exact else 7, signed=True, symmetric=True, granularity=PerAxis(0))
    bits = (
        "8-bit weights: this CPU adds u8*s8 products in 32 bits; on a CPU without VNNI the model would saturate"
        if exact
        else "7-bit weights: this CPU adds pairs of u8*s8 products in 16 bits, which 8-bit weights saturate"
    )
    if name == "onnxruntime":
        return Target(
            name,
            "onnxruntime",
            weight,
            ACTIVATION,
            quantize_outputs=True,
            quantize_bias=True,
            notes=(
                bits,
                "outputs quantized: onnxruntime has no int8 convolution with a float output",
                CHANNELS,
            ),
            channel_scales=True,
        )
    return Target(
        name,
        "openvino",
        weight,
        ACTIVATION,
        quantize_outputs=False,
        quantize_bias=False,
        notes=(
            bits,
            "outputs float: openvino's int8 convolution writes them, and quantizing them costs time",
            CHANNELS,
            "the last upsampling of a detector as pointwise convolution and shuffle: one channel costs openvino 16",
        ),
        shuffle_upsampling=True,
        channel_scales=True,
    )


def _paddle() -> Target:
    """Paddle's own format has signed integers of 8 bits and no zero points."""
    return Target(
        "paddle",
        "paddle",
        SIGNED_WEIGHT,
        SIGNED_ACTIVATION,
        quantize_outputs=False,
        quantize_bias=False,
        notes=(
            "8-bit weights: Paddle Inference adds float products unless the model tells the ranges of outputs",
            "symmetric activations: quantize_linear and dequantize_linear of Paddle have no zero points",
            "outputs float: with ranges of outputs Paddle's int8 mode agreed with the float model on 0.83 to 0.89",
        ),
    )


def _tensorrt() -> Target:
    """TensorRT's explicit quantization: symmetric int8, a scale for each channel of a weight, float biases.

    See "Working with Quantized Types" in NVIDIA's TensorRT documentation. TensorRT fuses an operator with the Q/DQ
    pairs at its inputs, and a sum into the convolution before it only where the sum's other input is quantized too.
    """
    return Target(
        "tensorrt",
        "onnxruntime",
        SIGNED_WEIGHT,
        SIGNED_ACTIVATION,
        quantize_outputs=False,
        quantize_bias=False,
        quantize_residuals=True,
        notes=(
            "8-bit weights: a GPU adds products of 8-bit values in 32 bits",
            "symmetric int8 activations: TensorRT has no zero points",
            "outputs float, biases float: TensorRT takes the next operator's Q node as the output's",
            "judged in onnxruntime on the CPU: whether and how fast TensorRT runs it was not measured",
        ),
    )
