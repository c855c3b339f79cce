"""Scaling: ratios within turns, and the table. The training itself is tested in test_distributed."""

from __future__ import annotations

from typing import Any

import pytest
import scaling

FACTS: dict[str, Any] = {
    **{"model": "net", "steps": 5, "threads": 1, "cores": 2, "cpu": "EPYC", "flags": "avx2"},
    "versions": {"torch": "2.13"},
}
RUN: dict[str, Any] = {"all_reduce_ms": 3.4, "batch_ms": 5.0, "bytes": 97312.0, "others": 0.0}


def test_what_counts_is_the_ratio_within_a_turn() -> None:
    # 1.9, 1.8, 1.5: the machine slowed down within the last
    run = RUN | {"alone": [10.0, 5.0, 8.0], "together": [19.0, 9.0, 12.0]}
    assert scaling.ratios(run) == pytest.approx([1.9, 1.8, 1.5])
    lines = scaling.table({2: run}, FACTS).splitlines()
    assert lines[2] == "| 2 | 8.0 | 12.0 | 1.80 | 1.90 1.80 1.50 | 3.40 | 5 | 0.0 |"
    assert lines[-1] == "net, turns of 5 steps, 1 threads a process, 2 cores; EPYC (avx2); torch 2.13"


def test_one_process_is_nothing_to_hold_against_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scaling._options(["--processes", "1"])
    assert "two at least" in capsys.readouterr().err
