"""Outputs are whole or not there, whatever stops their being written."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrslim import atomic
from ocrslim.atomic import output_folder, read_object, replacing, write_bytes


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=st.binary(max_size=200), second=st.binary(max_size=200))
def test_the_last_content_stands_alone(tmp_path: Path, first: bytes, second: bytes) -> None:
    path = tmp_path / "结果.json"
    for content in (first, second):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("odd")])
@pytest.mark.parametrize("there", [True, False])
def test_a_body_that_stops_leaves_what_was_there(tmp_path: Path, error: BaseException, there: bool) -> None:
    path = tmp_path / "model.onnx"
    if there:
        path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as partial:
            partial.write_bytes(b"half of the n")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [item.name for item in tmp_path.iterdir()] == (["model.onnx"] if there else [])
    assert not there or path.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic.os, step, refuse)
    with pytest.raises(OSError, match="Input/output"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    flush, rename = os.fsync, os.replace

    def note_flush(handle: int) -> None:
        order.append(f"flush {os.fstat(handle).st_size}")
        flush(handle)

    def note_rename(source: Path, target: Path) -> None:
        order.append(f"rename {source.parent == target.parent}")
        rename(source, target)

    monkeypatch.setattr(atomic.os, "fsync", note_flush)
    monkeypatch.setattr(atomic.os, "replace", note_rename)
    write_bytes(tmp_path / "a.bin", b"x" * 1000)
    assert order == ["flush 1000", "rename True"]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No such file|cannot find"):
        write_bytes(tmp_path / "none" / "a.txt", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "mine").write_text("mine")
    with pytest.raises(OSError, match=r"a\.txt"):
        write_bytes(tmp_path / "a.txt", b"x")
    assert (tmp_path / "a.txt" / "mine").read_text() == "mine"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_others_may_read_the_file_as_the_users_umask_says(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"x")
    write_bytes(ours, b"x")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared.bin"
    contents = [bytes([index]) * 50_000 for index in range(8)]
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(5):
                write_bytes(path, content)
                assert path.read_bytes() in contents
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(tmp_path.iterdir()) == [path]


def test_two_open_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as outer:
        outer.write_bytes(b"outer")
        with replacing(path) as inner:
            assert inner != outer
            inner.write_bytes(b"inner")
        assert path.read_bytes() == b"inner"
        assert inner.name.startswith(".")  # no one lists it for a result
    assert path.read_bytes() == b"outer"


def test_what_an_earlier_run_left_goes_and_the_user_s_own_stays(tmp_path: Path) -> None:
    (tmp_path / "old.svg").write_text("mine")
    with output_folder(tmp_path, ("old.svg", "kept.csv")) as partial:
        (partial / "result.json").write_text("{}")
        (partial / "kept.csv").write_text("first")
    assert (tmp_path / "old.svg").read_text() == "mine"  # no run had been there: it is none of ours
    with output_folder(tmp_path, ("old.svg", "kept.csv")) as partial:
        (partial / "result.json").write_text("{}")
        (partial / "kept.csv").write_text("second")
    assert not (tmp_path / "old.svg").exists()
    assert (tmp_path / "kept.csv").read_text() == "second"


def test_a_move_that_fails_leaves_no_result_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "result.json").write_text("first")
    move = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "model.onnx":
            raise OSError(5, "Input/output error")
        move(source, target)

    def run() -> None:
        with output_folder(tmp_path) as partial:
            for name in ("a.yml", "model.onnx", "result.json"):
                (partial / name).write_text("second")

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"):
        run()
    assert not (tmp_path / "result.json").exists()  # it would have told of files that are no longer its own


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"3", b"{", b"\xff", b"null"])
def test_what_holds_no_object_reads_as_an_empty_one(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert read_object(path) == {}
    path.write_bytes(b'{"a": [1, 2]}')
    assert read_object(path) == {"a": [1, 2]}
