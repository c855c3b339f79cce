"""The transforms as one function: each by hand, wrong orders refused, and pure in image, label and generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ocrslim.config import transforms as t
from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.errors import DataError, InputError
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.det_targets import border_maps, shrink_maps
from ocrslim.ocr.labels import DetSample, RecSample, TextBox
from ocrslim.ocr.pipeline import Pipeline
from ocrslim.ocr.transforms import normalize, resize_for_det, resize_for_rec

CHARSET = Charset(list("abcdefgh"))
BOX = np.array([[20, 20], [80, 20], [80, 44], [20, 44]], np.float32)
HIDDEN = np.array([[20, 60], [80, 60], [80, 90], [20, 90]], np.float32)
DET_CHAIN = (
    *(t.DecodeImage("BGR"), t.DetLabelEncode(), t.IaaAugment(), t.EastRandomCropData((160, 96), 50)),
    *(t.MakeBorderMap(), t.MakeShrinkMap(), t.NormalizeImage(order="hwc"), t.ToCHWImage()),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def page(tmp_path: Path, write_image: Callable[..., Path]) -> DetSample:
    boxes = (TextBox(BOX, "abc"), TextBox(HIDDEN, "###", ignore=True))
    return DetSample(write_image(tmp_path / "page.png", 120, 140), boxes, "set")


@pytest.fixture
def line(tmp_path: Path, write_image: Callable[..., Path]) -> RecSample:
    return RecSample(write_image(tmp_path / "line.png", 24, 60), "abc", "set")


def test_decoding_gives_the_channels_asked_for(page: DetSample) -> None:
    bgr = cv2.imread(str(page.image))
    assert np.array_equal(Pipeline([t.DecodeImage("BGR")])(page, rng())["image"], bgr)
    assert np.array_equal(Pipeline([t.DecodeImage("RGB")])(page, rng())["image"], bgr[..., ::-1])
    grey = Pipeline([t.DecodeImage("GRAY")])(page, rng())["image"]
    assert np.array_equal(grey, np.repeat(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2))


def test_labels_of_a_page_become_polygons(page: DetSample) -> None:
    values = Pipeline([t.DecodeImage("BGR"), t.DetLabelEncode()])(page, rng())
    assert [polygon.tolist() for polygon in values["polys"]] == [BOX.tolist(), HIDDEN.tolist()]
    assert values["ignore_tags"] == [False, True]
    assert values["texts"] == ["abc", "###"]


def test_a_whole_detectors_chain(page: DetSample) -> None:
    values = Pipeline(DET_CHAIN)(page, rng())
    assert values["image"].shape == (3, 96, 160)
    assert values["image"].dtype == np.float32
    for key in ("shrink_map", "shrink_mask", "threshold_map", "threshold_mask"):
        assert values[key].shape == (96, 160)
        assert values[key].dtype == np.float32
    polygons, ignored = values["polys"], values["ignore_tags"]
    text, mask = shrink_maps((96, 160), polygons, ignored)
    assert np.array_equal(values["shrink_map"], text)
    assert np.array_equal(values["shrink_mask"], mask)
    drawn, border_mask = border_maps((96, 160), polygons, ignored)
    assert np.array_equal(values["threshold_map"], drawn)
    assert np.array_equal(values["threshold_mask"], border_mask)


def test_the_generator_decides_and_nothing_else(page: DetSample) -> None:
    pipeline = Pipeline(DET_CHAIN)
    one, same, other = (pipeline(page, rng(seed))["image"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert BOX[0].tolist() == [20, 20]


def test_normalisation_is_the_formula_in_both_orders(page: DetSample) -> None:
    image = cv2.imread(str(page.image))
    settings = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    last = Pipeline([t.DecodeImage("BGR"), t.NormalizeImage(order="hwc", **settings), t.ToCHWImage()])(page, rng())
    first = Pipeline([t.DecodeImage("BGR"), t.ToCHWImage(), t.NormalizeImage(order="chw", **settings)])(page, rng())
    expected = normalize(image, settings["mean"], settings["std"])
    assert np.abs(last["image"] - expected).max() < 2e-6
    assert np.array_equal(last["image"], first["image"])
    assert last["image"].flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("transform", "profile"),
    [
        (t.DetResizeForTest(), DetProfile()),
        (t.DetResizeForTest(96, "max"), DetProfile(limit_side_len=96, limit_type="max")),
        (t.DetResizeForTest(resize_long=64), DetProfile(limit_side_len=64, limit_type="max")),
        (t.DetResizeForTest(max_side_limit=128), DetProfile(max_side=128)),
    ],
)
def test_the_detectors_resize_is_that_of_inference(
    page: DetSample, transform: t.DetResizeForTest, profile: DetProfile
) -> None:
    values = Pipeline([t.DecodeImage("BGR"), t.DetLabelEncode(), transform])(page, rng())
    resized, ratio_h, ratio_w = resize_for_det(cv2.imread(str(page.image)), profile)
    assert np.array_equal(values["image"], resized)
    assert values["shape"].tolist() == [120, 140, ratio_h, ratio_w]


def test_a_fixed_size_by_hand(page: DetSample) -> None:
    fixed = Pipeline([t.DecodeImage("BGR"), t.DetResizeForTest(image_shape=(64, 96))])(page, rng())
    assert fixed["image"].shape == (64, 96, 3)
    assert fixed["shape"].tolist() == [120, 140, 64 / 120, 96 / 140]
    kept = Pipeline([t.DecodeImage("BGR"), t.DetResizeForTest(image_shape=(64, 96), keep_ratio=True)])(page, rng())
    assert kept["image"].shape == (64, 96, 3)  # 140 * 64 / 120 = 74.7, up to a multiple of 32


def test_a_very_long_image_is_not_enlarged_without_bound(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    cv2.imwrite(str(path), np.full((8, 30_000), 7, np.uint8))
    shape = t.DetResizeForTest(image_shape=(736, 1280), keep_ratio=True)
    values = Pipeline([t.DecodeImage("BGR"), shape])(DetSample(path, (), "set"), rng())
    assert values["image"].shape == (736, 4000, 3)
    assert values["shape"].tolist() == [8, 30_000, 92, 4000 / 30_000]
    short = t.DetResizeForTest(image_shape=(64, 96), keep_ratio=True, max_side_limit=1000)
    assert Pipeline([t.DecodeImage("BGR"), short])(DetSample(path, (), "set"), rng())["image"].shape == (64, 992, 3)
    enlarged = t.IaaAugment((("Resize", (1000.0, 1000.0)),))
    image = Pipeline([t.DecodeImage("BGR"), t.DetLabelEncode(), enlarged])(DetSample(path, (), "set"), rng())["image"]
    assert image.shape[0] * image.shape[1] <= 1.1 * (1 << 25)


@pytest.mark.parametrize(
    "error", [cv2.error("OpenCV: Insufficient memory,\nor what else it says"), MemoryError("no room"), MemoryError()]
)
def test_what_a_transform_has_no_room_for_is_an_image_that_cannot_be_used(
    page: DetSample, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resize(*_: object, **__: object) -> None:
        raise error

    pipeline = Pipeline([t.DecodeImage("BGR"), t.DetResizeForTest()])
    monkeypatch.setattr(cv2, "resize", resize)
    with pytest.raises(DataError, match=r"page\.png: DetResizeForTest can't be applied \([^\n]*\)$"):
        pipeline(page, rng())


def test_a_whole_recognisers_chain(line: RecSample) -> None:
    chain = (t.DecodeImage("BGR"), t.MultiLabelEncode(), t.RecResizeImg((3, 48, 320)))
    keep = t.KeepKeys(("image", "label_ctc", "label_sar", "length", "valid_ratio"))
    values = Pipeline((*chain, keep), CHARSET, 10)(line, rng())
    assert list(values) == list(keep.keep_keys)
    image = cv2.imread(str(line.image))
    assert np.array_equal(values["image"], resize_for_rec(image, RecProfile(), 320))
    assert values["label_ctc"].tolist() == [1, 2, 3] + [0] * 7
    assert values["label_sar"].tolist() == [10, 0, 1, 2, 10] + [11] * 5
    assert values["length"] == 3
    assert values["valid_ratio"] == pytest.approx(120 / 320)


def test_a_line_without_padding_fills_the_width(line: RecSample) -> None:
    values = Pipeline([t.DecodeImage("BGR"), t.RecResizeImg((3, 48, 320), padding=False)])(line, rng())
    resized = cv2.resize(cv2.imread(str(line.image)), (320, 48))
    assert np.array_equal(values["image"], normalize(resized, (0.5,) * 3, (0.5,) * 3))
    assert values["valid_ratio"] == 1


def test_other_encodings(line: RecSample) -> None:
    nrtr = Pipeline([t.DecodeImage("BGR"), t.MultiLabelEncode("NRTRLabelEncode")], CHARSET, 8)(line, rng())
    assert nrtr["label_gtc"].tolist() == [2, 4, 5, 6, 3, 0, 0, 0]
    ctc = Pipeline([t.DecodeImage("BGR"), t.CTCLabelEncode()], CHARSET, 8)(line, rng())
    assert ctc["label"].tolist() == [1, 2, 3, 0, 0, 0, 0, 0]


def test_a_line_too_long_for_attention_is_kept_for_ctc(line: RecSample) -> None:
    values = Pipeline([t.DecodeImage("BGR"), t.MultiLabelEncode()], CHARSET, 4)(line, rng())
    assert values["label_ctc"].tolist() == [1, 2, 3, 0]
    assert not values["label_sar"].any()


@pytest.mark.parametrize(
    ("text", "said"), [("abcdefgha", "over 8 characters"), ("???", "not of the dictionary"), (None, "no text")]
)
def test_labels_that_cannot_be_learnt_are_refused(line: RecSample, text: str | None, said: str) -> None:
    pipeline = Pipeline([t.DecodeImage("BGR"), t.MultiLabelEncode()], CHARSET, 8)
    with pytest.raises(DataError, match=said):
        pipeline(RecSample(line.image, text, "set"), rng())


def test_joining_draws_other_lines(line: RecSample, tmp_path: Path, write_image: Callable[..., Path]) -> None:
    other = RecSample(write_image(tmp_path / "other.png", 30, 60, seed=1), "de", "set")
    chain = (t.DecodeImage("BGR"), t.RecConAug(1.0, 2, (48, 320), 25), t.RecAug(*[0.0] * 7), t.MultiLabelEncode())
    pipeline = Pipeline(chain, CHARSET, 25)
    values = pipeline(line, rng(), lambda generator: other)
    assert values["label_ctc"][: int(values["length"])].tolist() == [1, 2, 3, 4, 5, 4, 5]
    assert values["image"].shape[:2] == (48, 120 + 96 + 96)
    assert pipeline(line, rng())["length"] == 3  # nobody to join


def test_joining_has_its_chance_and_survives_damaged_lines(line: RecSample, tmp_path: Path) -> None:
    broken = RecSample(tmp_path / "gone.png", "de", "set")
    joining = Pipeline([t.DecodeImage("BGR"), t.RecConAug(0.5, 1, (48, 320), 25), t.CTCLabelEncode()], CHARSET)
    assert joining(line, rng(), lambda generator: broken)["length"] == 3
    lengths = [int(joining(line, rng(seed), lambda generator: line)["length"]) for seed in range(100)]
    assert set(lengths) == {3, 6}
    assert 30 < lengths.count(6) < 70


def test_partners_go_through_the_first_transforms_only(line: RecSample) -> None:
    chain = (t.DecodeImage("BGR"), t.RecAug(0, 0, 1.0, 0, 0, 0, 0), t.RecConAug(1.0, 1, (24, 320), 25))
    image = cv2.imread(str(line.image))
    for count, expected in ((1, image), (2, 255 - image), (9, 255 - image)):
        values = Pipeline(chain, CHARSET, 25, partner_transforms=count)(line, rng(), lambda generator: line)
        assert np.array_equal(values["image"][:, :60], 255 - image)
        assert np.array_equal(values["image"][:, 60:], expected)


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ([t.DecodeImage("BGR"), t.MakeShrinkMap()], "MakeShrinkMap must come after DetLabelEncode"),
        ([t.DetLabelEncode(), t.IaaAugment()], "IaaAugment must come after DecodeImage"),
        ([t.DecodeImage("BGR"), t.NormalizeImage(order="hwc"), t.DetResizeForTest()], "before NormalizeImage"),
        ([t.DecodeImage("BGR"), t.NormalizeImage(order="chw")], "order is chw"),
        ([t.DecodeImage("BGR"), t.KeepKeys(("image", "shape"))], "KeepKeys asks for shape"),
    ],
)
def test_wrong_orders_are_refused(page: DetSample, chain: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Pipeline(chain)(page, rng())


def test_mismatched_tasks_and_missing_dictionaries_are_refused(page: DetSample, line: RecSample) -> None:
    with pytest.raises(InputError, match="dictionary"):
        Pipeline([t.MultiLabelEncode()])
    with pytest.raises(DataError, match="no boxes"):
        Pipeline([t.DecodeImage("BGR"), t.DetLabelEncode()])(line, rng())
    with pytest.raises(DataError, match="no such image"):
        Pipeline([t.DecodeImage("BGR")])(DetSample(page.image.with_name("gone.png"), (), "set"), rng())


def test_a_page_without_text_is_all_background(page: DetSample) -> None:
    values = Pipeline(DET_CHAIN)(DetSample(page.image, (), "set"), rng())
    assert not values["shrink_map"].any()
    assert values["shrink_mask"].all()
