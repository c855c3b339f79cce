"""Mutated files for the importers, the label reader, YAML and images, in processes of their own.

    python -m tests.fuzz --count 100000 --seed 0 [--surface images] [--out build/fuzz]

An input is a function of the seed, the surface and its number, so that a failure can be tried again
(``--surface S --only NUMBER``). What was done is kept in ``OUT/summary.json`` after every few hundred inputs; the same
command goes on from there. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fuzz.seeds import SURFACES

CHUNK = 25_000  # inputs to a process
PATIENCE = 180.0  # seconds without a word, for what sleeps instead of working
PROJECT = Path(__file__).resolve().parents[2]
ENDS = {-signal.SIGPROF: "more than 5 seconds", -signal.SIGSEGV: "a crash (SIGSEGV)"}
ENDS |= {-signal.SIGBUS: "a crash (SIGBUS)", -signal.SIGABRT: "a crash (SIGABRT)"}


def main() -> int:
    """Run what is asked for, or the rest of it."""
    options = _options()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    surfaces = [options.surface] if options.surface else list(SURFACES)
    summary = _summary(out, options.seed)
    for surface in surfaces:
        told = summary["surfaces"].setdefault(surface, _nothing())
        if options.only is not None:
            _run(surface, options.seed, options.only, options.only + 1, out / "work", told, lambda: None)
            _say(json.dumps(told, indent=1))
            continue
        wanted = -(-options.count // len(surfaces))
        while told["done"] < wanted:
            end = min(wanted, told["done"] + CHUNK)
            _run(surface, options.seed, told["done"], end, out / "work", told, lambda: _write(out, summary))
        _say(_line(surface, told))
    return int(any(told["failures"] for told in summary["surfaces"].values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs over all surfaces that are run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", choices=SURFACES)
    parser.add_argument("--only", type=int, help="try this one input")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for the summary")
    return parser.parse_args()


def _nothing() -> dict[str, Any]:
    return {"done": 0, "accepted": 0, "refused": 0, "seconds": 0.0, "peak_mb": 0, "failures": []}


def _summary(out: Path, seed: int) -> dict[str, Any]:
    path = out / "summary.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found if found.get("seed") == seed else {"seed": seed, "surfaces": {}}


def _write(out: Path, summary: dict[str, Any]) -> None:
    partial = out / "summary.json.partial"
    partial.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    os.replace(partial, out / "summary.json")


def _run(surface: str, seed: int, start: int, end: int, work: Path, told: dict[str, Any], write: Any) -> None:
    """Run a worker over a range; where it dies, note the input and go on behind it."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "current").write_bytes(b"")
    command = [sys.executable, "-m", "tests.fuzz.worker", surface, str(seed), str(start), str(end), str(work)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(PROJECT / "src"), str(PROJECT))),
    }
    began, done = time.monotonic(), start
    with (work.parent / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=PROJECT, env=environment)
        assert process.stdout is not None
        while select.select([process.stdout], [], [], PATIENCE)[0]:
            line = process.stdout.readline()
            if not line:
                silent = False
                break
            report = json.loads(line)
            done = report["done"]
            for key in ("accepted", "refused"):
                told[key] += report[key]
            told["failures"] += report["failures"]
            told["peak_mb"] = max(told["peak_mb"], report["peak"] >> 20)
            told["done"] = max(told["done"], done)
            told["seconds"] = round(told["seconds"] + time.monotonic() - began, 1)
            began = time.monotonic()
            write()
            _say(_line(surface, told))
        else:
            silent = True
            process.kill()
        code = process.wait()
    if done < end:
        said = (work.parent / "stderr.txt").read_bytes()[-2000:].decode("utf-8", "replace")
        current = (work / "current").read_bytes()
        if not current:
            sys.exit(f"the worker didn't start: {said}")
        at = int(current)
        why = f"silent for {PATIENCE:.0f} seconds" if silent else ENDS.get(code, f"exit code {code}")
        told["failures"].append({"index": at, "problem": f"{why}\n{said}"})
        told["refused"] += at + 1 - done  # some of them were accepted; the worker took that number with it
        told["done"] = max(told["done"], at + 1)
        write()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(surface: str, told: dict[str, Any]) -> str:
    figures = f"{told['accepted']} accepted, {told['refused']} refused, {len(told['failures'])} failed"
    return f"{surface}: {told['done']} inputs, {figures}, {told['seconds']:.0f} s, peak {told['peak_mb']} MB"


if __name__ == "__main__":
    sys.exit(main())
