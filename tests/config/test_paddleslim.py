"""The example's files: read unchanged, each key acting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.config.paddleslim import ExampleConfig, load_config
from ocrslim.config.paddleslim_training import ALGORITHMS
from ocrslim.config.transforms import DetResizeForTest, RecConAug, RecResizeImg
from ocrslim.errors import InputError

from .conftest import CONFIGS, put

FILES = sorted(CONFIGS.glob("*.yaml"))


def test_all_versions_are_there() -> None:
    assert [file.name for file in FILES] == [
        f"ppocrv{version}_{task}_qat_dist.yaml" for version in (3, 4, 5, 6) for task in ("det", "rec")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_files_of_the_project_are_read(path: Path) -> None:
    config = load_config(path)
    assert config.model.task == ("det" if "_det_" in path.name else "rec")
    assert config.train is not None
    assert config.eval is not None
    # The one thing in them that this program does otherwise.
    assert len(config.warnings) == 1
    assert "depthwise_conv2d stays float" in config.warnings[0]


def test_what_the_detectors_file_says() -> None:
    config = load_config(CONFIGS / "ppocrv3_det_qat_dist.yaml")
    assert config.model.folder == Path("ch_PP-OCRv3_det_infer")
    assert (config.model.model_file, config.model.params_file) == ("inference.pdmodel", "inference.pdiparams")
    assert config.distillation is not None
    assert [(term.loss, term.alpha, term.nodes) for term in config.distillation.terms] == [("l2", 1.0, ())]
    assert config.quantization is not None
    assert config.quantization.pact
    assert config.quantization.operators == ("conv2d", "depthwise_conv2d")
    assert (config.quantization.observer, config.quantization.weight_bits) == ("moving_average", 8)
    training = config.training
    assert training is not None
    assert (training.epochs, training.judge_every, training.steps) == (3, 200, None)
    assert (training.learning_rate.value, training.learning_rate.kind) == (5e-5, "cosine")
    assert (training.optimizer.kind, training.optimizer.weight_decay) == ("adam", 5e-5)
    det = config.profile.det
    assert (det.thresh, det.box_thresh, det.unclip_ratio, det.max_candidates) == (0.3, 0.6, 1.5, 1000)
    assert (det.limit_side_len, det.limit_type) == (736, "min")
    assert config.metric.indicator == "hmean"
    assert config.train is not None
    assert [type(item).__name__ for item in config.train.transforms] == [
        *("DecodeImage", "DetLabelEncode", "IaaAugment", "EastRandomCropData", "MakeBorderMap", "MakeShrinkMap"),
        *("NormalizeImage", "ToCHWImage", "KeepKeys"),
    ]
    assert (config.train.batch, config.train.workers, config.train.shuffle, config.train.drop_last) == (
        8,
        4,
        True,
        False,
    )
    assert config.train.label_files == (Path("train_data/icdar2015/text_localization/train_icdar2015_label.txt"),)


def test_what_the_recognisers_file_says() -> None:
    config = load_config(CONFIGS / "ppocrv3_rec_qat_dist.yaml")
    assert config.model.dictionary == Path("ppocr_keys_v1.txt")
    assert (config.model.max_text_length, config.model.use_space) == (25, True)
    assert config.distillation is not None
    terms = [(term.loss, term.alpha, term.nodes) for term in config.distillation.terms]
    assert terms == [("skd", 1.0, ("linear_43.tmp_1",)), ("l2", 1.0, ("linear_43.tmp_1",))]
    assert config.distillation.terms[0].where.endswith("yaml:17")
    assert config.metric.indicator == "acc"
    assert not config.metric.ignore_space
    assert config.train is not None
    joined = next(item for item in config.train.transforms if isinstance(item, RecConAug))
    assert joined == RecConAug(0.5, 2, (48, 320), 25)  # the anchor of max_text_length
    assert (config.train.batch, config.train.drop_last, config.train.workers) == (64, True, 0)
    assert (config.profile.rec.height, config.profile.rec.width) == (48, 320)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.001, ("constant", 0.001, (), ())),
        ("1e-3", ("constant", 0.001, (), ())),
        ({"type": "CosineAnnealingDecay", "learning_rate": 0.001, "T_max": 50}, ("cosine", 0.001, (), ())),
        (
            {"type": "PiecewiseDecay", "boundaries": [10, 20], "values": [0.01, 0.001, 0.0001]},
            ("piecewise", 0.01, (10, 20), (1.0, 0.1, 0.01)),
        ),
        (
            {"type": "MultiStepDecay", "learning_rate": 0.01, "milestones": [10, 20], "gamma": 0.5},
            ("piecewise", 0.01, (10, 20), (1.0, 0.5, 0.25)),
        ),
        ({"type": "StepDecay", "learning_rate": 0.01, "step_size": 7}, ("piecewise", 0.01, (), ())),
    ],
)
def test_learning_rates(changed: Callable[..., ExampleConfig], value: Any, expected: tuple[Any, ...]) -> None:
    training = changed(put("TrainConfig", "learning_rate", value)).training
    assert training is not None
    rate = training.learning_rate
    kind, highest, boundaries, values = expected
    assert (rate.kind, rate.value, rate.boundaries) == (kind, highest, boundaries)
    assert rate.values == pytest.approx(values)


def test_a_warm_up_holds_another_schedule(changed: Callable[..., ExampleConfig]) -> None:
    inner = {"type": "CosineAnnealingDecay", "learning_rate": 0.002}
    value = {"type": "LinearWarmup", "learning_rate": inner, "warmup_steps": 5, "start_lr": 0.0, "end_lr": 0.002}
    training = changed(put("TrainConfig", "learning_rate", value)).training
    assert training is not None
    assert (training.learning_rate.kind, training.learning_rate.warmup, training.learning_rate.value) == (
        "cosine",
        5,
        0.002,
    )


@pytest.mark.parametrize(
    ("inner", "steps", "boundaries"),
    [
        ({"type": "CosineAnnealingDecay", "learning_rate": 0.002, "T_max": 100}, 105, ()),
        ({"type": "PiecewiseDecay", "boundaries": [10, 20], "values": [0.002, 0.001, 0.0001]}, None, (15, 25)),
        ({"type": "StepDecay", "learning_rate": 0.002, "step_size": 7}, None, ()),
    ],
)
def test_what_follows_a_warm_up_begins_when_it_ends(
    changed: Callable[..., ExampleConfig], inner: Any, steps: int | None, boundaries: tuple[int, ...]
) -> None:
    """As Paddle's LinearWarmup steps the schedule that it holds: its first step is the first after the rise."""
    value = {"type": "LinearWarmup", "learning_rate": inner, "warmup_steps": 5, "start_lr": 0.0, "end_lr": 0.002}
    training = changed(put("TrainConfig", "learning_rate", value)).training
    assert training is not None
    assert (training.learning_rate.steps, training.learning_rate.boundaries) == (steps, boundaries)


def test_the_training_keys_act(changed: Callable[..., ExampleConfig]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["TrainConfig"] |= {"train_iter": 77, "origin_metric": 0.5, "target_metric": 0.6, "amp_config": False}
        builder = config["TrainConfig"]["optimizer_builder"]
        builder["optimizer"] = {"type": "Momentum"}
        builder["grad_clip"] = {"type": "ClipGradByGlobalNorm", "clip_norm": 5}

    training = changed(change).training
    assert training is not None
    assert (training.steps, training.origin_metric, training.target_metric, training.amp) == (77, 0.5, 0.6, False)
    assert (training.optimizer.kind, training.optimizer.clip_norm) == ("sgd", 5.0)


def test_older_files_are_read(changed: Callable[..., ExampleConfig]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["Quantization"] = config.pop("QuantAware")
        training = config["TrainConfig"]
        del training["optimizer_builder"]
        clip = {"grad_clip": "ClipGradByNorm", "grad_clip_args": {"clip_norm": 2.0}}
        training |= {"optimizer": "AdamW", "optim_args": {"weight_decay": 0.01, **clip}}

    config = changed(change)
    assert config.quantization is not None
    assert config.quantization.pact
    assert config.training is not None
    optimizer = config.training.optimizer
    assert (optimizer.kind, optimizer.weight_decay, optimizer.clip_norm) == ("adamw", 0.01, 2.0)


def test_the_regularizer_is_the_weight_decay(changed: Callable[..., ExampleConfig]) -> None:
    builder = {"optimizer": {"type": "Adam"}, "regularizer": {"type": "L2", "factor": 0.002}}
    training = changed(put("TrainConfig", "optimizer_builder", builder)).training
    assert training is not None
    assert training.optimizer.weight_decay == 0.002


def test_weights_in_files_of_their_own_and_a_teacher(changed: Callable[..., ExampleConfig]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["Global"] |= {"model_filename": "__model__", "params_filename": "__params__"}
        config["Distillation"] |= {"teacher_model_dir": "big", "teacher_model_filename": "a.pdmodel"}

    config = changed(change)
    assert (config.model.model_file, config.model.params_file) == ("__model__", "__params__")
    assert config.distillation is not None
    assert (config.distillation.teacher_dir, config.distillation.teacher_model) == (Path("big"), "a.pdmodel")
    assert config.distillation.teacher_params is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_calibration_algorithms_have_an_observer(changed: Callable[..., ExampleConfig], algorithm: str) -> None:
    from ocrslim.slimming.quantization.observer import OBSERVERS

    post = changed(put("QuantPost", {"algo": algorithm, "batch_nums": 4, "bias_correction": True})).post_quantization
    assert post is not None
    assert post.observer in OBSERVERS
    assert (post.batches, post.bias_correction, post.batch) == (4, True, 32)


def test_pruning_is_read(changed: Callable[..., ExampleConfig]) -> None:
    value = {"pruned_ratio": [0.2, 0.3], "prune_params_name": ["a", "b"], "criterion": "geometry_median"}
    pruning = changed(put("ChannelPrune", value)).pruning
    assert pruning is not None
    assert (pruning.ratio, pruning.parameters, pruning.criterion) == ((0.2, 0.3), ("a", "b"), "geometry_median")


def test_several_label_files_share_one_ratio_or_have_their_own(changed: Callable[..., ExampleConfig]) -> None:
    files = ["a.txt", "b.txt"]

    def change(config: dict[str, Any], ratio: Any) -> None:
        data = config["Train"]["dataset"]
        data["label_file_list"] = files
        data["ratio_list"] = ratio
        if ratio is None:
            del data["ratio_list"]

    for ratio, expected in ((0.5, (0.5, 0.5)), ([0.2, 1.0], (0.2, 1.0)), (None, (1.0, 1.0))):
        train = changed(lambda config, ratio=ratio: change(config, ratio)).train
        assert train is not None
        assert train.ratios == expected


def test_the_sampler_of_several_sizes_gives_way_to_one_size(changed: Callable[..., ExampleConfig]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["Train"]["dataset"]["name"] = "MultiScaleDataSet"
        config["Train"]["sampler"] = {"name": "MultiScaleSampler", "scales": [[320, 32]]}
        transforms = config["Train"]["dataset"]["transforms"]
        config["Train"]["dataset"]["transforms"] = [item for item in transforms if "RecResizeImg" not in item]
        config["Train"]["dataset"]["transforms"][-1]["KeepKeys"]["keep_keys"].remove("valid_ratio")

    config = changed(change, "rec")
    assert config.train is not None
    assert isinstance(config.train.transforms[-2], RecResizeImg)
    assert any("MultiScaleSampler has no effect" in line for line in config.warnings)


def test_the_profile_takes_the_sizes_of_eval(changed: Callable[..., ExampleConfig]) -> None:
    def change(config: dict[str, Any]) -> None:
        transforms = config["Eval"]["dataset"]["transforms"]
        transforms[2] = {"DetResizeForTest": {"limit_side_len": 960, "limit_type": "max", "max_side_limit": 2000}}
        transforms[3]["NormalizeImage"] = {"scale": "1./127.5", "mean": [1, 1, 1], "std": [1, 1, 1], "order": "hwc"}

    det = changed(change).profile.det
    assert (det.limit_side_len, det.limit_type, det.max_side) == (960, "max", 2000)
    # x / 127.5 - 1 is (x / 255 - 0.5) / 0.5
    assert det.mean == pytest.approx((0.5, 0.5, 0.5))
    assert det.std == pytest.approx((0.5, 0.5, 0.5))


def test_a_file_may_lack_all_but_global(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("Global: {model_type: rec, model_dir: m}\n", encoding="utf-8")
    config = load_config(path)
    assert (config.train, config.eval, config.quantization, config.training, config.pruning) == (None,) * 5
    path.write_text("TrainConfig: {}\n", encoding="utf-8")
    with pytest.raises(InputError, match="Global is missing"):
        load_config(path)


def test_an_empty_section_has_its_defaults(changed: Callable[..., ExampleConfig]) -> None:
    config = changed(put("QuantAware", None))
    assert config.quantization is not None
    assert config.quantization.operators[-1] == "matmul_v2"
    assert isinstance(DetResizeForTest().limit_side_len, int)
