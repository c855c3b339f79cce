"""The command line as people meet it: tables, help, what the parser refuses, interrupts and closed pipes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocrslim import cli
from ocrslim.errors import EngineError
from ocrslim.graph.importers.zoo import MODELS

Run = Callable[..., tuple[int, str, str]]


def test_eval_prints_a_table(run: Run, zoo: Callable[[str], Path], lines: Path) -> None:
    code, out, _ = run("eval", zoo("PP-OCRv6_tiny_rec"), "--data", lines)
    assert code == 0
    assert "accuracy" in out


@pytest.mark.parametrize("arguments", [["bench", "x", "--shape", "48"], ["bench", "x", "--threads", "0"], ["compress"]])
def test_wrong_options_end_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_a_failure_of_ours_is_no_mistake_of_the_user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise EngineError("the engine\nfailed")

    monkeypatch.setitem(cli.RUN, "models", fail)
    assert run("models") == (1, "", "ocrslim: the engine failed\n")


@pytest.mark.parametrize(
    ("arguments", "goes_on"), [(["models"], False), (["compress", "m", "--target", "openvino", "--out", "o"], True)]
)
def test_an_interrupt_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], goes_on: bool
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.RUN, arguments[0], interrupt)
    code, out, err = run(*arguments)
    assert (code, out) == (130, "")
    assert err.count("\n") == 1
    assert ("goes on" in err) == goes_on


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "o/x.onnx"), "o/x.onnx: No space left on device; free some"),
        (PermissionError(errno.EACCES, "Permission denied", "o"), "o: Permission denied"),
        (OSError("odd"), "a file: odd"),
    ],
)
def test_what_the_disk_refuses_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setitem(cli.RUN, "models", fail)
    code, out, err = run("models")
    assert (code, out) == (1, "")
    assert err.startswith(f"ocrslim: {words}")
    assert err.count("\n") == 1


def test_tables_go_to_stdout_and_names_stay_whole(
    run: Run, zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, lines: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("models")
    assert (code, err) == (0, "")
    assert all(name in out for name in MODELS)
    monkeypatch.setenv("COLUMNS", "20")
    assert all(name in run("models", "list")[1] for name in MODELS)
    long = lines.parent / ("a set of a long name " + "x" * 60)
    long.mkdir()
    for name in ("0.png", "1.png"):
        (lines.parent / name).rename(long / name)
    lines.write_text(f"2.png\tef\n{long.name}/0.png\tab\n{long.name}/1.png\tcd\n", encoding="utf-8")
    code, out, err = run("eval", zoo("PP-OCRv6_tiny_rec"), "--data", lines, "--loose", "--threads", 1)
    assert (code, err) == (0, "")
    assert long.name in out.splitlines()
    assert not out.startswith("\n")


def test_inspect_shows_a_table(run: Run, zoo: Callable[[str], Path]) -> None:
    code, out, err = run("inspect", zoo("PP-OCRv6_tiny_det"))
    assert (code, err) == (0, "")
    assert out.startswith("PP-OCRv6_tiny_det")
    assert MODELS["PP-OCRv6_tiny_det"].sha256 in "".join(out.split())


@pytest.mark.usefixtures("brief")
def test_bench_shows_a_table(run: Run, zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--threads", 1, "--shape", "48x64", "--engine", "onnxruntime")
    code, out, err = run("bench", zoo("PP-OCRv6_tiny_rec"), *options)
    assert (code, err) == (0, "")
    assert "1 thread, input 1x3x48x64" in out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["eval", "m", "--data", "l", "--engine", "abacus"],
        ["eval", "m", "--data", "l", "--profile", "mine"],
        ["eval", "m", "--data", "l", "--limit", "0"],
        ["eval", "m", "--data", "l", "--limit", "many"],
        ["bench"],
        ["bench", "m", "--shape", "48x"],
        ["bench", "m", "--shape", "-1x320"],
        ["bench", "m", "--batch", "0"],
        ["compress", "m", "--target", "abacus", "--out", "o"],
        ["compress", "m", "--target", "openvino", "--out", "o", "--steps", "-1"],
        ["compress", "m", "--target", "openvino", "--out", "o", "--observer", "mean"],
        ["compress", "m", "--target", "openvino", "--out", "o", "--learning-rate", "-1"],
        ["compress", "m", "--target", "openvino", "--out", "o", "--learning-rate", "nan"],
        ["prune", "m", "--target", "openvino", "--out", "o", "--ratio", "0.1", "--learning-rate", "0"],
        ["models", "push"],
        ["demo", "--threads", "0"],
    ],
)
def test_what_the_parser_refuses_ends_with_two_and_no_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("usage: ocrslim")
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compress", "--help"], ["models", "--help"]])
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert (stopped.value.code, captured.err) == (0, "")
    assert "ocrslim" in captured.out


def test_the_face_has_the_options_that_it_promised() -> None:
    line = "compress m --data d --eval e --target openvino --out o --seed 3 --steps 0 --ptq-only --threads 1"
    parsed = cli.build_parser().parse_args(line.split())
    assert (parsed.model, parsed.data, parsed.eval, parsed.out) == ("m", Path("d"), Path("e"), Path("o"))
    assert (parsed.target, parsed.seed, parsed.steps, parsed.ptq_only, parsed.threads) == ("openvino", 3, 0, True, 1)
    default = cli.build_parser().parse_args(["compress", "m", "--target", "openvino", "--out", "o"])
    assert (default.data, default.eval, default.steps, default.ptq_only) == (None, None, None, False)
    scored = cli.build_parser().parse_args(["eval", "m", "--data", "d", "--limit", "5", "--task", "rec"])
    assert (scored.engine, scored.profile, scored.loose, scored.limit, scored.json) == (
        None,
        None,
        False,
        5,
        False,
    )
    assert cli.build_parser().parse_args(["bench", "m", "--shape", "48X320"]).shape == (48, 320)
    assert cli.build_parser().parse_args(["models"]).action == "list"


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_reader_that_goes_away_is_told_nothing(options: list[str]) -> None:
    """As in ``ocrslim models | head -c 1``: the pipe's other end is closed before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "ocrslim", "models", *options], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.stderr == b""


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocrslim", "models", "pull", "nope"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ocrslim: nope: unknown model")
    assert done.stderr.count("\n") == 1


def test_devices_start_so_many_processes_with_the_same_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[list[str], int]] = []
    monkeypatch.setattr(cli, "launch", lambda arguments, count: started.append((arguments, count)) or 7)
    command = ["compress", "m.onnx", "--target", "openvino", "--out", str(tmp_path), "--devices", "2"]
    assert cli.main(command) == 7
    assert started == [(["-m", "ocrslim", *command], 2)]
