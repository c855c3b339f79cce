"""benchmarks/gpu.py on the CPU: the same path as on a GPU, which is not here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

gpu = importlib.import_module("gpu")


def test_types_and_batches_are_timed_beside_each_other(zoo: Callable[[str], Path]) -> None:
    zoo("PP-OCRv6_tiny_rec")
    rows = gpu.measure("PP-OCRv6_tiny_rec", torch.device("cpu"), ("off", "bf16"), (1, 2), turns=2)
    assert [(row.kind, row.batch) for row in rows] == [("off", 1), ("bf16", 1), ("off", 2), ("bf16", 2)]
    assert all(row.seconds > 0 for row in rows)
    assert [row.apart for row in rows if row.kind == "off"] == [0.0, 0.0]
    assert all(0 < row.apart < 0.5 for row in rows if row.kind == "bf16")  # another type, the same loss


def test_a_type_that_the_device_has_not_is_told(capsys: pytest.CaptureFixture[str], zoo: Callable[[str], Path]) -> None:
    zoo("PP-OCRv6_tiny_rec")
    assert gpu.main(["PP-OCRv6_tiny_rec", "--device", "cpu", "--types", "fp16"]) == 2
    assert "a CPU takes bf16 or off" in capsys.readouterr().err
