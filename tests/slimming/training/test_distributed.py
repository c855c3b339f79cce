"""Training in several processes: what they tell each other, the same weights for any split, and what loss leads to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.slimming.training.together import PROJECT, run, start

from ocrslim.errors import InputError
from ocrslim.slimming.training.distributed import ALONE, team_of

STEPS = 20


def found(out: Path, rank: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path(f"{out}.{rank}.json").read_text(encoding="utf-8"))
    return told


def trained(out: Path, count: int = 1, **told: object) -> dict[str, torch.Tensor]:
    """Train in so many processes and return the weights."""
    run(count, {"do": "training", "out": str(out), **told})
    return load_file(f"{out}.safetensors")


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def test_alone_everything_is_done_at_once() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    assert ALONE.average([parameter], {"loss": 2.0}) == {"loss": 2.0}
    assert parameter.grad.tolist() == [1.0, 1.0]
    assert ALONE.tell({"do": "it"}) == {"do": "it"}
    assert ALONE.gather(3) == [3]
    assert ALONE.gather_tensors({"a": parameter.grad})[0]["a"] is parameter.grad
    ALONE.part()
    with team_of({}) as team:
        assert team is ALONE


def test_a_rank_that_can_not_be_is_refused() -> None:
    told = {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    with pytest.raises(InputError, match="RANK is 2 and WORLD_SIZE 2"), team_of(told):
        pass


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_PORT"])
def test_what_is_no_number_is_refused(name: str) -> None:
    told = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    with pytest.raises(InputError, match=f"{name} is 'x', not a number"), team_of(told | {name: "x"}):
        pass


@pytest.mark.slow
def test_what_three_processes_tell_each_other(tmp_path: Path) -> None:
    run(3, {"do": "operations", "out": str(tmp_path / "a")}, agent=False)
    ranks = [found(tmp_path / "a", rank) for rank in range(3)]
    first = ranks[0]
    assert [rank.pop("tensors of all") for rank in ranks[1:]] == [[], []], "they are the first one's"
    assert first["tell"] == {"word": "of 0"}
    assert first["gather"] == [{"rank": rank, "long": "x" * rank} for rank in range(3)]
    assert first.pop("tensors of all") == [{"of 0": []}, {}, {"of 2": [2, 2]}]
    assert first["tensors"] == [[0, 1, 2], [3, 4, 5]]
    assert first["state"] == {"rank": 0}
    # Asked while the gradients were on the way: they were still each rank's own.
    assert [rank.pop("meanwhile") for rank in ranks] == [[[1.0, 10.0]], [[2.0, 20.0]], [[3.0, 30.0]]]
    assert ranks[0] == ranks[1] == ranks[2], "the same bits everywhere"
    # (1 + 2 + 3) / 3 of (1, 10); one rank's gradient of ones; nobody's stays none.
    assert first["gradients"] == [[2.0, 20.0], [pytest.approx(1 / 3)] * 2, None]
    assert first["figures"] == {"loss": 1.0}
    drawn = [torch.rand(1000, generator=torch.Generator().manual_seed(rank)) - 0.5 for rank in range(3)]
    mean = np.frombuffer(bytes.fromhex(first["many"]), np.float32)
    assert np.allclose(mean, torch.stack(drawn).mean(0).numpy(), atol=1e-7)
    run(3, {"do": "operations", "out": str(tmp_path / "b")})
    assert found(tmp_path / "b")["many"] == first["many"], "the same bits each time"


@pytest.mark.parametrize(
    ("observer", "count", "batches"),
    [
        ("output", 2, 3),
        pytest.param("output", 3, 2, marks=pytest.mark.slow),
        pytest.param("moving_average", 3, 4, marks=pytest.mark.slow),
    ],
)
def test_the_same_grids_for_any_split(tmp_path: Path, observer: str, count: int, batches: int) -> None:
    """Each looks at a part of the images, one of them perhaps at none; the bits are those of one that saw all."""
    told = {"do": "calibration", "observer": observer, "batches": batches}
    run(1, {**told, "out": str(tmp_path / "whole")})
    run(count, {**told, "out": str(tmp_path / "split")})
    whole, split = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "split"))
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[name], split[name]) for name in whole)
    assert found(tmp_path / "split")["samples"] == found(tmp_path / "whole")["samples"]
    assert not found(tmp_path / "split", 1)["samples"]
    run(1, {**told, "batches": 1, "out": str(tmp_path / "less")})
    assert furthest(whole, load_file(tmp_path / "less.safetensors")) > 0, "every image has to matter"


@pytest.mark.slow
def test_the_same_weights_for_any_split(tmp_path: Path) -> None:
    """Float64, 20 steps, a bound on the norm that is met: it has to be that of the mean of all gradients."""
    whole = trained(tmp_path / "whole", batch=4)
    split = trained(tmp_path / "split", 2, batch=2)
    assert furthest(whole, split) < 1e-9
    assert furthest(whole, trained(tmp_path / "parts", batch=2, accumulate=2)) < 1e-9
    assert furthest(whole, trained(tmp_path / "both", 2, batch=1, accumulate=2)) < 1e-9
    assert furthest(whole, trained(tmp_path / "free", batch=4, clip_norm=0.0)) > 1e-3, "the bound has to matter"
    shares = [found(tmp_path / "split", rank)["seen"] for rank in range(2)]
    assert shares == [list(range(0, 2 * STEPS, 2)), list(range(1, 2 * STEPS, 2))]
    both = [found(tmp_path / "both", rank)["seen"] for rank in range(2)]
    assert sorted(both[0] + both[1]) == list(range(4 * STEPS)), "every batch once"


@pytest.mark.slow
def test_a_recogniser_has_the_same_weights_for_any_split(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    told = {"model": str(zoo("PP-OCRv6_tiny_rec")), "rate": 5e-4}
    whole = trained(tmp_path / "whole", batch=4, **told)
    assert furthest(whole, trained(tmp_path / "split", 2, batch=2, **told)) < 1e-5
    assert furthest(whole, trained(tmp_path / "parts", batch=2, accumulate=2, **told)) < 1e-5
    assert furthest(whole, trained(tmp_path / "other", batch=4, clip_norm=1e-3, **told)) > 1e-5, "it has to learn"


def ended(processes: list[subprocess.Popen[str]], lost: int) -> list[str]:
    """Wait for the lost process, then for the others, which have 60 seconds; return what these said."""
    processes[lost].wait(timeout=300)
    until = time.monotonic() + 60
    said = []
    for rank, process in enumerate(processes):
        if rank != lost:
            said.append(process.communicate(timeout=max(0.1, until - time.monotonic()))[1])
            assert process.returncode == 1
    return said


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_lost_rank_is_named_and_the_run_goes_on_to_the_same_end(tmp_path: Path, lost: int) -> None:
    told = {"batch": 2, "folder": str(tmp_path / "checkpoints")}
    doing = {"do": "training", "out": str(tmp_path / "o"), **told}
    processes, _store = start(2, doing | {"die": [lost, 12]}, agent=bool(lost))
    said = ended(processes, lost)
    assert processes[lost].returncode == -signal.SIGKILL
    assert len(said[0].splitlines()) == 1, said
    assert f"rank {lost} (process {processes[lost].pid} on " in said[0]
    assert "was lost; the same command goes on from the last checkpoint" in said[0]
    again = trained(tmp_path / "again", 2, **told)
    assert found(tmp_path / "again")["resumed"]
    assert found(tmp_path / "again")["seen"][0] == 2 * (12 if lost else 10), "what was alone at the loss saved it"
    whole = trained(tmp_path / "whole", 2, batch=2)
    assert furthest(whole, again) == 0.0


@pytest.mark.slow
def test_what_hangs_is_named_too(tmp_path: Path) -> None:
    """A stopped process keeps its connections: only its beats tell."""
    processes, _store = start(2, {"do": "training", "out": str(tmp_path / "o"), "batch": 2, "hang": [1, 3]})
    try:
        said = processes[0].communicate(timeout=120)[1]
        assert processes[0].returncode == 1
        assert f"rank 1 (process {processes[1].pid} on " in said
        assert "has not answered for 30 seconds" in said
    finally:
        processes[1].kill()


def test_a_rank_that_ends_by_itself_has_said_why(tmp_path: Path) -> None:
    processes, _store = start(2, {"do": "training", "out": str(tmp_path / "o"), "batch": 2, "fail": [1, 3]})
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert said == ["", "ocrslim: a disk is full\n"]
    assert [process.returncode for process in processes] == [1, 1]


@pytest.mark.slow
def test_a_sum_on_its_way_to_what_hangs_keeps_nobody_from_ending(tmp_path: Path) -> None:
    """Rank 1 hangs before it has sent its gradients; rank 0 has, and fails as it looks ahead."""
    doing = {"do": "training", "out": str(tmp_path / "o"), "batch": 2, "hang": [1, 3], "fail": [0, 4]}
    processes, _store = start(2, doing)
    try:
        assert "has not answered for 30 seconds" in processes[0].communicate(timeout=120)[1]
        assert processes[0].returncode == 1
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_the_others_wait_for_rank_0(tmp_path: Path) -> None:
    """Rank 0 takes longer than a silent process may: it beats meanwhile, and nobody ends."""
    trained(tmp_path / "o", 2, batch=2, steps=3, slow_at=2, slow=40)
    assert found(tmp_path / "o", 1)["step"] == 3


@pytest.mark.slow
def test_torchrun_starts_them_again(tmp_path: Path) -> None:
    told = {"do": "training", "out": str(tmp_path / "o"), "batch": 2, "folder": str(tmp_path / "c"), "die": [1, 12]}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    command += ["--standalone", "-m", "tests.slimming.training.together", json.dumps(told)]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "was lost; the same command goes on" in done.stderr
    assert found(tmp_path / "o")["resumed"]
    whole = trained(tmp_path / "whole", 2, batch=2)
    assert furthest(whole, load_file(tmp_path / "o.safetensors")) == 0.0
