"""Checkpoints: tensors in safetensors, everything else in plain JSON, each folder complete or absent.

A checkpoint is a folder ``step_00000120`` with ``state.safetensors``, ``state.json`` and ``sha256.json``, the hashes of
the two. It is written under a temporary name, flushed to the disk and renamed, so a crash leaves the previous one; what
has changed on the disk since is found by its hash, and the checkpoint before is taken. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
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

__all__ = ["latest_checkpoint", "load_checkpoint", "refuse_another_run", "save_checkpoint"]

_PREFIX = "step_"
_HASHES = "sha256.json"
_SHOWN = 60  # characters of a setting that are worth repeating


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
        OcrslimError: the disk refused or is full; the previous checkpoint is intact.
        TypeError: the state holds what JSON can't.
    """
    written = json.dumps({"step": step, **state})
    final = folder / f"{_PREFIX}{step:08d}"
    partial = folder / f".{final.name}.partial"
    try:
        for left in folder.glob(f".{_PREFIX}*.partial"):  # by a run that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            partial / "state.safetensors",
        )
        (partial / "state.json").write_text(written, encoding="utf-8")
        hashes = {path.name: _digest(path) for path in sorted(partial.iterdir())}
        (partial / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        _flush(folder)
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
        OcrslimError: a file is missing or damaged, or not what was written.
    """
    try:
        hashes = json.loads((path / _HASHES).read_text(encoding="utf-8"))
        changed = [name for name in ("state.safetensors", "state.json") if _digest(path / name) != hashes[name]]
        if changed:
            raise ValueError(f"{changed[0]} is not what was written")
        tensors = load_file(path / "state.safetensors")
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
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


def refuse_another_run(folder: Path, saved: str, own: str) -> None:
    """Refuse the checkpoints of a run with other settings, and name what differs.

    Args:
        folder: of the checkpoints.
        saved: what identified the run that wrote them.
        own: what identifies this one: JSON of an object, its settings by name, or anything else, such as a hash.

    Raises:
        OcrslimError: the two differ.
    """
    if saved == own:
        return
    before, now = _settings(saved), _settings(own)
    differing = [
        f"{name} was {_show(before.get(name))}, is {_show(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    said = f" ({'; '.join(differing)})" if differing else ""
    if now and not before:
        said = " (an earlier version of ocrslim wrote them)"
    raise OcrslimError(
        f"{folder}: holds checkpoints of a run with other settings{said}; take another --out or delete them"
    )


def _settings(identity: str) -> dict[str, Any]:
    """Return an identity's settings by dotted name; none where it isn't JSON of an object."""
    try:
        found = json.loads(identity)
    except ValueError:
        return {}
    flat: dict[str, Any] = {}

    def put(value: Any, name: str) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                put(item, f"{name}.{key}" if name else key)
        elif name:
            flat[name] = value

    put(found if isinstance(found, dict) else {}, "")
    return flat


def _show(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."


def _digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _steps(folder: Path) -> list[Path]:
    """Return the checkpoints' folders, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def _flush(path: Path) -> None:
    """Ask the system to put a file's bytes, or a folder's names, on the disk, so that no rename overtakes them."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no way to flush a folder
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
