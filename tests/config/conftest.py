"""The example's files of the project, and a reader of one of them after a change to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocrslim.config.paddleslim import ExampleConfig, load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., ExampleConfig]:
    """Return a function that reads one of the files after a change to it."""

    def read(change: Change, task: str = "det") -> ExampleConfig:
        config = yaml.safe_load((CONFIGS / f"ppocrv3_{task}_qat_dist.yaml").read_text(encoding="utf-8"))
        change(config)
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return load_config(path)

    return read


def put(*path_and_value: Any) -> Change:
    """Return the change that puts a value at a path, the last argument, and makes what is missing on the way."""
    *path, value = path_and_value

    def change(config: Any) -> None:
        for key in path[:-1]:
            config = config.setdefault(key, {}) if isinstance(config, dict) else config[key]
        config[path[-1]] = value

    return change
