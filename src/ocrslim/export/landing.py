"""Where a bundle lands: in a folder that is the user's, so that nothing of the user's is overwritten there.

A bundle is made in a hidden folder within the one that was named and moved out of it when it is whole: what fails or is
refused leaves nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ocrslim.errors import InputError
from ocrslim.export.bundle import README, Exported, is_bundle
from ocrslim.graph.importers.source import ModelSource

__all__ = ["folder_for", "land"]


def folder_for(model: str | Path, source: ModelSource, to: str, out: Path | None, quantized: bool) -> Path:
    """Return the folder that a bundle is to be written into.

    Args:
        model: as it was named.
        source: what that is.
        to: the format.
        out: that was asked for; ``None`` is a subfolder of the model's folder, named as the format.
        quantized: the model is one that ``ocrslim compress`` wrote, whose folder is the user's own.

    Raises:
        InputError: nobody said where to write, or it is the folder that the model itself is in.
    """
    if out is None:
        if not quantized and not Path(model).is_dir():
            raise InputError(f"{model}: name the folder to write with --out DIR")
        return (Path(model) if Path(model).is_dir() else source.path.parent) / to
    own = {source.path.parent.resolve()} | ({source.paddle.program.parent.resolve()} if source.paddle else set())
    if out.resolve() in own:
        raise InputError(f"--out {out}: is the model's own folder, whose files would be replaced; name another folder")
    return out


def land(folder: Path, said: str, write: Callable[[Path], Exported]) -> Exported:
    """Write a bundle into a folder, all of it or nothing.

    Args:
        folder: made if missing.
        said: how a refusal names it.
        write: writes the bundle into a folder of the same name.

    Raises:
        InputError: the folder can't be written, or holds files of the bundle's names that no earlier export wrote.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = tempfile.TemporaryDirectory(dir=folder, prefix=".export-")
    except OSError as error:
        raise InputError(f"{said}: cannot be written ({error.strerror}); name another folder with --out DIR") from error
    try:
        with stage:
            inside = Path(stage.name) / (folder.resolve().name or "model")  # `.` has no name, and the README says it
            inside.mkdir()
            done = write(inside)
            # The README says whose the folder is: where the moving is cut off, the next export finds it there.
            files = sorted(done.files, key=lambda path: path.name != README)
            _refuse_others(folder, said, done)
            for path in files:
                os.replace(path, folder / path.name)
            return replace(done, files=tuple(folder / path.name for path in done.files))
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()  # a refusal leaves no empty folder
        raise


def _refuse_others(folder: Path, said: str, done: Exported) -> None:
    """Refuse to replace files that are not of an earlier bundle of the same kind."""
    there = sorted(path.name for path in done.files if os.path.lexists(folder / path.name))
    made = next(path for path in done.files if path.name == README)
    if there and not is_bundle(folder / README, made):
        raise InputError(
            f"{said}: holds {', '.join(there)}, which the export would replace and no earlier export of this kind"
            " wrote; name another folder with --out DIR"
        )
