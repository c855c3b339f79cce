"""Peak memory and the load of others, against processes that we start for it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ocrslim.engines import machine
from ocrslim.engines.machine import OtherLoad, peak_rss_mb

needs_proc = pytest.mark.skipif(not machine.STAT.exists(), reason="this system has no /proc")
MEGABYTE = 1 << 20


def peak_of(code: str) -> float:
    script = f"from ocrslim.engines.machine import peak_rss_mb\n{code}\nprint(peak_rss_mb())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


@needs_proc
def test_the_peak_counts_memory_that_was_given_back() -> None:
    base = peak_of("")
    assert 5 < base < 100
    touched = peak_of("x = b'x' * (200 << 20); del x")
    assert 190 < touched - base < 260


@needs_proc
def test_a_small_child_does_not_inherit_the_peak_of_a_large_parent() -> None:
    # What getrusage gets wrong: its figure survives exec.
    ballast = np.ones(300 * MEGABYTE, np.uint8)
    child = peak_of("")
    assert ballast.sum() == 300 * MEGABYTE
    mine = peak_rss_mb()
    assert mine is not None
    assert mine > 300
    assert child < 100


def test_where_nobody_tells_there_is_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "STATUS", tmp_path / "none")
    monkeypatch.setattr(machine, "STAT", tmp_path / "none")
    monkeypatch.setattr("sys.platform", "win32")
    assert peak_rss_mb() is None
    assert OtherLoad().cores() is None


@needs_proc
def test_a_busy_neighbour_is_seen_and_our_own_work_is_not() -> None:
    def spin(seconds: float) -> float:
        load, until = OtherLoad(), time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        cores = load.cores()
        assert cores is not None
        return cores

    # Neighbours on the machine may come and go, and another worker of this very run is one; those that we start must
    # add to them, on two cores that are both busy too.
    quiet = min(spin(0.3) for _ in range(3))
    neighbour = "import time\nend = time.monotonic() + 10\nwhile time.monotonic() < end: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", neighbour]) for _ in range(4)]
    try:
        time.sleep(0.2)
        busy = max(spin(0.3) for _ in range(3))
    finally:
        for process in neighbours:
            process.kill()
            process.wait()
    assert busy > quiet + 0.2


@needs_proc
def test_fields_of_proc_stat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, in ticks of 1/100 s; guest is within user.
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine, "STAT", stat)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stat.write_text("cpu  100 0 0 5000 900 0 0 0 100 0\ncpu0 1 2 3\n")
    load = OtherLoad()
    stat.write_text("cpu  200 10 20 9999 999 30 40 100 200 0\ncpu0 1 2 3\n")
    assert load.cores() == pytest.approx((100 + 10 + 20 + 30 + 40 + 100) / 100 / 2)
