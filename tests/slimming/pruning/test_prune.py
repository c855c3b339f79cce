"""Pruning in one call, on a small network and on a real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor

from ocrslim.engines.session import open_session
from ocrslim.errors import InputError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.inspect import count_macs
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.slimming.pruning import cost
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.plan import Goal
from ocrslim.slimming.pruning.prune import Machine, _spread, prune

SHAPE = (1, 3, 16, 16)


@pytest.mark.parametrize("importance", ["taylor", "l1"])
def test_by_counting(importance: str, chain: Channels, batches: list[Tensor]) -> None:
    done = prune(
        chain.model,
        batches,
        Goal(0.7),
        task="det",
        logits="z",
        shape=SHAPE,
        importance=importance,  # type: ignore[arg-type]
    )
    assert done.reached
    whole, smaller = (count_macs(model, SHAPE) for model in (chain.model, done.model))
    assert smaller / whole == pytest.approx(done.ratio)
    with torch.no_grad():
        far = [
            (GraphModule(done.model)(images) - GraphModule(chain.model)(images)).abs().mean().item()
            for images in batches
        ]
    assert max(far) < 0.1


def test_the_same_seed_cuts_the_same(chain: Channels, batches: list[Tensor]) -> None:
    one, other = (prune(chain.model, batches, Goal(0.7), task="det", logits="z", shape=SHAPE, seed=4) for _ in range(2))
    assert one.removed == other.removed
    for name, value in one.model.graph.initializers.items():
        assert np.array_equal(value.const_value.numpy(), other.model.graph.initializers[name].const_value.numpy())


def test_by_the_clock(chain: Channels, batches: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "ROUNDS", 5)
    monkeypatch.setattr(cost, "FINAL_ROUNDS", 5)
    table = tmp_path / "latency.json"
    machine = Machine("openvino", 1, table)
    done = prune(chain.model, batches, Goal(0.9), task="det", logits="z", shape=(1, 3, 192, 192), machine=machine)
    assert done.history
    assert table.is_file()
    assert done.reached == (done.ratio <= 0.9)


def test_batches_are_taken_from_among_all_of_them() -> None:
    batches = [torch.tensor(float(index)) for index in range(16)]
    assert [int(batch) for batch in _spread(batches, 4)] == [2, 6, 10, 14]
    assert [int(batch) for batch in _spread(batches[:3], 8)] == [0, 1, 2]


def test_needs_images(chain: Channels) -> None:
    with pytest.raises(InputError, match="no images"):
        prune(chain.model, [], Goal(0.7), task="det", logits="z", shape=SHAPE)


def test_a_real_recogniser_stays_near(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    model = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_rec")))
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 12, 40, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=(48, 160), mode="bilinear")
    logits = distillation_points(model).logits
    done = prune(model, images.split(4), Goal(0.95), task="rec", logits=logits, shape=(1, 3, 48, 160))
    assert done.reached
    path = tmp_path / "pruned.onnx"
    ir.save(done.model, path)
    assert path.stat().st_size < zoo("PP-OCRv6_tiny_rec").stat().st_size
    answer = open_session(path, "onnxruntime", 1).run(images.numpy())
    with torch.no_grad():
        whole = GraphModule(model).eval()(images).numpy()
    assert (answer.argmax(-1) == whole.argmax(-1)).mean() > 0.9
