"""Our side of ``vs_paddleslim.py``: the product's own calibration and trainer, on batches that are made already.

    python ocrslim_driver.py SETTINGS.json

It does what ``ocrslim compress MODEL --target paddle`` does up to the first trained model; what is left out is what
PaddleSlim does not do either: judging in the engine, keeping sites float, timing the result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stopwatch import Stopwatch


def main(arguments: Sequence[str]) -> int:
    """Compress as the settings in the file say."""
    settings = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    _compress(settings, Stopwatch(Path(settings["marks"])))
    return 0


def _compress(settings: dict[str, Any], watch: Stopwatch) -> None:
    import torch
    from rich.console import Console

    # The recipe's own trainer, private to it: what is measured must be what users get.
    from ocrslim.compress import CompressSettings
    from ocrslim.engines.targets import get_target
    from ocrslim.export.onnx_qdq import export_qdq
    from ocrslim.export.paddle import export_paddle
    from ocrslim.graph.executor.graph_module import GraphModule
    from ocrslim.graph.importers.onnx import load_onnx
    from ocrslim.graph.importers.source import open_model
    from ocrslim.graph.passes.canonical import canonicalize
    from ocrslim.learning import open_trainer
    from ocrslim.report.run_log import RunLog
    from ocrslim.slimming.quantization.calibration import calibrate_fully
    from ocrslim.slimming.quantization.placement import place
    from ocrslim.slimming.quantization.prepare import prepare
    from ocrslim.slimming.training.data import CALIBRATION_IMAGES
    from ocrslim.slimming.training.distributed import ALONE
    from ocrslim.slimming.training.precision import FULL

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    source, target, out = open_model(Path(settings["model"])), get_target("paddle"), Path(settings["out"])
    assert source.paddle is not None  # the folder is one of Paddle's
    graph = canonicalize(load_onnx(source.path))
    teacher = GraphModule(graph).eval()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    given = _Batches(Path(settings["batches"]), Path(settings["held"]))
    watch.mark("images")
    recipe = CompressSettings("paddle", out, steps=settings["steps"], threads=settings["threads"])
    calibrate_fully(quantization, given.first(CALIBRATION_IMAGES[source.task]), recipe.observer, recipe.seed)
    log = RunLog(out, Console(quiet=True))
    trainer = open_trainer(graph, quantization, teacher, given.held(), source, recipe, log, team=ALONE, precision=FULL)
    trainer.folder = None  # no checkpoints, as PaddleSlim
    trainer.progress = lambda done, total, figures: watch.mark("step", done=done, **figures)
    with FULL.placed(quantization.module, teacher):  # as compress does
        training = trainer.run(lambda start, count: watch.timed(given.train(start, count)))
    quantization.module.eval()
    quantization.freeze()
    export_qdq(quantization, out / "model.onnx")
    log.close()
    export_paddle(load_onnx(out / "model.onnx"), source.paddle.program, source.paddle.parameters, out)
    watch.mark("done", best_step=training.best_step, history=training.history)


class _Batches:
    """The stored batches as tensors.

    Args:
        folder: of those to learn from, one ``.npy`` file a step.
        held: of those that the best weights are chosen by.
    """

    def __init__(self, folder: Path, held: Path) -> None:
        self._files = sorted(folder.glob("*.npy"))
        self._held = sorted(held.glob("*.npy"))

    def first(self, images: int) -> list[Any]:
        """Return the first batches that hold so many images, or all."""
        found, count = [], 0
        for batch in self.train(0, len(self._files)):
            found.append(batch)
            count += len(batch)
            if count >= images:
                break
        return found

    def train(self, start: int, count: int) -> Iterator[Any]:
        """Yield the batches of some steps."""
        return map(_tensor, self._files[start : start + count])

    def held(self) -> list[Any]:
        """Return the held batches."""
        return [_tensor(file) for file in self._held]


def _tensor(file: Path) -> Any:
    import numpy as np
    import torch

    return torch.from_numpy(np.load(file))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
