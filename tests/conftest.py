"""Fixtures: the real models (from the zoo's cache) and the real images (from ``OCRSLIM_TEST_DATA``)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ocrslim.errors import OcrslimError

# A machine that does other work besides is slow at times; that is no failure of what is tested.
settings.register_profile("ocrslim", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ocrslim")


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


collect_ignore = ["graph/importers/paddle/export_with_paddle.py"]  # a script for a Python that has paddle
