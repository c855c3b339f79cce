"""Profiles against the programs that they are named after (values from their configuration files)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrslim.config.profile import PROFILES, DetProfile, RecProfile, load_profile
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


def _with(operator: str, rule: Any) -> dict[str, Any]:
    return {"PreProcess": {"transform_ops": [{"DecodeImage": None}, {operator: rule}]}}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (_with("DetResizeForTest", {"resize_long": "big"}), r"DetResizeForTest\.resize_long must be a whole number"),
        (
            _with("DetResizeForTest", {"resize_long": 0}),
            r"DetResizeForTest\.resize_long must be a whole number above 0",
        ),
        (_with("DetResizeForTest", {"limit_side_len": 960.5}), r"limit_side_len must be a whole number"),
        (_with("DetResizeForTest", {"limit_type": "middle"}), r"limit_type must be one of min, max, got 'middle'"),
        (_with("DetResizeForTest", {"limit_type": ["min"]}), r"limit_type must be one of min, max"),
        (_with("DetResizeForTest", [960]), r"DetResizeForTest must hold keys with values, got \[960\]"),
        (_with("NormalizeImage", {"mean": 0.5}), r"NormalizeImage\.mean must be three numbers"),
        (_with("NormalizeImage", {"mean": [0.5, 0.5]}), r"NormalizeImage\.mean must be three numbers"),
        (_with("NormalizeImage", {"mean": [0.5, "x", 0.5]}), r"NormalizeImage\.mean must be three numbers"),
        (
            _with("NormalizeImage", {"std": [1, 0, 1]}),
            r"NormalizeImage\.std must be three numbers \(of std none is 0\)",
        ),
        (_with("NormalizeImage", {"std": [1, float("nan"), 1]}), r"NormalizeImage\.std"),
        (_with("RecResizeImg", {"image_shape": [3, "48", 320]}), r"image_shape must be \[3, height, width\]"),
        (_with("RecResizeImg", {"image_shape": [3, 0, 320]}), r"image_shape must be \[3, height, width\]"),
        (_with("RecResizeImg", "48x320"), r"RecResizeImg must hold keys"),
        ({"PostProcess": "DBPostProcess"}, r"PostProcess must hold keys with values, got 'DBPostProcess'"),
        ({"PostProcess": {"score_mode": "medium"}}, r"score_mode must be one of fast, slow, got 'medium'"),
        ({"PostProcess": {"thresh": None}}, r"PostProcess\.thresh must be a number, 0 or more, got None"),
        ({"PostProcess": {"box_thresh": -0.1}}, r"PostProcess\.box_thresh must be a number, 0 or more"),
        ({"PostProcess": {"unclip_ratio": float("inf")}}, r"PostProcess\.unclip_ratio"),
        ({"PostProcess": {"use_dilation": "yes"}}, r"PostProcess\.use_dilation must be true or false"),
        ({"PreProcess": ["DecodeImage"]}, r"PreProcess must hold keys"),
        ({"PreProcess": {"transform_ops": 5}}, r"transform_ops must be a list of operators, got 5"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_what_is_wanted(config: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        load_profile("model", config)
    assert str(caught.value).startswith("inference.yml: ")
    assert "\n" not in str(caught.value)


_PLAIN = st.sampled_from([None, True, -1, 0, 3, 48, 1e9, 0.5, float("nan"), float("inf"), "", "min", "slow", {}])
_ODD = _PLAIN | st.sampled_from([[], [1, 2, 3], [0, 0, 0], ["a", 1, 2], [3, 48, 320], [3, None, 1], {"a": 1}])
_POST = ("thresh", "box_thresh", "unclip_ratio", "max_candidates", "use_dilation", "score_mode")
_RULES = ("resize_long", "limit_side_len", "limit_type", "mean", "std", "image_shape")
_OPERATORS = ("DetResizeForTest", "NormalizeImage", "RecResizeImg")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(_POST), _ODD, max_size=2) | _ODD,
    st.lists(st.tuples(st.sampled_from(_OPERATORS), st.sampled_from(_RULES), _ODD), max_size=3),
)
def test_whatever_the_file_holds_is_a_profile_or_an_error(post: Any, rules: list[tuple[str, str, Any]]) -> None:
    operators = [{operator: {rule: value}} for operator, rule, value in rules]
    try:
        profile = load_profile("model", {"PostProcess": post, "PreProcess": {"transform_ops": operators}})
    except InputError:
        return
    assert profile.det.limit_side_len > 0
    assert profile.det.limit_type in ("min", "max")
    assert profile.det.score_mode in ("fast", "slow")
    assert len(profile.det.mean) == len(profile.det.std) == 3
    assert 0 not in profile.det.std
    assert min(profile.rec.height, profile.rec.width, profile.det.max_candidates) > 0
    assert all(0 <= value < float("inf") for value in (profile.det.thresh, profile.det.unclip_ratio))


def test_numbers_of_the_other_kind_are_taken_where_they_mean_the_same() -> None:
    post = {"thresh": 0, "box_thresh": 1, "max_candidates": 1000.0}
    det = load_profile("model", {"PostProcess": post}).det
    assert (det.thresh, det.box_thresh, det.max_candidates) == (0.0, 1.0, 1000)
    assert [type(value) for value in (det.thresh, det.box_thresh, det.max_candidates)] == [float, float, int]


@pytest.mark.parametrize("config", [{}, {"PostProcess": None}, {"PreProcess": None}, {"PreProcess": {}}])
def test_sections_that_are_empty_leave_paddleocrs_defaults(config: dict[str, Any]) -> None:
    assert load_profile("model", config).det == DetProfile(limit_side_len=960, limit_type="max")
    assert load_profile("model", config).rec == RecProfile()


def test_a_later_operator_of_the_same_name_wins_and_others_are_not_looked_at() -> None:
    operators = [
        {"DetResizeForTest": {"limit_side_len": 100, "limit_type": "min"}},
        {"KeepKeys": {"keep_keys": ["image"]}},
        {"DetResizeForTest": {"limit_side_len": 200, "limit_type": "max"}},
    ]
    det = load_profile("model", {"PreProcess": {"transform_ops": operators}}).det
    assert (det.limit_side_len, det.limit_type) == (200, "max")


def test_every_named_profile_can_be_asked_for_and_none_is_the_models() -> None:
    for name, profile in PROFILES.items():
        assert load_profile(name) == profile
        assert load_profile(name, V6_DET) == profile  # the name decides, not the file
        assert profile.name == name
    assert "model" not in PROFILES
    assert len({profile.det for profile in PROFILES.values()}) == len(PROFILES)
