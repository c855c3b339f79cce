"""The files beside the model that an engine's user needs: pre- and post-processing, and the dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["write_sidecars"]


def write_sidecars(
    folder: Path, inference_yml: Mapping[str, Any] | None, characters: Sequence[str] | None
) -> list[Path]:
    """Write ``inference.yml`` and, for recognisers, ``dictionary.txt`` into ``folder``.

    Args:
        folder: exists.
        inference_yml: as the model came with; ``None`` writes none.
        characters: the dictionary without blank and space, one entry a line; ``None`` writes none.

    Returns:
        list: the files written.
    """
    written = []
    if inference_yml is not None:
        path = folder / "inference.yml"
        path.write_text(yaml.safe_dump(dict(inference_yml), allow_unicode=True, sort_keys=False), encoding="utf-8")
        written.append(path)
    if characters is not None:
        path = folder / "dictionary.txt"
        path.write_text("".join(f"{entry}\n" for entry in characters), encoding="utf-8", newline="\n")
        written.append(path)
    return written
