"""The other ways to int8: NNCF's post-training quantization and ONNX Runtime's static quantization, at their best.

Each rival gets the variants that its own documentation recommends for such models and CPUs; the benchmark keeps the
one that scores best **on the evaluation images**, which flatters the rival, never us. NNCF is imported when it is used.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ocrslim.config.profile import Profile
from ocrslim.errors import DataError, EngineError
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample
from ocrslim.ocr.transforms import normalize, resize_for_det, resize_for_rec
from ocrslim.slimming.training.data import TrainingData

__all__ = ["RIVALS", "Images", "Rival", "Variant", "calibration_images", "file_of", "is_installed", "quantize"]

Images = Sequence[NDArray[np.float32]]
Rival = Literal["nncf", "onnxruntime"]

OPSET = 13  # the first that has scales per channel: what both rivals ask for
SAID = 200  # characters of a library's own message that are worth repeating


@dataclass(frozen=True)
class Variant:
    """One setting of a rival.

    Args:
        name: in the table.
        options: by the rival's own names, as JSON's types.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as part of a file name."""
        return self.name.replace(",", "").replace(" ", "-")


RIVALS: dict[Rival, tuple[Variant, ...]] = {
    "nncf": (
        # "mixed" is documented for activations that are not ReLU, as HardSwish and GELU are not; the half range of
        # weights for CPUs of AVX2 and AVX-512 without VNNI; the slow bias correction as the more accurate one.
        Variant(
            "mixed, half range, slow bias",
            {"preset": "mixed", "overflow_fix": "enable", "fast_bias_correction": False},
        ),
        Variant("mixed, half range", {"preset": "mixed", "overflow_fix": "enable"}),
        Variant("mixed, slow bias", {"preset": "mixed", "fast_bias_correction": False}),
        Variant("mixed", {"preset": "mixed"}),
        Variant("default"),
    ),
    "onnxruntime": (
        # All with 7-bit weights per channel, as documented for CPUs without VNNI.
        Variant("percentile 99.99", {"method": "Percentile", "CalibPercentile": 99.99}),
        Variant("minmax", {"method": "MinMax"}),
    ),
}
"""The variants of each rival, the most promising first."""


def is_installed(rival: Rival) -> bool:
    """Return whether a rival's package can be imported."""
    return importlib.util.find_spec(rival) is not None


def calibration_images(data: TrainingData, profile: Profile, count: int) -> list[NDArray[np.float32]]:
    """Return the first ``count`` training images as the deployed model would see them.

    Args:
        data: split as ``ocrslim compress`` splits it, so these are the images that it calibrates with.
        profile: resizing and normalisation.
        count: images, at most; unreadable ones are left out.

    Returns:
        list: f32 ``[1, 3, H, W]``, each of its own size.

    Raises:
        DataError: none can be read.
    """
    images, reason = [], "there is none"
    for item in data.train[:count]:
        source = item.image if isinstance(item, DetSample) else item
        try:
            pixels = read_image(source) if isinstance(source, Path) else source
        except DataError as error:
            reason = str(error)
            continue
        if data.task == "rec":
            images.append(resize_for_rec(pixels, profile.rec)[None])
        else:
            resized, _, _ = resize_for_det(pixels, profile.det)
            images.append(normalize(resized, profile.det.mean, profile.det.std)[None])
    if not images:
        raise DataError(f"no image to calibrate with can be read: {reason}")
    return images


def file_of(rival: Rival, engine: str) -> str:
    """Return the name of the model file that a rival writes for an engine.

    NNCF has a backend for each engine: OpenVINO's model is quantized as such and stored as OpenVINO IR.
    """
    return "model.xml" if rival == "nncf" and engine == "openvino" else "model.onnx"


def quantize(rival: Rival, variant: Variant, path: Path, images: Images, out: Path) -> dict[str, str]:
    """Quantize a model.

    Args:
        rival: whose code does it.
        variant: with which options.
        path: the float ONNX file.
        images: to calibrate with, f32 ``[1, 3, H, W]``.
        out: the file to write; its suffix says for which engine, see :func:`file_of`.

    Returns:
        dict: the versions of the packages that did it.

    Raises:
        EngineError: the rival failed or is not installed; nothing is written then.
    """
    if not is_installed(rival):
        raise EngineError(f"{rival} is not installed: pip install -r benchmarks/requirements.txt")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantize-") as folder, _silenced():
        made = Path(folder) / out.name
        try:
            if rival == "onnxruntime":
                _onnxruntime(path, variant.options, images, made)
            elif out.suffix == ".xml":
                _nncf_openvino(path, variant.options, images, made)
            else:
                _nncf_onnx(path, variant.options, images, made)
        except Exception as error:  # they raise whatever they like; that they failed is a result
            lines = str(error).strip().splitlines() or [""]
            raise EngineError(f"{rival} ({variant.name}): {type(error).__name__}: {lines[0][:SAID]}") from error
        for file in sorted(made.parent.glob(f"{made.stem}.*")):  # IR is two files
            os.replace(file, out.parent / file.name)
    return {name: importlib.metadata.version(name) for name in dict.fromkeys((rival, "onnxruntime", "openvino"))}


def _nncf_openvino(path: Path, options: Mapping[str, Any], images: Images, out: Path) -> None:
    nncf = _import_nncf()
    import openvino

    model = openvino.Core().read_model(path)
    quantized = nncf.quantize(model, nncf.Dataset(list(images)), subset_size=len(images), **_nncf_options(options))
    openvino.save_model(quantized, out, compress_to_fp16=False)


def _nncf_onnx(path: Path, options: Mapping[str, Any], images: Images, out: Path) -> None:
    nncf = _import_nncf()
    model = _with_opset(path)
    feeds = [{model.graph.input[0].name: image} for image in images]
    quantized = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds), **_nncf_options(options))
    onnx.save(quantized, out)


def _import_nncf() -> Any:
    os.environ["NNCF_CI"] = "1"  # or it would report its use over the network
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf


def _nncf_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``nncf.quantize`` for a variant's plain options."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    found = dict(options)
    if "preset" in found:
        found["preset"] = nncf.QuantizationPreset(found["preset"])
    if "overflow_fix" in found:
        fix = OverflowFix(found.pop("overflow_fix"))
        found["advanced_parameters"] = AdvancedQuantizationParameters(overflow_fix=fix)
    return found


def _onnxruntime(path: Path, options: Mapping[str, Any], images: Images, out: Path) -> None:
    """QDQ, unsigned activations, 7-bit signed weights per channel, convolutions and matrix products.

    Quantizing every operator, the default, was worse in accuracy and in time on these models.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    extra = dict(options)
    method = CalibrationMethod[extra.pop("method")]
    raised, prepared = out.with_name("raised.tmp"), out.with_name("prepared.tmp")
    onnx.save(_with_opset(path), raised)
    _prepare(raised, prepared)
    name = onnx.load(prepared).graph.input[0].name
    quantize_static(
        prepared,
        out,
        _reader(name, images),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        # One image at a time, or the values of all tensors for all images would lie in memory together.
        extra_options=extra | {"CalibStridedMinMax": 1},
    )


def _prepare(path: Path, out: Path) -> None:
    """Run ONNX Runtime's own preparation, which folds batch norms; without symbolic shapes where it cannot infer them.

    It takes a file: given a model in memory, version 1.32 fails to optimise it and says so in the log alone.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(path, out)
    except Exception:  # noqa: BLE001 - it raises bare Exceptions, and documents this way out
        quant_pre_process(path, out, skip_symbolic_shape=True)


def _reader(name: str, images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The images in turn, within a range that ``quantize_static`` moves along."""

        def __init__(self) -> None:
            self._range = iter(range(len(images)))

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._range = iter(range(start_index, end_index))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            index = next(self._range, None)
            return None if index is None else {name: images[index]}

    return Reader()


def _with_opset(path: Path) -> onnx.ModelProto:
    """Return the model in opset 13 at least; both rivals quantize weights per channel only from there on."""
    model = onnx.load(path)
    present = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return model if present >= OPSET else onnx.version_converter.convert_version(model, OPSET)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the rivals' bars and warnings off the terminal; ours are shown there."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        logging.disable(level)
