"""Kill a short training at random moments, run the same command again, and compare the file with an undisturbed run's.

    python benchmarks/kills.py [--kills 30] [--seed 0] [--out build/kills]

Each turn begins in an empty folder: PP-OCRv6_tiny_rec is compressed on a few hundred rendered lines, as many as it
takes for labels to teach its last layer, killed with SIGKILL at a moment drawn from the length of the undisturbed run,
and the same command is given again until it ends. What ends in other bytes, or does not end, is a failure and the exit
code 1. So that there is something to lose in a short run, checkpoints come every 3 steps in place of 50; the last clock
readings of the bench are cut short. Nothing else differs from ``ocrslim compress``.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2

MODEL = "PP-OCRv6_tiny_rec"
STEPS = 12
EVERY = 3  # steps between two checkpoints
LINES = 400
LONGEST = 1800.0  # seconds that a run may take on a busy machine


def main() -> int:
    """Run once undisturbed, then kill as often as asked; return the exit code."""
    options = _options()
    if options.child:
        return child(options.child)
    options.out.mkdir(parents=True, exist_ok=True)
    data = data_folder(options.out)
    began = time.monotonic()
    wanted = digest(finish(options.out / "whole", data))
    length = time.monotonic() - began
    print(f"undisturbed: {length:.1f} s, model.onnx {wanted[:16]}", flush=True)
    moments = random.Random(options.seed)
    counts: Counter[str] = Counter()
    while counts["kills"] < options.kills:
        folder, moment = options.out / "killed", moments.uniform(0.0, length)
        shutil.rmtree(folder, ignore_errors=True)
        where = kill_after(folder, data, moment)
        if where is None:
            counts["ended before"] += 1
            continue
        counts["kills"] += 1
        same = digest(finish(folder, data)) == wanted
        counts["same bytes"] += same
        resumed = "going on from step" in (folder / "log.txt").read_text(encoding="utf-8")
        counts["from a checkpoint"] += resumed
        said = f"kill {counts['kills']} after {moment:.1f} s in {where}"
        print(f"{said}: {'the same bytes' if same else 'OTHER BYTES'}{', resumed' if resumed else ''}", flush=True)
    print(json.dumps(counts | {"seed": options.seed, "seconds": round(time.monotonic() - began)}))
    return int(counts["same bytes"] != counts["kills"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("build/kills"))
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def data_folder(out: Path) -> Path:
    """Return the folder of lines to train on; its name says how many, so that none is taken that holds others.

    Args:
        out: where it belongs; what an earlier run made there is used again.
    """
    folder = out / f"data-{LINES}"
    if not (folder / "labels.txt").is_file():
        _lines(folder)
    return folder


def _lines(folder: Path) -> None:
    """Write rendered lines and their labels."""
    from ocrslim.ocr.render import render_lines

    folder.mkdir(parents=True, exist_ok=True)
    texts = []
    for index, (image, text) in enumerate(render_lines("abcdefghijklmnopqrstuvwxyz0123456789", LINES, 0)):
        cv2.imwrite(str(folder / f"{index}.png"), image)
        texts.append(f"{index}.png\t{text}\n")
    (folder / "labels.txt").write_text("".join(texts), encoding="utf-8")


def child(places: list[Path]) -> int:
    """Compress, in this process.

    Args:
        places: where to write; the data.
    """
    from ocrslim import compress as recipe
    from ocrslim import learning
    from ocrslim.errors import OcrslimError
    from ocrslim.slimming.training.trainer import TrainSettings

    often = functools.partial(TrainSettings, judge_every=EVERY, checkpoint_every=EVERY)
    learning.TrainSettings = often  # type: ignore[attr-defined, assignment]
    recipe.MIN_BENCH_SECONDS = 0.1
    out, data = places
    settings = recipe.CompressSettings(
        "openvino", out, data / "labels.txt", steps=STEPS, threads=1, max_drop=100.0, effort="quick", observer="minmax"
    )
    try:
        recipe.compress(MODEL, settings)
    except OcrslimError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def start(out: Path, data: Path) -> subprocess.Popen[bytes]:
    """Start the training in a process of its own."""
    command = [sys.executable, __file__, "--child", str(out), str(data)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def finish(out: Path, data: Path) -> Path:
    """Run to the end and return the model's file.

    Raises:
        RuntimeError: the run failed.
    """
    code = start(out, data).wait(timeout=LONGEST)
    if code != 0:
        raise RuntimeError(f"{out}: the run ended with {code}")
    return out / "model.onnx"


def kill_after(out: Path, data: Path, moment: float) -> str | None:
    """Start, kill after ``moment`` seconds, and return what the log says last; ``None`` where it had ended."""
    running = start(out, data)
    try:
        running.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        log = out / "log.txt"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        return f"'{lines[-1][24:70].strip()}'" if lines else "'nothing yet'"
    return None


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
