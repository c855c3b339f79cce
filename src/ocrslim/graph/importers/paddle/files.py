"""Where a Paddle model's files are: in a folder, named one by one, or in a ``.tar`` as it is downloaded."""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ocrslim.atomic import write_bytes
from ocrslim.errors import ModelError

__all__ = ["PaddleFiles", "find", "unpack"]

PARAMETERS = {".pdmodel": ".pdiparams", ".json": ".pdiparams"}
OLD_PROGRAM, OLD_PARAMETERS = "__model__", "__params__"  # before Paddle 2
PROGRAMS = ("inference.pdmodel", OLD_PROGRAM, "inference.json", "model.pdmodel")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
WANTED = re.compile(r"[^.].*\.(pdmodel|pdiparams|yml|txt)|__model__|__params__|inference\.json")
MAX_BYTES = 2 << 30
"""Of all files in an archive together: the largest PP-OCR model has 0.1 GB."""


@dataclass(frozen=True)
class PaddleFiles:
    """A Paddle model on the disk.

    Args:
        program: ``.pdmodel``, ``__model__`` or PIR's ``.json``.
        parameters: ``.pdiparams`` or ``__params__``.
    """

    program: Path
    parameters: Path

    @property
    def is_pir(self) -> bool:
        """Whether the program is in Paddle 3's representation."""
        return self.program.suffix == ".json"

    def sha256(self) -> str:
        """Return the hash of both files together."""
        digest = hashlib.sha256()
        for path in (self.program, self.parameters):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def find(path: Path) -> PaddleFiles | None:
    """Return the Paddle model that a path means; ``None`` where it means none.

    Args:
        path: a folder that holds a program, or a program or its parameters; not an archive.

    Raises:
        ModelError: there is one of the two files without the other, or a folder holds several models.
    """
    if path.is_dir():
        program = _program(path)
        return None if program is None else _pair(program)
    if path.name in (OLD_PROGRAM, OLD_PARAMETERS):
        return _pair(path.with_name(OLD_PROGRAM))
    if path.suffix == ".pdiparams":
        programs = [path.with_suffix(suffix) for suffix in PARAMETERS]
        return _pair(next((program for program in programs if program.is_file()), programs[0]))
    return _pair(path) if path.suffix in PARAMETERS else None


def _program(folder: Path) -> Path | None:
    for name in PROGRAMS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*.pdmodel"))
    if len(others) > 1:
        names = ", ".join(other.name for other in others)
        raise ModelError(f"{folder}: holds several Paddle models ({names}); name the .pdmodel file that is meant")
    return others[0] if others else None


def _pair(program: Path) -> PaddleFiles:
    old = program.name == OLD_PROGRAM
    parameters = program.with_name(OLD_PARAMETERS) if old else program.with_suffix(PARAMETERS[program.suffix])
    for path, other in ((program, parameters), (parameters, program)):
        if not path.is_file():
            raise ModelError(f"{path}: no such file, but a Paddle model needs it beside {other.name}")
    return PaddleFiles(program, parameters)


def unpack(archive: Path, cache: Path) -> Path:
    """Unpack the one model that an archive holds, and return its folder.

    The files are written under their bare names into a folder of the cache called after the archive's SHA-256 and the
    model's folder: whatever paths the archive names, nothing lands elsewhere. Links and other things are passed over.

    Args:
        archive: a ``.tar``, packed or not.
        cache: folder to unpack into.

    Raises:
        ModelError: the archive can't be read, is larger than 2 GiB when unpacked, or doesn't hold exactly one model.
    """
    again = "download it again"
    try:
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        with tarfile.open(archive) as tar:
            members = list(_wanted(archive, tar))
            places = {PurePosixPath(member.name).parent for member in members}
            models = [place for place in places if _holds_model(place, members)]
            if len(models) != 1:
                found = "no Paddle model" if not models else f"{len(models)} models"
                raise ModelError(
                    f"{archive}: holds {found}; give an archive of one model, or unpack it and name a folder"
                )
            label = re.sub(r"[^\w.-]|^\.+", "_", models[0].name) or archive.name.partition(".")[0]
            folder = cache / digest / label
            folder.mkdir(parents=True, exist_ok=True)
            for member in members:
                if PurePosixPath(member.name).parent == models[0]:
                    _extract(tar, member, folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise ModelError(f"{archive}: not a whole .tar archive, or not to be unpacked ({said}); {again}") from error
    return folder


def _wanted(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the plain files that may belong to a model."""
    total = 0
    for member in tar:
        if member.isfile() and WANTED.fullmatch(PurePosixPath(member.name).name):
            total += member.size
            if total > MAX_BYTES:
                raise ModelError(f"{archive}: more than {MAX_BYTES >> 30} GiB when unpacked; that is no PP-OCR model")
            yield member


def _holds_model(place: PurePosixPath, members: list[tarfile.TarInfo]) -> bool:
    names = {PurePosixPath(member.name).name for member in members if PurePosixPath(member.name).parent == place}
    return any(name in PROGRAMS or name.endswith(".pdmodel") for name in names)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = folder / PurePosixPath(member.name).name
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut off")
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
