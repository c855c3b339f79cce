"""``python -m ocrslim.engines.probe``: load one model in one engine, run it, and print this process's peak memory.

A process of its own, since engines keep memory after a session is closed and two engines in one process cannot be told
apart. Prints one JSON object: ``{"peak_rss_mb": float | null}``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocrslim.engines.machine import peak_rss_mb
from ocrslim.engines.session import open_session
from ocrslim.errors import OcrslimError

__all__ = ["main", "random_batch"]


def random_batch(shape: Sequence[int]) -> NDArray[np.float32]:
    """Return a float32 batch of that shape, uniform in [-1, 1] as normalised images are, always the same."""
    return np.random.default_rng(0).uniform(-1, 1, tuple(shape)).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the probe and return its exit code: 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ocrslim.engines.probe")
    parser.add_argument("model", type=Path)
    parser.add_argument("engine")
    parser.add_argument("shape", type=int, nargs=4, help="N C H W")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parsed = parser.parse_args(arguments)
    try:
        session = open_session(parsed.model, parsed.engine, parsed.threads)
        batch = random_batch(parsed.shape)
        for _ in range(parsed.runs):
            session.run(batch)
    except OcrslimError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"peak_rss_mb": peak_rss_mb()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
