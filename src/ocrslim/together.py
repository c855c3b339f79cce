"""How several processes share one ``ocrslim compress``: rank 0 climbs the ladder, the others train with it.

Every rung but training is rank 0's: calibration's closed forms, evaluation in the engine, all files and all that is
shown. The others open the same model and data, then wait for a word: that a training begins, which they join, or that
there is none any more. What they train they are given when it begins (:meth:`.Trainer.run`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from ocrslim.atomic import output_folder
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.scene import Scene
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, prepare
from ocrslim.slimming.training.distributed import Team
from ocrslim.slimming.training.trainer import TrainingResult

__all__ = ["aligned", "assist", "dismiss", "gather_damaged", "lead", "moved", "own_folder", "wait_for"]

Train = Callable[[ir.Model, Quantization], TrainingResult]

OPEN, TRAIN, END = "open", "train", "end"


def wait_for(team: Team, opened: bool) -> None:
    """Let the others begin when rank 0 has opened the model and the data: what is wrong with them is said once.

    Args:
        team: of the run.
        opened: this process has; only then rank 0 lets them, and only before it the others wait.
    """
    if team.size > 1 and team.leads == opened:
        team.tell({"do": OPEN})


def own_folder(team: Team, out: Path, stale: tuple[str, ...]) -> AbstractContextManager[Path]:
    """Return where this process writes: rank 0 for the user, the others what nobody reads.

    Args:
        team: of the run.
        out: see :func:`ocrslim.atomic.output_folder`.
        stale: the same.
    """
    return output_folder(out, stale) if team.leads else _nowhere()


@contextmanager
def _nowhere() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ocrslim-rank-") as name:
        yield Path(name)


def lead(team: Team, train: Train) -> Train:
    """Return a training that the other processes of the team join.

    Args:
        team: of the run.
        train: trains a quantization of a graph; the others call it too.
    """

    def together(graph: ir.Model, quantization: Quantization) -> TrainingResult:
        if team.size > 1:
            factors = {value: factor.tolist() for value, factor in quantization.factors.items()}
            placement = quantization.placement
            also = [site.node for site in placement.sites if site.node in placement.optional]
            team.tell({"do": TRAIN, "float": list(placement.float_nodes), "also": also, "factors": factors})
        return train(graph, quantization)

    return together


def aligned(team: Team, module: GraphModule) -> GraphModule:
    """Give a module the weights that it has on rank 0, where the graph may be an equalised one; return it.

    Args:
        team: of the run; all have to call it.
        module: of the same nodes everywhere; changed in place.
    """
    tensors, _ = team.share(module.state_dict(), {})
    if not team.leads:
        module.load_state_dict(tensors)
    return module


def assist(team: Team, scene: Scene, train: Train) -> None:
    """Train with rank 0 whenever it trains, until it says that there is no more to train.

    Args:
        team: of the run; this process is not rank 0.
        scene: as rank 0's; the graph's weights and the grids come with each training.
        train: see :func:`lead`.

    Raises:
        LostRankError: a process is gone.
    """
    while (word := team.tell())["do"] != END:
        if word["do"] != TRAIN:
            raise OcrslimError(f"rank 0 says {word!r}: all processes have to run the same version of this program")
        placement = place(scene.graph, scene.target, word["float"], word["also"])  # as the climb has it now
        factors = {value: torch.tensor(factor) for value, factor in word["factors"].items()}
        module = GraphModule(scene.graph).eval()
        train(scene.graph, prepare(module, placement, scene.target, pact=scene.pact, factors=factors))
    team.part()


def dismiss(team: Team) -> None:
    """Let the other processes end; rank 0 goes on alone."""
    if team.size > 1:
        team.tell({"do": END})
        team.part()


def gather_damaged(team: Team, damaged: dict[str, str]) -> None:
    """Tell all processes of the images that each of them found unreadable.

    Args:
        team: of the run; all have to call it.
        damaged: path -> reason; added to.
    """
    for found in team.gather(damaged):
        damaged.update(found)


@contextmanager
def moved(device: torch.device, *modules: nn.Module) -> Iterator[None]:
    """Have modules on a device while the body works, and on the CPU afterwards.

    Args:
        device: where.
        modules: their parameters stay the same objects.
    """
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to("cpu")
