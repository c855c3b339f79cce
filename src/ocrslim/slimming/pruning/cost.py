"""What a smaller graph saves: counted in advance, or timed on the engine that will run it.

Counting is cheap and orders the candidates; the clock decides (NetAdapt, arXiv 1804.03230). Widths that a kernel does
not like, a layer that waits for memory, a share that is lost in noise: no count tells them.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from ocrslim.atomic import read_object, write_bytes
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.probe import random_batch
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.engines.timing import TimeRatio, time_ratios, time_rounds
from ocrslim.graph.passes.base import attribute
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels

__all__ = ["Clock", "Cost", "Counter", "Saving", "Whole"]

MACS_PER_FLOAT = 12.0
"""Multiply-accumulates that take as long as reading or writing one float does (some 46 G/s to 4 G/s, two AVX2 cores,
float PP-OCR models). It only orders what is then timed."""

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")  # what takes the time; the rest is fused into them
AT_ONCE = 6  # candidates that are loaded and timed together
ROUNDS, FINAL_ROUNDS = 20, 40
SECONDS = 10.0  # of a question, at least: what a cut saves of a fast model's 8 ms is less than the noise of 20 rounds
LOOKS = 3  # at what was chosen, each with sessions of its own: how they lie in memory is part of the noise
LEAST = 0.002  # share of the time of the whole model that a cut has to save


@dataclass(frozen=True)
class Whole:
    """What the time of a smaller model is compared with, and how that is written.

    Args:
        path: of the file that the user runs now.
        write: (canonical graph) -> the graph that its engine runs fastest: what that gains need not be cut.
    """

    path: Path
    write: Callable[[ir.Model], ir.Model]


@dataclass(frozen=True)
class Saving:
    """What a cut saves.

    Args:
        share: of the cost of the whole model.
        pays: it is beyond doubt that it saves anything.
    """

    share: float
    pays: bool


class Cost(Protocol):
    """A way to weigh graphs; the whole model's cost is 1."""

    def savings(self, removed: Collection[int], candidates: Sequence[Collection[int]]) -> list[Saving]:
        """Return what the removal of each candidate's units saves when others are removed already."""
        ...

    def ratio(self, removed: Collection[int]) -> float:
        """Return the cost without some units."""
        ...

    def again(self, removed: Collection[int]) -> float:
        """Return the same by looks of their own, which had no say in the choice of the units."""
        ...


class Counter:
    """Cost by counting.

    Args:
        channels: of the model, followed at the size that it will run at.
        macs_per_float: what moving a float counts, in multiply-accumulates; 0 counts these alone.
    """

    def __init__(self, channels: Channels, macs_per_float: float = MACS_PER_FLOAT) -> None:
        self._nodes = [node for node in channels.model.graph if node.op_type in LAYERS]
        self._channels = channels
        self._per_float = macs_per_float
        self._whole = self._count(channels.shapes)

    def savings(self, removed: Collection[int], candidates: Sequence[Collection[int]]) -> list[Saving]:
        """Return what each candidate saves; see :class:`Cost`."""
        now = self.ratio(removed)
        shares = [now - self.ratio({*removed, *candidate}) for candidate in candidates]
        return [Saving(share, share > 0) for share in shares]

    def ratio(self, removed: Collection[int]) -> float:
        """Return the cost without some units; see :class:`Cost`."""
        return self._count(self._channels.sizes(removed)) / self._whole

    def again(self, removed: Collection[int]) -> float:
        """Return the cost without some units; counting finds what it found."""
        return self.ratio(removed)

    def _count(self, sizes: Mapping[str, tuple[int, ...]]) -> float:
        return sum(_macs(node, sizes) + self._per_float * _floats(node, sizes) for node in self._nodes)


class Clock:
    """Cost by timing in an engine; all models of a question run in turns.

    Args:
        channels: of the model.
        engine: one of :data:`ocrslim.engines.session.ENGINES`.
        threads: of a run.
        shape: of the input that is timed, N x C x H x W.
        table: JSON file of what was timed before; made and extended. ``None`` forgets.
        whole: what the whole model is; ``None`` is the graph of ``channels`` as it is.
    """

    def __init__(
        self,
        channels: Channels,
        engine: str,
        threads: int,
        shape: Sequence[int],
        table: Path | None = None,
        whole: Whole | None = None,
    ) -> None:
        self._channels = channels
        self._engine = engine
        self._threads = threads
        self._batch = random_batch(shape)
        self._table = table
        self._whole = whole
        self._known: dict[str, float] = {}
        if table is not None and table.is_file():
            self._known = _recalled(table)
        about = [engine, versions().get(engine), threads, list(shape), cpu_info().model, _fingerprint(channels.model)]
        if whole is not None:
            about.append(hashlib.sha256(whole.path.read_bytes()).hexdigest())
        self._about = json.dumps(about)

    def savings(self, removed: Collection[int], candidates: Sequence[Collection[int]]) -> list[Saving]:
        """Return what each candidate saves; it pays where that is more than noise makes of two files of one model.

        Raises:
            EngineError: the engine can't run one of the graphs.
        """
        now = self.ratio(removed)
        found = {}
        for index, candidate in enumerate(candidates):
            known = self._known.get(self._key(removed, candidate))
            if known is not None:
                found[index] = known
        unknown = [index for index in range(len(candidates)) if index not in found]
        for start in range(0, len(unknown), AT_ONCE):
            chunk = unknown[start : start + AT_ONCE]
            graphs: list[Collection[int] | None] = [
                {*removed},
                {*removed},
                *({*removed, *candidates[index]} for index in chunk),
            ]
            again, *times = self._time(graphs, ROUNDS)
            base = min(1.0, again.value)
            doubt = abs(1.0 - again.value)
            for index, time in zip(chunk, times, strict=True):
                saved = (base - time.value) / base
                found[index] = saved if time.saves_from(base, doubt) else min(saved, 0.0)
                self._known[self._key(removed, candidates[index])] = found[index]
            self._save()  # so that an interrupted run goes on from here
        return [Saving(share := found[index] * now, share > LEAST) for index in range(len(candidates))]

    def ratio(self, removed: Collection[int]) -> float:
        """Return the time without some units to that of the whole model.

        Raises:
            EngineError: the engine can't run the graph.
        """
        return self._look(removed, 0)

    def again(self, removed: Collection[int]) -> float:
        """Return the median of some more looks at the time without some units to that of the whole model.

        Raises:
            EngineError: the engine can't run the graph.
        """
        return statistics.median(self._look(removed, number) for number in range(1, LOOKS + 1))

    def _look(self, removed: Collection[int], number: int) -> float:
        if not removed and self._whole is None:
            return 1.0
        key = self._key(removed, (), number)
        if key not in self._known:
            (smaller,) = self._time([None, removed], FINAL_ROUNDS)
            self._known[key] = smaller.value
            self._save()
        return self._known[key]

    def _time(self, graphs: Sequence[Collection[int] | None], rounds: int) -> list[TimeRatio]:
        """Return what each graph without some units takes of the first one's time; ``None`` is the whole model."""
        with self._sessions(graphs) as sessions:
            return time_ratios(time_rounds(sessions, self._batch, rounds, SECONDS))

    @contextmanager
    def _sessions(self, graphs: Sequence[Collection[int] | None]) -> Iterator[list[InferenceSession]]:
        with tempfile.TemporaryDirectory(prefix="ocrslim-") as folder:
            paths = []
            for number, removed in enumerate(graphs):
                if removed is None and self._whole is not None:
                    paths.append(self._whole.path)
                    continue
                smaller = cut(self._channels, removed or ())
                paths.append(Path(folder) / f"{number}.onnx")
                ir.save(smaller if self._whole is None else self._whole.write(smaller), paths[-1])
            yield [open_session(path, self._engine, self._threads) for path in paths]

    def _key(self, removed: Collection[int], candidate: Collection[int], look: int = 0) -> str:
        """Name a question by what decides its answer: widths, not which channels are gone."""
        widths = [_widths(self._channels, units) for units in (removed, candidate)]
        text = f"{self._about} {widths}" + (f" look {look}" if look else "")
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self) -> None:
        if self._table is not None:
            write_bytes(self._table, json.dumps(self._known, indent=0).encode())


def _recalled(table: Path) -> dict[str, float]:
    """Return what was timed before; a damaged table is empty, which costs time alone."""
    return {key: value for key, value in read_object(table).items() if isinstance(value, (int, float))}


def _widths(channels: Channels, removed: Collection[int]) -> list[tuple[str, int]]:
    gone = set(removed)
    counts = [(group.name, len(gone.intersection(group.units))) for group in channels.groups]
    return [(name, count) for name, count in counts if count]


def _fingerprint(model: ir.Model) -> list[str]:
    return [f"{name} {value.shape}" for name, value in model.graph.initializers.items()]


def _macs(node: ir.Node, sizes: Mapping[str, tuple[int, ...]]) -> float:
    first, second, output = (sizes[str(value.name)] for value in (*node.inputs[:2], *node.outputs[:1]) if value)
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    return math.prod(output) * (first[0] if attribute(node, "transA", 0) else first[-1])


def _floats(node: ir.Node, sizes: Mapping[str, tuple[int, ...]]) -> float:
    values = (*node.inputs[:2], *node.outputs)
    return sum(math.prod(sizes[str(value.name)]) for value in values if value is not None)
