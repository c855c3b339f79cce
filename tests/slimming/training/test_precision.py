"""Devices and types; what needs a GPU runs where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ocrslim.errors import InputError
from ocrslim.slimming.training.precision import FULL, Precision, open_precision, pick_device
from ocrslim.slimming.training.task_losses import LabelledBatch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def stepped(precision: Precision, clip_norm: float) -> torch.Tensor:
    parameter = nn.Parameter(torch.tensor([3.0, 4.0], device=precision.device))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    with precision.autocast():
        loss = parameter.square().sum() / 2
    precision.backward(loss)
    precision.step(optimizer, [parameter], clip_norm)
    return parameter.detach().cpu()


def test_a_step_in_full_precision_bounds_the_norm() -> None:
    assert stepped(FULL, 0.0).tolist() == [0.0, 0.0]
    assert stepped(FULL, 1.0).tolist() == pytest.approx([2.4, 3.2])
    assert FULL.state() == {}
    FULL.restore({})
    FULL.restore(None)


def test_a_cpu_computes_in_bf16_where_asked() -> None:
    precision = open_precision("bf16", torch.device("cpu"))
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert open_precision("auto", torch.device("cpu")).half is None
    assert open_precision("off", torch.device("cpu")).half is None


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(InputError, match="--amp fp16: on a GPU only"):
        open_precision("fp16", torch.device("cpu"))
    with pytest.raises(InputError, match="--amp int4"):
        open_precision("int4", torch.device("cpu"))
    with pytest.raises(InputError, match="--device tpu"):
        pick_device("tpu")


@without_gpu
def test_a_gpu_that_is_not_there_is_told_of() -> None:
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="--device cuda: torch finds no GPU here"):
        pick_device("cuda")


def test_modules_come_back_to_the_cpu_as_they_were() -> None:
    module = nn.Conv2d(3, 4, 3)
    module.register_buffer("five", torch.zeros(1, 2, 1, 2, 1))  # no layout for it
    weight, values = module.weight, module.weight.detach().clone()
    with FULL.placed(module):
        assert module.weight.is_contiguous(memory_format=torch.channels_last)
        assert not module.weight.is_contiguous()
    with pytest.raises(ZeroDivisionError), FULL.placed(module):
        raise ZeroDivisionError
    assert module.weight is weight
    assert module.weight.is_contiguous()
    assert torch.equal(module.weight, values)


def test_images_have_their_channels_last() -> None:
    images = torch.rand(2, 3, 4, 5)
    placed = FULL.place(LabelledBatch(images, {"map": torch.zeros(1, 2, 2)})).images
    assert torch.equal(placed, images)
    assert placed.is_contiguous(memory_format=torch.channels_last)
    assert FULL.place(torch.zeros(2, 3)).shape == (2, 3)  # features of lines, as tests have them


def test_batches_are_put_on_the_device() -> None:
    batch = LabelledBatch(torch.zeros(1, 3, 2, 2), {"map": torch.zeros(1, 2, 2)})
    moved = Precision(torch.device("meta")).place(batch)
    assert moved.images.device.type == moved.targets["map"].device.type == "meta"
    assert Precision(torch.device("meta")).place("text") == "text"


@needs_gpu
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_step_on_a_gpu(amp: str) -> None:
    precision = open_precision(amp, pick_device("cuda"))
    assert stepped(precision, 1.0).tolist() == pytest.approx([2.4, 3.2], rel=1e-2)
    assert bool(precision.state()) == (amp == "fp16")
