"""``compress --config_path`` on real models and labels, with the example's sections, reduced; the path is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from ocrslim import compress as module
from ocrslim import following
from ocrslim.cli import main
from ocrslim.compress import CompressSettings, compress
from ocrslim.config.paddleslim import load_config
from ocrslim.config.paddleslim_training import ExampleDistillation, Term
from ocrslim.config.profile import load_profile
from ocrslim.errors import InputError, ModelError
from ocrslim.example import override
from ocrslim.export import verify
from ocrslim.following import Following, open_following
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.learning import open_lesson
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.training import data as data_module
from ocrslim.slimming.training.distillation import DistillationSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODELS = {"det": "PP-OCRv6_tiny_det", "rec": "PP-OCRv6_tiny_rec"}
SIZES = {"det": (8, 4), "rec": (20, 8)}  # images to learn from and to score on

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 8, "det": 1})
    monkeypatch.setattr(data_module, "VALIDATION_IMAGES", {"rec": 8, "det": 2})
    monkeypatch.setattr(following, "JUDGED", {"rec": 4, "det": 1})
    monkeypatch.setattr(module, "MIN_BENCH_SECONDS", 0.05)
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.9)
    monkeypatch.setattr(verify, "REQUIRED_IOU", 0.9)


@pytest.fixture
def make(zoo: Callable[[str], Path], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that writes the example's file with a small model and the first real images, and goes there."""

    def write(task: str, change: Callable[[dict[str, Any]], object] = lambda config: None) -> Path:
        zoo(MODELS[task])
        config = yaml.safe_load((CONFIGS / f"ppocrv6_{task}_qat_dist.yaml").read_text("utf-8"))
        config["Global"]["model_dir"] = MODELS[task]
        for section, ours, count in zip(("Train", "Eval"), ("train", "val"), SIZES[task], strict=True):
            lines = (real_data / task / f"labels/{ours}.txt").read_text("utf-8").splitlines()[: 4 * count : 4]
            (tmp_path / f"{ours}.txt").write_text("\n".join(lines) + "\n", "utf-8")
            data = config[section]["dataset"]
            data["data_dir"], data["label_file_list"] = str(data_dir(real_data, lines[0])), [f"{ours}.txt"]
            config[section]["loader"] |= {"batch_size_per_card": 2, "num_workers": 0}
        for transform in config["Train"]["dataset"]["transforms"]:
            if "EastRandomCropData" in transform:
                transform["EastRandomCropData"]["size"] = [160, 160]
        change(config)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(config), "utf-8")
        return Path("x.yaml")

    return write


def data_dir(real_data: Path, line: str) -> Path:
    """Return what the images of a label file are relative to."""
    return real_data if (real_data / line.partition("\t")[0]).is_file() else real_data / "rec"


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return found


def open_follow(path: Path, **given: Any) -> tuple[Following, CompressSettings]:
    config = load_config(path)
    settings = CompressSettings.from_example(config, Path("out"), **given)
    return open_following(settings, open_model(config.model.folder.name)), settings


@pytest.mark.slow
def test_a_recogniser_is_made_as_the_file_says(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["TrainConfig"] |= {"logging_iter": 1, "origin_metric": 0.01}
        config["QuantAware"]["quantize_op_types"] = ["conv2d", "depthwise_conv2d"]

    path = make("rec", change)
    arguments = ["compress", "--config_path", str(path), "--save_dir", "out", "--steps", "2", "--threads", "1"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    result = result_of(tmp_path / "out")
    assert result["settings"]["example"] == "x.yaml"
    assert (result["target"], result["engine"]) == ("onnxruntime", "onnxruntime")
    assert "came as ONNX" in " ".join(said.split())
    assert result["data"]["judged_by"] == "the labels of val.txt"
    assert result["data"]["n_eval"] == SIZES["rec"][1]
    assert result["drop"]["onnxruntime"]["against"] == "labels"
    assert result["settings"]["observer"] == "output"
    assert result["training"]["steps"] == 2
    last = result["training"]["history"][-1]
    assert {"skd", "l2", "labels", "loss", "learning_rate", "accuracy"} <= set(last)
    assert last["learning_rate"] == pytest.approx(10 * 5e-5 * 0.5)  # cosine over two steps
    on_request = {item["op"] for item in result["placement"]["float"] if item["reason"] == "kept float on request"}
    assert "MatMul" in on_request  # which the operators above leave out
    assert [rung["rung"].startswith("trained") for rung in result["budget"]["rungs"]][-2:] == [False, True]
    assert all(rung["float_sites"] == 0 for rung in result["budget"]["rungs"])  # the file asks for none
    log = (tmp_path / "out/log.txt").read_text("utf-8")
    assert "step 1: skd" in log  # logging_iter
    assert "origin_metric 0.01: the float model scores" in log
    assert "depthwise_conv2d stays float" in log
    assert "for scales and biases" in log


@pytest.mark.slow
def test_a_detector_is_made_as_the_file_says(make: Make, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["TrainConfig"] |= {"train_iter": 1}
        del config["Eval"]

    config = load_config(make("det", change))
    result = compress(None, CompressSettings.from_example(config, tmp_path / "out", threads=1, target="openvino"))
    assert result["target"] == "openvino"
    assert result["training"]["steps"] == 1
    assert result["training"]["history"][-1]["labels"] > 0
    # Without Eval the part of Train that is held back has the last word.
    assert result["data"]["judged_by"] == "the labels of the part of Train in x.yaml held back from training"
    assert result["data"]["n_held"] + result["data"]["n_train"] == SIZES["det"][0]
    assert result["data"]["path"] == "train.txt"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("model.onnx", "inference.yml", "result.json", "MODEL_CARD.md", "log.txt"),
        "report.html",
    }


@pytest.mark.parametrize(("ratio", "teaches"), [(0.5, True), (0.0, False)])
def test_labels_teach_the_last_layer_unless_their_weight_is_zero(
    make: Make, tmp_path: Path, ratio: float, teaches: bool
) -> None:
    follow, settings = open_follow(make("rec"), distillation=DistillationSettings(label_ratio=ratio))
    source = open_model(MODELS["rec"])
    profile, log = load_profile(None, None), RunLog(tmp_path, Console(quiet=True))
    lesson = open_lesson(source, follow.data.training, profile, settings, follow, tmp_path, log)
    log.close()
    assert (lesson is not None) is teaches


def test_calibration_only_where_the_file_trains_nothing(make: Make, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        del config["QuantAware"], config["TrainConfig"], config["Distillation"]
        config["QuantPost"] = {"algo": "mse", "batch_nums": 2, "batch_size": 3, "weight_bits": 6}

    config = load_config(make("rec", change))
    settings = CompressSettings.from_example(config, tmp_path / "out", threads=1, target="openvino")
    assert settings.observer == "mse"
    result = compress(None, settings)
    assert result["training"] is None
    assert (result["settings"]["steps"], result["settings"]["ptq_only"]) == (0, True)
    rungs = [rung["rung"] for rung in result["budget"]["rungs"]]
    assert all("calibrated" in rung for rung in rungs)
    assert "calibrated (mse)" in rungs
    assert result["placement"]["quantized"]


# ---- the command line goes before the file


def test_options_go_before_the_file(make: Make, real_data: Path, tmp_path: Path) -> None:
    path = make("rec")
    lines = (tmp_path / "train.txt").read_text("utf-8").splitlines()
    (tmp_path / "mine.txt").write_text("\n".join(lines[:9]) + "\n", "utf-8")
    given = {"data": Path("mine.txt"), "data_dir": data_dir(real_data, lines[0]), "observer": "minmax"}
    settings = CompressSettings.from_example(load_config(path), Path("out"), learning_rate=1e-4, steps=3, **given)
    assert (settings.observer, settings.learning_rate, settings.target) == ("minmax", 1e-4, "auto")
    _, settings, _ = module._open(None, settings)
    follow = open_following(settings, open_model(MODELS["rec"]))
    assert len(follow.data.training.train) + len(follow.data.training.held) == 9
    assert follow.training is not None
    assert (follow.training.steps, follow.training.learning_rate) == (3, 1e-4)
    assert len(follow.data.eval) == SIZES["rec"][1]  # Eval is the file's
    assert follow.settings(settings).steps == 3
    none = open_following(replace(settings, ptq_only=True), follow.source)
    assert none.training is None
    assert none.settings(settings).ptq_only


def test_another_model_may_take_the_place_of_the_files(make: Make, zoo: Callable[[str], Path]) -> None:
    path = make("det")
    settings = CompressSettings.from_example(load_config(path), Path("out"))
    zoo("PP-OCRv4_mobile_det")
    source, settled, _ = module._open("PP-OCRv4_mobile_det", settings)
    assert source.name == "PP-OCRv4_mobile_det"
    assert settled.target == "paddle"  # the zoo has its .pdmodel
    with pytest.raises(ModelError, match=r"model_type is det, but .* is a rec model"):
        module._open(zoo(MODELS["rec"]), settings)


def test_data_of_the_command_line(make: Make, tmp_path: Path, real_data: Path) -> None:
    config = load_config(make("rec"))
    assert override(config) == config
    assert config.train is not None
    moved = override(config, data_dir=tmp_path)
    assert moved.train == replace(config.train, data_dir=tmp_path)
    scored = override(replace(config, eval=None), evaluate=real_data / "rec/labels/val.txt")
    assert scored.train == config.train
    assert scored.eval is not None
    assert (scored.eval.name, scored.eval.kind, scored.eval.ratios) == ("Eval", "files", (1.0,))
    first = scored.eval.label_files[0].read_text("utf-8").partition("\t")[0]
    assert (scored.eval.data_dir / first).is_file()  # found as for --data elsewhere
    lmdb = override(config, data=tmp_path).train
    assert lmdb is not None
    assert (lmdb.kind, lmdb.data_dir, lmdb.label_files) == ("lmdb", tmp_path, ())


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--save_dir", "out"], "give MODEL --target ENGINE --out DIR, or --config_path YAML --save_dir DIR"),
        (["m.onnx", "--out", "out"], "give MODEL --target ENGINE --out DIR, or --config_path YAML --save_dir DIR"),
        (["--config_path", "gone.yaml", "--out", "out"], "gone.yaml: no such configuration file"),
    ],
)
def test_what_is_missing_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compress", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["det", "rec"])
def test_missing_data_say_where_to_get_them_and_how_they_lie(
    task: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # neither data nor model are here
    path = CONFIGS / f"ppocrv3_{task}_qat_dist.yaml"
    assert main(["compress", "--config_path", str(path), "--save_dir", "out"]) == 2
    said = capsys.readouterr().err
    assert "train_data/icdar2015/text_localization is missing" in said
    assert "put the images under" in said
    assert "https://" in said
    assert str(tmp_path) in said
    assert said.count("\n") == 1


def test_a_model_that_paddle_cannot_get(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    path = make("det")
    assert main(["compress", "--config_path", str(path), "--save_dir", "out", "--target", "paddle"]) == 2
    assert "PP-OCRv6_tiny_det: came as ONNX" in capsys.readouterr().err


# ---- training


def test_the_target_metric_stops_the_training_by_the_labels_of_eval(make: Make) -> None:
    def change(config: dict[str, Any]) -> None:
        config["TrainConfig"]["target_metric"] = 0.9

    follow, settings = open_follow(make("rec", change))
    source = open_model(MODELS["rec"])
    student = GraphModule(canonicalize(load_onnx(source.path))).eval()
    judge = follow.judge(student, settings.example.profile if settings.example else pytest.fail("no file"))
    assert follow.stop_at == 0.9
    assert list(judge.samples) == list(follow.data.eval)
    assert 0.0 <= judge().value <= 1.0
    usual, _ = open_follow(make("rec"))
    judge = usual.judge(student, settings.example.profile)
    assert usual.stop_at is None
    assert list(judge.samples) == list(usual.data.training.held_samples[:4])


def test_another_teacher_is_asked_by_its_own_names(make: Make, zoo: Callable[[str], Path]) -> None:
    follow, _ = open_follow(make("det"))
    graph = canonicalize(load_onnx(zoo(MODELS["det"])))
    student = GraphModule(graph)
    own, _ = follow.criterion(graph, student, student)
    assert own.in_teacher == {}
    teacher = ExampleDistillation((Term("l2", 1.0, (), "x"),), zoo("PP-OCRv4_mobile_det").parent)
    other = replace(follow, config=replace(follow.config, distillation=teacher))
    criterion, said = other.criterion(graph, student, student)
    assert said == ()
    batch = next(iter(follow.batches(0, 1)))
    assert batch.images.shape == (2, 3, 160, 160)
    with torch.no_grad():
        assert own(batch)[1]["l2"] == pytest.approx(0, abs=1e-4)  # the student teaches itself
        assert criterion(batch)[1]["l2"] > 0.01
    assert criterion.in_teacher


def test_a_teacher_of_other_characters_is_refused(make: Make, zoo: Callable[[str], Path]) -> None:
    follow, _ = open_follow(make("rec"))
    teacher = ExampleDistillation((), zoo("PP-OCRv4_mobile_rec").parent)
    other = replace(follow, config=replace(follow.config, distillation=teacher))
    graph = canonicalize(load_onnx(zoo(MODELS["rec"])))
    with pytest.raises(InputError, match=r"teacher_model_dir .*: has \d+ classes, the model \d+"):
        other.criterion(graph, GraphModule(graph), GraphModule(graph))


def test_samples_that_cannot_be_learnt_from_reach_the_report(make: Make, tmp_path: Path) -> None:
    path = make("rec")
    lines = (tmp_path / "train.txt").read_text("utf-8").splitlines()
    image = lines[0].partition("\t")[0]
    (tmp_path / "train.txt").write_text("\n".join([f"{image}\t{'x' * 80}", *lines[1:]]) + "\n", "utf-8")
    follow, _ = open_follow(path)
    for index in range(follow.data.batches.steps_per_epoch):
        list(follow.batches(index, 1))
    held = {str(path) for path in follow.data.training.held}
    refused = {path: reason for path, reason in follow.refused().items() if path.endswith(image)}
    assert all("the label is over 25 characters" in reason for reason in refused.values())
    assert len(refused) + any(name.endswith(image) for name in held) == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["det", "rec"])
def test_the_unchanged_files_run(
    zoo: Callable[[str], Path], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """The example's own file, its own paths, its own batch, on the real data: a few steps."""
    model = tmp_path / f"ch_PP-OCRv3_{task}_infer"
    model.mkdir()
    source = zoo(f"PP-OCRv3_mobile_{task}").parent
    (model / "inference.onnx").symlink_to(source / "inference.onnx")
    if task == "rec":
        (tmp_path / "ppocr_keys_v1.txt").symlink_to(source / "dictionary.txt")
    data = tmp_path / "train_data/icdar2015/text_localization"
    data.mkdir(parents=True)
    (data / task).symlink_to(real_data / task)
    for ours, theirs in (("train", "train"), ("val", "test")):
        (data / f"{theirs}_icdar2015_label.txt").symlink_to(real_data / task / f"labels/{ours}.txt")
    monkeypatch.chdir(tmp_path)
    path = CONFIGS / f"ppocrv3_{task}_qat_dist.yaml"
    assert main(["compress", "--config_path", str(path), "--save_dir", "out", "--steps", "2"]) == 0
    result = result_of(tmp_path / "out")
    assert result["training"]["steps"] == 2
    assert result["data"]["n_eval"] == (177 if task == "det" else 1601)
    assert result["drop"]["onnxruntime"]["points"] < 10
