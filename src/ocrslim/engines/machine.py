"""Peak memory of this process, and the processor time that others take: what a measurement is worth."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

__all__ = ["OtherLoad", "peak_rss_mb"]

STATUS = Path("/proc/self/status")
STAT = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6, 7)  # fields of /proc/stat's first line: user, nice, system, irq, softirq, steal


def peak_rss_mb() -> float | None:
    """Return the largest resident memory that this process had so far, in MiB; ``None`` where nobody tells.

    On Linux this is ``VmHWM``, not ``getrusage``: ``ru_maxrss`` survives ``exec``, so that a small program started
    by a large one would report its parent's memory.
    """
    if STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        return int(found.group(1)) / 1024 if found else None
    if sys.platform == "darwin":
        import resource  # no such module on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return None


class OtherLoad:
    """How many cores other processes, and other machines on the same host, keep busy from construction on."""

    def __init__(self) -> None:
        self._others = _others_seconds()
        self._started = time.monotonic()

    def cores(self) -> float | None:
        """Return the mean number of cores that others used so far; ``None`` where the system does not tell."""
        seconds = time.monotonic() - self._started
        now = _others_seconds()
        if self._others is None or now is None or seconds <= 0:
            return None
        return max(0.0, (now - self._others) / seconds)


def _others_seconds() -> float | None:
    """Return the processor seconds that everything but this process has used since the machine started."""
    if not STAT.exists():
        return None
    first = STAT.read_text(encoding="ascii", errors="replace").split("\n", maxsplit=1)[0]
    ticks = [int(field) for field in first.split()[1:]]
    return sum(ticks[field] for field in BUSY) / os.sysconf("SC_CLK_TCK") - time.process_time()
