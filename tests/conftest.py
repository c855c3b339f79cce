"""Fixtures: the real models (from the zoo's cache), real images (from ``OCRSLIM_TEST_DATA``), and what several need."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from ocrslim.errors import OcrslimError

# Of several workers side by side each has torch take one thread (set before its import); more would only quarrel.
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine that does other work besides is slow at times; that is no failure of what is tested.
settings.register_profile("ocrslim", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ocrslim")


@pytest.fixture(autouse=True)
def worker_thread() -> None:
    """Give a worker its one thread back: a run of ``compress`` in the same process takes what its settings say."""
    torch = sys.modules.get("torch")
    if WORKER and torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Path]:
    """Return a function from an official model name to its ONNX file, fetched once into the cache."""
    from ocrslim.graph.importers.zoo import pull

    def path(name: str) -> Path:
        try:
            return pull(name) / "inference.onnx"
        except OcrslimError as error:
            pytest.skip(f"model {name} can't be fetched here: {error}")

    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real labelled images; skip where the machine has none."""
    value = os.environ.get("OCRSLIM_TEST_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("OCRSLIM_TEST_DATA names no folder of labelled images")
    return Path(value)


@pytest.fixture
def no_entry(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that lets nobody, root included, enter the folders whose paths have a part of that name."""

    def close(ending: str) -> None:
        stat = os.stat

        def refuse(path: Any, *args: Any, **options: Any) -> os.stat_result:
            if not isinstance(path, int) and ending in os.fsdecode(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return stat(path, *args, **options)

        monkeypatch.setattr(os, "stat", refuse)

    return close


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line: exit code, stdout, stderr."""
    from ocrslim import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a moment only."""
    from ocrslim.engines import timing

    monkeypatch.setattr(timing, "bench", functools.partial(timing.bench, min_runs=5, min_seconds=0.1))


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Return the label file of three white lines."""
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 160, 3), 255, np.uint8))
    (tmp_path / "labels.txt").write_text("0.png\tab\n1.png\tcd\n2.png\tef\n", encoding="utf-8")
    return tmp_path / "labels.txt"


@pytest.fixture
def scene(zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what of a scene placing looks at, with a cache folder of its own once the model is there."""
    from rich.console import Console

    from ocrslim import placing
    from ocrslim.compress import CompressSettings
    from ocrslim.engines.targets import get_target
    from ocrslim.graph.importers.onnx import load_onnx
    from ocrslim.graph.importers.source import open_model
    from ocrslim.graph.passes.canonical import canonicalize
    from ocrslim.report.run_log import RunLog
    from ocrslim.scene import EFFORTS
    from ocrslim.slimming.quantization.measured import Measured

    name = "PP-OCRv6_tiny_rec"
    zoo(name)
    source = open_model(name)
    monkeypatch.setattr(placing, "cache_folder", lambda: tmp_path / "cache")
    log = RunLog(tmp_path, Console(quiet=True))
    target = get_target("openvino")
    return SimpleNamespace(
        source=source,
        graph=canonicalize(load_onnx(source.path)),
        target=target,
        settings=CompressSettings("openvino", tmp_path),
        effort=EFFORTS["normal"],
        keep_float=frozenset(),
        small=frozenset(),
        measured=Measured(),
        fast=False,
        log=log,
    )


@pytest.fixture
def write_pdf(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a PDF, by hand: a page for each list of lines, broken where it is ``None``."""

    def write(
        pages: Sequence[Sequence[str] | None], name: str = "a.pdf", size: tuple[float, float] = (420, 300)
    ) -> Path:
        kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
        objects = {
            1: "<</Type/Catalog/Pages 2 0 R>>",
            2: f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
            3: "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        }
        for index, lines in enumerate(pages):
            number = 4 + 2 * index
            if lines is None:  # the page that the tree names is not there
                continue
            drawn = " ".join(
                f"BT /F 24 Tf 30 {size[1] - 50 - 50 * row} Td ({line}) Tj ET" for row, line in enumerate(lines)
            )
            objects[number] = (
                f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]} {size[1]}]"
                f"/Resources<</Font<</F 3 0 R>>>>/Contents {number + 1} 0 R>>"
            )
            objects[number + 1] = f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream"
        content, places = b"%PDF-1.4\n", {}
        for number, body in sorted(objects.items()):
            places[number] = len(content)
            content += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
        start = len(content)
        entries = [
            f"{places[n]:010} 00000 n \n" if n in places else "0000000000 65535 f \n" for n in range(max(places) + 1)
        ]
        content += (
            f"xref\n0 {len(entries)}\n{''.join(entries)}trailer<</Size {len(entries)}/Root 1 0 R>>\n"
            f"startxref\n{start}\n%%EOF\n"
        ).encode()
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


collect_ignore = ["graph/importers/paddle/export_with_paddle.py"]  # a script for a Python that has paddle
