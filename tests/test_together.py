"""What the processes of one compress share, from the side of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ocrslim.slimming.quantization.placement import Placement
from ocrslim.slimming.training.distributed import ALONE, Team
from ocrslim.together import dismiss, lead, moved, own_folder, wait_for


def test_only_rank_0_writes_for_the_user(tmp_path: Path) -> None:
    with own_folder(ALONE, tmp_path / "out", ()) as place:
        assert place.parent == tmp_path / "out"
        (place / "model.onnx").write_bytes(b"whole")
    assert (tmp_path / "out" / "model.onnx").is_file()
    with own_folder(Team(1, 2), tmp_path / "out", ()) as other:
        assert tmp_path not in other.parents
        (other / "model.onnx").write_bytes(b"of rank 1")
    assert not other.exists()
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"whole"


def test_alone_nobody_is_told_anything() -> None:
    wait_for(ALONE, opened=False)
    wait_for(ALONE, opened=True)
    dismiss(ALONE)
    done = []
    lead(ALONE, lambda *given: done.append(given))("graph", "quantization")  # type: ignore[arg-type, return-value]
    assert done == [("graph", "quantization")]


class _Heard(Team):
    """Rank 0 of two, whose words are kept; no other process is there."""

    def tell(self, message: Mapping[str, Any] | None = None) -> dict[str, Any]:
        HEARD.append(dict(message or {}))
        return {}


HEARD: list[dict[str, Any]] = []


def test_the_others_are_told_which_nodes_the_climb_made_float() -> None:
    """They prepare the same sites, or what they are given would not fit."""
    quantization = SimpleNamespace(placement=Placement((), {"Conv.3": "sensitive", "Conv.0": "stem"}))
    lead(_Heard(0, 2), lambda *given: None)("graph", quantization)  # type: ignore[arg-type, return-value]
    assert HEARD == [{"do": "train", "float": ["Conv.3", "Conv.0"]}]


def test_modules_come_back_to_the_cpu() -> None:
    module = nn.Linear(2, 2)
    with moved(torch.device("cpu"), module):
        assert module.weight.device.type == "cpu"
    before = module.weight
    with pytest.raises(ZeroDivisionError), moved(torch.device("cpu"), module):
        raise ZeroDivisionError
    assert module.weight is before
