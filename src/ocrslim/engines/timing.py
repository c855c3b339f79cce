"""How long models take, compared fairly: in turns, on the same input, beside everything that decides the figure.

A latency by itself says little: clocks, neighbours and caches move it by tens of percent from minute to minute. All
rows are therefore timed in turns, one run of each a round, and compared within a round: a disturbance hits all of them,
and the ratio, the median over rounds, stands.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrslim.engines.checks import fits, one_line, shape_text
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.paddle import find_model
from ocrslim.engines.probe import random_batch
from ocrslim.engines.session import PADDLE_ENGINES, InferenceSession, open_session
from ocrslim.errors import EngineError, InputError

__all__ = [
    "SHAPES",
    "BenchRow",
    "TimeRatio",
    "bench",
    "measure_peak_rss",
    "refuse_shape",
    "time_ratios",
    "time_rounds",
    "timed_shape",
]

SHAPES = {"rec": (48, 320), "det": (640, 640)}  # height and width that a task's models are timed at, pixels
WARM_UP = 3  # runs of each session: engines choose kernels and lay out memory at a first run of a shape
PROBE_SECONDS = 300


def timed_shape(task: str, sizes: tuple[int, int] | None = None, batch: int = 1) -> tuple[int, int, int, int]:
    """Return the shape that a model is timed at, N x C x H x W.

    Args:
        task: det or rec.
        sizes: height and width, pixels; ``None`` is the task's of :data:`SHAPES`.
        batch: images.

    >>> timed_shape("rec"), timed_shape("det", (960, 1280), 2)
    ((1, 3, 48, 320), (2, 3, 960, 1280))
    """
    return (batch, 3, *(sizes or SHAPES[task]))


def refuse_shape(session: InferenceSession, shape: Sequence[int]) -> None:
    """Run a model once at the shape that it is to be timed at.

    Raises:
        InputError: it can't be run so.
    """
    try:
        session.run(random_batch(shape))
    except EngineError as error:
        sizes = "x".join(map(str, shape[2:]))
        raise InputError(f"--shape {sizes} --batch {shape[0]}: the model can't be timed so: {error}") from error


@dataclass(frozen=True)
class BenchRow:
    """One model on one engine.

    Args:
        label: what the user calls the model.
        engine: that ran it.
        median_ms: of one run of the whole batch, milliseconds.
        p10: tenth percentile, milliseconds.
        p90: ninetieth percentile, milliseconds.
        ratio: median over the rounds of this row's time to the first row's.
        ratio_on_engine: the same to the first model on the same engine.
        runs: that were timed.
        peak_rss_mb: largest resident memory of a process that only loads and runs this model, MiB, with Python and
            the engine's libraries; ``None`` where the system does not tell.
        bytes: size of the model file, or of both that Paddle has.
        threads: of a run.
        shape: of the input, N x C x H x W.
        cpu: model name of the processor.
        flags: its instruction sets.
        versions: of Python and the engines.
        other_load: cores that other processes kept busy meanwhile; above some 0.1 the figures are of little worth.
    """

    label: str
    engine: str
    median_ms: float
    p10: float
    p90: float
    ratio: float
    ratio_on_engine: float
    runs: int
    peak_rss_mb: float | None
    bytes: int
    threads: int
    shape: tuple[int, ...]
    cpu: str
    flags: tuple[str, ...]
    versions: dict[str, str]
    other_load: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON's types."""
        return asdict(self) | {"shape": list(self.shape), "flags": list(self.flags)}


def bench(
    models: Sequence[tuple[str | Path, Path]],
    engines: Sequence[str],
    threads: int = 2,
    shape: Sequence[int] = (1, 3, 48, 320),
    min_runs: int = 30,
    min_seconds: float = 3.0,
) -> list[BenchRow]:
    """Time every model on every engine, in turns.

    Args:
        models: (label, ONNX file) of each; the first is what the others are compared to.
        engines: names of :data:`ocrslim.engines.session.ENGINES`.
        threads: of a run.
        shape: of the input, N, C, H, W.
        min_runs: timed runs of each row, at least.
        min_seconds: rounds go on until this time is over, too, so that fast models are timed more often.

    Returns:
        list: a row for each (model, engine), models in the order given, engines within.

    Raises:
        InputError: there is nothing to time, or a model does not take ``shape``.
        EngineError: an engine failed.
    """
    if not models or not engines:
        raise InputError("bench: name at least one model and one engine")
    if min_runs < 1:
        raise InputError(f"bench: {min_runs} runs; at least 1 is needed")
    pairs = [(str(label), path, engine) for label, path in models for engine in dict.fromkeys(engines)]
    sessions = [open_session(path, engine, threads) for _, path, engine in pairs]
    for (label, _, _), session in zip(pairs, sessions, strict=True):  # a mistake is told before minutes are spent
        if not fits(session.input_shape, shape):
            takes = shape_text(session.input_shape)
            raise InputError(f"bench: {label} takes {takes}, not {shape_text(shape)}; give --shape HxW")
    peaks = [measure_peak_rss(path, engine, threads, shape) for _, path, engine in pairs]
    load = OtherLoad()
    times = time_rounds(sessions, random_batch(shape), min_runs, min_seconds)
    other = load.cores()
    first_on = {engine: index for index, (_, _, engine) in reversed(list(enumerate(pairs)))}
    cpu, installed = cpu_info(), versions()
    rows = []
    for index, (label, path, engine) in enumerate(pairs):
        p10, median, p90 = np.percentile(times[:, index], (10, 50, 90)) * 1000
        rows.append(
            BenchRow(
                label=label,
                engine=engine,
                median_ms=float(median),
                p10=float(p10),
                p90=float(p90),
                ratio=_ratio(times, index, 0),
                ratio_on_engine=_ratio(times, index, first_on[engine]),
                runs=len(times),
                peak_rss_mb=peaks[index],
                bytes=_size(path, engine),
                threads=threads,
                shape=tuple(shape),
                cpu=cpu.model,
                flags=cpu.flags,
                versions=installed,
                other_load=other,
            )
        )
    return rows


def time_rounds(
    sessions: Sequence[InferenceSession], batch: NDArray[np.float32], min_runs: int, min_seconds: float = 0.0
) -> NDArray[np.float64]:
    """Time sessions in turns.

    A turn is one untimed run, which brings the session's weights back into the caches and waits out what the engine
    before still has going, and one timed run. Each round begins one session later, so that none always follows the
    same neighbour.

    Args:
        sessions: at least one.
        batch: what each of them runs.
        min_runs: rounds, at least.
        min_seconds: rounds go on until this time is over, too.

    Returns:
        ndarray: seconds, float64 ``[rounds, sessions]``.
    """
    for session in sessions:
        for _ in range(WARM_UP):
            session.run(batch)
    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < min_runs or time.perf_counter() - began < min_seconds:
        taken = [0.0] * len(sessions)
        for turn in range(len(sessions)):
            index = (turn + len(rounds)) % len(sessions)
            sessions[index].run(batch)
            started = time.perf_counter()
            sessions[index].run(batch)
            taken[index] = time.perf_counter() - started
        rounds.append(taken)
    return np.array(rounds)


@dataclass(frozen=True)
class TimeRatio:
    """What a model takes of another's time.

    Args:
        value: median over the rounds.
        error: its standard error.
    """

    value: float
    error: float

    def saves_from(self, other: float, least: float, sure: float = 2.0) -> bool:
        """Return whether this is less than ``other`` beyond doubt.

        Args:
            other: a ratio to the same model's time.
            least: that has to be saved.
            sure: standard errors that have to be saved.
        """
        return other - self.value > max(least, sure * self.error)


def time_ratios(times: NDArray[np.float64]) -> list[TimeRatio]:
    """Return what each session but the first takes of the first one's time, round by round.

    Args:
        times: of :func:`time_rounds`, seconds, float64 ``[rounds, sessions]``.

    >>> time_ratios(np.array([[2.0, 1.0], [4.0, 2.0], [2.0, 1.0]]))
    [TimeRatio(value=0.5, error=0.0)]
    """
    ratios = times[:, 1:] / times[:, :1]
    middle = np.median(ratios, axis=0)
    # Of a median, from the median of the deviations: 1.4826 makes it a standard deviation, 1.2533 is the median's.
    errors = 1.4826 * 1.2533 * np.median(np.abs(ratios - middle), axis=0) / np.sqrt(len(ratios))
    return [TimeRatio(float(value), float(error)) for value, error in zip(middle, errors, strict=True)]


def measure_peak_rss(path: Path, engine: str, threads: int, shape: Sequence[int]) -> float | None:
    """Return the peak resident memory, MiB, of a fresh process that loads the model and runs it three times.

    Raises:
        EngineError: that process failed or took more than five minutes.
    """
    command = [sys.executable, "-m", "ocrslim.engines.probe", str(path), engine, *map(str, shape)]
    try:
        done = subprocess.run(
            [*command, "--threads", str(threads)], capture_output=True, text=True, timeout=PROBE_SECONDS, check=True
        )
        peak = json.loads(done.stdout)["peak_rss_mb"]
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{path}: {engine} took more than {PROBE_SECONDS} seconds for three runs") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        raise EngineError(said[-1] if said else f"{path}: {engine} ended with code {error.returncode}") from error
    except (ValueError, KeyError) as error:
        raise EngineError(f"{path}: {engine} printed no figures: {one_line(error)}") from error
    return None if peak is None else float(peak)


def _size(path: Path, engine: str) -> int:
    """Return the bytes of what an engine loads: Paddle's models are two files."""
    files = find_model(path) if engine in PADDLE_ENGINES else (path,)
    return sum(file.stat().st_size for file in files)


def _ratio(times: NDArray[np.float64], index: int, reference: int) -> float:
    return float(np.median(times[:, index] / times[:, reference]))
