"""Criterion and judge on small modules that return named values as graphs do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from ocrslim.slimming.training.distillation import Distillation, DistillationSettings, TeacherJudge, distances
from ocrslim.slimming.training.losses import ctc_js, db_map_loss


class Rec(nn.Module):
    """[N, 3, H, W] -> logits [N, W, 5]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.neck = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor, fetch: Sequence[str]) -> dict[str, Tensor]:
        neck = self.neck(images).mean(2)
        values = {"neck": neck, "logits": self.head(neck.transpose(1, 2))}
        return {name: values[name] for name in fetch}


class Det(nn.Module):
    """[N, 3, H, W] -> logits [N, 1, H, W]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, images: Tensor, fetch: Sequence[str]) -> dict[str, Tensor]:
        return {name: self.layer(images) for name in fetch}


class Continued(Rec):
    """Remembers what it was told to go on from."""

    told: Mapping[str, Tensor] | None = None

    def forward(
        self, images: Tensor, fetch: Sequence[str], given: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        self.told = given
        return super().forward(images, fetch)


IMAGES = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("loss", ["auto", "ctc_kl", "skd", "l2"])
def test_a_copy_of_the_teacher_has_no_loss(loss: str) -> None:
    settings = DistillationSettings(loss=loss)  # type: ignore[arg-type]
    criterion = Distillation(Rec(1), Rec(1), "rec", "logits", ["neck"], settings)
    value, parts = criterion(IMAGES)
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert set(parts) == {"distillation", "feature", "loss"}


def test_parts_add_up_by_their_ratios() -> None:
    settings = DistillationSettings(kd_ratio=2.0, feature_ratio=0.5)
    _, parts = Distillation(Rec(1), Rec(2), "rec", "logits", ["neck"], settings)(IMAGES)
    assert parts["loss"] == pytest.approx(2.0 * parts["distillation"] + 0.5 * parts["feature"], rel=1e-5)


def test_without_a_feature_ratio_features_are_not_even_computed() -> None:
    criterion = Distillation(
        Rec(1), Rec(2), "rec", "logits", ["no such value"], DistillationSettings(feature_ratio=0.0)
    )
    assert set(criterion(IMAGES)[1]) == {"distillation", "loss"}


def test_the_student_goes_on_from_what_both_compute_alike() -> None:
    student, teacher = Continued(1), Rec(2)
    Distillation(student, teacher, "rec", "logits", [], DistillationSettings(), shared=("neck",))(IMAGES)
    assert student.told is not None
    assert torch.equal(student.told["neck"], teacher(IMAGES, fetch=["neck"])["neck"])
    Distillation(student, teacher, "rec", "logits", [], DistillationSettings())(IMAGES)
    assert student.told is None


@pytest.mark.parametrize(("module", "task"), [(Rec, "rec"), (Det, "det")])
def test_gradient_steps_bring_the_student_to_the_teacher(module, task) -> None:  # type: ignore[no-untyped-def]
    student, teacher = module(1), module(2)
    criterion = Distillation(student, teacher, task, "logits", [], DistillationSettings())
    judge = TeacherJudge(student, teacher, task, "logits", [IMAGES])
    before = judge()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        criterion(IMAGES)[0].backward()
        optimizer.step()
    after = judge()
    assert after.value > 0.1 * before.value  # both negative: at least ten times nearer
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_judge_gives_the_teacher_full_marks() -> None:
    for module, task, figure in ((Rec, "rec", "frame_agreement"), (Det, "det", "mask_iou")):
        score = TeacherJudge(module(3), module(3), task, "logits", [IMAGES, IMAGES])()  # type: ignore[arg-type]
        assert score.value == pytest.approx(0.0, abs=1e-4)  # the teacher is kept in half precision
        assert score.figures[figure] == 1.0


def test_the_judge_counts_frames_by_hand() -> None:
    student, teacher = Rec(1), Rec(2)
    score = TeacherJudge(student, teacher, "rec", "logits", [IMAGES])()
    with torch.no_grad():
        mine, theirs = (module(IMAGES, ("logits",))["logits"].argmax(-1) for module in (student, teacher))
    assert score.figures["frame_agreement"] == pytest.approx((mine == theirs).float().mean().item())


def test_the_distance_of_a_line_is_the_root_of_its_own_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 7, 5, generator=generator)
    answer = target + torch.tensor([0.0, 0.1, 3.0]).reshape(3, 1, 1) * torch.randn(3, 7, 5, generator=generator)
    found = distances("rec", answer, target)
    assert found.shape == (3,)
    assert found[0].item() == pytest.approx(0.0, abs=1e-3)
    for index in (1, 2):
        alone = ctc_js(answer[index : index + 1], target[index : index + 1])
        assert found[index].item() == pytest.approx(alone.sqrt().item(), rel=1e-5)


def test_the_distance_of_a_page_is_the_loss_on_its_map() -> None:
    generator = torch.Generator().manual_seed(0)
    target, answer = torch.randn(2, 2, 1, 8, 8, generator=generator)
    found = distances("det", answer, target)
    assert found.tolist() == pytest.approx([db_map_loss(answer[i : i + 1], target[i : i + 1]).item() for i in (0, 1)])
