"""Profiles against the programs that they are named after (values from their configuration files)."""

from __future__ import annotations

from typing import Any

import pytest

from ocrslim.config.profile import DetProfile, RecProfile, load_profile
from ocrslim.errors import InputError


def test_example_is_what_the_paddleslim_files_say() -> None:
    det = load_profile("example").det
    assert (det.thresh, det.box_thresh, det.unclip_ratio, det.max_candidates) == (0.3, 0.6, 1.5, 1000)
    assert (det.limit_side_len, det.limit_type, det.score_mode, det.use_dilation) == (736, "min", "fast", False)
    assert det.mean == (0.485, 0.456, 0.406)


def test_rapidocr_differs_in_more_than_thresholds() -> None:
    det = load_profile("rapidocr").det
    assert (det.thresh, det.box_thresh, det.unclip_ratio, det.use_dilation) == (0.3, 0.5, 1.6, True)
    assert (det.max_side, det.mean, det.std) == (2000, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_paddleocr_takes_small_pages_as_they_are() -> None:
    det = load_profile("paddleocr").det
    assert (det.limit_side_len, det.limit_type, det.max_side) == (64, "min", 4000)


V6_DET: dict[str, Any] = {
    "PostProcess": {
        "name": "DBPostProcess",
        "thresh": 0.2,
        "box_thresh": 0.45,
        "unclip_ratio": 1.4,
        "max_candidates": 3000,
    },
    "PreProcess": {
        "transform_ops": [
            {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
            {"DetLabelEncode": None},
            {"DetResizeForTest": None},
            {"NormalizeImage": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "order": "hwc", "scale": "1./255."}},
        ]
    },
}


def test_the_models_own_file_decides_by_default() -> None:
    profile = load_profile(None, V6_DET)
    assert profile.name == "model"
    assert profile.det == DetProfile(960, "max", 4000, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), 0.2, 0.45, 1.4, 3000)


def test_without_a_file_the_default_is_the_example() -> None:
    assert load_profile(None).name == "example"
    with pytest.raises(InputError, match=r"no inference\.yml"):
        load_profile("model")


def test_resize_rules_of_the_file() -> None:
    def det(rule: dict[str, Any]) -> DetProfile:
        return load_profile("model", {"PreProcess": {"transform_ops": [{"DetResizeForTest": rule}]}}).det

    assert det({"resize_long": 1280}).limit_side_len == 1280
    assert det({"limit_side_len": 640, "limit_type": "min"}).limit_type == "min"


def test_line_shape_of_the_file() -> None:
    config = {"PreProcess": {"transform_ops": [{"RecResizeImg": {"image_shape": [3, 32, 256]}}]}}
    assert load_profile("model", config).rec == RecProfile(height=32, width=256)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"PostProcess": {"thresh": "high"}}, "PostProcess.thresh"),
        ({"PostProcess": {"use_dilation": 1}}, "PostProcess.use_dilation"),
        ({"PostProcess": {"max_candidates": True}}, "PostProcess.max_candidates"),
        ({"PostProcess": {"score_mode": 3}}, "PostProcess.score_mode"),
        ({"PreProcess": {"transform_ops": ["DecodeImage"]}}, "transform_ops"),
        ({"PreProcess": {"transform_ops": [{"RecResizeImg": {"image_shape": [48, 320]}}]}}, "image_shape"),
    ],
)
def test_a_wrong_value_is_named(config: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        load_profile("model", config)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"paddle.*example.*rapidocr"):
        load_profile("paddle")
