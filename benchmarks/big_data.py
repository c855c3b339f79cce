"""A million label lines: how long until the first batch, and how much memory beyond what the program itself takes.

    python benchmarks/big_data.py [--lines 1000000] [--task rec] [--kind file] [--out big_data.json]

The labels are generated; a thousand small images are used over and over. What is measured is what ``ocrslim compress``
does before its first training step: the labels are indexed, the held-back part is drawn, and one batch is made.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np

IMAGES = 1000
BOX = [[1, 1], [40, 1], [40, 20], [1, 20]]


def main() -> None:
    """Generate, measure in this process, print one line of JSON."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="ocrslim-big-") as name:
        folder = Path(name)
        path = _lmdb(folder, options.lines) if options.kind == "lmdb" else _file(folder, options.task, options.lines)
        figures = measure(options.task, path) | {"lines": options.lines, "task": options.task, "kind": options.kind}
    print(json.dumps(figures))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--task", choices=("rec", "det"), default="rec")
    parser.add_argument("--kind", choices=("file", "lmdb"), default="file", help="an LMDB holds lines of text only")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _file(folder: Path, task: str, lines: int) -> Path:
    """Write a label file as PaddleOCR's tools do, and its images."""
    (folder / "images").mkdir()
    for index in range(IMAGES):
        image = np.random.default_rng(index).integers(0, 256, (32, 100, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}.jpg"), image)
    with (folder / "labels.txt").open("w", encoding="utf-8") as file:
        for index in range(lines):
            boxes = [{"transcription": f"word {index} 第{number}", "points": BOX} for number in range(3)]
            label = json.dumps(boxes, ensure_ascii=False) if task == "det" else f"word {index} 第六节"
            file.write(f"images/{index % IMAGES}.jpg\t{label}\n")
    return folder / "labels.txt"


def _lmdb(folder: Path, lines: int) -> Path:
    """Write an LMDB in PaddleOCR's layout."""
    image = cv2.imencode(".jpg", np.full((32, 100, 3), 200, np.uint8))[1].tobytes()
    with lmdb.open(str(folder), map_size=64 << 30) as environment, environment.begin(write=True) as transaction:
        for kind, value in (("image", None), ("label", "word {} 第六节")):
            for index in range(1, lines + 1):
                content = image if value is None else value.format(index).encode()
                transaction.put(f"{kind}-{index:09d}".encode(), content, append=kind == "image" or index > 1)
        transaction.put(b"num-samples", str(lines).encode())
    return folder


def measure(task: str, path: Path) -> dict[str, float | int]:
    """Open the labels and make one batch.

    Args:
        task: det or rec.
        path: label file or folder of an LMDB.

    Returns:
        dict: ``seconds`` and ``cpu_seconds`` until the first batch is there; ``memory_mb``, by how much the peak of the
            process grew; ``train`` and ``held``, images.
    """
    from ocrslim.config.profile import load_profile
    from ocrslim.slimming.training.data import open_training_data, training_batches

    before, began, worked = _peak_mb(), time.perf_counter(), time.process_time()
    data = open_training_data("det" if task == "det" else "rec", path, None, "", seed=0)
    opened = time.perf_counter() - began
    batch = next(iter(training_batches(data, load_profile("example"), 0, 0, 1)))
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "seconds_to_open": round(opened, 2),
        "cpu_seconds": round(time.process_time() - worked, 2),
        "memory_mb": _peak_mb() - before,
        "program_mb": before,
        "train": len(data.train),
        "held": len(data.held),
        "skipped": len(data.skipped),
        "batch": len(batch),
    }


def _peak_mb() -> int:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
