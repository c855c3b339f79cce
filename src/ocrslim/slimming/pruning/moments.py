"""What layers read, in two moments: enough to say how well the channels that stay stand in for those that go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.executor.ops.geometry import as_torch_pad, effective_kernel, resolve_padding
from ocrslim.graph.passes.base import array_of, attribute, only_reader
from ocrslim.slimming.pruning.groups import Channels

__all__ = ["Layer", "Moments", "Window", "collect_moments", "find_layers"]

ROWS = 4096  # at most, that a layer's moments take of one batch
PRODUCTS = 6e9  # at most, that they cost


@dataclass(frozen=True)
class Window:
    """A convolution's window: sizes in pixels, and the attributes of the node."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    auto_pad: str = "NOTSET"
    pads: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Layer:
    """A convolution or product that reads channels and adds them up.

    Args:
        node: its name.
        op_type: Conv, MatMul or Gemm.
        weight: name of the initializer; no other node reads it.
        axis: of the weight, that of the inputs; the other of the first two is that of the outputs.
        bias: name of the initializer that is added to the result, one number for each output; empty without one.
        window: of a convolution; ``None`` for a product.
    """

    node: str
    op_type: str
    weight: str
    axis: int
    bias: str
    window: Window | None = None


@dataclass
class Moments:
    """Sums over the rows that a layer multiplies with its weights: channels, each with the window's pixels.

    Args:
        count: rows.
        total: sum of them, ``[D]``.
        outer: sum of their outer products, ``[D, D]``.
    """

    count: int
    total: NDArray[np.float64]
    outer: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """Return the mean row, ``[D]``."""
        return self.total / self.count

    def covariance(self, *, centred: bool) -> NDArray[np.float64]:
        """Return the covariance ``[D, D]``, or the mean outer product where not ``centred``."""
        mean = self.mean()
        second = self.outer / self.count
        return second - np.outer(mean, mean) if centred else second


def find_layers(channels: Channels) -> list[Layer]:
    """Return the layers whose inputs can be cut, in the graph's order."""
    roles = dict(pair for group in channels.groups if not group.reason for pair in group.weights)
    found = []
    for node in channels.model.graph:
        weight = node.inputs[1] if node.op_type in ("Conv", "MatMul", "Gemm") else None
        if weight is None or not weight.is_initializer() or len(tuple(weight.uses())) != 1:
            continue
        axes = [axis for axis in (0, 1) if roles.get((str(weight.name), axis)) == "reads"]
        rank = len(channels.shapes[str(weight.name)])
        if len(axes) == 1 and attribute(node, "group", 1) == 1 and (node.op_type != "Conv" or rank == 4):
            window = _window(node, channels.shapes[str(weight.name)][2:]) if node.op_type == "Conv" else None
            found.append(Layer(str(node.name), node.op_type, str(weight.name), axes[0], _bias(node), window))
    return found


def collect_moments(channels: Channels, batches: Iterable[Tensor], seed: int = 0) -> dict[str, Moments]:
    """Run the whole model and return node -> moments of what it reads.

    Of many rows some are drawn at random; zeros beyond the border count as the convolution sees them.

    Args:
        channels: of the model.
        batches: images ``[N, 3, H, W]``.
        seed: of the draw.
    """
    module = GraphModule(channels.model).eval()
    generator = torch.Generator().manual_seed(seed)
    watchers = {layer.node: _Watcher(layer, generator) for layer in find_layers(channels)}
    for name, watcher in watchers.items():
        module.set_input_hook(name, 0, watcher)
    with torch.no_grad():
        for images in batches:
            module(images)
    return {name: watcher.moments for name, watcher in watchers.items() if watcher.moments is not None}


class _Watcher(nn.Module):
    """Passes a layer's input on and remembers its moments."""

    def __init__(self, layer: Layer, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        self.generator = generator
        self.moments: Moments | None = None

    def forward(self, x: Tensor) -> Tensor:
        rows = _rows(x, self.layer)
        most = min(ROWS, int(PRODUCTS / rows.shape[1] ** 2))
        if len(rows) > most:
            rows = rows[torch.randint(len(rows), (most,), generator=self.generator)]
        total, outer = rows.double().sum(0).numpy(), (rows.T @ rows).double().numpy()
        before = self.moments
        if before is None:
            self.moments = Moments(len(rows), total, outer)
        else:
            self.moments = Moments(before.count + len(rows), before.total + total, before.outer + outer)
        return x


def _rows(x: Tensor, layer: Layer) -> Tensor:
    """Return what meets the weights, ``[rows, D]``."""
    window = layer.window
    if window is None:
        return x.reshape(-1, x.shape[-1])
    extents = effective_kernel(window.size, window.dilations)
    begins, ends = resolve_padding(window.auto_pad, window.pads, x.shape[2:], extents, window.strides)
    x = F.pad(x, as_torch_pad(begins, ends))
    if max(window.size) == 1:
        down, right = window.strides
        return x[:, :, ::down, ::right].permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    patches = F.unfold(x, window.size, dilation=window.dilations, stride=window.strides)
    return patches.permute(0, 2, 1).reshape(-1, patches.shape[1])


def _window(node: ir.Node, size: tuple[int, ...]) -> Window:
    ones = (1,) * len(size)
    pads = attribute(node, "pads", None)
    return Window(
        size,
        tuple(attribute(node, "strides", ones)),
        tuple(attribute(node, "dilations", ones)),
        attribute(node, "auto_pad", "NOTSET"),
        None if pads is None else tuple(pads),
    )


def _bias(node: ir.Node) -> str:
    """Return the name of the numbers that are added to a layer's outputs and to nothing else."""
    value = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
    if node.op_type == "MatMul":
        reader = only_reader(node.outputs[0])
        if reader is not None and reader.op_type == "Add":
            value = next((item for item in reader.inputs if item is not node.outputs[0]), None)
    array = array_of(value)
    outputs = array_of(node.inputs[1])
    assert outputs is not None  # the caller has seen the weight
    if value is None or array is None or not value.is_initializer() or len(tuple(value.uses())) != 1:
        return ""
    return str(value.name) if array.ndim == 1 and array.size in outputs.shape[:2] else ""
