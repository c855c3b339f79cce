"""Who of several processes is still there: beats through the store that they met at, and the name of the lost one.

A process that waits for another in a collective operation waits long, since rank 0 may evaluate for an hour. So that a
lost one is noticed all the same, each has a thread that writes a beat and reads that of its neighbour: three small
messages in :data:`BEAT` seconds from each process, however many there are. Who finds a neighbour silent for
:data:`SILENT` seconds writes its name where all look, and all end within a minute.

A process that was killed is found sooner: its connections close, the others' operations fail, and those on its machine
see that it is gone.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ocrslim.errors import OcrslimError

__all__ = ["LOST", "Lifeline", "LostRankError", "Place", "Store", "advice", "report_lost"]

BEAT = 1.0  # seconds between two beats
SILENT = 30.0  # seconds without a beat; a process that holds the interpreter for so long has never been seen
GRACE = 10.0  # seconds that the main thread has to end by itself, before the process is ended
LOST = "lost"  # key of the first loss


class Store(Protocol):
    """What is used of :class:`torch.distributed.Store`: texts by name, that all processes see."""

    def set(self, key: str, value: str) -> None:
        """Write a value."""
        ...

    def get(self, key: str) -> bytes:
        """Return a value, as soon as there is one."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Tell whether all of these have values."""
        ...

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        """Write a value where the present one is as expected; an empty one is none."""
        ...


class LostRankError(OcrslimError):
    """A process of the training is gone; the text names it, and the run can go on from its last checkpoint.

    Args:
        message: one line.
        told: the lost process ended by itself, on this machine, and has said why.
    """

    def __init__(self, message: str, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


@dataclass(frozen=True)
class Place:
    """Where a process runs."""

    rank: int
    host: str
    pid: int
    numbered_by: str = ""  # who gives process numbers there; see _numbering

    @classmethod
    def here(cls, rank: int) -> Place:
        """Return this process's."""
        return cls(rank, socket.gethostname(), os.getpid(), _numbering())

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"

    def is_gone(self) -> bool:
        """Tell whether it surely runs no more; of another machine's or container's processes nothing is known."""
        if self.numbered_by != _numbering():
            return False
        try:
            os.kill(self.pid, 0)
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return not Path("/proc/self").exists() or not Path(f"/proc/{self.pid}").exists()
        except OSError:
            return False
        return state in "ZX"  # ended, and its parent has not asked yet


def _numbering() -> str:
    """Return what two processes have in common if one can look for the other by its number.

    Machines may share a name, as containers do with their machine: what counts is the kernel's boot and the namespace
    of process numbers.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def report_lost(store: Store, why: str, host: str = "") -> bool:
    """Write down the first loss; later ones are what came of it.

    Args:
        store: of the processes.
        why: one line.
        host: the machine on which the lost process, or who started it, has said so itself.

    Returns:
        bool: it was the first.
    """
    told = json.dumps({"why": why, "host": host})
    return store.compare_set(LOST, "", told) == told.encode()


def advice(why: str) -> str:
    """Return what is said of a loss.

    Args:
        why: who was lost, one line.
    """
    return f"{why}; the same command goes on from the last checkpoint"


class Lifeline:
    """The beats of this process, and its look at the others.

    Args:
        connect: returns a connection to the store that nothing else uses: an operation that waits holds its own.
        rank: of this process.
        size: how many there are.
    """

    def __init__(self, connect: Callable[[], Store], rank: int, size: int) -> None:
        self._store, self._connect = connect(), connect
        self._rank, self._size = rank, size
        self._stop = threading.Event()
        self._ending = threading.Event()
        self._found: LostRankError | None = None
        self._places: dict[int, Place] = {}
        self._before: Any = signal.SIG_DFL
        self._seen = 0.0  # when the store answered last
        self._thread = threading.Thread(target=self._watch, name="ocrslim-lifeline", daemon=True)
        self._guard = threading.Thread(target=self._watch_store, name="ocrslim-lifeline-store", daemon=True)

    def start(self, seconds: float) -> None:
        """Call the roll, and begin to beat.

        Args:
            seconds: until all have to be there.

        Raises:
            LostRankError: some did not come, or one was lost meanwhile; the text names them.
        """
        try:
            self._call_roll(seconds)
        except RuntimeError as error:
            raise self._without_store() from error
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
        self._seen = time.monotonic()
        self._thread.start()
        self._guard.start()

    def _call_roll(self, seconds: float) -> None:
        self._store.set(f"place/{self._rank}", json.dumps(asdict(Place.here(self._rank))))
        self._store.set(f"beat/{self._rank}", "0")
        until = time.monotonic() + seconds
        missing = list(range(self._size))
        while missing:
            missing = [rank for rank in missing if not self._store.check([f"place/{rank}", f"beat/{rank}"])]
            lost = self._said(self._store) if missing else None  # who has ended already will not come
            if lost is not None:
                raise lost
            if missing and time.monotonic() > until:
                names = ", ".join(map(str, missing[:8]))
                raise LostRankError(f"rank {names}: not here after {seconds:.0f} seconds; {self._size} were to come")
            time.sleep(0.05 if missing else 0.0)
        for rank in range(self._size):
            self._places[rank] = Place(**json.loads(self._store.get(f"place/{rank}")))

    def stop(self) -> None:
        """End the beats; the work is done."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(GRACE)  # it may wait for a store that is gone
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def leave(self, why: str) -> None:
        """Tell the others that this process ends before its work is done.

        Args:
            why: one line.
        """
        self._ending.set()
        self._stop.set()
        try:
            report_lost(self._store, f"{self._places.get(self._rank, self._rank)} ended: {why}", socket.gethostname())
        except RuntimeError:
            return  # the store went first: nobody is left to be told

    def diagnose(self, error: RuntimeError) -> LostRankError:
        """Return who was lost, after an operation that all take part in has failed.

        Args:
            error: what the operation said.
        """
        self._ending.set()
        until = time.monotonic() + SILENT + GRACE
        store, others = self._open(), [place for place in self._places.values() if place.rank != self._rank]
        beats: dict[int, tuple[bytes, float]] = {}
        while store is not None and time.monotonic() < until:
            try:
                found = self._said(store) or self._gone(store, others) or self._silent(store, others, beats)
            except RuntimeError:
                break
            if found is not None:
                return found
            time.sleep(0.25)
        said = str(error).strip().splitlines() or [type(error).__name__]
        if store is None or time.monotonic() < until:
            return self._without_store()
        return LostRankError(f"an operation of all {self._size} processes failed ({said[0]})")

    def _open(self) -> Store | None:
        try:
            return self._connect()
        except RuntimeError:
            return None

    def _said(self, store: Store) -> LostRankError | None:
        """Return the loss that someone wrote down."""
        if not store.check([LOST]):
            return None
        told = json.loads(store.get(LOST))
        return LostRankError(advice(told["why"]), told["host"] == socket.gethostname())

    def _gone(self, store: Store, places: Iterable[Place]) -> LostRankError | None:
        """Look for a process of this machine that is no more."""
        for place in places:
            if place.is_gone():
                report_lost(store, f"{place} was lost")
                return self._said(store)
        return None

    def _without_store(self) -> LostRankError:
        """Return who was lost, where nobody can be asked: the store went with the process that held it."""
        gone = next((str(place) for place in self._places.values() if place.is_gone()), None)
        return LostRankError(advice(f"{gone or 'the machine of rank 0, where all meet,'} was lost"))

    def _silent(
        self, store: Store, places: Iterable[Place], beats: dict[int, tuple[bytes, float]]
    ) -> LostRankError | None:
        """Look for a process that has not beaten for :data:`SILENT` seconds since it was first looked at."""
        now = time.monotonic()
        for place in places:
            beat = store.get(f"beat/{place.rank}")
            if place.rank not in beats or beats[place.rank][0] != beat:
                beats[place.rank] = beat, now
            elif now - beats[place.rank][1] > SILENT:
                report_lost(store, f"{place} has not answered for {SILENT:.0f} seconds")
                return self._said(store)
        return None

    def _watch(self) -> None:
        """Beat, look at the neighbour, and see whether anyone was lost."""
        neighbour = [self._places[(self._rank + 1) % self._size]]
        beats: dict[int, tuple[bytes, float]] = {}
        count = 0
        while not self._stop.wait(BEAT):
            count += 1
            try:
                self._store.set(f"beat/{self._rank}", str(count))
                found = (
                    self._said(self._store)
                    or self._gone(self._store, neighbour)
                    or self._silent(self._store, neighbour, beats)
                )
            except RuntimeError:
                found = self._without_store()
            self._seen = time.monotonic()
            if found is not None:
                self._end(found)
                return

    def _watch_store(self) -> None:
        """End where the store does not answer: an operation on it waits for minutes if its machine has vanished."""
        while self._thread.is_alive() and not self._stop.wait(BEAT):
            if self._found is None and time.monotonic() - self._seen > SILENT:
                self._end(self._without_store())
                return

    def _end(self, found: LostRankError) -> None:
        """Make the main thread end by that error; a thread that waits outside of Python can't be, the process can."""
        self._found = found
        if not self._ending.is_set():
            _thread.interrupt_main(signal.SIGTERM)
        if self._stop.wait(GRACE):
            return
        os.write(2, b"" if found.told else f"ocrslim: {found}\n".encode(errors="replace"))
        os._exit(1)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ending.is_set():
            return  # it ends already, and is about to say why
        self._ending.set()
        gone = next((place for place in self._places.values() if place.is_gone()), None)
        why = f"{self._places[self._rank]} was told to stop" if gone is None else f"{gone} was lost"
        raise self._found or LostRankError(advice(why))
