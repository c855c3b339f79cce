from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle import files as module
from ocrslim.graph.importers.paddle.files import PaddleFiles, find, unpack

Pack = Callable[..., Path]


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Return a function that writes an archive of given contents by name."""

    def write(contents: Mapping[str, bytes], name: str = "model.tar", mode: Any = "w", extra: Any = ()) -> Path:
        path = tmp_path / name
        with tarfile.open(path, mode) as tar:
            for member in extra:
                tar.addfile(member)
            for member_name, data in contents.items():
                member = tarfile.TarInfo(member_name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return path

    return write


MODEL = {"m_det_infer/inference.pdmodel": b"program", "m_det_infer/inference.pdiparams": b"weights"}


class TestFind:
    @pytest.mark.parametrize(
        ("program", "parameters"),
        [
            ("inference.pdmodel", "inference.pdiparams"),
            ("__model__", "__params__"),
            ("inference.json", "inference.pdiparams"),
            ("model.pdmodel", "model.pdiparams"),
            ("anything.pdmodel", "anything.pdiparams"),
        ],
    )
    def test_a_folder_and_each_of_its_files_mean_the_model(self, program: str, parameters: str, tmp_path: Path) -> None:
        folder = touch(tmp_path / "m", program, parameters, "README.md")
        wanted = PaddleFiles(folder / program, folder / parameters)
        assert find(folder) == find(folder / program) == find(folder / parameters) == wanted
        assert wanted.is_pir == program.endswith(".json")

    def test_the_classic_program_goes_before_pir(self, tmp_path: Path) -> None:
        folder = touch(tmp_path, "inference.json", "inference.pdmodel", "inference.pdiparams")
        found = find(folder)
        assert found is not None
        assert found.program.name == "inference.pdmodel"

    def test_other_things_mean_no_paddle_model(self, tmp_path: Path) -> None:
        touch(tmp_path, "inference.onnx", "config.json")
        assert find(tmp_path) is None
        assert find(tmp_path / "inference.onnx") is None

    @pytest.mark.parametrize(
        ("there", "missing"),
        [
            ("inference.pdmodel", "inference.pdiparams"),
            ("inference.pdiparams", "inference.pdmodel"),
            ("__model__", "__params__"),
            ("inference.json", "inference.pdiparams"),
        ],
    )
    def test_half_a_model_is_told(self, there: str, missing: str, tmp_path: Path) -> None:
        folder = touch(tmp_path, there)
        with pytest.raises(ModelError, match=rf"{missing}: no such file, but a Paddle model needs it beside {there}"):
            find(folder / there)

    def test_several_models_in_a_folder_are_told(self, tmp_path: Path) -> None:
        folder = touch(tmp_path, "a.pdmodel", "b.pdmodel")
        with pytest.raises(ModelError, match=r"several Paddle models \(a\.pdmodel, b\.pdmodel\); name the"):
            find(folder)


def test_the_hash_is_of_both_files(tmp_path: Path) -> None:
    one = find(touch(tmp_path / "a", "m.pdmodel", "m.pdiparams"))
    copy = find(touch(tmp_path / "b", "m.pdmodel", "m.pdiparams"))
    assert one is not None
    assert copy is not None
    assert one.sha256() == copy.sha256()
    copy.parameters.write_bytes(b"other")
    assert one.sha256() != copy.sha256()


class TestUnpack:
    @pytest.mark.parametrize(("name", "mode"), [("m.tar", "w"), ("m.tar.gz", "w:gz"), ("m.tgz", "w:gz")])
    def test_a_download_is_unpacked(self, name: str, mode: str, pack: Pack, tmp_path: Path) -> None:
        beside = {"m_det_infer/inference.yml": b"Global: {}", "m_det_infer/._inference.pdmodel": b"mac"}
        folder = unpack(pack(MODEL | beside | {"m_det_infer/run.sh": b"rm -r /"}, name, mode), tmp_path / "cache")
        assert folder.name == "m_det_infer"
        contents = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert contents == {
            "inference.pdmodel": b"program",
            "inference.pdiparams": b"weights",
            "inference.yml": b"Global: {}",
        }

    def test_twice_gives_the_same_folder_and_mends_it(self, pack: Pack, tmp_path: Path) -> None:
        archive = pack(MODEL)
        folder = unpack(archive, tmp_path / "cache")
        (folder / "inference.pdiparams").write_bytes(b"hurt")
        assert unpack(archive, tmp_path / "cache") == folder
        assert (folder / "inference.pdiparams").read_bytes() == b"weights"

    @pytest.mark.parametrize("place", ["../../out", "/tmp/out", "a/../../..", "..", "."])
    def test_no_path_leads_out_of_the_cache(self, place: str, pack: Pack, tmp_path: Path) -> None:
        archive = pack({f"{place}/inference.pdmodel": b"p", f"{place}/inference.pdiparams": b"w"})
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        folder = unpack(archive, tmp_path / "cache")
        assert folder.resolve().is_relative_to((tmp_path / "cache").resolve())
        new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        assert {path.parent for path in new} == {folder}

    def test_links_are_passed_over(self, pack: Pack, tmp_path: Path) -> None:
        link = tarfile.TarInfo("m_det_infer/inference.yml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        folder = unpack(pack(MODEL, extra=[link]), tmp_path / "cache")
        assert not (folder / "inference.yml").exists()

    def test_a_flat_archive_is_named_after_itself(self, pack: Pack, tmp_path: Path) -> None:
        flat = {"inference.pdmodel": b"p", "inference.pdiparams": b"w"}
        assert unpack(pack(flat, "my_rec.tar"), tmp_path / "cache").name == "my_rec"

    @pytest.mark.parametrize(
        ("contents", "found"),
        [({"a/readme.txt": b"hello"}, "no Paddle model"), (MODEL | {"b/inference.pdmodel": b"p"}, "2 models")],
    )
    def test_not_one_model_is_told(self, contents: Any, found: str, pack: Pack, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=rf"model\.tar: holds {found}; give an archive of one model"):
            unpack(pack(contents), tmp_path / "cache")

    def test_too_large_is_told_before_anything_is_written(
        self, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_BYTES", 10)
        with pytest.raises(ModelError, match="GiB when unpacked"):
            unpack(pack(MODEL), tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("keep", [0, 100, 700, 1500])
    def test_cut_off_is_told(self, keep: int, pack: Pack, tmp_path: Path) -> None:
        archive = pack({"m/inference.pdmodel": bytes(range(256)) * 8, "m/inference.pdiparams": b"w"})
        archive.write_bytes(archive.read_bytes()[:keep])
        with pytest.raises(ModelError, match=r"model\.tar: ") as caught:
            unpack(archive, tmp_path / "cache")
        assert "\n" not in str(caught.value)

    def test_a_gzip_that_is_cut_off_is_told(self, pack: Pack, tmp_path: Path) -> None:
        archive = pack(MODEL, "m.tar.gz", "w:gz")
        archive.write_bytes(archive.read_bytes()[:60])
        with pytest.raises(ModelError, match=r"not a whole \.tar archive"):
            unpack(archive, tmp_path / "cache")

    def test_no_archive_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "m.tar").write_text("<html>404</html>")
        with pytest.raises(ModelError, match=r"m\.tar: not a whole \.tar archive.*; download it again"):
            unpack(tmp_path / "m.tar", tmp_path / "cache")


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """Return a header of a .tar with its checksum, whatever it claims."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [1 << 20, (1 << 33) - 1, 1 << 60])
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"S"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_claims_any_size_takes_no_memory(tmp_path: Path, size: int, kind: bytes, packed: bool) -> None:
    content = header("m/inference.pdmodel", size, kind) + bytes(1024)
    path = tmp_path / ("model.tar.gz" if packed else "model.tar")
    path.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            unpack(path, tmp_path / "cache")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_zeros_packed_small_are_unpacked_no_further_than_a_model_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 8 << 20)
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(header("other", 64 << 20) + bytes(64 << 20)))
    with pytest.raises(ModelError, match="when unpacked; that is no PP-OCR model"):
        unpack(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_many_empty_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 20)
    path = tmp_path / "model.tar"
    path.write_bytes(b"".join(header(f"m/{number}.txt", 0) for number in range(30)) + bytes(1024))
    with pytest.raises(ModelError, match="or 20 files"):
        unpack(path, tmp_path / "cache")
