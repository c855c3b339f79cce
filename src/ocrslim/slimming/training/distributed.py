"""Several processes, one training: how they meet, what they tell each other, and the one sum that a step needs.

Rank 0 runs the recipe; the others train with it when it trains, and wait while it evaluates and writes. The processes
are those of ``torchrun``, or of ``ocrslim compress --devices N``; how they find each other is said in the environment.

**Why no DistributedDataParallel.** It averages gradients in buckets of 25 MB while the backward pass is still running,
which pays where there are hundreds of MB. What learns here are scales and biases, 0.01 to 0.23 MB in all: one
``all_reduce`` of one flat tensor after the backward pass sends the same bytes in one message. It also leaves a step's
parts alone (gradient accumulation needs no ``no_sync``), takes the criterion as it is, which asks the student for
values in the middle of its graph, and carries the figures that are shown along. The mathematics are the same: the mean
of the gradients over all ranks.

**The same bits each time.** On every rank the sum is the same: the backends reduce a piece of the tensor in one place
and send it round. It is the same in every run of as many processes, since the order of the summands depends on the
ranks alone; for two processes no order could matter.

Nothing is unpickled: JSON and safetensors travel as bytes. torch's object collectives are not used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from ocrslim.errors import InputError
from ocrslim.slimming.training.launch import MOST_PORT, coordinate, processes, store_prefix
from ocrslim.slimming.training.lifeline import Lifeline, LostRankError, Store

__all__ = ["ALONE", "Team", "store_of", "team_of"]

MEET = 600.0  # seconds until all processes have to be there
PATIENCE = timedelta(days=30)  # of an operation: rank 0 may evaluate for long; who is lost is found by its beats


@dataclass(frozen=True)
class Team:
    """Processes that train together; this one is ``rank`` of ``size``.

    Args:
        rank: 0 runs the recipe.
        size: number of processes; alone, every method is done at once.
        local: number of this process among those of its machine.
        lifeline: notices who is lost.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    lifeline: Lifeline | None = None

    @property
    def leads(self) -> bool:
        """Whether this process runs the recipe."""
        return self.rank == 0

    def tell(self, message: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return rank 0's message on every rank; those that wait for it wait as long as it takes.

        Args:
            message: what JSON holds; what others than rank 0 give is not looked at.

        Raises:
            LostRankError: a process is gone.
        """
        return self.share({}, message or {})[1]

    def share(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return rank 0's tensors and state on every rank, on the CPU.

        Args:
            tensors: by name; those of others than rank 0 are not looked at.
            state: what JSON holds; the same.

        Raises:
            LostRankError: a process is gone.
        """
        if self.size == 1:
            return dict(tensors), dict(state)
        parts = [b"", b""]
        if self.leads:
            held = _held(tensors)
            parts = [json.dumps(state).encode(), save_tensors(held) if held else b""]
        with self._together():
            sizes = torch.tensor([len(part) for part in parts])
            dist.broadcast(sizes, 0)
            text, blob = (self._bytes(part, int(size)) for part, size in zip(parts, sizes.tolist(), strict=True))
        return (load_tensors(blob) if blob else {}), json.loads(text)

    def _bytes(self, data: bytes, size: int) -> bytes:
        if size == 0:
            return b""
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.leads else torch.empty(size).to(torch.uint8)
        dist.broadcast(sent, 0)
        return bytes(sent.numpy())

    def average(
        self,
        parameters: Sequence[nn.Parameter],
        figures: Mapping[str, float],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Replace the gradients by their means over all ranks, in one message; return the figures' means.

        A parameter that no rank has a gradient of keeps none.

        Args:
            parameters: in the same order everywhere, of one type and device.
            figures: of the same names everywhere.
            meanwhile: work that needs neither; with others it is done while their gradients are on the way, and a rank
                that is early has something to do. One process alone waits for nobody and does not call it.

        Raises:
            LostRankError: a process is gone.
        """
        if self.size == 1 or not parameters:
            return dict(figures)
        like = parameters[0]
        names = sorted(figures)
        pieces = [p.new_zeros(p.numel()) if p.grad is None else p.grad.detach().reshape(-1) for p in parameters]
        told = [float(p.grad is not None) for p in parameters] + [figures[name] for name in names]
        flat = torch.cat([*pieces, like.new_tensor(told)])
        *sums, last = torch.split(flat, [*(p.numel() for p in parameters), len(told)])
        with self._together():
            sent = dist.all_reduce(flat, async_op=True)
        try:
            meanwhile()
        finally:  # what is still on its way to a process that hangs would keep this one from ending
            with self._together():
                sent.wait()
                owners = last.tolist()  # here: of nccl an error shows only when the result is waited for
        for parameter, total, owned in zip(parameters, sums, owners[: len(parameters)], strict=True):
            if owned > 0:
                parameter.grad = (total / self.size).reshape(parameter.shape)
        return {name: value / self.size for name, value in zip(names, owners[len(parameters) :], strict=True)}

    def gather(self, state: Any) -> list[Any]:
        """Return what every rank gives, on every rank, in their order.

        Args:
            state: what JSON holds.

        Raises:
            LostRankError: a process is gone.
        """
        if self.size == 1:
            return [state]
        data = json.dumps(state).encode()
        with self._together():
            sizes, own = self._padded(data)
            found = [torch.zeros_like(own) for _ in sizes]
            if own.numel():
                dist.all_gather(found, own)
        return [json.loads(bytes(part[:size].numpy())) for part, size in zip(found, sizes, strict=True)]

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the tensors of every rank in their order, on the CPU, on rank 0; nothing on the others.

        Args:
            tensors: by name, as others have or not.

        Raises:
            LostRankError: a process is gone.
        """
        if self.size == 1:
            return [dict(tensors)]
        held = _held(tensors)
        with self._together():
            sizes, own = self._padded(save_tensors(held) if held else b"")
            found = [torch.zeros_like(own) for _ in sizes] if self.leads else None
            if own.numel():
                dist.gather(own, found)
        parts = zip(found, sizes, strict=True) if found is not None else ()
        return [load_tensors(bytes(part[:size].numpy())) if size else {} for part, size in parts]

    def _padded(self, data: bytes) -> tuple[list[int], Tensor]:
        """Return how many bytes each rank has, and this one's filled up to the most of them."""
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        told = [int(size.item()) for size in sizes]
        filled = bytearray(max(told))
        filled[: len(data)] = data
        return told, torch.frombuffer(filled, dtype=torch.uint8) if filled else torch.zeros(0, dtype=torch.uint8)

    def part(self) -> None:
        """End the common work: all have to call it; rank 0 goes on alone afterwards."""
        if self.lifeline is None or not dist.is_initialized():
            return
        self.lifeline.stop()  # on every rank, before the first may be gone
        with self._together():
            dist.barrier()
        dist.destroy_process_group()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Say who was lost when an operation of all fails."""
        assert self.lifeline is not None  # only a process alone has none
        try:
            yield
        except RuntimeError as error:
            raise self.lifeline.diagnose(error) from error


def _held(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


ALONE = Team()
"""One process; it waits for nobody."""


def store_of(environment: Mapping[str, str] = os.environ) -> Callable[[], Store]:
    """Return what connects to the store at which the processes meet, anew each time.

    ``torchrun`` holds the store itself and says so; elsewhere rank 0 does. After a restart of the processes the names
    in it are other ones.

    Args:
        environment: see :func:`ocrslim.slimming.training.launch.processes`.

    Raises:
        InputError: the port is no number.
    """
    host, port = environment["MASTER_ADDR"], coordinate("MASTER_PORT", environment, MOST_PORT)
    prefix = store_prefix(environment)

    def connect() -> Store:
        store = TCPStore(host, port, None, False, timedelta(seconds=MEET), wait_for_workers=False)
        named: Store = PrefixStore(prefix, store)
        return named

    return connect


@contextmanager
def team_of(environment: Mapping[str, str] = os.environ, device: str = "cpu") -> Iterator[Team]:
    """Meet the other processes of the training, and part from them when the body ends.

    An error that ends the body is told to the others, who end too. A body that ends parts, see :meth:`Team.part`.

    Args:
        environment: see :func:`ocrslim.slimming.training.launch.processes`.
        device: ``cpu``, or ``cuda``, whose tensors go by nccl; messages go by gloo.

    Raises:
        InputError: the environment says what can't be.
        LostRankError: some did not come.
    """
    if processes(environment) == 1:
        yield ALONE
        return
    rank, size = coordinate("RANK", environment), coordinate("WORLD_SIZE", environment)
    local = coordinate("LOCAL_RANK", environment, default="0")
    if rank >= size:
        raise InputError(f"RANK is {rank} and WORLD_SIZE {size}: start the processes with torchrun, or --devices N")
    where = environment["MASTER_ADDR"], coordinate("MASTER_PORT", environment, MOST_PORT)
    connect = store_of(environment)
    try:
        holds = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        held = TCPStore(*where, None, True, wait_for_workers=False) if holds else None
        lifeline = Lifeline(connect, rank, size)
    except RuntimeError as error:
        said = (str(error).splitlines() or ["?"])[0]
        raise LostRankError(f"rank {rank}: nobody answers at {where[0]}:{where[1]} ({said})") from error
    lifeline.start(MEET)
    backend = "gloo"
    if device == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local)  # there is one for each, or the caller's choice of the device has said so
    team = Team(rank, size, local, lifeline)
    try:
        with team._together():
            store: Any = connect()
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        yield team
        team.part()
    except BaseException as error:
        lifeline.leave(str(error) or type(error).__name__)
        raise
    finally:
        del held  # it lasts as long as the team
