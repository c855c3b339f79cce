"""The log of a run: stages with seconds and memory, bars that leave a trace, no message lost."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ocrslim.report.run_log import RunLog, peak_rss_mb, progress_bar


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(tmp_path: Path, screen: io.StringIO) -> Iterator[RunLog]:
    log = RunLog(tmp_path, Console(file=screen, width=100))
    yield log
    log.close()


def written(folder: Path) -> str:
    return (folder / "log.txt").read_text(encoding="utf-8")


def test_say_shows_and_writes_and_note_only_writes(log: RunLog, screen: io.StringIO, tmp_path: Path) -> None:
    log.say("loud [bold] 100 %")
    log.note("quiet")
    assert "loud [bold] 100 %" in screen.getvalue()  # neither markup nor a format
    assert "quiet" not in screen.getvalue()
    assert "loud [bold] 100 %" in written(tmp_path)
    assert "quiet" in written(tmp_path)


def test_a_stage_is_timed_and_weighed(log: RunLog) -> None:
    with log.stage("first"):
        pass
    with log.stage("second"):
        pass
    assert [stage["name"] for stage in log.stages] == ["first", "second"]
    for stage in log.stages:
        assert 0 <= stage["seconds"] < 1
        assert stage["peak_rss_mb"] > 10


def test_a_stage_that_fails_is_logged_and_not_counted(log: RunLog, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), log.stage("doomed"):
        _ = 1 / 0
    assert log.stages == []
    assert "doomed: stopped by ZeroDivisionError: division by zero" in written(tmp_path)


def test_an_interrupted_stage_is_logged(log: RunLog, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), log.stage("long"):
        raise KeyboardInterrupt
    assert "long: stopped by KeyboardInterrupt" in written(tmp_path)


@pytest.mark.parametrize(("steps", "lines"), [(5, 5), (100, 20), (1000, 20)])
def test_a_bar_leaves_some_twenty_lines(log: RunLog, tmp_path: Path, steps: int, lines: int) -> None:
    with log.bar("train") as update:
        for step in range(1, steps + 1):
            update(step, steps, {"loss": 1 / step})
    noted = [line for line in written(tmp_path).splitlines() if "train: " in line]
    assert len(noted) == lines
    assert f"train: {steps}/{steps} loss {1 / steps:.4g}" in noted[-1]


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_bar_that_nobody_watches_writes_nothing(screen: io.StringIO, error: type[Exception] | None) -> None:
    console = Console(file=screen)
    with contextlib.suppress(ValueError), progress_bar("evaluate", console) as update:
        update(1, 2)
        if error:
            raise error
    assert screen.getvalue() == ""


def test_a_bar_on_a_terminal_shows_how_far_it_is_and_goes_away(screen: io.StringIO) -> None:
    console = Console(file=screen, force_terminal=True, width=100)
    with progress_bar("evaluate [/x]", console) as update:
        update(3, 7, {"loss": 0.25})
        console.print("a line in between")
    shown = screen.getvalue()
    assert "evaluate [/x]" in shown  # names are no markup
    assert "3/7" in shown
    assert "loss 0.25" in shown
    assert "a line in between" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the bar's line is cleared


def test_a_second_run_adds_to_the_log(tmp_path: Path) -> None:
    for name in ("one", "two"):
        log = RunLog(tmp_path, Console(quiet=True))
        log.note(name)
        log.close()
    text = written(tmp_path)
    assert text.index("one") < text.index("two")
    assert len(text.splitlines()) == 2  # no handler of the first run is left to write twice


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a full disk: what is said is still shown, and what went wrong elsewhere is not hidden behind the log."""
    screen = io.StringIO()
    log = RunLog(tmp_path, Console(file=screen, width=100))

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        flush = close = lambda self: self.write("")  # type: ignore[assignment]

    log._file.stream.close()
    log._file.stream = Full()  # type: ignore[assignment]
    log.say("a line")
    log.close()
    assert "a line" in screen.getvalue()
    assert capsys.readouterr().err == ""


def test_peak_memory_is_in_mebibytes() -> None:
    peak = peak_rss_mb()
    assert peak is not None
    assert 10 < peak < 1_000_000


def test_a_stage_within_another_is_counted_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Console(quiet=True))
    started = time.monotonic()
    with log.stage("outer"):
        time.sleep(0.05)
        for name in ("first", "second"):
            with log.stage(name):
                time.sleep(0.1)
    with log.stage("next"):
        time.sleep(0.05)
    elapsed = time.monotonic() - started
    log.close()
    seconds = {stage["name"]: stage["seconds"] for stage in log.stages}
    assert list(seconds) == ["first", "second", "outer", "next"]
    assert seconds["outer"] < 0.1 <= seconds["first"]
    assert sum(seconds.values()) == pytest.approx(elapsed, abs=0.05)
