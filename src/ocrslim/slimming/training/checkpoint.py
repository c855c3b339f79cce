"""Checkpoints: tensors in safetensors, everything else in plain JSON, each folder complete or absent.

A checkpoint is a folder ``step_000120`` with ``state.safetensors`` and ``state.json``. It is written under a temporary
name, flushed to the disk and renamed, so a crash leaves the previous one. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ocrslim.errors import OcrslimError

__all__ = ["latest_checkpoint", "load_checkpoint", "save_checkpoint"]

_PREFIX = "step_"


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint and drop all but the newest ``keep``.

    Args:
        folder: where checkpoints live; made if it is missing.
        step: steps done so far.
        tensors: by name.
        state: anything that JSON holds.
        keep: how many to keep, at least 1.

    Returns:
        Path: the folder of this checkpoint.

    Raises:
        OcrslimError: the disk refused; the previous checkpoint is intact.
    """
    final = folder / f"{_PREFIX}{step:08d}"
    partial = folder / f".{final.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            partial / "state.safetensors",
        )
        (partial / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
        for path in partial.iterdir():
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OcrslimError(
            f"{final}: the checkpoint could not be written ({error}); free some space and run again"
        ) from error
    for old in _steps(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read one checkpoint.

    Args:
        path: the folder that :func:`save_checkpoint` returned.

    Returns:
        tuple: the tensors by name, and the state.

    Raises:
        OcrslimError: a file is missing or damaged.
    """
    try:
        tensors = load_file(path / "state.safetensors")
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise OcrslimError(
            f"{path}: not a readable checkpoint ({error}); delete it to fall back on an older one"
        ) from error
    return tensors, state


def latest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the newest readable checkpoint below ``folder``, or ``None``; damaged ones are passed over."""
    for path in reversed(_steps(folder)):
        try:
            return load_checkpoint(path)
        except OcrslimError:
            continue
    return None


def _steps(folder: Path) -> list[Path]:
    """Return the checkpoints' folders, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def _flush(path: Path) -> None:
    """Ask the system to put a file's bytes on the disk, so that the rename cannot overtake them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
