"""The rivals on a real model: what they write is int8, runs, and still reads; what fails leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import rivals
from numpy.typing import NDArray
from rivals import RIVALS, Rival, Variant, calibration_images, file_of, is_installed, quantize

from ocrslim.config.profile import load_profile
from ocrslim.engines.session import open_session
from ocrslim.errors import DataError, EngineError
from ocrslim.ocr.render import render_pages
from ocrslim.slimming.training.data import TrainingData, calibration_batches, open_training_data

PROFILE = load_profile("example")

needs_nncf = pytest.mark.skipif(
    not is_installed("nncf"), reason="nncf is not installed: pip install -r benchmarks/requirements.txt"
)


def training_data(lines: Path) -> TrainingData:
    return open_training_data("rec", lines / "rec" / "labels" / "train.txt", None, (), 0)


@pytest.fixture(scope="module")
def images(lines: Path) -> list[NDArray[np.float32]]:
    return calibration_images(training_data(lines), PROFILE, 4)


def agreement(original: Path, quantized: Path, engine: str, images: list[NDArray[np.float32]]) -> float:
    """Return the share of frames that read the same class, over all images."""
    before, after = open_session(original, engine, 1), open_session(quantized, engine, 1)
    same = [before.run(image).argmax(-1) == after.run(image).argmax(-1) for image in images]
    return float(np.mean(np.concatenate([part.ravel() for part in same])))


@pytest.mark.parametrize("variant", RIVALS["onnxruntime"], ids=lambda variant: variant.slug)
def test_onnxruntime_writes_seven_bit_weights_and_unsigned_activations(
    tiny: Path, images: list[NDArray[np.float32]], tmp_path: Path, variant: Variant
) -> None:
    out = tmp_path / "made" / "model.onnx"
    used = quantize("onnxruntime", variant, tiny, images, out)
    assert used["onnxruntime"]
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(out)
    weights = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    int8 = [value for value in weights.values() if value.dtype == np.int8 and value.ndim > 1]
    assert len(int8) > 20
    assert all(np.abs(value.astype(int)).max() <= 64 for value in int8)
    scales = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert scales
    assert {weights[node.input[2]].dtype for node in scales} == {np.dtype(np.uint8)}
    per_channel = [
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and weights[node.input[1]].ndim == 1
    ]
    assert per_channel
    assert 0.5 < agreement(tiny, out, "onnxruntime", images) <= 1.0


def test_the_two_settings_of_onnxruntime_give_other_files(
    tiny: Path, images: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    files = []
    for variant in RIVALS["onnxruntime"]:
        quantize("onnxruntime", variant, tiny, images, tmp_path / variant.slug / "model.onnx")
        files.append((tmp_path / variant.slug / "model.onnx").read_bytes())
    assert files[0] != files[1]


@needs_nncf
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_nncf_quantizes_for_each_engine(
    tiny: Path, images: list[NDArray[np.float32]], tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "made" / file_of("nncf", engine)
    assert quantize("nncf", RIVALS["nncf"][0], tiny, images, out)["nncf"]
    expected = ["model.bin", "model.xml"] if engine == "openvino" else ["model.onnx"]
    assert sorted(path.name for path in out.parent.iterdir()) == expected
    text = out.read_bytes()
    assert (b"FakeQuantize" if engine == "openvino" else b"QuantizeLinear") in text
    assert 0.5 < agreement(tiny, out, engine, images) <= 1.0


@needs_nncf
@pytest.mark.parametrize("variant", RIVALS["nncf"], ids=lambda variant: variant.slug)
def test_every_setting_of_nncf_is_one_that_it_knows(variant: Variant) -> None:
    import inspect

    import nncf

    options = rivals._nncf_options(variant.options)
    assert options.keys() <= inspect.signature(nncf.quantize).parameters.keys()
    assert len(options) == len(variant.options)


def test_a_rival_that_fails_is_told_in_one_line_and_leaves_nothing(
    tiny: Path, images: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    out = tmp_path / "made" / "model.onnx"
    with pytest.raises(EngineError, match=r"^onnxruntime \(odd\): KeyError: 'Median'$"):
        quantize("onnxruntime", Variant("odd", {"method": "Median"}), tiny, images, out)
    assert list(out.parent.iterdir()) == []


def test_a_rival_keeps_quiet_and_gives_the_streams_back(
    tiny: Path, images: list[NDArray[np.float32]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    streams = sys.stdout, sys.stderr
    quantize("onnxruntime", RIVALS["onnxruntime"][1], tiny, images, tmp_path / "model.onnx")
    assert (sys.stdout, sys.stderr) == streams
    assert capfd.readouterr().out == ""


def test_a_rival_that_is_not_installed_says_how_to_get_it(
    tiny: Path, images: list[NDArray[np.float32]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "is_installed", lambda rival: False)
    with pytest.raises(EngineError, match=r"nncf is not installed: pip install -r benchmarks/requirements\.txt"):
        quantize("nncf", RIVALS["nncf"][0], tiny, images, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rival", RIVALS)
def test_settings_have_names_and_file_names_of_their_own(rival: Rival) -> None:
    assert len({variant.name for variant in RIVALS[rival]}) == len(RIVALS[rival])
    slugs = {variant.slug for variant in RIVALS[rival]}
    assert len(slugs) == len(RIVALS[rival])
    assert all(" " not in slug and "," not in slug for slug in slugs)


def test_files_by_engine() -> None:
    assert file_of("nncf", "openvino") == "model.xml"
    assert file_of("nncf", "onnxruntime") == file_of("onnxruntime", "openvino") == "model.onnx"


def test_lines_are_those_that_we_calibrate_with_ourselves(
    lines: Path, images: list[NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocrslim.slimming.training.data.CALIBRATION_IMAGES", {"rec": 4})
    ours = [image for batch in calibration_batches(training_data(lines), PROFILE, 0) for image in batch.numpy()]
    assert len(ours) == len(images) == 4
    for image in images:
        assert image.shape[:3] == (1, 3, 48)
        # Ours are padded to the widest of a batch, and cut where they are very wide.
        width = min(image.shape[3], *(other.shape[2] for other in ours))
        assert any(np.array_equal(image[0, :, :, :width], other[:, :, :width]) for other in ours)


def test_pages_keep_their_size() -> None:
    pages = [image for image, *_ in render_pages(2, 0)]
    data = TrainingData("det", tuple(pages), (), (), True, False, ())
    found = calibration_images(data, PROFILE, 5)
    assert len(found) == 2
    for image in found:
        assert image.dtype == np.float32
        assert image.shape[2] % 32 == image.shape[3] % 32 == 0
        assert min(image.shape[2:]) >= 736 - 16


def test_images_that_cannot_be_read_are_left_out(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = training_data(lines).train[0]
    both = TrainingData("rec", (tmp_path / "broken.png", good), (), (), False, False, ())
    assert len(calibration_images(both, PROFILE, 2)) == 1
    with pytest.raises(DataError, match=r"no image to calibrate with can be read: .*broken\.png"):
        calibration_images(both, PROFILE, 1)


def test_a_model_of_an_old_opset_gets_scales_per_channel(zoo: Callable[[str], Path]) -> None:
    classic = zoo("PP-OCRv4_mobile_rec")
    assert onnx.load(classic).opset_import[0].version < rivals.OPSET
    raised = rivals._with_opset(classic)
    assert raised.opset_import[0].version == rivals.OPSET
    onnx.checker.check_model(raised)


def test_onnxruntime_gets_what_its_preparation_makes(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    """One that fails in silence leaves weights in constants and batch norms: accuracy then falls to nothing."""
    onnx.save(rivals._with_opset(zoo("PP-OCRv4_mobile_rec")), tmp_path / "raised.tmp")
    rivals._prepare(tmp_path / "raised.tmp", tmp_path / "prepared.tmp")
    before, after = (onnx.load(tmp_path / name).graph for name in ("raised.tmp", "prepared.tmp"))
    convolutions = [node for node in after.node if node.op_type == "Conv"]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in before.node)
    assert {node.input[1] for node in convolutions} <= {value.name for value in after.initializer}
    assert not {"Constant", "BatchNormalization"} & {node.op_type for node in after.node}
