"""The example's files from the command line: which model they mean, and scoring on real data under their own paths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ocrslim.cli import main
from ocrslim.config.paddleslim import ExampleConfig, load_config
from ocrslim.config.paddleslim_training import ExampleDistillation
from ocrslim.errors import InputError, ModelError
from ocrslim.evaluate import evaluate
from ocrslim.example import evaluate_example, open_example_model, open_teacher
from ocrslim.graph.importers.source import open_model
from ocrslim.ocr.labels import read_samples

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ZOO = {"det": "PP-OCRv3_mobile_det", "rec": "PP-OCRv3_mobile_rec"}


@pytest.fixture
def place(zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that makes a working folder as the example wants it, and goes there."""

    def make(task: str, real_data: Path | None = None, dictionary: bool = True) -> Path:
        model = zoo(ZOO[task])
        folder = tmp_path / f"ch_PP-OCRv3_{task}_infer"
        folder.mkdir()
        (folder / "inference.onnx").symlink_to(model)
        if dictionary and task == "rec":
            shutil.copy(model.parent / "dictionary.txt", tmp_path / "ppocr_keys_v1.txt")
        if real_data is not None:
            data = tmp_path / "train_data/icdar2015/text_localization"
            data.mkdir(parents=True)
            (data / task).symlink_to(real_data / task)
            for ours, theirs in (("train", "train"), ("val", "test")):
                (data / f"{theirs}_icdar2015_label.txt").symlink_to(real_data / task / f"labels/{ours}.txt")
        monkeypatch.chdir(tmp_path)
        return CONFIGS / f"ppocrv3_{task}_qat_dist.yaml"

    return make


def with_model(config: ExampleConfig, **changes: object) -> ExampleConfig:
    return replace(config, model=replace(config.model, **changes))  # type: ignore[arg-type]


def test_the_model_is_the_one_in_the_folder(place: Callable[..., Path]) -> None:
    source, said = open_example_model(load_config(place("rec")))
    assert source.task == "rec"
    assert source.characters is not None
    assert len(source.characters) == 6623
    assert said == ()


def test_the_models_own_dictionary_stands_in(place: Callable[..., Path]) -> None:
    path = place("rec", dictionary=False)
    source, said = open_example_model(load_config(path))
    if source.characters is None:  # the file has no dictionary inside
        pytest.fail("an error was due")
    assert "ppocr_keys_v1.txt: no such file" in said[0]


def test_official_names_are_models_too(zoo: Callable[[str], Path]) -> None:
    zoo("PP-OCRv6_small_rec")
    source, said = open_example_model(load_config(CONFIGS / "ppocrv6_rec_qat_dist.yaml"))
    assert source.name == "PP-OCRv6_small_rec"
    assert said == ()


def test_a_missing_model_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        open_example_model(load_config(CONFIGS / "ppocrv4_det_qat_dist.yaml"))
    said = str(caught.value)
    assert "Global.model_dir ch_PP-OCRv4_det_infer: no such folder" in said
    assert "https://paddleocr.bj.bcebos.com/PP-OCRv4/chinese/ch_PP-OCRv4_det_infer.tar" in said
    assert str(tmp_path) in said


def test_what_does_not_fit_is_refused(place: Callable[..., Path]) -> None:
    config = load_config(place("det"))
    with pytest.raises(ModelError, match=r"model_type is rec, but .* is a det model"):
        open_example_model(with_model(config, task="rec", dictionary=None))
    (config.model.folder / "inference.pdmodel").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"params_filename other\.pdiparams: must be called as the program"):
        open_example_model(with_model(config, params_file="other.pdiparams"))


def test_the_classes_decide_about_the_space(place: Callable[..., Path]) -> None:
    _, said = open_example_model(with_model(load_config(place("rec")), use_space=False))
    assert "use_space_char false: the model has a class for the space" in said[0]


def test_the_teacher_is_the_model_unless_another_is_named(
    place: Callable[..., Path], zoo: Callable[[str], Path]
) -> None:
    config = load_config(place("det"))
    source, _ = open_example_model(config)
    assert open_teacher(config, source) is source
    other = ExampleDistillation((), zoo("PP-OCRv4_mobile_det").parent)
    assert open_teacher(replace(config, distillation=other), source).sha256 != source.sha256
    gone = ExampleDistillation((), Path("gone"))
    with pytest.raises(ModelError, match="gone: no such folder"):
        open_teacher(replace(config, distillation=gone), source)


@pytest.mark.parametrize("task", ["det", "rec"])
def test_eval_scores_with_the_files_profile_and_metric(
    place: Callable[..., Path], real_data: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    path = place(task, real_data)
    assert main(["eval", "--config_path", str(path), "--limit", "6", "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert "depthwise_conv2d stays float" in said.err
    assert result["n"] == 6
    config = load_config(path)
    samples, _ = read_samples(config.model.task, real_data / task / "labels/val.txt", None)
    model, _ = open_example_model(config)
    expected = evaluate(model, samples[:6], profile=config.profile, rec_width="fixed")
    assert result["metrics"] == pytest.approx(expected.metrics)
    if task == "det":
        assert result["protocol"]["unclip_ratio"] == 1.5
    else:
        assert (result["protocol"]["width"], result["protocol"]["ignore_space"]) == (320, False)


def test_spaces_are_ignored_where_the_file_says_so(place: Callable[..., Path], real_data: Path) -> None:
    config = load_config(place("rec", real_data))
    result, _ = evaluate_example(replace(config, metric=replace(config.metric, ignore_space=True)), limit=2)
    assert result.protocol["ignore_space"] is True


def test_eval_prints_a_table(place: Callable[..., Path], real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--config-path", str(place("det", real_data)), "--limit", "1"]) == 0
    assert "hmean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a MODEL and its --data"),
        (["model.onnx"], "name a MODEL and its --data"),
        (["model.onnx", "--config_path", "x.yaml"], "x.yaml: no such configuration file"),
        (["--config_path", "x.yaml", "--profile", "example"], "x.yaml: no such configuration file"),
        (["--config_path", "x.yaml"], "x.yaml: no such configuration file"),
    ],
)
def test_eval_is_told_what_to_score_once(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_mistakes_in_the_file_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((CONFIGS / "ppocrv3_det_qat_dist.yaml").read_text("utf-8"))
    config["TrainConfig"]["epoch"] = config["TrainConfig"].pop("epochs")
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config), "utf-8")
    assert main(["eval", "--config_path", "x.yaml"]) == 2
    said = capsys.readouterr().err
    assert "TrainConfig.epoch is unknown; did you mean epochs?" in said
    assert said.count("\n") == 1
    del config["TrainConfig"]["epoch"]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config), "utf-8")
    assert main(["eval", "--config_path", "x.yaml"]) == 2
    assert "text_localization is missing" in capsys.readouterr().err


def test_a_file_without_eval(place: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no Eval section"):
        evaluate_example(replace(load_config(place("det")), eval=None))


def test_the_known_models_are_those_of_the_files() -> None:
    for version, task in ((5, "det"), (5, "rec"), (6, "det"), (6, "rec")):
        folder = load_config(CONFIGS / f"ppocrv{version}_{task}_qat_dist.yaml").model.folder
        assert open_model(folder.name).task == task
