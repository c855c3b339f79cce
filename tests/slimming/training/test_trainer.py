"""The trainer on a problem with a known answer: a linear student of a linear teacher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.slimming.training.linear import _same, _weights, batches, make, stopped_after
from torch import Tensor, nn

from ocrslim.errors import OcrslimError
from ocrslim.slimming.training.distributed import Team
from ocrslim.slimming.training.schedule import Schedule
from ocrslim.slimming.training.trainer import ParameterGroup, Score, Trainer


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_it_learns(optimizer: str) -> None:
    trainer = make(optimizer=optimizer)
    result = trainer.run(batches)
    assert result.best.value > 0.2 * result.history[0]["score"]
    assert result.steps == 60
    assert [line["step"] for line in result.history] == [0, 10, 20, 30, 40, 50, 60]


def test_it_never_ends_worse_than_it_began() -> None:
    trainer = make(learning_rate=1e3, clip_norm=0.0, schedule=Schedule("constant"))
    before = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    result = trainer.run(batches)
    assert result.best_step == 0
    assert all(torch.equal(before[name], value) for name, value in trainer.student.state_dict().items())


def test_a_run_that_finds_nothing_better_may_give_up() -> None:
    hopeless = make(learning_rate=1e3, clip_norm=0.0, schedule=Schedule("constant"), give_up_at=25)
    assert hopeless.run(batches).steps == 30  # the first look from there on
    assert make(give_up_at=25).run(batches).steps == 60


def test_only_what_learns_gets_gradients() -> None:
    trainer = make(steps=1)
    student = trainer.student
    assert isinstance(student, nn.Linear)
    before = student.weight.detach().clone()
    only = Trainer(student, trainer.groups[1:], trainer.criterion, trainer.judge, trainer.settings)
    only.run(batches)
    assert student.weight.grad is None
    assert student.bias.grad is not None
    assert torch.equal(student.weight, before)


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    trainer = make()
    trainer.criterion = lambda images: (torch.tensor(float("nan"), requires_grad=True), {"loss": float("nan")})
    with pytest.raises(OcrslimError, match=r"step 0.*learning-rate"):
        trainer.run(batches)


def test_accumulation_equals_one_large_batch() -> None:
    def halves(start: int, count: int) -> Iterator[Tensor]:
        for index in range(start, start + count):
            (whole,) = batches(index // 2, 1)
            yield whole[:4] if index % 2 == 0 else whole[4:]

    one, two = make(steps=20), make(steps=20, accumulate=2)
    one.run(batches)
    two.run(halves)
    for name, value in one.student.state_dict().items():
        assert torch.allclose(two.student.state_dict()[name], value, atol=1e-5)


def test_zero_steps_only_judge() -> None:
    result = make(steps=0).run(batches)
    assert result.best_step == 0
    assert len(result.history) == 1


def test_groups_learn_at_their_own_rate() -> None:
    trainer = make(steps=1, clip_norm=0.0, optimizer="sgd", schedule=Schedule("constant"))
    trainer.run(batches)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.05, 0.1]


def test_the_best_is_kept_when_later_steps_are_worse() -> None:
    trainer = make(steps=40)
    scores = iter([1.0, 2.0, 5.0, 3.0, 4.0])
    seen: list[dict[str, Tensor]] = []

    def judge() -> Score:
        seen.append(_weights(trainer))
        return Score(next(scores), {"agreement": 0.5})

    trainer.judge = judge
    result = trainer.run(batches)
    assert (result.best_step, result.best.value, result.steps) == (20, 5.0, 40)
    assert _same(_weights(trainer), seen[2])
    assert not _same(seen[2], seen[4])
    assert [line["score"] for line in result.history] == [1.0, 2.0, 5.0, 3.0, 4.0]
    assert all(line["agreement"] == 0.5 for line in result.history)


def test_of_two_equal_scores_the_earlier_is_kept() -> None:
    trainer = make(steps=20)
    trainer.judge = lambda: Score(1.0)
    assert trainer.run(batches).best_step == 0


def test_a_judge_that_finds_no_number_never_wins() -> None:
    trainer = make(steps=30)
    scores = iter([1.0, float("nan"), 2.0, float("nan")])
    trainer.judge = lambda: Score(next(scores))
    result = trainer.run(batches)
    assert (result.best_step, result.best.value) == (20, 2.0)


def test_a_first_score_that_is_no_number_is_left_behind() -> None:
    trainer = make(steps=30)
    scores = iter([float("nan"), float("nan"), 2.0, 1.0])
    trainer.judge = lambda: Score(next(scores), {"agreement": float("nan")})
    result = trainer.run(batches)
    assert (result.best_step, result.best.value) == (20, 2.0)
    assert [line.get("score") for line in result.history] == [None, None, 2.0, 1.0]
    assert all("agreement" not in line for line in result.history)  # JSON has no such number


def test_scores_that_are_never_a_number_are_an_error() -> None:
    trainer = make(steps=10)
    trainer.judge = lambda: Score(float("nan"))
    with pytest.raises(OcrslimError, match=r"after 10 steps .* try another --observer"):
        trainer.run(batches)


def test_it_stops_where_the_score_is_reached() -> None:
    trainer = make(steps=60)
    scores = iter([0.1, 0.2, 0.5, 0.9])
    trainer.judge, trainer.stop_at = lambda: Score(next(scores)), 0.5
    result = trainer.run(batches)
    assert (result.steps, result.best_step, result.best.value) == (20, 20, 0.5)
    already = make(steps=60)
    already.judge, already.stop_at = lambda: Score(0.5), 0.5
    assert already.run(batches).steps == 0


def test_the_optimiser_is_the_one_asked_for_and_decays_what_may_decay() -> None:
    trainer = make(steps=1, optimizer="sgd", weight_decay=0.1)
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.1


def test_a_batch_may_be_anything_that_the_criterion_takes() -> None:
    trainer, usual = make(steps=10), make(steps=10)
    criterion = trainer.criterion
    trainer.criterion = lambda batch: criterion(batch["images"])
    trainer.run(lambda start, count: [{"images": batch} for batch in batches(start, count)])
    usual.run(batches)
    assert _same(_weights(trainer), _weights(usual))


def test_the_student_is_judged_as_it_will_run() -> None:
    trainer = make(steps=10)
    modes: list[tuple[str, bool]] = []
    criterion = trainer.criterion

    def note(images: Tensor) -> tuple[Tensor, dict[str, float]]:
        modes.append(("train", trainer.student.training))
        return criterion(images)

    def judge() -> Score:
        modes.append(("judge", trainer.student.training))
        return Score(0.0)

    trainer.criterion, trainer.judge = note, judge
    trainer.run(batches)
    assert modes == [("judge", False), *[("train", True)] * 10, ("judge", False)]


@pytest.mark.parametrize(("clip", "length"), [(0.5, 0.5), (1e6, None), (0.0, None)])
def test_the_gradients_norm_is_bound_over_all_groups(clip: float, length: float | None) -> None:
    """One step of SGD without momentum so far moves each group by its rate times its share of the gradient."""
    trainer = make(steps=1, clip_norm=clip, optimizer="sgd", learning_rate=1.0, schedule=Schedule("constant"))
    criterion = trainer.criterion
    trainer.criterion = lambda images: ((found := criterion(images))[0] * 1000, found[1])
    before = _weights(trainer)
    trainer.judge = lambda: Score(float(trainer.step))
    trainer.run(batches)
    after = trainer.student.state_dict()
    moved = [(after["weight"] - before["weight"]).flatten(), (after["bias"] - before["bias"]) / 2.0]  # its factor
    norm = torch.cat(moved).norm().item()
    if length is None:
        assert norm > 100
    else:
        assert norm == pytest.approx(length, rel=1e-3)


def test_accumulated_figures_are_means_and_batches_come_in_order() -> None:
    trainer = make(steps=4, accumulate=3)
    values = iter(range(100))

    def criterion(images: Tensor) -> tuple[Tensor, dict[str, float]]:
        return trainer.student(images).square().mean(), {"part": float(next(values))}

    asked: list[tuple[int, int]] = []

    def stream(start: int, count: int) -> Iterator[Tensor]:
        asked.append((start, count))
        return batches(start, count)

    told: list[float] = []
    trainer.criterion = criterion
    trainer.progress = lambda done, total, figures: told.append(figures["part"])
    trainer.run(stream)
    assert asked == [(0, 12)]
    assert told == pytest.approx([1.0, 4.0, 7.0, 10.0])


def test_weight_decay_spares_the_groups_that_ask_for_it() -> None:
    trainer = make(steps=1, weight_decay=0.1)
    weight, bias = trainer.student.weight, trainer.student.bias
    groups = [ParameterGroup("w", (weight,)), ParameterGroup("scales", (bias,), 3.0, weight_decay=False)]
    other = Trainer(trainer.student, groups, trainer.criterion, trainer.judge, trainer.settings)
    assert [group["weight_decay"] for group in other.optimizer.param_groups] == [0.1, 0.0]


def test_groups_without_parameters_are_dropped_and_the_rest_learns() -> None:
    trainer = make(steps=10)
    groups = [ParameterGroup("none", ()), ParameterGroup("weights", (trainer.student.weight,))]
    other = Trainer(trainer.student, groups, trainer.criterion, trainer.judge, trainer.settings)
    before = _weights(other)
    other.run(batches)
    assert [group.name for group in other.groups] == ["weights"]
    assert torch.equal(other.student.bias, before["bias"])  # in no group
    assert not torch.equal(other.student.weight, before["weight"])


def test_the_rate_follows_the_schedule() -> None:
    trainer = make(steps=20, learning_rate=1.0, schedule=Schedule("cosine", warmup=5), optimizer="sgd")
    rates: list[float] = []
    trainer.progress = lambda done, total, figures: rates.append(figures["learning_rate"])
    trainer.run(batches)
    expected = [Schedule("cosine", warmup=5).factor(step, 20) for step in range(20)]
    assert rates == pytest.approx(expected)
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates[0] < 0.5
    assert rates[-1] < 0.1


def test_progress_is_told_after_each_step() -> None:
    trainer = make(steps=3)
    told: list[tuple[int, int, bool]] = []
    trainer.progress = lambda done, total, figures: told.append((done, total, "loss" in figures))
    trainer.run(batches)
    assert told == [(1, 3, True), (2, 3, True), (3, 3, True)]


def test_too_few_batches_are_not_taken_for_the_end() -> None:
    trainer = make(steps=10)
    with pytest.raises((StopIteration, OcrslimError)):
        trainer.run(lambda start, count: batches(start, 4))


class Together(Team):
    """Two processes of which the other one has the same batches: the mean is what this one has."""

    def average(self, *given: Any, **_: Any) -> dict[str, float]:
        _parameters, figures, meanwhile = given
        meanwhile()
        return dict(figures)

    def share(self, *given: Any, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, state = given
        return tensors, state


class Taught:
    """A criterion that can ask its teacher alone, and notes when it was asked and when the student learnt."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student, self.teacher = student, teacher
        self.said: list[str] = []

    def teach(self, batch: Tensor) -> Tensor:
        self.said.append("taught")
        return self.teacher(batch).detach()

    def __call__(self, batch: Tensor, taught: Tensor) -> tuple[Tensor, dict[str, float]]:
        self.said.append("learnt")
        loss = (self.student(batch) - taught).square().mean()
        return loss, {"loss": loss.item()}


def make_taught(team: Team, **settings: Any) -> tuple[Trainer, Taught]:
    trainer = make(**settings)
    torch.manual_seed(5)
    trainer.criterion = criterion = Taught(trainer.student, nn.Linear(3, 2))
    trainer.team = team
    return trainer, criterion


@pytest.mark.parametrize("accumulate", [1, 2])
def test_with_others_the_teacher_is_asked_while_the_gradients_are_on_the_way(accumulate: int) -> None:
    trainer, criterion = make_taught(Together(0, 2), steps=3, accumulate=accumulate)
    alone, usual = make_taught(Team(), steps=3, accumulate=accumulate)
    for each in (trainer, alone):
        each.run(batches)
    assert usual.said == ["taught", "learnt"] * 3 * accumulate
    # At the end of a step, before the student has changed, the next batch is taught; after the last there is none.
    step = ["learnt", *["taught", "learnt"] * (accumulate - 1)]
    assert criterion.said == ["taught", *step, "taught", *step, "taught", *step]
    for name, value in alone.student.state_dict().items():
        assert torch.equal(value, trainer.student.state_dict()[name])


def test_a_batch_that_was_looked_at_ahead_is_not_lost_by_an_interrupt(tmp_path: Path) -> None:
    whole, _ = make_taught(Together(0, 2), folder=tmp_path / "whole")
    whole.run(batches)
    stopped, _ = make_taught(Together(0, 2), folder=tmp_path / "part")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stopped_after(23))  # of which the last was only looked at
    stopped.save_interrupted()
    resumed, _ = make_taught(Together(0, 2), folder=tmp_path / "part")
    assert resumed.resume()
    assert resumed.step == 22
    resumed.run(batches)
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name])
