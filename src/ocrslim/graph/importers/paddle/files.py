"""Where a Paddle model's files are: in a folder, named one by one, or in a ``.tar`` as it is downloaded."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
MAX_BYTES = 1 << 30
"""Of a file, and of all that is in an archive together: the largest PP-OCR model has 0.1 GB."""
MAX_MEMBERS = 10_000
CHUNK = 1 << 20  # bytes read at a time
UNREADABLE = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, ArithmeticError, MemoryError, RecursionError)
"""What the readers of archives raise over a damaged one."""


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
            digest.update(_digest(path).digest())
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
        ModelError: the archive can't be read, is larger than 1 GiB when unpacked, or doesn't hold exactly one model.
    """
    again = "download it again"
    try:
        digest = _digest(archive).hexdigest()
        with _plain(archive) as plain, _Bounded(plain) as file, tarfile.open(fileobj=file, mode="r:") as tar:
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
    except UNREADABLE as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise ModelError(f"{archive}: not a whole .tar archive, or not to be unpacked ({said}); {again}") from error
    return folder


class _Bounded(io.FileIO):
    """A file that is asked for no more bytes than it has: a header that names 8 GiB would have that memory taken."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, at most ``size``."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left)) or b""


def _digest(path: Path) -> hashlib._Hash:
    """Return a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest


@contextmanager
def _plain(archive: Path) -> Iterator[Path]:
    """Yield the archive without its gzip around it.

    It is unpacked first, and no further than a model is large: else a header in it could name any size, for which the
    reader of the archive would take memory, and a few megabytes could hold hours of zeros.
    """
    too_large = ModelError(f"{archive}: more than {MAX_BYTES >> 30} GiB when unpacked; that is no PP-OCR model")
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        if archive.stat().st_size > MAX_BYTES:
            raise too_large
        yield archive
        return
    with tempfile.TemporaryDirectory(prefix="ocrslim-") as temporary:
        plain = Path(temporary) / "plain.tar"
        with gzip.open(archive) as source, plain.open("wb") as sink:
            while chunk := source.read(CHUNK):
                if sink.tell() > MAX_BYTES:
                    raise too_large
                sink.write(chunk)
        yield plain


def _wanted(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the plain files that may belong to a model."""
    total = 0
    for number, member in enumerate(tar):
        total += member.size  # of sparse files too, which take far less in the archive
        if total > MAX_BYTES or number > MAX_MEMBERS:
            raise ModelError(
                f"{archive}: more than {MAX_BYTES >> 30} GiB or {MAX_MEMBERS} files; that is no PP-OCR model"
            )
        if member.isfile() and member.size >= 0 and WANTED.fullmatch(PurePosixPath(member.name).name):
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
