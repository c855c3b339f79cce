"""Starting the processes of one training on this machine, and hearing how they end.

``torchrun`` does the same for many machines; both tell the processes what they are by the same names in the
environment. The standard library only, until processes are started.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from ocrslim.errors import InputError
from ocrslim.slimming.training.lifeline import Store, advice, report_lost

__all__ = ["coordinate", "launch", "processes", "store_prefix"]

COORDINATES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MOST = 999_999  # processes
MOST_PORT = 65_535
HOST = "127.0.0.1"
LOOK = 0.2  # seconds between two looks at the processes
PATIENCE = 45.0  # seconds that the others have to end by themselves once one has failed; they are told at once
REFUSED, INTERRUPTED = 2, 130


def processes(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes the environment says to be one training; 1 where it says nothing.

    Args:
        environment: as ``torchrun`` and :func:`launch` set it.

    >>> processes({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
    2
    >>> processes({"WORLD_SIZE": "2"})
    1
    """
    told = all(environment.get(name) for name in COORDINATES)
    return int(environment["WORLD_SIZE"]) if told and _is_number(environment["WORLD_SIZE"]) else 1


def coordinate(name: str, environment: Mapping[str, str] = os.environ, most: int = MOST, default: str = "") -> int:
    """Return a number that the environment says.

    Args:
        name: such as ``RANK``.
        environment: see :func:`processes`.
        most: that it may be.
        default: where it says nothing.

    Raises:
        InputError: it says no such number.
    """
    said = environment.get(name, default)
    if not _is_number(said) or int(said) > most:
        raise InputError(
            f"{name} is {said[:40]!r}, not a number from 0 to {most}: start the processes with torchrun, or --devices N"
        )
    return int(said)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MOST))


def store_prefix(environment: Mapping[str, str] = os.environ) -> str:
    """Return what the processes' names in the store begin with: another one after each restart.

    Args:
        environment: see :func:`processes`.
    """
    run, restart = environment.get("TORCHELASTIC_RUN_ID", ""), environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    return f"ocrslim/{run}/{restart}"


def launch(arguments: Sequence[str], count: int) -> int:
    """Run ``python ARGUMENTS`` in ``count`` processes that train together, and wait for them.

    This process holds the store at which they meet, so that no port has to be agreed on and the loss of any of them
    can be told to the others at once.

    Args:
        arguments: of the interpreter, such as ``-m ocrslim compress ...``.
        count: processes.

    Returns:
        int: the exit code: 0 where all ended well, 2 where one refused its input, 130 after an interrupt, else 1.
    """
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    store = TCPStore(HOST, 0, None, True, wait_for_workers=False)
    told = {
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # what torchrun says when it holds the store
    }
    running = []
    try:
        for rank in range(count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            running.append(subprocess.Popen([sys.executable, *arguments], env={**os.environ, **told, **own}))
        codes = _wait(running, PrefixStore(store_prefix(), store))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    if INTERRUPTED in codes:
        return INTERRUPTED
    return REFUSED if REFUSED in codes else int(any(codes))


def _wait(running: Sequence[subprocess.Popen[bytes]], store: Store) -> list[int]:
    """Return the exit codes of all, in their order; once one has failed the others have :data:`PATIENCE` seconds."""
    until: float | None = None
    while True:
        try:
            codes = [process.poll() for process in running]
            if until is None:
                _tell(running, codes, store)
            if all(code is not None for code in codes):
                return [code for code in codes if code is not None]
            if until is None and any(codes):
                until = time.monotonic() + PATIENCE
            if until is not None and time.monotonic() > until:
                for process in running:
                    process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
                until += PATIENCE
            time.sleep(LOOK)
        except KeyboardInterrupt:  # the processes were interrupted too, and end by themselves
            until = time.monotonic() + PATIENCE


def _tell(running: Sequence[subprocess.Popen[bytes]], codes: Sequence[int | None], store: Store) -> None:
    """Say who has failed, to the others and to the user, where nobody has said so: they might wait for it."""
    for rank, (process, code) in enumerate(zip(running, codes, strict=True)):
        if not code or code == INTERRUPTED:  # that all of them are
            continue
        why = f"rank {rank} (process {process.pid}) ended with code {code}"
        if report_lost(store, why, socket.gethostname()) and code != REFUSED:  # who refused its input has said why
            sys.stderr.write(f"ocrslim: {advice(why)}\n")
            sys.stderr.flush()
