"""A training that goes on from its checkpoints ends in the same weights, wherever it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.slimming.training.linear import _same, _weights, batches, make, stopped_after
from torch import Tensor, nn

from ocrslim.errors import OcrslimError
from ocrslim.slimming.training.precision import FULL
from ocrslim.slimming.training.schedule import Schedule
from ocrslim.slimming.training.trainer import ParameterGroup, Score, Trainer, TrainSettings


def test_moments_of_a_resumed_run_lie_in_memory_as_those_of_a_whole_one(tmp_path: Path) -> None:
    """Else a sum over them takes another loop of torch, which may round otherwise."""

    def make_conv(steps: int) -> Trainer:
        torch.manual_seed(0)
        teacher, student = nn.Conv2d(3, 20, 3), nn.Conv2d(3, 20, 3)
        FULL.put(teacher, student)

        def criterion(images: Tensor) -> tuple[Tensor, dict[str, float]]:
            loss = (student(images) - teacher(images).detach()).square().mean()
            return loss, {"loss": loss.item()}

        settings = TrainSettings(steps, 0.01, judge_every=6, checkpoint_every=3)
        groups = [ParameterGroup("weights", (student.weight,))]
        return Trainer(student, groups, criterion, lambda: Score(0.0), settings, folder=tmp_path / f"{steps}")

    def images(start: int, count: int) -> Iterator[Tensor]:
        return (
            torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(n)) for n in range(start, start + count)
        )

    def halved(start: int, count: int) -> Iterator[Tensor]:
        yield from images(start, 3)
        raise KeyboardInterrupt

    whole = make_conv(6)
    whole.run(images)
    with pytest.raises(KeyboardInterrupt):
        make_conv(7).run(halved)
    again = make_conv(7)
    assert again.resume()
    again.settings = whole.settings  # six steps, as the other
    (moments,) = again.optimizer.state.values()
    assert all(moments[name].is_contiguous(memory_format=torch.channels_last) for name in ("exp_avg", "exp_avg_sq"))
    again.run(images)
    for name, value in whole.student.state_dict().items():
        assert torch.equal(again.student.state_dict()[name], value)


def test_a_resumed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    whole.run(batches)
    broken = make(tmp_path / "broken")

    def interrupted(start: int, count: int) -> Iterator[Tensor]:
        for index, batch in enumerate(batches(start, count)):
            if index == 37:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        broken.run(interrupted)
    again = make(tmp_path / "broken")
    assert again.resume()
    assert again.step == 30
    again.run(batches)
    for name, value in whole.student.state_dict().items():
        assert torch.equal(again.student.state_dict()[name], value)
    assert again.history == whole.history


def test_another_runs_checkpoints_are_refused(tmp_path: Path) -> None:
    make(tmp_path).run(batches)
    with pytest.raises(OcrslimError, match="other settings"):
        make(tmp_path, fingerprint="other").resume()


def test_checkpoints_of_a_student_with_other_parts_are_refused(tmp_path: Path) -> None:
    make(tmp_path).run(batches)
    other = make(tmp_path)
    other.student.register_buffer("factor", torch.ones(1))
    with pytest.raises(OcrslimError, match=r"another candidate of the climb; delete them"):
        other.resume()


def test_a_resumed_run_asks_only_for_the_batches_that_it_has_not_seen(tmp_path: Path) -> None:
    make(tmp_path, steps=20, accumulate=2).run(batches)
    longer = make(tmp_path, steps=30, accumulate=2)
    assert longer.resume()
    asked: list[tuple[int, int]] = []

    def stream(start: int, count: int) -> Iterator[Tensor]:
        asked.append((start, count))
        return batches(start, count)

    longer.run(stream)
    assert asked == [(40, 20)]


def test_a_finished_run_resumed_does_nothing_and_gives_its_best(tmp_path: Path) -> None:
    first = make(tmp_path)
    result = first.run(batches)
    again = make(tmp_path)
    assert again.resume()
    repeated = again.run(lambda start, count: pytest.fail("a batch was asked for"))
    assert (repeated.best_step, repeated.best, repeated.steps) == (result.best_step, result.best, 60)
    assert repeated.history == result.history
    assert _same(_weights(again), _weights(first))


def test_a_run_without_a_folder_keeps_nothing_and_resumes_nothing() -> None:
    trainer = make()
    assert not trainer.resume()
    trainer.run(batches)
    trainer.save()
    assert not trainer.resume()


def test_nothing_is_saved_before_the_first_look(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    trainer.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_optimisers_memory_survives_a_checkpoint(tmp_path: Path, optimizer: str) -> None:
    whole = make(steps=40, optimizer=optimizer)
    whole.run(batches)
    half = make(tmp_path, steps=40, optimizer=optimizer, checkpoint_every=20)

    with pytest.raises(KeyboardInterrupt):
        half.run(stopped_after(20))
    again = make(tmp_path, steps=40, optimizer=optimizer)
    assert again.resume()
    assert again.step == 20
    again.run(batches)
    assert _same(_weights(again), _weights(whole))


def test_saving_at_an_interrupt_loses_not_a_step(tmp_path: Path) -> None:
    whole = make(steps=30)
    whole.run(batches)
    half = make(tmp_path, steps=30)

    with pytest.raises(KeyboardInterrupt):
        half.run(stopped_after(17))
    half.save_interrupted()
    again = make(tmp_path, steps=30)
    assert again.resume()
    assert again.step == 17
    again.run(batches)
    assert _same(_weights(again), _weights(whole))


def test_an_interrupt_in_the_look_at_the_held_back_part_ends_in_the_same_file(tmp_path: Path) -> None:
    """The step is done and its look is not: what is saved there would never be looked at."""
    whole = make(steps=20)
    wanted = whole.run(batches)
    for stopped_at in (10, 20):
        folder = tmp_path / str(stopped_at)
        half = make(folder, steps=20, checkpoint_every=4)
        look = half.judge

        def judge(half: Trainer = half, look: Callable[[], Score] = look, stopped_at: int = stopped_at) -> Score:
            if half.step == stopped_at:
                raise KeyboardInterrupt
            return look()

        half.judge = judge
        with pytest.raises(KeyboardInterrupt):
            half.run(batches)
        half.save_interrupted()
        again = make(folder, steps=20)
        assert again.resume()
        assert again.step == {10: 8, 20: 16}[stopped_at]
        result = again.run(batches)
        assert (result.best_step, result.best, result.history) == (wanted.best_step, wanted.best, wanted.history)
        assert _same(_weights(again), _weights(whole))


def test_an_interrupt_in_the_middle_of_a_step_saves_nothing(tmp_path: Path) -> None:
    """Some weights have moved, others perhaps not: the step would be made twice."""
    half = make(tmp_path, steps=20, checkpoint_every=5)
    move = half.optimizer.step

    def step(*given: object, **named: object) -> object:
        moved = move(*given, **named)  # type: ignore[arg-type]
        if half.step == 7:
            raise KeyboardInterrupt
        return moved

    half.optimizer.step = step  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        half.run(batches)
    half.save_interrupted()
    again, whole = make(tmp_path, steps=20), make(steps=20)
    assert again.resume()
    assert again.step == 5
    again.run(batches)
    whole.run(batches)
    assert _same(_weights(again), _weights(whole))


def test_a_run_gives_up_at_a_look_and_not_where_it_was_interrupted(tmp_path: Path) -> None:
    """The step from which it may give up lies behind, the look that decides still ahead."""
    settings = {"steps": 40, "judge_every": 20, "checkpoint_every": 5, "give_up_at": 10}
    half = make(tmp_path, **settings)

    with pytest.raises(KeyboardInterrupt):
        half.run(stopped_after(16))
    half.save_interrupted()
    again = make(tmp_path, **settings)
    assert again.resume()
    assert again.step == 16
    assert again.run(batches).steps == 40
    hopeless = {**settings, "learning_rate": 1e3, "clip_norm": 0.0, "schedule": Schedule("constant")}
    make(tmp_path / "hopeless", **hopeless).run(batches)
    ended = make(tmp_path / "hopeless", **hopeless)
    assert ended.resume()
    assert ended.run(lambda start, count: pytest.fail("it had given up")).steps == 20


def test_a_damaged_newest_checkpoint_costs_only_its_own_steps(tmp_path: Path) -> None:
    whole = make(tmp_path)
    whole.run(batches)
    newest = max(tmp_path.iterdir())
    (newest / "state.json").write_text("{", encoding="utf-8")
    again = make(tmp_path)
    assert again.resume()
    assert again.step == 50
    again.run(batches)
    assert _same(_weights(again), _weights(whole))
