"""What the processes of the tests of distributed training run: ``python -m tests.slimming.training.together JSON``.

The JSON says what to do; see the functions. Each process writes what it found to ``out``, with its rank in the name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.slimming.quantization.conftest import network
from torch import Tensor, nn
from torch.distributed import TCPStore

from ocrslim.engines.targets import get_target
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.learning import scales_and_biases
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.training.distillation import Distillation, DistillationSettings
from ocrslim.slimming.training.distributed import Team, team_of
from ocrslim.slimming.training.prefetch import Shard
from ocrslim.slimming.training.schedule import Schedule
from ocrslim.slimming.training.trainer import Score, Trainer, TrainSettings

PROJECT = Path(__file__).resolve().parents[3]


def start(count: int, told: Mapping[str, Any], agent: bool = True) -> tuple[list[subprocess.Popen[str]], TCPStore]:
    """Start processes as ``--devices`` does; with ``agent`` the store is held here, else by rank 0."""
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    port = store.port
    if not agent:
        store = None
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    environment |= {"TORCHELASTIC_USE_AGENT_STORE": str(agent), "TORCH_CPP_LOG_LEVEL": "FATAL"}
    command = [sys.executable, "-m", "tests.slimming.training.together", json.dumps(told)]
    running = [
        subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    return running, store


def run(count: int, told: Mapping[str, Any], agent: bool = True) -> list[str]:
    """Run processes to their end, which has to be a good one; return what each wrote to stderr."""
    running, _store = start(count, told, agent)
    said = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0] * count, said
    return said


def operations(team: Team, told: Mapping[str, Any]) -> dict[str, Any]:
    """Do each operation once and return what came of it."""
    rank = team.rank
    parameters = [nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(3)]
    parameters[0].grad = torch.tensor([1.0, 10.0], dtype=torch.float64) * (rank + 1)
    if rank == 0:
        parameters[1].grad = torch.ones(2, dtype=torch.float64)
    own = parameters[0]
    seen: list[Any] = []
    figures = team.average(
        parameters, {"loss": float(rank)}, lambda: seen.append(own.grad.tolist() if own.grad is not None else None)
    )
    many = nn.Parameter(torch.zeros(1000))
    many.grad = torch.rand(1000, generator=torch.Generator().manual_seed(rank)) - 0.5
    team.average([many], {})
    assert many.grad is not None
    tensors, state = team.share({"a": torch.arange(6).reshape(2, 3) * (rank == 0)}, {"rank": rank})
    return {
        "meanwhile": seen,
        "tell": team.tell({"word": f"of {rank}"}),
        "tensors of all": [
            {name: tensor.tolist() for name, tensor in found.items()}
            for found in team.gather_tensors({f"of {rank}": torch.full((rank,), rank)} if rank != 1 else {})
        ],
        "gather": team.gather({"rank": rank, "long": "x" * rank}),
        "gradients": [None if p.grad is None else p.grad.tolist() for p in parameters],
        "many": many.grad.numpy().tobytes().hex(),
        "figures": figures,
        "tensors": tensors["a"].tolist(),
        "state": state,
    }


def trainer_of(team: Team, told: Mapping[str, Any]) -> Trainer:
    """Return a trainer, in float64, of the small network or of the recogniser that ``model`` names."""
    target = get_target("openvino")
    graph = canonicalize(load_onnx(Path(told["model"]))) if "model" in told else network()
    value = distillation_points(graph).logits if "model" in told else "y"
    teacher = GraphModule(graph).eval().double()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    if team.leads:  # what the others have is made good when the training begins
        calibrate(quantization, [images(0, 2, told).float()], "minmax")
    student = quantization.module.double()
    settings = DistillationSettings(loss="l2", feature_ratio=0.0)
    criterion = Distillation(student, teacher, "rec", value, (), settings)
    trainer = Trainer(
        student,
        scales_and_biases(quantization),
        criterion,
        lambda: Score(0.0),
        TrainSettings(
            told.get("steps", 20),
            told.get("rate", 0.01),
            accumulate=told.get("accumulate", 1),
            schedule=Schedule("cosine", warmup=3),
            clip_norm=told.get("clip_norm", 0.05),
            judge_every=5,
            checkpoint_every=5,
        ),
        folder=Path(told["folder"]) if "folder" in told else None,
        fingerprint=json.dumps({"processes": team.size}),
        team=team,
    )
    trainer.judge = lambda: Score(float(trainer.step))  # the last weights are compared, so they are the best
    return trainer


def images(index: int, batch: int, told: Mapping[str, Any]) -> Tensor:
    """Return batch ``index`` of the endless stream, each image a function of its place in it."""
    size = (3, 48, 96) if "model" in told else (3, 16, 16)
    return torch.stack(
        [
            torch.rand(size, generator=torch.Generator().manual_seed(place), dtype=torch.float64)
            for place in range(index * batch, (index + 1) * batch)
        ]
    )


def training(team: Team, told: Mapping[str, Any]) -> dict[str, Any]:
    """Train the small network.

    ``die`` and ``hang`` are [rank, step], at which a process kills or stops itself as its student learns; ``fail`` is
    [rank, batch], which can't be read.
    """
    trainer = trainer_of(team, told)
    shard = Shard(team.rank, team.size, told.get("accumulate", 1))
    seen: list[int] = []

    def batches(start: int, count: int) -> Iterator[Tensor]:
        for index in range(start, start + count):
            if told.get("fail") == [team.rank, index]:
                raise OcrslimError("a disk is full")
            if index == told.get("slow_at") and team.leads:
                time.sleep(told["slow"])
            seen.append(shard.place(index))
            yield images(shard.place(index), told["batch"], told)

    def end(*_: object) -> None:
        for what, number in (("die", signal.SIGKILL), ("hang", signal.SIGSTOP)):
            if told.get(what) == [team.rank, trainer.step] and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
                os.kill(os.getpid(), number)

    trainer.student.register_forward_pre_hook(end)
    resumed = trainer.resume()
    try:
        trainer.run(batches)
    except OcrslimError:
        trainer.save()
        raise
    if team.leads:
        save_file(trainer.student.state_dict(), f"{told['out']}.safetensors")
    return {"seen": seen, "resumed": resumed, "step": trainer.step}


def calibration(team: Team, told: Mapping[str, Any]) -> dict[str, Any]:
    """Calibrate the small network; rank 0 writes what came of it, the others had other grids before."""
    target, graph = get_target("openvino"), network()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    batches = [images(index, 2, told).float() * (1.0 + index) for index in range(told["batches"])]
    samples = calibrate_fully(quantization, batches, told["observer"], 0, {} if told.get("sampled") else None, team)
    if team.leads:
        save_file(quantization.module.state_dict(), f"{told['out']}.safetensors")
    return {"samples": {node: len(rows) for node, rows in samples.items()}}


def main() -> int:
    """Do what the argument says, as the command line would."""
    told = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    try:
        with team_of() as team:
            do = {"operations": operations, "training": training, "calibration": calibration}[told["do"]]
            found = do(team, told)
    except OcrslimError as error:
        if not getattr(error, "told", False):
            sys.stderr.write(f"ocrslim: {error}\n")
        return 1
    Path(f"{told['out']}.{team.rank}.json").write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
