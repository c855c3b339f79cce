"""benchmarks/gpu.py on the CPU: the same path as on a GPU, which is not here."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

gpu = importlib.import_module("gpu")


def test_types_and_batches_are_timed_beside_each_other(zoo: Callable[[str], Path]) -> None:
    zoo("PP-OCRv6_tiny_rec")
    rows = gpu.measure("PP-OCRv6_tiny_rec", torch.device("cpu"), ("off", "bf16"), (1, 2), turns=2)
    assert [(row.kind, row.batch) for row in rows] == [("off", 1), ("bf16", 1), ("off", 2), ("bf16", 2)]
    assert all(row.seconds > 0 for row in rows)
    assert all(0 < row.loss < 10 for row in rows)
    assert len({row.loss for row in rows}) == 4  # other types round otherwise, other batches are other images


def test_what_does_not_fit_is_a_row_too(zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    zoo("PP-OCRv6_tiny_rec")

    def too_large(graph: object, task: str, precision: object, batch: int) -> Callable[[], float]:
        if batch > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: 1.0

    monkeypatch.setattr(gpu, "_step", too_large)
    rows = gpu.measure("PP-OCRv6_tiny_rec", torch.device("cpu"), ("off",), (1, 64), turns=2)
    assert [row.seconds is None for row in rows] == [False, True]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(gpu.table(rows, torch.device("cpu"), 2, 0.0))
    assert "memory too small" in console.export_text()


def test_a_type_that_the_device_has_not_is_told(capsys: pytest.CaptureFixture[str], zoo: Callable[[str], Path]) -> None:
    zoo("PP-OCRv6_tiny_rec")
    assert gpu.main(["PP-OCRv6_tiny_rec", "--device", "cpu", "--types", "fp16"]) == 2
    assert "a CPU takes bf16 or off" in capsys.readouterr().err
