"""What a long run says while it works: a line in ``log.txt`` for each event, bars with an ETA on a terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ocrslim.engines.machine import peak_rss_mb

__all__ = ["RunLog", "progress_bar"]


class RunLog:
    """Log file, stages and progress bars of one run.

    Args:
        folder: ``log.txt`` is appended to there.
        console: where bars and lines are shown.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.console = console
        self.stages: list[dict[str, Any]] = []
        self._within = 0.0  # seconds of all stages that ended
        self._logger = logging.getLogger(f"ocrslim.run.{folder}")
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._file = _LogFile(folder / "log.txt", encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._logger.addHandler(self._file)

    def close(self) -> None:
        """Close the log file."""
        self._logger.removeHandler(self._file)
        self._file.close()

    def say(self, message: str) -> None:
        """Write a line to the log and show it."""
        self._logger.info("%s", message)
        self.console.print(message, markup=False, highlight=False)

    def note(self, message: str) -> None:
        """Write a line to the log only."""
        self._logger.info("%s", message)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body and record its seconds and the process's peak memory so far, in MiB.

        A stage within another is not counted in that one, so that the seconds of all stages add up.
        """
        self.note(f"{name}: begin")
        before, started = self._within, time.monotonic()
        try:
            yield
        except BaseException as error:
            self.note(f"{name}: stopped by {type(error).__name__}: {error}")
            raise
        elapsed = time.monotonic() - started
        seconds, self._within = elapsed - (self._within - before), before + elapsed
        peak = peak_rss_mb()
        self.stages.append({"name": name, "seconds": round(seconds, 2), "peak_rss_mb": peak and round(peak, 1)})
        self.say(f"{name}: {seconds:.1f} s")

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[..., None]]:
        """Show a bar with an ETA; yields ``update(done, total, figures)``. The log gets some twenty lines of it."""
        with progress_bar(name, self.console) as show:

            def update(done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
                show(done, total, figures)
                if done == total or done % max(1, total // 20) == 0:
                    self.note(f"{name}: {done}/{total} {_words(figures)}".rstrip())

            yield update


class _LogFile(logging.FileHandler):
    """A log that can't be written any more, on a full disk, ends no run and hides no error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in logging
        """Leave the line out."""

    def close(self) -> None:
        """Close the file, though what is left cannot be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def progress_bar(name: str, console: Console) -> Iterator[Callable[..., None]]:
    """Show a bar with an ETA while the body works; yields ``update(done, total, figures)``, figures optional.

    Where nobody watches, as in a pipe or a file, nothing at all is written: rich would leave an empty line.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task(name, total=None, figures="")

        def update(done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
            progress.update(task, completed=done, total=total, figures=_words(figures))

        yield update


def _words(figures: Mapping[str, float] | None) -> str:
    return " ".join(f"{key} {value:.4g}" for key, value in (figures or {}).items())
