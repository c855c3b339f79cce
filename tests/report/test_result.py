"""``result.json`` is whole or not there, and says nothing that JSON cannot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ocrslim.report import result
from ocrslim.report.result import sha256_of, write_json, write_text


def test_json_goes_and_comes_back(tmp_path: Path) -> None:
    data = {"模型": "PP-OCRv4", "metrics": {"accuracy": 0.6002}, "none": None, "list": [1, 2.5]}
    path = tmp_path / "result.json"
    write_json(path, data)
    assert json.loads(path.read_text(encoding="utf-8")) == data
    assert "模型" in path.read_text(encoding="utf-8")
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused_and_the_old_file_stays(tmp_path: Path, value: float) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": value})
    assert json.loads(path.read_text()) == {"a": 1}


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(result.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new" * 1000)
    assert path.read_text() == "old"


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one read
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_sha256_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> Path:
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    first = sha256_of(folder("a", {"x.png": b"1", "sub/y.png": b"2"}))
    assert sha256_of(folder("b", {"sub/y.png": b"2", "x.png": b"1"})) == first  # wherever it lies
    assert sha256_of(folder("c", {"x.png": b"1", "sub/z.png": b"2"})) != first
    assert sha256_of(folder("d", {"x.png": b"1", "sub/y.png": b"3"})) != first
