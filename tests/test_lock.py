"""Two runs and one folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ocrslim.atomic import output_folder
from ocrslim.errors import InputError
from ocrslim.lock import alone_in

HOLD = "import sys, time, pathlib; from ocrslim.lock import alone_in\n"
HOLD += "with alone_in(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_with_a_line_that_names_the_first(tmp_path: Path) -> None:
    first = hold(tmp_path)
    try:
        with pytest.raises(InputError) as caught, alone_in(tmp_path):
            pass
    finally:
        first.kill()
        first.wait()
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}: another run is writing here (process {first.pid} on {socket.gethostname()}, ")
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\); wait for it, or name another folder$", said)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    first = hold(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (tmp_path / ".lock").exists()  # its file is left, its lock is not
    with alone_in(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / ".lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_one_process_can_not_hold_a_folder_twice(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()}"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_other_folders_are_free(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with alone_in(tmp_path / "a"), alone_in(tmp_path / "b"):
        pass


def test_an_error_in_the_body_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path):
        raise ZeroDivisionError
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"rubbish", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_lock_that_says_nothing_is_still_one(tmp_path: Path, content: bytes) -> None:
    first = hold(tmp_path)
    try:
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(InputError, match="another run is writing here; wait"), alone_in(tmp_path):
            pass
    finally:
        first.kill()
        first.wait()


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), alone_in(tmp_path / "missing"):
        pass


def test_of_many_at_once_one_at_a_time_is_inside(tmp_path: Path) -> None:
    inside, seen, refused = [0], [0], [0]

    def enter() -> None:
        for _ in range(40):
            try:
                with alone_in(tmp_path):
                    inside[0] += 1
                    seen[0] = max(seen[0], inside[0])
                    inside[0] -= 1
            except InputError:
                refused[0] += 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1]
    assert refused[0] < 160


def test_an_output_folder_takes_one_run_at_a_time(tmp_path: Path) -> None:
    with output_folder(tmp_path / "out") as partial:
        (partial / "model.onnx").write_bytes(b"first")
        said = rf"out: another run is writing here \(process {os.getpid()} on"
        with pytest.raises(InputError, match=said), output_folder(tmp_path / "out"):
            pass
        assert (partial / "model.onnx").read_bytes() == b"first"  # the second touched nothing
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
