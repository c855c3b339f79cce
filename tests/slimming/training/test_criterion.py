"""The criterion of a PaddleSlim file: its formula, its parts, what has a gradient and what has none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from ocrslim.errors import InputError
from ocrslim.slimming.training.criterion import LabelledDistillation, NamedTerm, soft_label, spherical
from ocrslim.slimming.training.task_losses import CtcLoss, LabelledBatch


class Tiny(nn.Module):
    """Gives named values, as a graph does."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)))
        self.asked: list[tuple[str, ...]] = []

    def forward(self, x: Tensor, fetch: Sequence[str]) -> dict[str, Tensor]:
        self.asked.append(tuple(fetch))
        hidden = x.mean((2, 3))[:, None].expand(-1, 5, -1) * torch.arange(1.0, 6.0)[None, :, None]
        values = {"hidden": hidden, "logits": hidden @ self.scale}
        return {name: values[name] for name in fetch}


BATCH = LabelledBatch(
    torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    {"label_ctc": torch.tensor([[1, 2, 0], [3, 0, 0]]), "length": torch.tensor([2, 1])},
)


def test_the_loss_is_the_sum_of_its_terms() -> None:
    student, teacher = Tiny(0), Tiny(1)
    terms = [NamedTerm("skd", 0.5, ("logits",)), NamedTerm("l2", 2.0, ("logits", "hidden"))]
    loss, parts = LabelledDistillation(student, teacher, terms, "logits", CtcLoss(), 0.25)(BATCH)
    with torch.no_grad():
        a, b = (module(BATCH.images, ("logits", "hidden")) for module in (student, teacher))
        skd, squares = spherical(a["logits"], b["logits"]), ((a["logits"] - b["logits"]) ** 2).mean()
        labels = CtcLoss()(a["logits"], BATCH.targets)
    assert parts["skd"] == pytest.approx(skd.item(), rel=1e-5)
    assert parts["l2"] == pytest.approx(squares.item(), rel=1e-5)  # hidden is the same in both
    assert parts["labels"] == pytest.approx(labels.item(), rel=1e-5)
    assert loss.item() == pytest.approx((0.5 * skd + 2 * squares + 0.25 * labels).item(), rel=1e-5)
    assert parts["loss"] == loss.item()
    assert student.asked[0] == teacher.asked[0] == ("logits", "hidden")


def test_the_teachers_graph_may_call_the_logits_otherwise() -> None:
    class Other(Tiny):
        def forward(self, x: Tensor, fetch: Sequence[str]) -> dict[str, Tensor]:
            found = super().forward(x, ["logits" if name == "theirs" else name for name in fetch])
            return {name: found["logits" if name == "theirs" else name] for name in fetch}

    terms = [NamedTerm("l2", 1.0, ("logits", "hidden"))]
    usual, _ = LabelledDistillation(Tiny(0), Tiny(1), terms, "logits")(BATCH)
    named, _ = LabelledDistillation(Tiny(0), Other(1), terms, "logits", taught_logits="theirs")(BATCH)
    assert named.item() == usual.item()


def test_a_teacher_with_other_sizes_is_named_and_no_traceback() -> None:
    """Paddle numbers its values, so that models of other architectures have the same names for other things."""

    class Wider(Tiny):
        def forward(self, x: Tensor, fetch: Sequence[str]) -> dict[str, Tensor]:
            found = super().forward(x, fetch)
            return found | {"hidden": found["hidden"].repeat(1, 1, 2)} if "hidden" in found else found

    terms = [NamedTerm("l2", 1.0, ("logits", "hidden"), "x.yaml:7")]
    said = r"^x\.yaml:7: Distillation\.node hidden: is \[\d, 5, 6\] in the teacher and \[\d, 5, 3\] in the model; name"
    with pytest.raises(InputError, match=said):
        LabelledDistillation(Tiny(0), Wider(1), terms, "logits")(BATCH)


def test_the_student_learns_and_the_teacher_does_not() -> None:
    student, teacher = Tiny(0), Tiny(1)
    loss, _ = LabelledDistillation(student, teacher, [NamedTerm("l2", 1.0, ("logits",))], "logits")(BATCH)
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.scale.grad is not None
    assert student.scale.grad.any()
    assert teacher.scale.grad is None


def test_labels_alone_need_no_teacher() -> None:
    student, teacher = Tiny(0), Tiny(1)
    loss, parts = LabelledDistillation(student, teacher, [], "logits", CtcLoss())(BATCH)
    assert set(parts) == {"labels", "loss"}
    assert not teacher.asked
    assert loss.requires_grad


def test_batches_without_the_targets_are_distilled_only() -> None:
    bare = LabelledBatch(BATCH.images, {})
    terms = [NamedTerm("soft_label", 1.0, ("logits",))]
    _, parts = LabelledDistillation(Tiny(0), Tiny(1), terms, "logits", CtcLoss())(bare)
    assert set(parts) == {"soft_label", "loss"}


def test_equal_students_cost_nothing() -> None:
    terms = [NamedTerm("skd", 1.0, ("logits",)), NamedTerm("l2", 1.0, ("logits",))]
    loss, _ = LabelledDistillation(Tiny(0), Tiny(0), terms, "logits")(BATCH)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_spherical_by_hand_and_blind_to_the_norm() -> None:
    student = torch.tensor([[[2.0, 0.0, -2.0]]])
    teacher = torch.tensor([[[0.0, 3.0, 0.0]]])
    normal = [(value - value.mean()) / value.std(correction=0) for value in (student[0, 0], teacher[0, 0])]
    p, q = (torch.softmax(value * teacher.std(), -1) for value in normal)
    expected = (q * (q.log() - p.log())).sum()
    assert spherical(student, teacher).item() == pytest.approx(expected.item(), rel=1e-4)
    assert spherical(student * 7 + 3, teacher).item() == pytest.approx(expected.item(), rel=1e-4)
    assert spherical(teacher * 5 - 1, teacher).item() == pytest.approx(0, abs=1e-5)


def test_soft_labels_by_hand() -> None:
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = -(torch.softmax(teacher, -1) * torch.log_softmax(student, -1)).sum(-1).mean()
    assert soft_label(student, teacher).item() == pytest.approx(expected.item(), rel=1e-6)
    least = soft_label(teacher, teacher)
    assert soft_label(student, teacher) > least


def test_a_detectors_map_has_no_classes() -> None:
    student, teacher = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4)
    assert spherical(student, teacher).item() == pytest.approx(((student - teacher) ** 2).mean().item(), rel=1e-6)
    q, p = torch.sigmoid(teacher), torch.sigmoid(student)
    expected = -(q * p.log() + (1 - q) * (1 - p).log()).mean()
    assert soft_label(student, teacher).item() == pytest.approx(expected.item(), rel=1e-4)
