"""Losses: pinned values in closed form, zero for a perfect student, gradient into the student alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.slimming import parts
from ocrslim.slimming.training import losses
from ocrslim.slimming.training.losses import ctc_frame_weights, ctc_js, ctc_kl, db_map_loss, feature_l2, l2, skd


def logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


@pytest.mark.parametrize(
    "loss",
    [l2, feature_l2, skd, ctc_kl, ctc_js],
    ids=["l2", "feature_l2", "skd", "ctc_kl", "ctc_js"],
)
def test_a_perfect_student_costs_nothing(loss) -> None:  # type: ignore[no-untyped-def]
    teacher = torch.randn(2, 7, 5, dtype=torch.float64)
    assert loss(teacher.clone(), teacher).item() == pytest.approx(0.0, abs=1e-12)


def test_a_perfect_map_costs_nothing() -> None:
    teacher = torch.randn(2, 1, 8, 8, dtype=torch.float64) * 4
    # the dice term of two equal soft maps is exactly 0 by its definition with squared sums
    assert db_map_loss(teacher.clone(), teacher).item() == pytest.approx(0.0, abs=1e-9)


def test_skd_is_the_kl_divergence() -> None:
    teacher, student = logits(0.5, 0.25, 0.25), logits(0.25, 0.25, 0.5)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(1.0) + 0.25 * math.log(0.25 / 0.5)
    assert skd(student[None, None], teacher[None, None]).item() == pytest.approx(expected)


def test_skd_agrees_with_torch_at_any_temperature() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, 9, dtype=torch.float64), torch.randn(3, 4, 9, dtype=torch.float64)
    for temperature in (0.5, 1.0, 4.0):
        p, q = F.log_softmax(teacher / temperature, -1), F.log_softmax(student / temperature, -1)
        expected = F.kl_div(q, p, log_target=True, reduction="sum") / 12 * temperature**2
        assert skd(student, teacher, temperature).item() == pytest.approx(expected.item())


@given(shift=st.floats(-50, 50))
@settings(deadline=None, max_examples=20)
def test_skd_ignores_a_constant_added_to_logits(shift: float) -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(1, 3, 6, dtype=torch.float64), torch.randn(1, 3, 6, dtype=torch.float64)
    assert skd(student + shift, teacher).item() == pytest.approx(skd(student, teacher).item(), rel=1e-6)


def test_blank_frames_weigh_little_but_not_nothing() -> None:
    teacher = torch.stack([logits(0.98, 0.01, 0.01), logits(0.2, 0.7, 0.1)])[None]
    weights = ctc_frame_weights(teacher, blank_weight=0.1)
    assert weights.tolist() == [[pytest.approx(0.1), pytest.approx(0.8)]]


def test_ctc_kl_looks_at_the_characters() -> None:
    blank, character = logits(0.98, 0.01, 0.01), logits(0.01, 0.98, 0.01)
    wrong = logits(0.01, 0.01, 0.98)
    teacher = torch.stack([*[blank] * 9, character])[None]
    wrong_character = torch.stack([*[blank] * 9, wrong])[None]
    wrong_blank = torch.stack([wrong, *[blank] * 8, character])[None]
    assert ctc_kl(wrong_character, teacher) > 5 * ctc_kl(wrong_blank, teacher)


def test_all_weights_zero_gives_zero_not_nan() -> None:
    student, teacher = torch.randn(1, 2, 3), torch.randn(1, 2, 3)
    assert skd(student, teacher, weights=torch.zeros(1, 2)).item() == 0.0


def test_feature_loss_is_in_units_of_the_teachers_variance() -> None:
    torch.manual_seed(2)
    teacher = torch.randn(4, 8)
    student = teacher + 0.1 * torch.randn(4, 8)
    assert feature_l2(student * 100, teacher * 100).item() == pytest.approx(
        feature_l2(student, teacher).item(), rel=1e-4
    )
    assert math.isfinite(feature_l2(torch.ones(3), torch.zeros(3)).item())


def test_a_missed_text_pixel_costs_more_than_a_false_one() -> None:
    teacher = torch.full((1, 1, 8, 8), -8.0, dtype=torch.float64)
    teacher[..., :2] = 8.0
    missed, false = teacher.clone(), teacher.clone()
    missed[..., 0, 0] = -8.0
    false[..., 7, 7] = 8.0
    assert db_map_loss(missed, teacher) > db_map_loss(false, teacher) > 0


@pytest.mark.parametrize("loss", [l2, feature_l2, skd, ctc_kl, db_map_loss])
def test_only_the_student_learns(loss) -> None:  # type: ignore[no-untyped-def]
    student = torch.randn(1, 4, 6, requires_grad=True)
    teacher = torch.randn(1, 4, 6, requires_grad=True)
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [skd, ctc_kl, db_map_loss, feature_l2])
def test_gradients_match_finite_differences(loss) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(3)
    teacher = torch.randn(1, 3, 4, dtype=torch.float64)
    student = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: loss(value, teacher), (student,))


@pytest.mark.parametrize("values_at_a_time", [7, 1 << 40])
def test_the_feature_loss_and_its_gradient_are_those_of_its_formula(
    values_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "IN_CACHE", values_at_a_time)
    torch.manual_seed(5)
    teacher = torch.randn(2, 1, 6, 8, dtype=torch.float64) * 4
    student = (teacher + torch.randn(2, 1, 6, 8, dtype=torch.float64)).requires_grad_()
    plain = ((student - teacher) ** 2).mean() / teacher.var(unbiased=False)
    found = feature_l2(student, teacher)
    assert found.item() == pytest.approx(plain.item(), rel=1e-9)
    gradients = [torch.autograd.grad(3.0 * loss, student)[0] for loss in (found, plain)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [db_map_loss, feature_l2])
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_losses_of_maps_work_in_half_types(loss, half: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(6)
    teacher = torch.randn(1, 1, 8, 8)
    student = (teacher + 0.5 * torch.randn(1, 1, 8, 8)).to(half).requires_grad_()
    value = loss(student, teacher.to(half))
    value.backward()
    assert value.item() == pytest.approx(loss(student.detach().float(), teacher).item(), rel=0.05)
    assert student.grad is not None
    assert student.grad.dtype == half


def plain_js(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The divergence as its formula is written, of all frames at once."""
    p, q = torch.softmax(teacher, -1), torch.softmax(student, -1)
    m = (p + q) / 2
    divergence = 0.5 * (p * (p / m).log() + q * (q / m).log()).sum(-1)
    weights = (1 - p[..., 0]).clamp_min(0.1)
    return (divergence * weights).sum() / weights.sum()


@pytest.mark.parametrize("frames_at_a_time", [1, 3, 100])
def test_the_js_divergence_and_its_gradient_are_those_of_its_formula(
    frames_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    monkeypatch.setattr(losses, "IN_CACHE", 6 * frames_at_a_time)
    teacher = torch.randn(2, 5, 6, dtype=torch.float64)
    student = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    twin = student.detach().clone().requires_grad_()
    found, expected = ctc_js(student, teacher), plain_js(twin, teacher)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)  # the frames' weights are of single precision
    (0.25 * found).backward()  # a part of a step: its loss is shared
    (0.25 * expected).backward()
    assert student.grad is not None
    assert torch.allclose(student.grad, twin.grad, rtol=1e-5, atol=1e-9)


def test_the_js_divergence_passes_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    monkeypatch.setattr(losses, "IN_CACHE", 8)
    teacher = torch.randn(1, 3, 4, dtype=torch.float64)
    student = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ctc_js(x, teacher), (student,))


def test_frames_at_a_time_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    teacher, answer = torch.randn(3, 40, 700), torch.randn(3, 40, 700)
    found = []
    for size in (700 * 7, 1 << 40):
        monkeypatch.setattr(losses, "IN_CACHE", size)
        student = answer.clone().requires_grad_()
        loss = ctc_js(student, teacher)
        loss.backward()
        found.append((loss.detach(), student.grad, ctc_frame_weights(teacher)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_js_divergence_works_in_half_types() -> None:
    torch.manual_seed(6)
    teacher, answer = torch.randn(2, 9, 50), torch.randn(2, 9, 50)
    whole = answer.clone().requires_grad_()
    ctc_js(whole, teacher).backward()
    half = answer.to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ctc_js(half, teacher.to(torch.bfloat16))
    loss.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert torch.allclose(half.grad.float(), whole.grad, atol=2e-4)


def test_the_js_divergence_gives_the_teacher_no_gradient() -> None:
    teacher = torch.randn(1, 2, 5, requires_grad=True)
    student = torch.randn(1, 2, 5, requires_grad=True)
    ctc_js(student, teacher).backward()
    assert teacher.grad is None
    with torch.no_grad():
        assert not ctc_js(student, teacher).requires_grad


def test_the_js_divergence_of_sure_models_is_finite() -> None:
    """Of most classes both are surer than a float can say: p + q is 0 there, and counts nothing."""
    teacher, student = torch.full((1, 2, 5), -200.0), torch.full((1, 2, 5), -200.0)
    teacher[..., 1], student[0, 0, 1], student[0, 1, 2] = 200.0, 200.0, 200.0
    student.requires_grad_()
    loss = ctc_js(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * math.log(2), rel=1e-6)  # one frame of two is as far as can be
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def test_a_small_gradient_of_the_js_divergence_outlives_a_half_type() -> None:
    """Of a loss that a gradient scaler has multiplied: 2e-8 of a class would be 0 before that, and is not behind it."""
    torch.manual_seed(7)
    teacher, answer = torch.randn(1, 50, 3000), torch.randn(1, 50, 3000)
    half = answer.half().requires_grad_()
    (ctc_js(half, teacher.half()).float() * 2.0**14).backward()
    whole = answer.half().float().requires_grad_()
    (ctc_js(whole, teacher.half().float()) * 2.0**14).backward()
    assert half.grad is not None
    assert whole.grad is not None
    small = (whole.grad / 2.0**14).abs() < 2.0**-25
    assert int(small.sum()) > 1_000
    assert torch.allclose(half.grad.float(), whole.grad, rtol=2e-3, atol=1e-7)
