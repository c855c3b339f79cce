"""Paddle models as ``open_model`` takes them: folders, files and archives of the real models."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import CACHE_VARIABLE

DET, REC = "PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec"


@pytest.fixture
def det(paddle_zoo: Callable[[str], Path]) -> Path:
    """A detector with the inference.yml of the zoo."""
    return paddle_zoo(DET)


@pytest.fixture
def rec(paddle_zoo: Callable[[str], Path], tmp_path: Path) -> Path:
    """A recogniser as it is downloaded: the two files alone, in a folder of a classic name."""
    folder = tmp_path / "ch_PP-OCRv4_rec_infer"
    folder.mkdir()
    for name in ("inference.pdmodel", "inference.pdiparams"):
        shutil.copy(paddle_zoo(REC) / name, folder)
    return folder


@pytest.fixture
def cache(det: Path, rec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the models were fetched into the usual one before."""
    del det, rec
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "paddle"


def test_a_folder_with_inference_yml(det: Path, cache: Path) -> None:
    source = open_model(det)
    assert (source.name, source.task, source.use_space) == (DET, "det", True)
    assert source.path.is_relative_to(cache)
    assert source.paddle is not None
    assert source.paddle.program == det / "inference.pdmodel"
    assert source.paddle.parameters == det / "inference.pdiparams"
    assert source.inference_yml is not None
    assert source.characters is None


@pytest.mark.parametrize("name", ["inference.pdmodel", "inference.pdiparams", "."])
def test_a_file_is_named_after_its_folder(name: str, rec: Path, cache: Path) -> None:
    source = open_model(rec / name)
    assert (source.name, source.task) == ("ch_PP-OCRv4_rec_infer", "rec")
    assert source.path.is_relative_to(cache)
    assert source.characters is None
    assert source.inference_yml is None


def test_files_of_the_old_names(rec: Path, cache: Path) -> None:
    (rec / "inference.pdmodel").rename(rec / "__model__")
    (rec / "inference.pdiparams").rename(rec / "__params__")
    assert open_model(rec).path.parent.parent == cache
    assert open_model(rec).name == "ch_PP-OCRv4_rec_infer"


def test_the_dictionary_lies_beside_or_is_given(
    rec: Path, cache: Path, paddle_zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    dictionary = paddle_zoo(REC) / "dictionary.txt"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache.parent))
    given = open_model(rec, dictionary).characters
    shutil.copy(dictionary, rec / "ppocr_keys_v1.txt")
    assert open_model(rec).characters == given
    assert given is not None
    assert len(given) == 6623


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_archive(suffix: str, rec: Path, cache: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"download{suffix}"
    with tarfile.open(archive, "w:gz" if suffix.endswith("gz") else "w") as tar:
        tar.add(rec, "ch_PP-OCRv4_rec_infer")
    source = open_model(archive)
    assert source.name == "ch_PP-OCRv4_rec_infer"
    assert source.path == open_model(rec).path  # the same weights
    assert source.paddle is not None
    assert source.paddle.program.is_relative_to(cache)


def test_an_onnx_file_in_the_same_folder_goes_first(rec: Path, cache: Path) -> None:
    shutil.copy(open_model(rec).path, rec / "inference.onnx")
    source = open_model(rec)
    assert source.path == rec / "inference.onnx"
    assert source.paddle is None
    assert cache.exists()


def test_swapped_files_are_told_in_one_line(rec: Path, cache: Path) -> None:
    program, parameters = rec / "inference.pdmodel", rec / "inference.pdiparams"
    contents = program.read_bytes(), parameters.read_bytes()
    program.write_bytes(contents[1])
    parameters.write_bytes(contents[0])
    with pytest.raises(ModelError, match=r"inference\.pdmodel: expected a Paddle program .* may be swapped") as caught:
        open_model(rec)
    assert "\n" not in str(caught.value)
    assert not cache.exists()
