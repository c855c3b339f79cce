"""A judge that scores the student by labels, with the metric and the post-processing of the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ocrslim.config.profile import Profile
from ocrslim.errors import DataError
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.db import DBPostProcess
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample, RecSample
from ocrslim.ocr.metrics.detection import DetectionMetric
from ocrslim.ocr.metrics.recognition import RecognitionMetric
from ocrslim.ocr.transforms import normalize, resize_for_det, resize_for_rec
from ocrslim.slimming.training.trainer import Score

__all__ = ["INDICATORS", "LabelJudge"]

INDICATORS = {"acc": "accuracy", "norm_edit_dis": "norm_edit_distance"}
"""PaddleOCR's names of figures, where ours differ."""

_S = TypeVar("_S", DetSample, RecSample)


@dataclass
class LabelJudge:
    """Scores the student on labelled images, in torch, one image at a time (lines: ``batch`` of one width at a time).

    Args:
        student: judged as it is at the time of the call; gives probabilities.
        samples: with labels, all of one task.
        profile: pre- and post-processing.
        charset: of a recogniser.
        indicator: the figure that decides, by PaddleOCR's name.
        ignore_space: see :class:`ocrslim.ocr.metrics.recognition.RecognitionMetric`.
        batch: lines run at once.
        damaged: path -> reason, of the images that can't be read and are left out; shared with the run's data.
    """

    student: nn.Module
    samples: Sequence[DetSample | RecSample]
    profile: Profile
    charset: Charset | None
    indicator: str
    ignore_space: bool = False
    batch: int = 16
    damaged: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> Score:
        """Return the score; its value is the indicator, 0 to 1."""
        det = [sample for sample in self.samples if isinstance(sample, DetSample)]
        figures = self._pages(det) if det else self._lines()
        return Score(figures[INDICATORS.get(self.indicator, self.indicator)], figures)

    def _pages(self, samples: Sequence[DetSample]) -> dict[str, float]:
        metric, profile = DetectionMetric(), self.profile.det
        post_process = DBPostProcess(profile)
        for sample, image in self._readable(samples):
            resized, ratio_h, ratio_w = resize_for_det(image, profile)
            maps = self._run(normalize(resized, profile.mean, profile.std)[None])
            boxes, _ = post_process(maps[0, 0], round(resized.shape[0] / ratio_h), round(resized.shape[1] / ratio_w))
            metric.update(boxes, sample.boxes, str(sample.image), sample.set_name)
        return metric.compute()

    def _lines(self) -> dict[str, float]:
        assert self.charset is not None
        metric, profile = RecognitionMetric(self.ignore_space), self.profile.rec
        samples = [sample for sample in self.samples if isinstance(sample, RecSample)]
        for first in range(0, len(samples), self.batch):
            part = list(self._readable(samples[first : first + self.batch]))
            if not part:
                continue
            lines = np.stack([resize_for_rec(image, profile, profile.width) for _, image in part])
            for (sample, _), frames in zip(part, self._run(lines), strict=True):
                text, _ = self.charset.decode(frames)
                metric.update(text, sample.text or "", str(sample.image), sample.set_name)
        return metric.compute()

    def _readable(self, samples: Sequence[_S]) -> Iterator[tuple[_S, NDArray[np.uint8]]]:
        for sample in samples:
            if str(sample.image) in self.damaged:
                continue
            try:
                yield sample, read_image(sample.image)
            except DataError as error:
                self.damaged[str(sample.image)] = str(error)

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        like = next(self.student.parameters(), torch.zeros(0))
        with torch.no_grad():
            output = self.student(torch.from_numpy(images).to(like.device))
        assert isinstance(output, Tensor)
        return np.asarray(output.float().cpu().numpy(), np.float32)
