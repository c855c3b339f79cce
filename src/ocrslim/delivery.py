"""What the user's engine gets, and how it is run while a model is being made.

ONNX Runtime and OpenVINO load the ONNX file itself. Paddle loads the two files that are made of it, so every candidate
is written in that format before it is judged. Where paddlepaddle is not installed, ONNX Runtime stands in for it: it
computes the same integers, but what Paddle makes of the files is then not known, and every figure says so.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ocrslim.engines.session import ENGINES, PADDLE_ENGINES, InferenceSession, open_session
from ocrslim.engines.targets import Target, get_target
from ocrslim.engines.timing import BenchRow, bench
from ocrslim.errors import EngineError
from ocrslim.export.onnx_float import copy_model, export_float
from ocrslim.export.paddle import PARAMETERS, PROGRAM, export_paddle
from ocrslim.export.paddle_source import paddle_source
from ocrslim.graph.importers.onnx import load_onnx, model_bytes
from ocrslim.graph.importers.paddle.files import PaddleFiles
from ocrslim.graph.importers.source import ModelSource

__all__ = ["INT8", "REWRITTEN", "Delivery", "open_delivery"]

PADDLE_INT8 = "paddle-int8"
STAND_IN = "onnxruntime"
INT8 = "int8.onnx"  # where the float model is what we give
REWRITTEN = "rewritten"  # the float model as the target likes it; see ocrslim.export.onnx_float
TIE = 0.03  # share of the float model's time: two that are so near are timed for longer
SURE = 3.0  # times as long, before int8 is called slow
AGREEMENT = {"rec": 0.98, "det": 0.97}
"""Of frames, and intersection over union of masks, in Paddle Inference: its oneDNN kernels sum in another order, and a
value on a tie between two integers decides otherwise."""


@dataclass(frozen=True)
class Delivery:
    """One model for one target.

    Args:
        source: the float model.
        target: ``engine`` is what runs the model here.
        threads: of an engine.
        paddle: the float model in Paddle's format, which the int8 one is written into; ``None`` for other targets.
        reference: the float model that loss, time and size are counted from, where that is another one.
    """

    source: ModelSource
    target: Target
    threads: int
    paddle: PaddleFiles | None = None
    reference: Path | None = None

    @property
    def counted(self) -> Path:
        """The file of the float model that loss, time and size are counted from."""
        return self.reference or self.source.path

    @property
    def by_paddle(self) -> bool:
        """Whether Paddle itself runs the models here."""
        return self.target.engine in PADDLE_ENGINES

    @property
    def timed_on(self) -> str:
        """Whose clock counts for the int8 model: Paddle runs it as fast as it can in a mode of its own."""
        return PADDLE_INT8 if self.target.engine == "paddle" else self.target.engine

    @property
    def required(self) -> float | None:
        """Agreement that an exported model must reach with the trained one; ``None`` is the usual one."""
        return AGREEMENT[self.source.task] if self.by_paddle else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures has to know."""
        if self.target.name == "tensorrt":
            return (f"TensorRT did not run the model here; all figures are those of {self.target.engine} on the CPU",)
        if self.paddle is None or self.by_paddle:
            return ()
        return (
            "Paddle did not run the int8 model here: paddlepaddle is not installed (pip install 'ocrslim[paddle]');"
            f" all figures are those of {STAND_IN} for the same integers in model.onnx",
        )

    def open_original(self) -> InferenceSession:
        """Load the float model."""
        path = self.paddle.program if self.paddle is not None and self.by_paddle else self.source.path
        return open_session(path, self.target.engine, self.threads)

    def open(self, exported: Path) -> InferenceSession:
        """Load an exported ONNX file, for Paddle what is made of it."""
        if self.by_paddle:
            folder = exported.with_suffix(".paddle")
            if not folder.is_dir():
                folder.mkdir()
                self._write(exported, folder)
            exported = folder
        return open_session(exported, self.target.engine, self.threads)

    def finish(self, exported: Path) -> None:
        """Write beside the exported ONNX file what the engine loads in place of it."""
        if self.paddle is not None:
            self._write(exported, exported.parent)

    def try_writing(self, graph: ir.Model) -> None:
        """Write the float weights as the int8 model's will be, into nothing: what can't be is told before a climb.

        Args:
            graph: the canonical float graph.

        Raises:
            ModelError: the Paddle model is of other weights than the ONNX one.
        """
        if self.paddle is not None:
            with tempfile.TemporaryDirectory(prefix="ocrslim-paddle") as folder:
                path = Path(folder) / "float.onnx"
                export_float(graph, self.target, path)
                self._write(path, Path(folder))

    def _write(self, exported: Path, folder: Path) -> None:
        assert self.paddle is not None
        model = load_onnx(exported)  # a float one is what int8 candidates are compared with
        quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
        export_paddle(model, self.paddle.program, self.paddle.parameters, folder, quantized=quantized)

    def rewrite(self, graph: ir.Model, exported: Path) -> None:
        """Write the float model as the engine likes it beside the exported file, where it may be the answer.

        Args:
            graph: the canonical float graph.
            exported: the ONNX file.
        """
        if self.may_keep_float:
            export_float(graph, self.target, _beside(exported))

    def sizes(self, exported: Path) -> dict[str, int]:
        """Return the bytes of what the engine loads, float and int8.

        Args:
            exported: the ONNX file; :meth:`finish` was called.
        """
        if self.paddle is None:
            return {"float": model_bytes(self.counted), "int8": exported.stat().st_size}
        made = exported.parent / PROGRAM, exported.parent / PARAMETERS
        files = {"float": (self.paddle.program, self.paddle.parameters), "int8": made}
        return {label: sum(path.stat().st_size for path in paths) for label, paths in files.items()}

    @property
    def may_keep_float(self) -> bool:
        """Whether the float model may be the answer: not where another engine stands in for the user's, nor for Paddle.

        Paddle's int8 model is two files beside the ONNX one, and its user has the float ones.
        """
        return self.paddle is None and self.target.name == self.target.engine

    def bench_surely(self, exported: Path, shape: Sequence[int], min_seconds: float) -> list[BenchRow]:
        """Time as :meth:`bench` does; where int8 gains little or nothing longer: a busy machine may be why."""
        rows = self.bench(exported, shape, min_seconds)
        sure = self.answer(rows) == "int8" and self._times(rows).get("int8", 0.0) < 1.0 - TIE
        return rows if sure else self.bench(exported, shape, SURE * min_seconds)

    def answer(self, rows: Sequence[BenchRow]) -> str:
        """Return what the user gets by the clock of the engine that will run it: ``int8``, ``rewritten`` or ``float``.

        A float model loses nothing by rounding, so int8 has to take less time than either of them; where another engine
        stood in for the user's, its clock says nothing.

        Args:
            rows: of :meth:`bench`.
        """
        times = self._times(rows)
        if not self.may_keep_float or times.get("int8", 1.0) < min(1.0, times.get(REWRITTEN, 1.0)):
            return "int8"
        return REWRITTEN if times.get(REWRITTEN, 1.0) < 1.0 else "float"

    def _times(self, rows: Sequence[BenchRow]) -> dict[str, float]:
        """Return what each model takes of the float one's time, by the clock that counts."""
        counts = (self.timed_on, self.threads)
        return {row.label: row.ratio_on_engine for row in rows if (row.engine, row.threads) == counts}

    def keep_float(self, exported: Path, rows: Sequence[BenchRow]) -> str:
        """Give the user a float model where that is the answer; int8 then lies beside it.

        Args:
            exported: the ONNX file; the float model takes its name, it becomes ``int8.onnx``.
            rows: of :meth:`bench`.

        Returns:
            str: see :meth:`answer`.
        """
        answer = self.answer(rows)
        if answer != "int8":
            os.replace(exported, exported.with_name(INT8))
            copy_model(self.source.path if answer == "float" else _beside(exported), exported)
        _beside(exported).unlink(missing_ok=True)
        return answer

    def bench_alone(self, exported: Path, shape: Sequence[int], min_seconds: float) -> list[BenchRow]:
        """Time as :meth:`bench` does but with one thread, for those who serve so; nothing where the others have one."""
        return replace(self, threads=1).bench(exported, shape, min_seconds) if self.threads > 1 else []

    def bench(self, exported: Path, shape: Sequence[int], min_seconds: float) -> list[BenchRow]:
        """Time float, int8 and, where :meth:`rewrite` wrote it, the rewritten float in turns on every engine.

        Args:
            exported: the ONNX file; :meth:`finish` was called.
            shape: of the input, N, C, H, W.
            min_seconds: see :func:`ocrslim.engines.timing.bench`.
        """
        onnx = [("float", self.counted), ("int8", exported)]
        if _beside(exported).is_file():
            onnx.append((REWRITTEN, _beside(exported)))
        try:
            rows = bench(onnx, ENGINES, threads=self.threads, shape=shape, min_seconds=min_seconds)
        except EngineError:  # another engine need not run what was made for this one
            if self.target.engine not in ENGINES:
                raise
            rows = bench(onnx, [self.target.engine], threads=self.threads, shape=shape, min_seconds=min_seconds)
        if self.paddle is not None and self.by_paddle:
            own = [("float", self.paddle.program), ("int8", exported.parent / PROGRAM)]
            rows += bench(own, PADDLE_ENGINES, threads=self.threads, shape=shape, min_seconds=min_seconds)
        return rows


def _beside(exported: Path) -> Path:
    return exported.with_name(f"{REWRITTEN}.onnx")


def open_delivery(source: ModelSource, target: str, threads: int) -> Delivery:
    """Return how a model is delivered to a target.

    Args:
        source: the float model.
        target: see :func:`ocrslim.engines.targets.get_target`.
        threads: of an engine.

    Raises:
        InputError: there is no such target.
        ModelError: it is Paddle, and there is no Paddle model to write the int8 one into.
    """
    wanted = get_target(target)
    if wanted.name != "paddle":
        return Delivery(source, wanted, threads)
    files = paddle_source(source)
    if importlib.util.find_spec("paddle") is None:
        wanted = replace(wanted, engine=STAND_IN)
    return Delivery(source, wanted, threads, files)
