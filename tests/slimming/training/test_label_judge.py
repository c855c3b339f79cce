"""The judge by labels: its figures are those of the metric on what the student reads, whatever the student is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ocrslim.config.profile import DetProfile, Profile, RecProfile
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import DetSample, RecSample, TextBox
from ocrslim.slimming.training.label_judge import LabelJudge

CHARSET = Charset(list("0123456789"), use_space=False)
PROFILE = Profile("test", DetProfile(limit_side_len=32), RecProfile(48, 64))


class ReadsBrightness(nn.Module):
    """Reads the tenth of the first pixel's brightness as one character, surely."""

    def forward(self, images: Tensor) -> Tensor:
        digits = ((images[:, 0, 0, 0] * 0.5 + 0.5) * 255 / 10).round().long() + 1
        frames = torch.zeros(len(images), 3, 11)
        frames[:, [0, 2], 0] = 1
        frames[torch.arange(len(images)), 1, digits] = 1
        return frames


class SeesWhite(nn.Module):
    """Calls white pixels text."""

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, :1] > 1.0).float()


@pytest.fixture
def shade(tmp_path: Path) -> Callable[[int, str], RecSample]:
    def make(digit: int, text: str) -> RecSample:
        path = tmp_path / f"{digit}{text}.png"
        cv2.imwrite(str(path), np.full((48, 40, 3), 10 * digit, np.uint8))
        return RecSample(path, text, "s")

    return make


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_lines_are_read_and_compared(shade: Callable[[int, str], RecSample], batch: int) -> None:
    samples = [shade(3, "3"), shade(7, "7"), shade(5, "6"), shade(1, "12")]
    judge = LabelJudge(ReadsBrightness(), samples, PROFILE, CHARSET, "acc", batch=batch)
    score = judge()
    assert score.value == pytest.approx(2 / 4, abs=1e-4)
    assert score.figures["norm_edit_distance"] == pytest.approx(1 - (1 + 0.5) / 4, abs=1e-4)
    other = LabelJudge(ReadsBrightness(), samples, PROFILE, CHARSET, "norm_edit_dis")
    assert other().value == score.figures["norm_edit_distance"]


def test_spaces_count_unless_they_are_ignored(shade: Callable[[int, str], RecSample]) -> None:
    samples = [shade(3, "3 ")]
    assert LabelJudge(ReadsBrightness(), samples, PROFILE, CHARSET, "acc")().value < 0.01
    assert LabelJudge(ReadsBrightness(), samples, PROFILE, CHARSET, "acc", ignore_space=True)().value > 0.99


def test_pages_are_searched_and_compared(tmp_path: Path) -> None:
    image = np.zeros((128, 160, 3), np.uint8)
    image[20:50, 20:120] = 255
    cv2.imwrite(str(tmp_path / "page.png"), image)

    def box(left: float, top: float, right: float, bottom: float) -> TextBox:
        return TextBox(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32), "a")

    grown = box(7, 7, 133, 63)  # DB grows what it finds by area * 1.5 / perimeter: 3000 * 1.5 / 260 = 17
    samples = [DetSample(tmp_path / "page.png", (grown, box(10, 90, 60, 120)), "s")]
    score = LabelJudge(SeesWhite(), samples, PROFILE, None, "hmean")()
    assert score.figures["precision"] == 1.0
    assert score.figures["recall"] == 0.5
    assert score.value == pytest.approx(2 / 3)
    assert LabelJudge(SeesWhite(), samples, PROFILE, None, "recall")().value == 0.5


def test_an_image_that_cannot_be_read_is_left_out_and_noted(tmp_path: Path) -> None:
    page = np.zeros((128, 192, 3), np.uint8)
    page[20:50, 20:120] = 255
    cv2.imwrite(str(tmp_path / "page.png"), page)
    corners = np.array([[7, 7], [133, 7], [133, 63], [7, 63]], np.float32)
    whole = DetSample(tmp_path / "page.png", (TextBox(corners, "a"),), "s")
    broken = DetSample(tmp_path / "broken.png", (TextBox(corners, "a"),), "s")
    broken.image.write_bytes((tmp_path / "page.png").read_bytes()[:60])
    damaged: dict[str, str] = {}
    judge = LabelJudge(SeesWhite(), [broken, whole], PROFILE, None, "hmean", damaged=damaged)
    assert judge().value == LabelJudge(SeesWhite(), [whole], PROFILE, None, "hmean")().value
    assert list(damaged) == [str(broken.image)]
    assert "cut short" in damaged[str(broken.image)] or "no image" in damaged[str(broken.image)]
