"""Mistakes in the example's files, named with line and nearest name, and warnings of the keys without their effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ocrslim.config.paddleslim import INSTEAD, ExampleConfig
from ocrslim.errors import InputError

from .conftest import put


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
