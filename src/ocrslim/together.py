"""How several processes share one ``ocrslim compress``: rank 0 climbs the ladder, the others work with it.

They calibrate, where each looks at a part of the images and what they saw is merged, and they train. All else is
rank 0's: calibration's closed forms, evaluation in the engine, all files and all that is shown. The others open the
same model and data, then wait for a word: that a calibration or a training begins, which they join, or that there is
none any more. What they work on they are given when it begins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.atomic import output_folder
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.scene import Calibrate, Samples, Scene
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, prepare
from ocrslim.slimming.training.distributed import Team
from ocrslim.slimming.training.trainer import TrainingResult

__all__ = [
    "aligned",
    "assist",
    "dismiss",
    "gather_damaged",
    "lead",
    "open_calibration",
    "own_folder",
    "wait_for",
]

Train = Callable[[ir.Model, Quantization], TrainingResult]

OPEN, CALIBRATE, TRAIN, END = "open", "calibrate", "train", "end"


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
            team.tell({"do": TRAIN, **_described(quantization)})
        return train(graph, quantization)

    return together


def open_calibration(team: Team, batches: Sequence[Tensor], seed: int) -> Calibrate:
    """Return a calibration in which all processes of the team look at the images; see :class:`.Scene`.

    Args:
        team: of the run. Rank 0 tells the others when it begins, and they call theirs.
        batches: ``[N, 3, H, W]`` each, the same everywhere.
        seed: of the samples.
    """

    def calibrate(quantization: Quantization, observer: str, samples: Samples | None) -> Samples:
        if team.size > 1 and team.leads:
            told = {"observer": observer, "sampled": samples is not None}
            team.tell({"do": CALIBRATE, **told, **_described(quantization)})
            aligned(team, quantization.module)
        return calibrate_fully(quantization, batches, observer, seed, samples, team)

    return calibrate


def _described(quantization: Quantization) -> dict[str, Any]:
    """Return what others prepare the same quantization by; see :func:`_prepared`."""
    placement = quantization.placement
    return {
        "float": list(placement.float_nodes),
        "also": [site.node for site in placement.sites if site.node in placement.optional],
        "outputs": quantization.target.quantize_outputs,
        "factors": {value: factor.tolist() for value, factor in quantization.factors.items()},
    }


def _prepared(scene: Scene, word: Mapping[str, Any]) -> Quantization:
    target = replace(scene.target, quantize_outputs=word["outputs"])  # as the climb has it now
    placement = place(scene.graph, target, word["float"], word["also"])
    factors = {value: torch.tensor(factor) for value, factor in word["factors"].items()}
    return prepare(GraphModule(scene.graph).eval(), placement, target, pact=scene.pact, factors=factors)


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
    """Calibrate and train with rank 0 whenever it does, until it says that there is no more to do.

    Args:
        team: of the run; this process is not rank 0.
        scene: as rank 0's; the graph's weights and the grids come with each word.
        train: see :func:`lead`.

    Raises:
        LostRankError: a process is gone.
    """
    while (word := team.tell())["do"] != END:
        if word["do"] not in (CALIBRATE, TRAIN):
            raise OcrslimError(f"rank 0 says {word!r}: all processes have to run the same version of this program")
        quantization = _prepared(scene, word)
        if word["do"] == CALIBRATE:
            aligned(team, quantization.module)
            scene.calibrate(quantization, word["observer"], {} if word["sampled"] else None)
        else:
            train(scene.graph, quantization)
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
