"""Timing: turns are fair, ratios are right where the truth is known, rows say everything, mistakes are told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.engines import timing
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.machine import STATUS
from ocrslim.engines.session import ENGINES, open_session
from ocrslim.engines.timing import WARM_UP, BenchRow, bench, measure_peak_rss, time_rounds
from ocrslim.errors import EngineError, InputError, ModelError

Maker = Callable[..., Path]
BATCH = np.zeros((1, 3, 4, 4), np.float32)


class Clock:
    """A clock that only its sessions move: the machine's own load changes nothing."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


class Clockwork:
    """A session that takes a known time of a clock and writes down when it was run."""

    engine, version, input_name, threads = "clockwork", "1", "x", 1
    input_shape: tuple[int | None, ...] = (None, 3, None, None)

    def __init__(self, name: str, seconds: float, diary: list[str], clock: Clock | None = None) -> None:
        self.name, self.seconds, self.diary = name, seconds, diary
        self.clock = clock or Clock()

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.diary.append(self.name)
        self.clock.now += self.seconds
        return x


def test_sessions_run_in_turns_and_the_first_place_goes_round() -> None:
    diary: list[str] = []
    times = time_rounds([Clockwork(name, 0, diary) for name in "abc"], BATCH, min_runs=4)
    assert times.shape == (4, 3)
    warm, timed = diary[: 3 * WARM_UP], diary[3 * WARM_UP :]
    assert warm == [*"a" * WARM_UP, *"b" * WARM_UP, *"c" * WARM_UP]
    # Each turn is an untimed and a timed run.
    assert "".join(timed) == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"


def test_times_lie_in_their_sessions_columns(clock: Clock) -> None:
    seconds = (0.001, 0.004, 0.002)
    times = time_rounds([Clockwork(str(s), s, [], clock) for s in seconds], BATCH, min_runs=9)
    np.testing.assert_allclose(times, [seconds] * 9, rtol=1e-6)


@pytest.mark.parametrize(("runs", "seconds", "rounds"), [(2, 0.199, 100), (7, 0.0, 7), (500, 0.199, 500)])
def test_fast_models_run_until_the_time_is_over(clock: Clock, runs: int, seconds: float, rounds: int) -> None:
    # A round is an untimed and a timed run of a millisecond each.
    times = time_rounds([Clockwork("a", 0.001, [], clock)], BATCH, min_runs=runs, min_seconds=seconds)
    assert len(times) == rounds


def test_a_real_clock_is_read(mixer: Maker) -> None:
    began = time.perf_counter()
    times = time_rounds([open_session(mixer(), "onnxruntime", 1)], BATCH, min_runs=3)
    assert (times > 0).all()
    assert times.sum() < time.perf_counter() - began


TIMED: list[BenchRow] = []


@pytest.fixture
def rows(mixer: Maker, heavy: Path) -> list[BenchRow]:
    """Return real rows, timed once for all tests of this file."""
    if not TIMED:
        models = [("light", mixer()), ("heavy", heavy), (heavy, heavy)]
        TIMED.extend(bench(models, ENGINES, threads=1, shape=(2, 3, 40, 40), min_runs=7, min_seconds=0))
    return TIMED


def test_bench_gives_a_row_for_each_model_and_engine(rows: list[BenchRow], heavy: Path) -> None:
    labels = ("light", "heavy", rows[4].label)
    assert [(row.label, row.engine) for row in rows] == [(label, engine) for label in labels for engine in ENGINES]
    assert Path(rows[4].label).name == heavy.name  # a path that a user gave stays a path
    for row in rows:
        assert 0 < row.p10 <= row.median_ms <= row.p90
        assert (row.threads, row.shape, row.runs) == (1, (2, 3, 40, 40), 7)
        assert (row.cpu, row.flags) == (cpu_info().model, cpu_info().flags)
        assert row.versions == versions()
    assert rows[2].bytes == heavy.stat().st_size
    assert rows[0].bytes < 1000


def test_bench_ratios(rows: list[BenchRow]) -> None:
    assert rows[0].ratio == 1.0
    assert [row.ratio_on_engine for row in rows[:2]] == [1.0, 1.0]
    for light, heavy in zip(rows[:2], rows[2:4], strict=True):
        assert heavy.ratio_on_engine > 5
        assert heavy.median_ms > 5 * light.median_ms
    # The same file twice on the same engine takes the same time, whatever the machine is doing.
    for once, again in zip(rows[2:4], rows[4:], strict=True):
        assert again.ratio_on_engine / once.ratio_on_engine == pytest.approx(1, abs=0.5)


def test_a_ratio_is_the_median_of_the_rounds_not_the_ratio_of_medians(
    mixer: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine halves its clock in the third of five rounds on, for both alike: in each round b takes twice a's time.
    times = np.array([[1, 2], [1, 2], [2, 4], [2, 4], [9, 18]]) / 1000
    monkeypatch.setattr(timing, "time_rounds", lambda *_: times)
    monkeypatch.setattr(timing, "measure_peak_rss", lambda *_: None)
    first, second = bench([("a", mixer()), ("b", mixer("b.onnx"))], ["openvino"])
    assert (first.median_ms, second.median_ms) == pytest.approx((2, 4))
    assert second.ratio == 2.0
    assert first.p90 == pytest.approx(6.2)
    assert second.peak_rss_mb is None


def test_one_row_disturbed_in_one_round_does_not_move_the_ratio(mixer: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.array([[1.0, 3.0]] * 9)
    times[4] = (50, 3)
    monkeypatch.setattr(timing, "time_rounds", lambda *_: times)
    monkeypatch.setattr(timing, "measure_peak_rss", lambda *_: None)
    assert bench([("a", mixer()), ("b", mixer())], ["onnxruntime"])[1].ratio == 3.0


def test_rows_are_json(rows: list[BenchRow]) -> None:
    data = [row.to_json() for row in rows]
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    wanted = {"label", "engine", "median_ms", "p10", "p90", "ratio", "peak_rss_mb", "bytes", "threads", "flags"}
    assert wanted | {"versions"} <= data[0].keys()


def test_an_engine_named_twice_is_timed_once(mixer: Maker) -> None:
    rows = bench([("a", mixer())], ["openvino", "openvino"], threads=1, shape=(1, 3, 4, 4), min_runs=1, min_seconds=0)
    assert len(rows) == 1


def test_mistakes_are_told_before_anything_is_timed(mixer: Maker, tmp_path: Path) -> None:
    rec = mixer("rec.onnx", input_shape=("N", 3, 48, "W"))
    with pytest.raises(InputError, match=r"my rec takes \?x3x48x\?, not 1x3x640x640; give --shape"):
        bench([("my rec", rec)], ["onnxruntime"], shape=(1, 3, 640, 640))
    with pytest.raises(InputError, match="at least one model"):
        bench([], ["onnxruntime"])
    with pytest.raises(InputError, match="at least one model"):
        bench([("a", rec)], [])
    with pytest.raises(InputError, match="0 runs"):
        bench([("a", rec)], ["onnxruntime"], min_runs=0)
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        bench([("a", rec), ("b", tmp_path / "gone.onnx")], ["onnxruntime"])
    with pytest.raises(InputError, match="abacus"):
        bench([("a", rec)], ["abacus"])


@pytest.mark.skipif(not STATUS.exists(), reason="this system has no /proc")
@pytest.mark.parametrize("engine", ENGINES)
def test_peak_memory_grows_with_the_input_and_not_with_this_process(engine: str, heavy: Path) -> None:
    ballast = np.ones(400 << 20, np.uint8)
    small = measure_peak_rss(heavy, engine, 1, (1, 3, 32, 32))
    large = measure_peak_rss(heavy, engine, 1, (1, 3, 640, 640))
    assert ballast[-1] == 1
    assert small is not None
    assert large is not None
    assert 20 < small < 350
    assert large - small > 100  # two maps of 64 channels of 640 x 640 floats are 210 MB


def test_a_probe_that_fails_says_why_in_one_line(mixer: Maker, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"broken\.onnx: is no ONNX model") as caught:
        measure_peak_rss(broken, "openvino", 1, (1, 3, 4, 4))
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="takes"):
        measure_peak_rss(mixer(), "onnxruntime", 1, (1, 5, 4, 4))


def test_a_probe_that_dies_or_babbles_is_an_engine_error(
    mixer: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    for body, message in [("kill -9 $$", "ended with code -9"), ("echo hello", "printed no figures")]:
        fake.write_text(f"#!/bin/sh\n{body}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(timing.sys, "executable", str(fake))
        with pytest.raises(EngineError, match=message):
            measure_peak_rss(mixer(), "openvino", 1, (1, 3, 4, 4))


def test_a_probe_that_hangs_is_ended(mixer: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setattr(timing.sys, "executable", str(fake))
    monkeypatch.setattr(timing, "PROBE_SECONDS", 0.2)
    with pytest.raises(EngineError, match="more than"):
        measure_peak_rss(mixer(), "openvino", 1, (1, 3, 4, 4))


def test_every_figure_of_a_row_is_of_its_documented_kind(rows: list[BenchRow]) -> None:
    """The schema that tools outside read: a missing key or another type breaks them."""
    kinds: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("label", "engine", "cpu"), str),
        **dict.fromkeys(("median_ms", "p10", "p90", "ratio", "ratio_on_engine"), float),
        **dict.fromkeys(("runs", "bytes", "threads"), int),
        **dict.fromkeys(("peak_rss_mb", "other_load"), (float, type(None))),
        **dict.fromkeys(("shape", "flags"), list),
        "versions": dict,
    }
    for row in rows:
        data = row.to_json()
        assert data.keys() == kinds.keys()
        for name, kind in kinds.items():
            assert isinstance(data[name], kind), name
        assert data["other_load"] is None or 0.0 <= data["other_load"] < 1024
        assert {"python", "onnxruntime", "openvino"} <= data["versions"].keys()
        assert all(isinstance(flag, str) for flag in data["flags"])


def test_ratios_on_an_engine_are_to_the_first_model_there(mixer: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    # a on the first engine, a on the second, b on the first, b on the second
    times = np.array([[2.0, 8.0, 1.0, 6.0]] * 3)
    monkeypatch.setattr(timing, "time_rounds", lambda *_: times)
    monkeypatch.setattr(timing, "measure_peak_rss", lambda *_: 50.0)
    rows = bench([("a", mixer()), ("b", mixer("b.onnx"))], ["openvino", "onnxruntime"])
    assert [row.engine for row in rows] == ["openvino", "onnxruntime"] * 2
    assert [row.ratio for row in rows] == [1.0, 4.0, 0.5, 3.0]
    assert [row.ratio_on_engine for row in rows] == [1.0, 1.0, 0.5, 0.75]
    assert [row.median_ms for row in rows] == [2000.0, 8000.0, 1000.0, 6000.0]


def test_a_sessions_failure_ends_the_rounds() -> None:
    class Failing(Clockwork):
        def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
            if len(self.diary) > 4:
                raise EngineError("out of memory")
            return super().run(x)

    with pytest.raises(EngineError, match="out of memory"):
        time_rounds([Failing("a", 0, [])], BATCH, min_runs=30)
