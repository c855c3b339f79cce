"""The example's files: read unchanged, each key acting or warned of, mistakes named with line and nearest name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocrslim.config.paddleslim import INSTEAD, ExampleConfig, load_config
from ocrslim.config.paddleslim_training import ALGORITHMS
from ocrslim.config.transforms import DetResizeForTest, RecConAug, RecResizeImg
from ocrslim.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., ExampleConfig]:
    """Return a function that reads one of the files after a change to it."""

    def read(change: Change, task: str = "det") -> ExampleConfig:
        config = yaml.safe_load((CONFIGS / f"ppocrv3_{task}_qat_dist.yaml").read_text(encoding="utf-8"))
        change(config)
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return load_config(path)

    return read


def put(*path_and_value: Any) -> Change:
    """Return the change that puts a value at a path, the last argument, and makes what is missing on the way."""
    *path, value = path_and_value

    def change(config: Any) -> None:
        for key in path[:-1]:
            config = config.setdefault(key, {}) if isinstance(config, dict) else config[key]
        config[path[-1]] = value

    return change


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
    ("path", "value", "said"),
    [
        (("Globel",), {}, "Globel is unknown; did you mean Global?"),
        (("Global", "model_dri"), "x", "Global.model_dri is unknown; did you mean model_dir?"),
        (("Global", "model_type"), "cls", "Global.model_type is 'cls'; known are det, rec"),
        (("Global", "model_dir"), 3, "Global.model_dir must be a text, got 3"),
        (("Distillation", "los"), "l2", "Distillation.los is unknown; did you mean loss?"),
        (("Distillation", "loss"), "skt", "'skt' is unknown; did you mean skd?"),
        (("Distillation", "alpha"), [1.0, 2.0], "has 2 weights for 1 losses"),
        (("Distillation", "node"), [["a"], ["b"]], "has 2 lists of nodes for 1 losses"),
        (("Distillation", "node"), [["a"], 3], "must be a list of texts"),
        (("QuantAware", "weight_bit"), 8, "QuantAware.weight_bit is unknown; did you mean weight_bits?"),
        (("QuantAware", "weight_bits"), 16, "QuantAware.weight_bits must be 2 to 8"),
        (("QuantAware", "activation_bits"), 1, "must be a whole number of at least 2"),
        (("QuantAware", "quantize_op_types"), ["conv2"], "'conv2' is unknown; did you mean conv2d?"),
        (("QuantAware", "quantize_op_types"), ["relu", "pool2d"], "names no operator with weights"),
        (("QuantAware", "use_pact"), "yes!", "must be true or false"),
        (("QuantAware", "activation_quantize_type"), "max", "QuantAware.activation_quantize_type is 'max'"),
        (("Quantization",), {}, "older name of QuantAware"),
        (("QuantPost", "algo"), "his", "did you mean hist?"),
        (("ChannelPrune", "pruned_ratio"), 1.0, "must be at least 0 and below 1"),
        (("ChannelPrune",), {"criterion": "l1_norm"}, "ChannelPrune.pruned_ratio is missing"),
        (("TrainConfig", "epoch"), 3, "TrainConfig.epoch is unknown; did you mean epochs?"),
        (("TrainConfig", "epochs"), 0, "at least 1, got 0"),
        (("TrainConfig", "learning_rate"), "fast", "TrainConfig.learning_rate must be a number"),
        (
            ("TrainConfig", "learning_rate", "type"),
            "CosineDecay",
            "is 'CosineDecay'; did you mean CosineAnnealingDecay?",
        ),
        (("TrainConfig", "learning_rate", "gamma"), 0.1, "learning_rate.gamma is unknown"),
        (("TrainConfig", "optimizer_builder", "optimizer", "type"), "Adm", "did you mean Adam?"),
        (("TrainConfig", "optimizer_builder", "weigth_decay"), 0.1, "did you mean weight_decay?"),
        (("PostProcess", "name"), "PSEPostProcess", "did you mean DBPostProcess?"),
        (("PostProcess", "thresh"), 3, "PostProcess.thresh must be a number from 0 to 1"),
        (("Metric", "name"), "RecMetric", "did you mean DetMetric?"),
        (("Metric", "main_indicator"), "acc", "is 'acc'; known are hmean, precision, recall"),
        (("Train", "dataset", "name"), "SimpleDataset", "did you mean SimpleDataSet?"),
        (("Train", "dataset", "data_dirs"), "x", "did you mean data_dir?"),
        (("Train", "dataset", "ratio_list"), [1.0, 0.5], "has 2 shares for 1 label files"),
        (("Train", "dataset", "ratio_list"), [1.5], "must be above 0 and at most 1"),
        (("Train", "dataset", "delimiter"), ",", "must be a tab"),
        (("Train", "loader", "batch_size"), 3, "did you mean batch_size_per_card?"),
        (("Train", "loader", "num_workers"), -1, "at least 0, got -1"),
        (("Train", "dataset", "transforms"), None, "transforms is missing"),
    ],
)
def test_mistakes_are_named(
    changed: Callable[..., ExampleConfig], path: tuple[str, ...], value: Any, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        changed(put(*path, value))
    assert said in str(caught.value)
    assert "x.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ({"MakeShrinkMaps": None}, "'MakeShrinkMaps' is no transform; did you mean MakeShrinkMap?"),
        ({"MakeShrinkMap": {"shrink_rato": 1}}, "MakeShrinkMap.shrink_rato is unknown; did you mean shrink_ratio?"),
        ({"MakeShrinkMap": {"shrink_ratio": 2}}, "from 0.01 to 0.99"),
        ({"MakeBorderMap": {"thresh_min": 0.8}}, "must be above thresh_min"),
        ({"DecodeImage": {"img_mode": "GREY"}}, "did you mean GRAY?"),
        ({"DecodeImage": {"channel_first": True}}, "must be false"),
        ({"IaaAugment": {"augmenter_args": [{"type": "Afine", "args": {}}]}}, "did you mean Affine?"),
        ({"IaaAugment": {"augmenter_args": [{"type": "Affine", "args": {"shear": 1}}]}}, "known are rotate"),
        ({"IaaAugment": {"augmenter_args": [{"type": "Resize", "args": {"size": [0, 1]}}]}}, "lower and the upper"),
        ({"IaaAugment": {"augmenter_args": [{"type": "Fliplr", "args": {"p": 2}}]}}, "from 0 to 1"),
        ({"EastRandomCropData": {"size": [100, 100]}}, "multiples of 32"),
        ({"NormalizeImage": {"std": [0, 1, 1]}}, "above 0"),
        ({"NormalizeImage": {"mean": [0, 1]}}, "a list of 3 numbers"),
        ({"NormalizeImage": {"scale": 0}}, "a number from 1e-06 to 1e+06"),
        ({"KeepKeys": {"keep_keys": ["image", "shrink_mapp"]}}, "did you mean shrink_map?"),
        ({"KeepKeys": {"keep_keys": ["shrink_map"]}}, "must name image"),
        ({"RecResizeImg": {"image_shape": [3, 48, 320]}}, "RecResizeImg is for the other task"),
        ({"DetResizeForTest": {"image_shape": [100, 64]}}, "multiples of 32"),
        ({"A": None, "B": None}, "each transform is one entry"),
        (3, "is no transform"),
    ],
)
def test_mistakes_in_transforms_are_named(changed: Callable[..., ExampleConfig], transform: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        changed(lambda config: config["Train"]["dataset"]["transforms"].append(transform))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("QuantAware", "dtype"), "uint8", "QuantAware.dtype"),
        (("QuantAware", "for_tensorrt"), True, "--target"),
        (("QuantAware", "onnx_format"), False, "onnx_format"),
        (("QuantAware", "moving_rate"), 0.5, "0.9 is used"),
        (("QuantAware", "is_full_quantize"), True, "adds and pools stay float"),
        (("Distillation", "loss"), "dkd", "skd takes its place"),
        (("TrainConfig", "amp_config"), {"use_pure_fp16": True}, "has no effect; --amp decides"),
        (("TrainConfig", "use_fleet"), True, "has no effect"),
        (("TrainConfig", "optimizer_builder", "optimizer", "lazy_mode"), True, "no gradient is sparse"),
        (("Distillation", "merge_feed"), True, "the same images"),
        (("QuantAware", "window_size"), 100, "nothing is averaged over a window"),
        (("Global", "model_name"), "x", "model_dir"),
        (("Train", "loader", "use_shared_memory"), False, "made by threads"),
        (("TrainConfig", "learning_rate"), {"type": "ExponentialDecay", "learning_rate": 1e-4}, "takes its place"),
        (("TrainConfig", "optimizer_builder", "optimizer", "type"), "SGD", "momentum 0.9"),
        (("TrainConfig", "optimizer_builder", "optimizer", "beta1"), 0.5, "0.9 is used"),
        (("QuantPost",), {"algo": "KL"}, "mse takes its place"),
        (("QuantPost",), {"recon_level": "layer-wise"}, "no reconstruction"),
        (("QuantPost",), {"hist_percent": 0.99}, "0.9999 of the values"),
        (("ChannelPrune",), {"pruned_ratio": 0.2}, "no channels are taken away"),
        (("PostProcess", "box_type"), "poly", "four corners"),
        (("Global", "input_name"), "x", "only input"),
        (("Global", "algorithm"), "PSE", "read as DB's map"),
        (("Global", "deploy_hardware"), "gpu", "--target"),
        (("Train", "dataset", "ds_width"), True, "ds_width"),
        (("Train", "loader", "collate_fn"), "X", "collate_fn"),
        *(((name,), {"ratio": 0.5}, instead) for name, instead in INSTEAD.items()),
    ],
)
def test_keys_without_their_effect_are_warned_of(
    changed: Callable[..., ExampleConfig], path: tuple[str, ...], value: Any, said: str
) -> None:
    warnings = changed(put(*path, value)).warnings
    found = [line for line in warnings if said in line]
    assert found, warnings
    assert path[0] in found[0]
    assert "x.yaml:" in found[0]


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


@pytest.mark.parametrize(
    ("task", "transform", "said"),
    [
        ("det", {"DecodeImage": {"img_mode": "RGB"}}, "DecodeImage.img_mode RGB: what is calibrated, judged and"),
        ("rec", {"DecodeImage": {"img_mode": "GRAY"}}, "DecodeImage.img_mode GRAY: what is calibrated, judged and"),
        (
            "det",
            {"DetResizeForTest": {"image_shape": [736, 1280], "keep_ratio": True}},
            "DetResizeForTest.image_shape: has no effect, limit_type min with limit_side_len 736 is how",
        ),
        (
            "det",
            {"DetResizeForTest": {"image_shape": [736, 1280], "resize_long": 960}},
            "DetResizeForTest.image_shape: has no effect, resize_long 960 is how",
        ),
        ("rec", {"RecResizeImg": {"image_shape": [3, 48, 320], "padding": False}}, "padding false: narrow lines keep"),
        ("det", {"IaaAugment": None}, "IaaAugment: has no effect, images are scored as they are"),
        ("rec", {"RecAug": None}, "RecAug: has no effect, images are scored as they are"),
    ],
)
def test_transforms_of_eval_without_their_effect_are_warned_of(
    changed: Callable[..., ExampleConfig], task: str, transform: dict[str, Any], said: str
) -> None:
    (kind,) = transform

    def change(config: Any) -> None:
        transforms = config["Eval"]["dataset"]["transforms"]
        others = [item for item in transforms if kind not in item]
        place = transforms.index(next((item for item in transforms if kind in item), transforms[1]))
        transforms[:] = [*others[:place], transform, *others[place:]]

    found = [line for line in changed(change, task).warnings if said in line]
    assert len(found) == 1
    assert "Eval.dataset.transforms: " in found[0]
    assert not [line for line in changed(lambda config: None, task).warnings if said in line]


@pytest.mark.parametrize(
    ("task", "encoder", "keys", "said"),
    [
        ("det", None, ["image", "shrink_map"], "KeepKeys leaves out shrink_mask: "),
        ("det", None, ["image"], "KeepKeys leaves out shrink_map and shrink_mask: "),
        ("rec", None, ["image", "length"], "KeepKeys leaves out label_ctc: "),
        ("rec", "CTCLabelEncode", ["image", "label"], "KeepKeys leaves out length: "),
        ("rec", "CTCLabelEncode", ["image", "length"], "KeepKeys leaves out label: "),
        ("rec", "CTCLabelEncode", ["image", "label", "length"], None),
        ("rec", "CTCLabelEncode", ["image", "label_ctc", "length"], None),
        ("rec", "RecAug", ["image", "label"], "no transform makes label_ctc and length: "),
    ],
)
def test_labels_that_teach_nothing_are_warned_of(
    changed: Callable[..., ExampleConfig], task: str, encoder: str | None, keys: list[str], said: str | None
) -> None:
    def change(config: Any) -> None:
        transforms = config["Train"]["dataset"]["transforms"]
        transforms[-1] = {"KeepKeys": {"keep_keys": keys}}
        for index, item in enumerate(transforms):
            if encoder is not None and "MultiLabelEncode" in item:
                transforms[index] = {encoder: None}

    warnings = [line for line in changed(change, task).warnings if "without the loss on labels" in line]
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_without_keep_keys_all_that_is_made_is_kept(changed: Callable[..., ExampleConfig]) -> None:
    for task in ("det", "rec"):
        config = changed(lambda config: config["Train"]["dataset"]["transforms"].pop(), task)
        assert not [line for line in config.warnings if "without the loss on labels" in line]


@pytest.mark.parametrize(
    "value",
    [
        {"type": "PiecewiseDecay", "boundaries": [20, 10], "values": [1, 1, 1]},
        {"type": "PiecewiseDecay", "boundaries": [20], "values": [1.0]},
        {"type": "PiecewiseDecay", "boundaries": [20], "values": [0, 0]},
        {"type": "MultiStepDecay", "learning_rate": 0.1, "milestones": [3, 2]},
        {"type": "StepDecay", "learning_rate": 0.1},
        {"learning_rate": 0.1},
        0,
        100,
    ],
)
def test_learning_rates_that_make_no_sense(changed: Callable[..., ExampleConfig], value: Any) -> None:
    with pytest.raises(InputError, match=r"x\.yaml:\d+: TrainConfig\.learning_rate"):
        changed(put("TrainConfig", "learning_rate", value))


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
