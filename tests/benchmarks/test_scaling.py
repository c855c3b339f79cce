"""Scaling: ratios within turns, and the table. The training itself is tested in test_distributed."""

from __future__ import annotations

from typing import Any

import pytest
import scaling

KEYS = ("step_ms", "all_reduce_ms", "batch_ms", "bytes", "others")
FACTS: dict[str, Any] = {
    **{"model": "net", "steps": 25, "threads": 1, "cores": 2, "cpu": "EPYC", "flags": "avx2"},
    "versions": {"torch": "2.13"},
}


def _runs(**rates: list[float]) -> dict[int, list[dict[str, float]]]:
    return {
        int(count[1:]): [dict.fromkeys(KEYS, 1.0) | {"images_per_second": rate} for rate in found]
        for count, found in rates.items()
    }


def test_what_counts_is_the_ratio_within_a_turn() -> None:
    runs = _runs(n1=[10.0, 5.0, 8.0], n2=[19.0, 9.0, 12.0])  # 1.9, 1.8, 1.5: the machine slowed down within the last
    assert scaling.times(runs, 2) == pytest.approx(1.8)
    assert scaling.times(runs, 1) == 1.0
    lines = scaling.table(runs, FACTS).splitlines()
    assert lines[2].startswith("| 1 | 8.0 | 1.00 | 1.00 1.00 1.00 |")
    assert lines[3].startswith("| 2 | 12.0 | 1.80 | 1.90 1.80 1.50 |")
    assert lines[-1] == "net, 25 steps, 1 threads a process, 2 cores; EPYC (avx2); torch 2.13"


def test_without_one_process_there_is_no_ratio() -> None:
    assert scaling.table(_runs(n2=[3.0]), FACTS).splitlines()[2].startswith("| 2 | 3.0 | - | - |")
