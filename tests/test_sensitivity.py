"""``ocrslim sensitivity`` on real models: it finds what was made bad, and goes on where it was stopped."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console

from ocrslim import cli
from ocrslim import compress as compress_module
from ocrslim import sensitivity as module
from ocrslim.compress import CompressSettings, compress
from ocrslim.engines.targets import get_target
from ocrslim.errors import InputError
from ocrslim.export import verify
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.scene import FLOAT_REASON
from ocrslim.sensitivity import PROGRESS, SensitivitySettings, measure_site_gains, measure_sites, sensitivity
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.training import data as data_module

from .test_ladder import liveliest_channel, with_loud_channel

REC, DET = "PP-OCRv6_tiny_rec", "PP-OCRv4_mobile_det"
LITTLE = {
    "RENDERED": {"rec": 40, "det": 6},
    "CALIBRATION_IMAGES": {"rec": 16, "det": 2},
    "SENSITIVITY_IMAGES": {"rec": 3, "det": 1},
    "SENSITIVITY_BATCHES": {"rec": 1, "det": 1},
}
FILES = ["sensitivity.csv", "sensitivity.json", "sensitivity.svg"]


@pytest.fixture(autouse=True, scope="module")
def little(zoo: Callable[[str], Path]) -> Iterator[None]:
    """Few rendered images: the path is the same."""
    zoo(REC)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LITTLE.items():
            patch.setattr(data_module, name, value)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(little: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return folder and result of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    return out, sensitivity(REC, SensitivitySettings("openvino", out, threads=1))


def strip(result: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs of the same have in common."""
    return {key: value for key, value in result.items() if key not in ("seconds", "settings")}


class Stopped:
    """Interrupts the run at its n-th note of progress, as Ctrl-C would, and counts the notes."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None = None) -> None:
        self.notes: list[dict[str, Any]] = []
        real = module.write_json

        def write(path: Path, data: dict[str, Any]) -> None:
            real(path, data)
            if path.name == PROGRESS:
                self.notes.append(json.loads(path.read_text(encoding="utf-8")))
                if len(self.notes) == at:
                    raise KeyboardInterrupt

        patch.setattr(module, "write_json", write)


def test_every_site_is_told_the_worst_first(whole: tuple[Path, dict[str, Any]]) -> None:
    out, result = whole
    rows = result["sensitivity"]
    assert len(rows) > 10
    assert [row["divergence_alone"] for row in rows] == sorted((row["divergence_alone"] for row in rows), reverse=True)
    assert sum(row["work"] for row in rows) == pytest.approx(1.0)
    assert sum(row["weights"] for row in rows) == pytest.approx(1.0)
    assert {row["op"] for row in rows} == {"Conv", "MatMul"}
    assert not {row["node"] for row in rows} & {item["node"] for item in result["float"]}
    assert all(0 < row["sqnr_db"] < 100 and 0 <= row["changed_alone"] <= 1 for row in rows)
    assert result["data"] == {"sha256": None, "rendered": True, "n_images": 3}
    # Errors that are small and independent add up, roughly: all together cost more than the mean site alone.
    assert result["together"]["divergence"] > sum(row["divergence_alone"] for row in rows) / len(rows)
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_the_three_files_say_the_same(whole: tuple[Path, dict[str, Any]]) -> None:
    out, result = whole
    assert json.loads((out / "sensitivity.json").read_text(encoding="utf-8")) == result
    nodes = [row["node"] for row in result["sensitivity"]]
    lines = csv.DictReader(io.StringIO((out / "sensitivity.csv").read_text(encoding="utf-8")))
    assert [line["node"] for line in lines] == nodes
    chart = ElementTree.parse(out / "sensitivity.svg").getroot()
    groups = chart.iter("{http://www.w3.org/2000/svg}g")
    assert [group.findtext("{http://www.w3.org/2000/svg}text") for group in groups] == nodes


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_as_a_whole_one(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = len(whole[1]["sensitivity"])
    settings = SensitivitySettings("openvino", tmp_path, threads=1)
    with monkeypatch.context() as patch:
        Stopped(patch, at=sites + 4)  # among the gains
        with pytest.raises(KeyboardInterrupt):
            sensitivity(REC, settings)
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS]
    screen = io.StringIO()
    with monkeypatch.context() as patch:
        second = Stopped(patch)
        result = sensitivity(REC, settings, Console(file=screen, width=200))
    assert len(second.notes) == sites - 4
    assert f"going on: {sites + 4} measurements are there" in screen.getvalue()
    assert strip(result) == strip(whole[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held["identity"].update(seed=7, model="0"), "another seed, another model"),
        (lambda held: held.pop("alone"), "cannot be read"),
        (lambda held: held.update(gains=[3]), "cannot be read"),
    ],
    ids=["of another run", "without a part", "with something else"],
)
def test_progress_that_is_not_this_run_s_is_told_and_not_used(
    whole: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    """The measuring is cut short: what it starts from is what is tested."""
    identity = module._identity(  # what the run itself would write
        module.open_model(REC), module.load_profile(None, module.open_model(REC).inference_yml), settings_for(tmp_path)
    )
    held = {"identity": dict(identity), "alone": [{"Conv.1": [1.0, 0.1, 0.5, 0.5]}], "gains": [{}]}
    path = tmp_path / PROGRESS
    path.write_text(json.dumps(held), encoding="utf-8")
    assert module._resumed(path, identity, Console(quiet=True)).count() == 1
    change(held)
    path.write_text(json.dumps(held), encoding="utf-8")
    screen = io.StringIO()
    assert module._resumed(path, identity, Console(file=screen, width=400)).count() == 0
    assert said in screen.getvalue()
    assert "everything is measured anew" in screen.getvalue()


def settings_for(out: Path, **given: Any) -> SensitivitySettings:
    return SensitivitySettings("openvino", out, threads=1, **given)


@pytest.mark.slow
def test_more_images_are_measured_in_batches_and_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Stopped(monkeypatch).notes
    result = sensitivity(REC, settings_for(tmp_path, images=6))
    assert result["data"]["n_images"] == 6
    last = notes[-1]
    assert len(notes) == 2 * 2 * len(result["sensitivity"])
    for row in result["sensitivity"]:
        parts = np.array([batch[row["node"]] for batch in last["alone"]])
        assert row["divergence_alone"] == pytest.approx(parts[:, 2].mean())
        assert row["changed_alone"] == pytest.approx(parts[:, 3].mean())
        assert row["sqnr_db"] == pytest.approx(10 * np.log10(parts[:, 0].sum() / parts[:, 1].sum()))
        assert row["gain_if_float"] == pytest.approx(np.mean([batch[row["node"]] for batch in last["gains"]]))


def test_a_climb_takes_gains_from_all_batches_and_the_rest_from_the_first(zoo: Callable[[str], Path]) -> None:
    graph, target = canonicalize(load_onnx(zoo(REC))), get_target("openvino")
    teacher, logits = GraphModule(graph).eval(), distillation_points(graph).logits
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(count, 3, 48, width, generator=generator) for count, width in ((2, 64), (1, 96))]
    calibrate(quantization, batches, "minmax")
    rows = {row["node"]: row for row in measure_sites("rec", quantization, teacher, batches, logits)}
    alone = {row["node"]: row for row in measure_sites("rec", quantization, teacher, batches[:1], logits)}
    gains = measure_site_gains("rec", quantization, teacher, batches, logits)
    assert rows.keys() == alone.keys() == gains.keys()
    for node, row in rows.items():
        assert row["divergence_alone"] == alone[node]["divergence_alone"]
        assert row["gain_if_float"] == pytest.approx(gains[node], rel=1e-5, abs=1e-9)
    assert any(row["gain_if_float"] != alone[node]["gain_if_float"] for node, row in rows.items())


def test_the_command_prints_json_alone_and_writes_nothing_unasked(
    whole: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sensitivity", REC, "--target", "openvino", "--threads", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert strip(result) == strip(whole[1])
    assert not list(tmp_path.iterdir())


def test_mistakes_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sensitivity", str(tmp_path / "none.onnx"), "--target", "openvino"]) == 2
    assert "none.onnx" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        sensitivity(REC, settings_for(file))
    with pytest.raises(InputError, match="mean"):
        sensitivity(REC, settings_for(tmp_path / "out", observer="mean"))


# One channel a thousand times as loud.


def with_loud_pair(model: onnx.ModelProto, first: str, second: str) -> onnx.ModelProto:
    """Multiply an output channel of one convolution by 1,000 and divide the next one's weights by that.

    Nothing lies between the two: the model computes the same.
    """
    nodes = {node.name: node for node in model.graph.node}
    tensors = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    tensors |= {item.name: item for item in model.graph.initializer}
    assert nodes[first].output[0] == nodes[second].input[0]
    channel = liveliest_channel(model, nodes[second].input[0], 96)
    for name in nodes[first].input[1:]:
        multiply(tensors[name], (channel,), 1000.0)
    multiply(tensors[nodes[second].input[1]], (slice(None), channel), 1 / 1000.0)
    return model


def multiply(tensor: onnx.TensorProto, part: tuple[Any, ...], factor: float) -> None:
    """Multiply a part of an initializer."""
    array = numpy_helper.to_array(tensor).copy()
    array[part] *= factor
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def output_of(path: Path, height: int) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).uniform(-1, 1, (1, 3, height, 320)).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def loud_folder(zoo: Callable[[str], Path], name: str, folder: Path) -> tuple[Path, str]:
    """Write the loud model into a copy of the official one's folder; return it and the site that must suffer."""
    shutil.copytree(zoo(name).parent, folder)
    (folder / "inference.onnx").unlink()
    model = onnx.load(zoo(name))
    loud = with_loud_channel(model, "Conv.16") if name == REC else with_loud_pair(model, "p2o.Conv.36", "p2o.Conv.37")
    onnx.save(loud, folder / "inference.onnx")
    return folder, "Conv.16" if name == REC else "p2o.Conv.37"


@pytest.mark.parametrize(("name", "height"), [(REC, 48), (DET, 96)])
def test_a_channel_a_thousand_times_as_loud_makes_its_reader_the_worst_site(
    zoo: Callable[[str], Path], tmp_path: Path, name: str, height: int
) -> None:
    folder, site = loud_folder(zoo, name, tmp_path / "loud")
    before, after = (output_of(path, height) for path in (zoo(name), folder / "inference.onnx"))
    assert np.abs(before - after).max() < 1e-3  # of probabilities: float computes the same
    rows = sensitivity(folder, settings_for(tmp_path / "out"))["sensitivity"]
    assert rows[0]["node"] == site
    assert min(rows, key=lambda row: row["sqnr_db"])["node"] == site


@pytest.mark.slow
def test_the_ladder_keeps_the_loud_site_of_a_detector_float(
    zoo: Callable[[str], Path], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real pages, judged by agreement with float: with labels, a few pages may be found better by luck."""
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 16, "det": 8})
    monkeypatch.setattr(compress_module, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.9)
    lines = (real_data / "det" / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()[::20]
    pages, out = tmp_path / "pages", tmp_path / "out"
    pages.mkdir()
    for number, line in enumerate(lines):
        image = real_data / line.split("\t")[0]
        shutil.copy(image, pages / f"{number}{image.suffix}")
    folder, site = loud_folder(zoo, DET, tmp_path / "loud")
    settings = CompressSettings(
        "openvino", out, pages, ptq_only=True, max_drop=0.0, effort="quick", observer="minmax", threads=1
    )
    result = compress(folder, settings)
    assert result["sensitivity"][0]["node"] == site
    kept = {item["node"]: item["reason"] for item in result["placement"]["float"]}
    assert kept[site] == FLOAT_REASON
    assert {"sensitivity.csv", "sensitivity.svg"} <= {path.name for path in out.iterdir()}
