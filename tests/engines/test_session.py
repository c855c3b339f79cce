"""Sessions of both engines: right answers, any shape, one-line errors, and nothing imported that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from ocrslim.engines.cpu import cpu_info, sums_without_saturation
from ocrslim.engines.session import ENGINES, open_session
from ocrslim.engines.targets import get_target
from ocrslim.errors import EngineError, InputError, ModelError

Maker = Callable[..., Path]
every_engine = pytest.mark.parametrize("engine", ENGINES)
TEN = [
    *(f"PP-OCR{version}_mobile_{task}" for version in ("v3", "v4", "v5") for task in ("det", "rec")),
    *(f"PP-OCRv6_{size}_{task}" for size in ("tiny", "small") for task in ("det", "rec")),
]


def mixed(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(0, np.einsum("oc,nchw->nohw", weight, x))


@every_engine
@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_the_closed_form(engine: str, threads: int, mixer: Maker) -> None:
    weight = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    session = open_session(mixer(weight=weight), engine, threads)
    x = np.random.default_rng(2).normal(size=(2, 3, 7, 11)).astype(np.float32)
    y = session.run(x)
    assert y.dtype == np.float32
    assert y.shape == (2, 5, 7, 11)
    np.testing.assert_allclose(y, mixed(weight, x), atol=1e-6)


@every_engine
def test_one_session_takes_every_size_in_any_order(engine: str, mixer: Maker) -> None:
    weight = np.array([[1, -2, 0.5], [0.25, 1, -1]], np.float32)
    session = open_session(mixer(), engine)
    rng = np.random.default_rng(3)
    for shape in [(1, 3, 4, 4), (6, 3, 4, 4), (1, 3, 1, 90), (3, 3, 17, 2), (1, 3, 4, 4)]:
        x = rng.normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(session.run(x), mixed(weight, x), atol=1e-6)


@every_engine
def test_a_session_says_what_it_is(engine: str, mixer: Maker) -> None:
    session = open_session(mixer(input_shape=("N", 3, 48, "W")), engine, threads=1)
    assert (session.engine, session.input_name, session.threads) == (engine, "x", 1)
    assert session.input_shape == (None, 3, 48, None)
    assert session.version[0].isdigit()
    assert "-" not in session.version  # no build names


@every_engine
def test_a_result_is_the_callers_own(engine: str, mixer: Maker) -> None:
    session = open_session(mixer(), engine)
    ones = np.ones((1, 3, 2, 2), np.float32)
    first = session.run(ones)
    kept = first.copy()
    session.run(ones * 7)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # writable, and nobody else's
    np.testing.assert_array_equal(session.run(ones), kept)


@every_engine
def test_a_view_that_is_not_contiguous_is_read_right(engine: str, mixer: Maker) -> None:
    weight = np.array([[1, -2, 0.5], [0.25, 1, -1]], np.float32)
    image = np.random.default_rng(4).normal(size=(5, 8, 3)).astype(np.float32)
    x = image.transpose(2, 0, 1)[None, ::-1]
    assert not x.flags.c_contiguous
    np.testing.assert_allclose(open_session(mixer(), engine).run(x), mixed(weight, x), atol=1e-6)


@every_engine
def test_doubles_are_refused_with_the_mending(engine: str, mixer: Maker) -> None:
    with pytest.raises(TypeError, match=r"float64; give float32"):
        open_session(mixer(), engine).run(np.zeros((1, 3, 2, 2)))  # type: ignore[arg-type]


@every_engine
@pytest.mark.parametrize("shape", [(1, 3, 32, 320), (1, 4, 48, 320), (3, 48, 320), (1, 1, 3, 48, 320)])
def test_a_batch_that_does_not_fit_names_both_shapes(engine: str, shape: tuple[int, ...], mixer: Maker) -> None:
    session = open_session(mixer("rec.onnx", input_shape=("N", 3, 48, "W")), engine)
    with pytest.raises(EngineError, match=r"rec\.onnx: takes \?x3x48x\?, not " + "x".join(map(str, shape)) + "$"):
        session.run(np.zeros(shape, np.float32))


@every_engine
@pytest.mark.parametrize(
    "content",
    [b"", b"this is no model", bytes(4096), b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "half", "holed"],
    ids=["empty", "text", "zeros", "image", "half", "holed"],
)
def test_broken_files_are_one_line_that_names_the_file(
    engine: str, content: bytes | str, heavy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sound = heavy.read_bytes()
    if content == "half":
        content = sound[: len(sound) // 2]
    elif content == "holed":
        content = sound[:100] + bytes(300) + sound[400:]
    assert isinstance(content, bytes)
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        open_session(path, engine)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "0x" not in message
    assert ".cpp" not in message  # a place in the engine's source helps nobody
    assert len(message) < len(str(path)) + 300
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")  # the engine itself keeps quiet


@every_engine
def test_a_value_that_nobody_makes_is_the_models_fault(engine: str, saver: Maker) -> None:
    with pytest.raises(ModelError, match=r"dangling\.onnx: .*nobody"):
        open_session(saver("dangling.onnx", [helper.make_node("Relu", ["nobody"], ["y"])]), engine)


@every_engine
def test_an_unknown_operator_is_named(engine: str, saver: Maker) -> None:
    path = saver("odd.onnx", [helper.make_node("Frobnicate", ["x"], ["y"])])
    with pytest.raises((EngineError, ModelError), match=r"odd\.onnx: .*Frobnicate") as caught:
        open_session(path, engine)
    assert "\n" not in str(caught.value)


@every_engine
@pytest.mark.parametrize(
    ("options", "what"),
    [({"inputs": ("x", "z")}, r"2 inputs \(x, z\)"), ({"outputs": ("y", "u")}, r"2 outputs \(y, u\)")],
)
def test_several_inputs_or_outputs_are_refused(
    engine: str, options: dict[str, tuple[str, ...]], what: str, saver: Maker
) -> None:
    nodes = [helper.make_node("Add", ["x", options.get("inputs", "x")[-1]], ["y"])]
    nodes += [helper.make_node("Relu", ["y"], [name]) for name in options.get("outputs", ())[1:]]
    with pytest.raises(ModelError, match=what):
        open_session(saver("many.onnx", nodes, **options), engine)


@every_engine
def test_a_failure_in_a_run_is_an_engine_error(engine: str, saver: Maker) -> None:
    # The reshape to 7 columns works for some sizes only, which no check of the input can know.
    path = saver("picky.onnx", [helper.make_node("Reshape", ["x", "to"], ["y"])], {"to": np.array([-1, 7])})
    session = open_session(path, engine)
    assert session.run(np.zeros((1, 3, 7, 2), np.float32)).shape == (6, 7)
    with pytest.raises(EngineError, match=rf"picky\.onnx: {engine} .*failed: ") as caught:
        session.run(np.zeros((1, 3, 2, 2), np.float32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", [*ENGINES, "tensorrt", ""])
def test_a_missing_file_and_an_unknown_engine_are_input_errors(engine: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_session(tmp_path / "no.onnx", engine)
    wanted = "there is no such file" if engine in ENGINES else "onnxruntime, openvino"
    assert wanted in str(caught.value)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        open_session(tmp_path, "onnxruntime")


@pytest.mark.parametrize("threads", [0, -2])
def test_no_threads_are_refused(threads: int, mixer: Maker) -> None:
    with pytest.raises(InputError, match="at least 1"):
        open_session(mixer(), "onnxruntime", threads)


def test_only_onnxruntime_can_run_a_graph_as_written(mixer: Maker) -> None:
    path = mixer()
    with pytest.raises(ValueError, match="openvino always optimises"):
        open_session(path, "openvino", optimize=False)
    x = np.random.default_rng(5).normal(size=(1, 3, 6, 6)).astype(np.float32)
    plain, fast = (open_session(path, "onnxruntime", optimize=optimize).run(x) for optimize in (False, True))
    np.testing.assert_allclose(plain, fast, atol=1e-6)


def test_external_data_outside_the_folder_is_not_read(heavy: Path, tmp_path: Path) -> None:
    # A model from a stranger must not be able to read files beside its own folder.
    inner = tmp_path / "model"
    inner.mkdir()
    onnx.save(onnx.load(heavy), inner / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(inner / "m.onnx", load_external_data=False)
    (inner / "w.bin").rename(tmp_path / "w.bin")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../w.bin"
    (inner / "m.onnx").write_bytes(model.SerializeToString())
    for engine in ENGINES:
        with pytest.raises((ModelError, EngineError)):
            open_session(inner / "m.onnx", engine)


@every_engine
def test_the_targets_integers_never_saturate_on_this_machine(engine: str, integer_conv: Maker) -> None:
    target = get_target(engine)
    weight = target.weight.quant_max
    session = open_session(integer_conv(weight, target.quantize_outputs), engine)
    x = np.full((1, 64, 8, 8), 255, np.float32)
    np.testing.assert_allclose(session.run(x), 64 * 255 * weight, rtol=1e-6)


@pytest.mark.skipif(sums_without_saturation(cpu_info().flags), reason="this CPU does not saturate")
def test_eight_bits_do_saturate_where_the_target_says_seven(integer_conv: Maker) -> None:
    session = open_session(integer_conv(127, True), "onnxruntime")
    got = float(session.run(np.full((1, 64, 8, 8), 255, np.float32)).min())
    assert got < 0.6 * 64 * 255 * 127  # pairs of 2 * 255 * 127 = 64770 are cut to 32767


@pytest.mark.parametrize(
    ("engine", "unwanted"), [("onnxruntime", ["torch", "openvino"]), ("openvino", ["torch", "onnxruntime"])]
)
def test_an_engine_imports_neither_torch_nor_the_other_engine(engine: str, unwanted: list[str], mixer: Maker) -> None:
    code = (
        "import sys; from pathlib import Path; from ocrslim.engines.session import open_session;"
        f"open_session(Path({str(mixer())!r}), {engine!r}); print([m for m in {unwanted!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name", [name if "v6_tiny" in name else pytest.param(name, marks=pytest.mark.slow) for name in TEN]
)
def test_engines_agree_on_real_models(name: str, zoo: Callable[[str], Path]) -> None:
    path = zoo(name)
    shapes = [(1, 3, 48, 320), (3, 3, 48, 217)] if name.endswith("rec") else [(1, 3, 160, 224), (1, 3, 96, 64)]
    sessions = [open_session(path, engine) for engine in ENGINES]
    assert [session.input_name for session in sessions] == ["x", "x"]
    assert sessions[0].input_shape == sessions[1].input_shape
    for shape in shapes:
        x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        first, second = (session.run(x) for session in sessions)
        assert first.shape == second.shape
        assert first.ndim == (3 if name.endswith("rec") else 4)
        np.testing.assert_allclose(first, second, atol=2e-3)


@pytest.mark.slow
def test_openvino_does_not_hoard_kernels(zoo: Callable[[str], Path]) -> None:
    # 150 text lines of different widths: OpenVINO's own default keeps the kernels of all of them.
    code = f"""
from pathlib import Path
import numpy as np
from ocrslim.engines.machine import peak_rss_mb
from ocrslim.engines.session import open_session
session = open_session(Path({str(zoo("PP-OCRv4_mobile_rec"))!r}), "openvino", 2)
for width in np.random.default_rng(0).permutation(1200)[:150] + 48:
    session.run(np.zeros((1, 3, 48, int(width)), np.float32))
print(peak_rss_mb())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if done.stdout.strip() == "None":
        pytest.skip("this system does not tell peak memory")
    assert float(done.stdout) < 600
