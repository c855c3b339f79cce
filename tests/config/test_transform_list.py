"""Each transform's arguments: PaddleOCR's defaults where a file says nothing, the file's values where it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ocrslim.config import transforms as t
from ocrslim.config.located import read_located
from ocrslim.config.transform_list import KEYS, TRANSFORMS, read_transforms
from ocrslim.errors import InputError


def read(entries: list[Any], tmp_path: Path) -> tuple[tuple[t.Transform, ...], list[str]]:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    warnings: list[str] = []
    return read_transforms(read_located(path).value, "Train", warnings.append), warnings


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("DecodeImage", t.DecodeImage("RGB")),
        ({"DecodeImage": {"img_mode": "BGR", "channel_first": False}}, t.DecodeImage("BGR")),
        ({"DetLabelEncode": None}, t.DetLabelEncode()),
        ({"IaaAugment": None}, t.IaaAugment((("Fliplr", (0.5,)), ("Affine", (-10, 10)), ("Resize", (0.5, 3))))),
        ({"IaaAugment": {"augmenter_args": []}}, t.IaaAugment(())),
        (
            {"IaaAugment": {"augmenter_args": [{"type": "Flipud", "args": {"p": 0.1}}]}},
            t.IaaAugment((("Flipud", (0.1,)),)),
        ),
        (
            {"IaaAugment": {"augmenter_args": [{"type": "Affine", "args": {"rotate": 5}}]}},
            t.IaaAugment((("Affine", (5.0, 5.0)),)),
        ),
        ({"EastRandomCropData": None}, t.EastRandomCropData((640, 640), 10, 0.1, True)),
        (
            {"EastRandomCropData": {"size": [960, 640], "max_tries": 50, "keep_ratio": False}},
            t.EastRandomCropData((960, 640), 50, 0.1, False),
        ),
        ({"MakeBorderMap": None}, t.MakeBorderMap(0.4, 0.3, 0.7)),
        ({"MakeBorderMap": {"thresh_min": 0.2, "thresh_max": 0.9}}, t.MakeBorderMap(0.4, 0.2, 0.9)),
        ({"MakeShrinkMap": {"shrink_ratio": 0.5, "min_text_size": 3}}, t.MakeShrinkMap(0.5, 3.0)),
        ({"NormalizeImage": None}, t.NormalizeImage(1 / 255, order="chw")),
        (
            {"NormalizeImage": {"scale": "1./255.", "mean": [0, 0, 0], "std": [1, 1, 1], "order": "hwc"}},
            t.NormalizeImage(1 / 255, (0, 0, 0), (1, 1, 1), "hwc"),
        ),
        ({"ToCHWImage": None}, t.ToCHWImage()),
        ({"KeepKeys": {"keep_keys": ["image", "label"]}}, t.KeepKeys(("image", "label"))),
        ({"RecConAug": None}, t.RecConAug(0.5, 1, (32, 320), 25)),
        (
            {"RecConAug": {"prob": 1, "ext_data_num": 3, "image_shape": [48, 640, 3], "max_text_length": 40}},
            t.RecConAug(1.0, 3, (48, 640), 40),
        ),
        ({"RecAug": None}, t.RecAug(*[0.4] * 7)),
        ({"RecAug": {"use_tia": False}}, t.RecAug(0.0, *[0.4] * 6)),
        ({"RecAug": {"aug_prob": 0.1, "noise_prob": 0.9}}, t.RecAug(0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1)),
        ({"MultiLabelEncode": None}, t.MultiLabelEncode("SARLabelEncode")),
        ({"MultiLabelEncode": {"gtc_encode": "NRTRLabelEncode"}}, t.MultiLabelEncode("NRTRLabelEncode")),
        ({"CTCLabelEncode": None}, t.CTCLabelEncode()),
        ({"RecResizeImg": {"image_shape": [3, 32, 100], "padding": False}}, t.RecResizeImg((3, 32, 100), False)),
        ({"DetResizeForTest": None}, t.DetResizeForTest(736, "min", 4000, None, False, None)),
        ({"DetResizeForTest": {"limit_side_len": 960, "limit_type": "max"}}, t.DetResizeForTest(960, "max")),
        ({"DetResizeForTest": {"image_shape": [736, 1280]}}, t.DetResizeForTest(image_shape=(736, 1280))),
    ],
)
def test_arguments(entry: Any, expected: t.Transform, tmp_path: Path) -> None:
    found, warnings = read([entry], tmp_path)
    assert found == (expected,)
    assert warnings == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"DecodeImage": {"ignore_orientation": True}}, "turned upright"),
        ({"MakeShrinkMap": {"total_epoch": 500}}, "shrink_ratio stays"),
        ({"MakeBorderMap": {"total_epoch": 500}}, "shrink_ratio stays"),
        ({"RecResizeImg": {"infer_mode": True}}, "brought to image_shape"),
        ({"RecResizeImg": {"eval_mode": True}}, "brought to image_shape"),
        ({"DetResizeForTest": {"resize_long": 960}}, "multiples of 32"),
    ],
)
def test_arguments_without_their_effect_are_warned_of(entry: Any, said: str, tmp_path: Path) -> None:
    _, warnings = read([entry], tmp_path)
    assert len(warnings) == 1
    assert said in warnings[0]
    assert next(iter(entry)) in warnings[0]
    assert "x.yaml:1" in warnings[0]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_refuses_unknown_arguments(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"Train\.{name}\.nonsense is unknown"):
        read([{name: {"nonsense": 1}}], tmp_path)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_refuses_what_is_no_mapping(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"Train\.{name} must be a mapping"):
        read([{name: [1, 2]}], tmp_path)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"RecResizeImg": {"image_shape": [1, 32, 100]}}, "must be 3 channels"),
        ({"RecResizeImg": {"image_shape": [3, 48]}}, "a list of 3 numbers"),
        ({"RecConAug": {"image_shape": [0, 320, 3]}}, "height, width and channels"),
        ({"RecConAug": {"prob": 1.5}}, "from 0 to 1"),
        ({"RecAug": {"blur_prob": -0.1}}, "from 0 to 1"),
        ({"MultiLabelEncode": {"gtc_encode": "SARLabelEncod"}}, "did you mean SARLabelEncode?"),
        ({"EastRandomCropData": {"max_tries": 0}}, "at least 1"),
        ({"EastRandomCropData": {"size": [960]}}, "a list of 2 numbers"),
        ({"DetResizeForTest": {"limit_type": "mid"}}, "did you mean min?"),
        ({"DetResizeForTest": {"limit_side_len": 8}}, "at least 32"),
        ({"IaaAugment": {"augmenter_args": [{"type": "Flipud"}]}}, "p is missing"),
        ({"IaaAugment": {"augmenter_args": [{"args": {}}]}}, "type is missing"),
        ({"IaaAugment": {"augmenter_args": [{"type": "Resize", "args": {"size": [1, 2, 3]}}]}}, "upper of two"),
        ({"NormalizeImage": {"order": "whc"}}, "did you mean hwc?"),
        ({"NormalizeImage": {"scale": "one"}}, "must be a number"),
    ],
)
def test_wrong_arguments_are_named(entry: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read([entry], tmp_path)
    assert said in str(caught.value)
    assert f"Train.{next(iter(entry))}" in str(caught.value)


@pytest.mark.parametrize(("name", "keys"), KEYS.items())
def test_what_a_transform_makes_may_be_kept_after_it_only(name: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    for key in keys:
        keep = {"KeepKeys": {"keep_keys": ["image", key]}}
        assert len(read([{name: None}, keep], tmp_path)[0]) == 2
        if key != "label":  # a sample has a label from the start
            with pytest.raises(InputError, match=f"no transform before it makes '{key}'"):
                read([keep, {name: None}], tmp_path)


def test_no_transforms(tmp_path: Path) -> None:
    assert read([], tmp_path) == ((), [])
