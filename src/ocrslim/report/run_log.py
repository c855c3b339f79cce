"""What a long run says while it works: a line in ``log.txt`` for each event, bars with an ETA on a terminal."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["RunLog", "peak_rss_mb"]


def peak_rss_mb() -> float:
    """Return the largest resident memory that this process had so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024 / 1024


class RunLog:
    """Log file, stages and progress bars of one run.

    Args:
        folder: ``log.txt`` is appended to there.
        console: where bars and lines are shown.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.console = console
        self.stages: list[dict[str, Any]] = []
        self._logger = logging.getLogger(f"ocrslim.run.{folder}")
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._file = logging.FileHandler(folder / "log.txt", encoding="utf-8")
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
        """Time the body and record its seconds and the process's peak memory so far, in MiB."""
        self.note(f"{name}: begin")
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            self.note(f"{name}: stopped by {type(error).__name__}: {error}")
            raise
        seconds = time.monotonic() - started
        self.stages.append({"name": name, "seconds": round(seconds, 2), "peak_rss_mb": round(peak_rss_mb(), 1)})
        self.say(f"{name}: {seconds:.1f} s")

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
        """Show a bar with an ETA; yields ``update(done, total, figures)``. The log gets some twenty lines of it."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=None, figures="")

            def update(done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
                text = " ".join(f"{key} {value:.4g}" for key, value in (figures or {}).items())
                progress.update(task, completed=done, total=total, figures=text)
                if done == total or done % max(1, total // 20) == 0:
                    self.note(f"{name}: {done}/{total} {text}".rstrip())

            yield update
