"""On what device and in what type a step is computed: full precision, or torch's automatic mixed precision on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ocrslim.errors import InputError
from ocrslim.slimming.training.task_losses import LabelledBatch

__all__ = ["AMP", "DEVICES", "FULL", "Precision", "open_precision", "pick_device"]

DEVICES = ("cpu", "cuda", "auto")
AMP = ("auto", "bf16", "fp16", "off")
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """How a step is computed.

    Weights, scales and the optimiser stay in f32. In fp16 the loss is scaled so that small gradients don't vanish, and
    a step whose gradients overflow is left out; the scale is part of a checkpoint.

    Args:
        device: where student and teacher are.
        half: type that products are computed in; ``None`` is full precision.
    """

    def __init__(self, device: torch.device, half: torch.dtype | None = None) -> None:
        self.device = device
        self.half = half
        self._scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)

    def place(self, batch: Any) -> Any:
        """Return a batch on the device: images, or images with targets; anything else as it is.

        Images ``[N, C, H, W]`` have their channels last in memory, as :meth:`put` has the weights.
        """
        if isinstance(batch, Tensor):
            return batch.to(self.device, memory_format=torch.channels_last if batch.dim() == 4 else None)
        if isinstance(batch, LabelledBatch):
            targets = {name: target.to(self.device) for name, target in batch.targets.items()}
            return replace(batch, images=self.place(batch.images), targets=targets)
        return batch

    def put(self, *modules: nn.Module) -> None:
        """Put modules on the device, their weights with the channels last in memory.

        On a CPU a step of most models takes two thirds to nine tenths of the time so (``benchmarks/step.py``, *channels
        first*), of some recognisers as long, and a GPU's half types want it.

        Args:
            modules: their parameters stay the same objects.
        """
        for module in modules:
            _moved(module, self.device, torch.channels_last)

    @contextmanager
    def placed(self, *modules: nn.Module) -> Iterator[None]:
        """Have modules on the device while the body works, see :meth:`put`, and as they were afterwards, on the CPU."""
        self.put(*modules)
        try:
            yield
        finally:
            for module in modules:
                _moved(module, torch.device("cpu"), torch.contiguous_format)

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute what the body computes in the half type."""
        return nullcontext() if self.half is None else torch.autocast(self.device.type, self.half)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, scaled in fp16, to the parameters' gradients."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], clip_norm: float) -> None:
        """Bring the gradients to their own size, bound their norm, and make a step.

        Args:
            optimizer: of the parameters.
            parameters: all that learn; the norm is that of all their gradients together.
            clip_norm: 0 bounds nothing.
        """
        self._scaler.unscale_(optimizer)
        if clip_norm > 0:
            nn.utils.clip_grad_norm_(parameters, clip_norm)
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold; nothing but in fp16."""
        return self._scaler.state_dict()

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue with what :meth:`state` returned; ``None`` and an empty one change nothing."""
        if state:
            self._scaler.load_state_dict(state)


FULL = Precision(torch.device("cpu"))


def _moved(module: nn.Module, device: torch.device, layout: torch.memory_format) -> None:
    module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:  # a constant of five dimensions has no such layout
            tensor.data = tensor.data.contiguous(memory_format=layout)


def pick_device(name: str, local: int = 0) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU where there is one.

    Args:
        name: one of :data:`DEVICES`.
        local: number of this process among those of its machine: each takes a GPU of its own.

    Raises:
        InputError: there is no such device.
    """
    if name not in DEVICES:
        raise InputError(f"--device {name}: there is none of that name; take one of {', '.join(DEVICES)}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise InputError("--device cuda: torch finds no GPU here; install a torch with CUDA, or take --device cpu")
    if local >= count:
        raise InputError(f"--device cuda: process {local} of this machine, which has {count} GPUs; start {count}")
    return torch.device("cuda", local)


def open_precision(amp: str, device: torch.device) -> Precision:
    """Return how steps are computed.

    Args:
        amp: one of :data:`AMP`; ``auto`` is bf16 on a GPU that has it, fp16 on another, and full precision on a CPU.
        device: where.

    Raises:
        InputError: there is no such type, or not on that device.
    """
    if amp not in AMP:
        raise InputError(f"--amp {amp}: there is none of that name; take one of {', '.join(AMP)}")
    if amp == "fp16" and device.type == "cpu":
        raise InputError("--amp fp16: on a GPU only; a CPU takes bf16 or off")
    if amp == "auto":
        amp = "off" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return Precision(device, _TYPES.get(amp))
