"""Losses against labels: pinned values, brute force, no gradient from what is masked, learning on tiny problems."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from ocrslim.config import transforms as t
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import RecSample
from ocrslim.ocr.pipeline import Pipeline
from ocrslim.slimming.training.labelled_loader import LabelledBatches
from ocrslim.slimming.training.task_losses import (
    CtcLoss,
    DbLoss,
    RobustCtcLoss,
    balanced_bce,
    dice,
    labelled_batches,
    task_loss,
)


def random_maps(seed: int, share: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 8, 9, generator=generator)
    text = (torch.rand(2, 8, 9, generator=generator) < share).float()
    mask = (torch.rand(2, 8, 9, generator=generator) < 0.8).float()
    return logits, text, mask


def brute_balanced(logits: Tensor, text: Tensor, mask: Tensor, ratio: float) -> float:
    """Sort all negatives, take the first ones: PaddleOCR's BalanceLoss with a cross-entropy inside."""
    positive, negative = [], []
    for z, label, counted in zip(
        logits.flatten().tolist(), text.flatten().tolist(), mask.flatten().tolist(), strict=True
    ):
        loss = math.log1p(math.exp(-z)) if label else math.log1p(math.exp(z))
        if counted:
            (positive if label else negative).append(loss)
    wanted = int(min(len(negative), len(positive) * ratio))
    hardest = sorted(negative, reverse=True)[:wanted]
    return (sum(positive) + sum(hardest)) / (len(positive) + wanted + 1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ratio", [0.0, 0.7, 3.0, 100.0])
def test_balanced_cross_entropy_against_a_sort(seed: int, ratio: float) -> None:
    logits, text, mask = random_maps(seed)
    assert balanced_bce(logits, text, mask, ratio).item() == pytest.approx(
        brute_balanced(logits, text, mask, ratio), rel=1e-5
    )


def test_equal_losses_at_the_bound_share_the_gradient() -> None:
    logits = torch.zeros(1, 8, requires_grad=True)
    text = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]])
    loss = balanced_bce(logits, text, torch.ones(1, 8), 3.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(-0.5 / 4, rel=1e-5)
    assert logits.grad[0, 1:].tolist() == pytest.approx([0.5 * 3 / 7 / 4] * 7, rel=1e-5)


def test_only_the_hardest_negatives_learn() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0, -5.0]], requires_grad=True)
    balanced_bce(logits, torch.tensor([[1.0, 0, 0, 0, 0]]), torch.ones(1, 5), 2.0).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[0] != 0).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("case", ["no text", "all masked", "all text"])
def test_edges_are_finite(case: str) -> None:
    logits, text, mask = random_maps(0)
    logits.requires_grad_()
    text = {"no text": text * 0, "all text": text * 0 + 1}.get(case, text)
    mask = mask * 0 if case == "all masked" else mask
    loss = DbLoss()(logits[:, None], {"shrink_map": text, "shrink_mask": mask})
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_dice_by_hand() -> None:
    probability = torch.tensor([0.5, 1.0, 0.25, 1.0])
    text, mask = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    # 2 * 1.5 / (1.75 + 2)
    assert dice(probability, text, mask).item() == pytest.approx(1 - 3 / 3.75, rel=1e-5)
    assert dice(text, text, torch.ones(4)).item() == pytest.approx(0, abs=1e-6)
    assert dice(1 - text, text, torch.ones(4)).item() == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_detectors_loss_is_its_formula(seed: int) -> None:
    logits, text, mask = random_maps(seed)
    thresholds = torch.rand(2, 8, 9) * 0.4 + 0.3
    targets = {"shrink_map": text, "shrink_mask": mask}
    p = torch.sigmoid(logits)
    expected = 5 * balanced_bce(logits, text, mask) + dice(p, text, mask)
    assert DbLoss()(logits[:, None], targets).item() == pytest.approx(expected.item(), rel=1e-5)
    binary = 1 / (1 + torch.exp(-50 * (p - thresholds)))
    expected = 2 * balanced_bce(logits, text, mask, 1.0) + dice(binary, text, mask)
    loss = DbLoss(2.0, 1.0)(logits[:, None], targets | {"threshold_map": thresholds})
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_masked_pixels_have_no_gradient() -> None:
    logits, text, mask = random_maps(1)
    logits.requires_grad_()
    DbLoss()(logits[:, None], {"shrink_map": text, "shrink_mask": mask}).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[mask == 0].any()
    assert logits.grad[(mask == 1) & (text == 1)].all()


def test_pixels_that_are_surely_wrong_cost_no_more_than_in_paddleocr() -> None:
    """-log(1e-6) = 13.8: logits of -500 are saturated probabilities, and have no gradient either."""
    logits = torch.tensor([[[[-500.0, -14.0, 0.0, 0.0]]]], requires_grad=True)
    text = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    loss = DbLoss(alpha=1.0)(logits, {"shrink_map": text, "shrink_mask": torch.ones_like(text)})
    assert loss.item() == pytest.approx((2 * 13.8 + 2 * math.log(2.0)) / 4 + 1.0, rel=1e-4)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, :2].tolist() == [0.0, 0.0]
    assert bool((logits.grad[0, 0, 0, 2:] > 0).all())


def test_a_map_is_learnt() -> None:
    _, text, mask = random_maps(2)
    logits = torch.zeros(2, 1, 8, 9, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(80):
        optimizer.zero_grad()
        DbLoss()(logits, {"shrink_map": text, "shrink_mask": mask}).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert ((logits[:, 0] > 0) == (text == 1))[mask == 1].all()


def brute_ctc(logits: Tensor, label: list[int]) -> float:
    """Sum the probability of every path of frames that spells the label."""
    probabilities = torch.softmax(logits, -1).tolist()
    total = 0.0
    for path in itertools.product(range(len(probabilities[0])), repeat=len(probabilities)):
        spelt = [c for c, _ in itertools.groupby(path) if c]
        if spelt == label:
            total += math.prod(frame[c] for frame, c in zip(probabilities, path, strict=True))
    return -math.log(total)


@pytest.mark.parametrize("label", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_ctc_against_all_paths(label: list[int]) -> None:
    logits = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(len(label)))
    padded = torch.tensor([label + [0] * (4 - len(label))])
    loss = CtcLoss()(logits, {"label_ctc": padded, "length": torch.tensor([len(label)])})
    assert loss.item() == pytest.approx(brute_ctc(logits[0], label) / len(label), rel=1e-4)


def test_ctc_averages_characters_then_lines_and_bears_what_does_not_fit() -> None:
    logits = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[1, 2, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]])
    loss = CtcLoss()(logits, {"label_ctc": labels, "length": torch.tensor([2, 1, 4])})
    one, two = brute_ctc(logits[0].detach(), [1, 2]) / 2, brute_ctc(logits[1].detach(), [2])
    assert loss.item() == pytest.approx((one + two + 0) / 3, rel=1e-4)  # the last needs 7 frames
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[2].any()


def test_a_line_is_learnt() -> None:
    charset = Charset(list("abc"), use_space=False)
    logits = torch.zeros(1, 6, 4, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        CtcLoss()(logits, {"label_ctc": torch.tensor([[1, 2, 2]]), "length": torch.tensor([3])}).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert charset.decode(torch.softmax(logits[0], -1).detach().numpy())[0] == "abb"


def test_each_task_has_its_loss() -> None:
    assert isinstance(task_loss("det"), DbLoss)
    assert isinstance(task_loss("rec"), CtcLoss)
    assert task_loss("rec").needs == ("label_ctc", "length")


@pytest.mark.parametrize("kept", ["label", "label_ctc", None])
@pytest.mark.parametrize("encoder", [t.MultiLabelEncode(), t.CTCLabelEncode()])
def test_labels_teach_whichever_transform_encodes_them(tmp_path: Path, encoder: t.Transform, kept: str | None) -> None:
    """Files of older recognisers encode with CTCLabelEncode, which has another name for the same numbers."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((24, 40, 3), 9, np.uint8))
    sample = RecSample(tmp_path / "a.png", "ba", "s")
    chain = (t.DecodeImage("BGR"), encoder, t.RecResizeImg((3, 48, 64)))
    if kept == "label" and isinstance(encoder, t.MultiLabelEncode):
        kept = "label_ctc"  # its label stays a text
    if kept is not None:
        chain = (*chain, t.KeepKeys(("image", kept, "length")))
    (batch,) = labelled_batches(LabelledBatches([sample], Pipeline(chain, Charset(["a", "b"])), 1, 0), 0, 1)
    assert set(CtcLoss().needs) <= batch.targets.keys()
    assert batch.targets["label_ctc"][0, :3].tolist() == [2, 1, 0]


def test_batches_become_tensors(tmp_path: Path) -> None:
    samples = []
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((24, 40, 3), number, np.uint8))
        samples.append(RecSample(tmp_path / f"{number}.png", "ab", "s"))
    chain = (t.DecodeImage("BGR"), t.MultiLabelEncode(), t.RecResizeImg((3, 48, 64)))
    batches = LabelledBatches(samples, Pipeline(chain, Charset(["a", "b"])), 2, 0)
    found = list(labelled_batches(batches, 0, 3, 2))
    assert [len(batch.images) for batch in found] == [2, 2, 1]
    assert found[0].images.shape == (2, 3, 48, 64)
    assert found[0].targets["label_ctc"].dtype == torch.int64
    assert "img_path" not in found[0].targets
    loss = CtcLoss()(torch.randn(2, 8, 4), found[0].targets)
    assert math.isfinite(loss.item())
    # The last batch has one image: the second part of it begins again.
    parts = list(labelled_batches(batches, 0, 6, 2, parts=2))
    assert [len(part.images) for part in parts] == [1] * 6
    joined = torch.cat([part.images for part in parts])
    assert torch.equal(joined[:5], torch.cat([batch.images for batch in found]))
    assert torch.equal(joined[5], joined[4])
    later = list(labelled_batches(batches, 3, 2, parts=2))
    assert [torch.equal(one.images, other.images) for one, other in zip(later, parts[3:5], strict=True)] == [True, True]
    assert later[0].targets["length"].shape == (1,)


@pytest.mark.parametrize(("start", "count"), [(0, 0), (0, 1), (1, 1), (2, 5), (4, 3), (7, 9)])
def test_parts_are_counted_from_anywhere(tmp_path: Path, start: int, count: int) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((24, 40, 3), np.uint8))
    samples = [RecSample(tmp_path / "a.png", "ab"[: 1 + number % 2], "s") for number in range(7)]
    chain = (t.DecodeImage("BGR"), t.MultiLabelEncode(), t.RecResizeImg((3, 48, 64)))
    batches = LabelledBatches(samples, Pipeline(chain, Charset(["a", "b"])), 3, 0)
    every = [part.targets["length"].tolist() for part in labelled_batches(batches, 0, 20, parts=3)]
    assert len(every) == 20
    found = [part.targets["length"].tolist() for part in labelled_batches(batches, start, count, 1, parts=3)]
    assert found == every[start : start + count]


def test_the_robust_loss_is_that_of_lines_that_can_be_spelled() -> None:
    torch.manual_seed(3)
    logits = torch.randn(4, 3, 5, requires_grad=True)
    labels = [[1, 2], [3, 3, 0], [], [4]]  # the second needs a blank and two of class 3, then class 0: four frames
    lengths = [2, 3, 0, 1]
    padded = torch.tensor([[1, 2, 0], [3, 3, 3], [0, 0, 0], [4, 0, 0]])
    loss = RobustCtcLoss()(logits, {"label_ctc": padded, "length": torch.tensor(lengths)})
    likely = [
        sum(
            math.prod(torch.softmax(logits, -1)[line, frame, kind].item() for frame, kind in enumerate(path))
            for path in itertools.product(range(5), repeat=3)
            if [kind for kind, _ in itertools.groupby(path) if kind] == labels[line]
        )
        for line in (0, 3)
    ]
    assert loss.item() == pytest.approx(sum((1 - p**0.5) / 0.5 for p in likely) / 4, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[1:3].any()
    none = {"label_ctc": padded[1:3], "length": torch.tensor([3, 0])}
    assert RobustCtcLoss()(logits[1:3], none).item() == 0.0
