"""Which sites cost the accuracy: each one quantized alone, and each one alone left float.

As in section 3.6 of arXiv 2106.08295: the divergence from the float model when one site is quantized says what the
site costs; the divergence that is saved when it alone is float says what keeping it float would gain. Only what depends
on a site is computed again (:meth:`GraphModule.replay`), on the stored values of one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.fake_quantizer import FakeQuantizer, Mode
from ocrslim.slimming.quantization.placement import Site
from ocrslim.slimming.quantization.prepare import Quantization

__all__ = ["Alone", "Divergence", "decibel", "measure_alone", "measure_gains", "site_weights", "site_work"]

Divergence = Callable[[Tensor, Tensor], tuple[float, float]]
"""(logits of the student, logits of the teacher) -> (divergence, share of decisions that differ)."""

MOST_DECIBEL = 200.0  # said of two equal signals


@dataclass(frozen=True)
class Alone:
    """What quantizing one site alone does.

    Args:
        node: name of the site's node.
        signal: sum of the squares of the site's output when it is float.
        noise: sum of the squares of what quantization adds to it.
        divergence: of the model's output from the float model's.
        changed: share of decisions (frames, pixels of text) that differ from the float model's, 0 to 1.
    """

    node: str
    signal: float
    noise: float
    divergence: float
    changed: float

    @property
    def sqnr_db(self) -> float:
        """See :func:`decibel`."""
        return decibel(self.signal, self.noise)


def decibel(signal: float, noise: float) -> float:
    """Return the ratio of two powers, or of two energies of as many values, in decibel; 200 at most.

    >>> decibel(100.0, 1.0), decibel(1.0, 0.0)
    (20.0, 200.0)
    """
    if noise <= 0.0 or signal <= 0.0:
        return MOST_DECIBEL
    return min(MOST_DECIBEL, 10.0 * math.log10(signal / noise))


@torch.no_grad()
def measure_alone(
    quantization: Quantization,
    teacher: GraphModule,
    images: Tensor,
    logits: str,
    divergence: Divergence,
    skip: Collection[str] = (),
) -> Iterator[Alone]:
    """Quantize each site alone, in the order of the graph.

    Args:
        quantization: calibrated, not trained. While the iterator is open its module is the float model.
        teacher: the float model: its weights stand where a site is float.
        images: ``[N, 3, H, W]``; all values that the graph makes of them are kept in memory.
        logits: name of the value to compare.
        divergence: of two of them.
        skip: nodes that were measured before.
    """
    module = quantization.module
    values = teacher(images, fetch=teacher.value_names())
    sites = quantization.placement.sites
    kept = {site.node: _parameters(quantization, site) for site in sites}
    everything = [*quantization.weights.values(), *quantization.activations.values()]
    with ExitStack() as stack:
        stack.enter_context(_mode(everything, "float"))
        stack.enter_context(_borrowed(quantization, teacher, sites))
        for site in sites:
            if site.node in skip:
                continue
            output = site.output_value or site.raw_output
            with _mode(_own(quantization, site), "quantize"), _swapped(kept[site.node]):
                found = module.replay(values, _nodes(quantization, site), (output, logits))
            noise = _energy(found[output] - values[output])
            yield Alone(site.node, _energy(values[output]), noise, *divergence(found[logits], values[logits]))


@torch.no_grad()
def measure_gains(
    quantization: Quantization,
    teacher: GraphModule,
    images: Tensor,
    taught: Tensor,
    logits: str,
    divergence: Divergence,
    skip: Collection[str] = (),
) -> Iterator[tuple[str, float]]:
    """Yield each site's node and the divergence that is saved when this site alone is float.

    Args:
        quantization: calibrated, perhaps trained.
        teacher: see :func:`measure_alone`.
        images: see :func:`measure_alone`.
        taught: the float model's logits of ``images``.
        logits: see there.
        divergence: see there.
        skip: see there.
    """
    module = quantization.module
    values = module(images, fetch=module.value_names())
    whole, _ = divergence(values[logits], taught)
    for site in quantization.placement.sites:
        if site.node in skip:
            continue
        with _mode(_only_own(quantization, site), "float"), _borrowed(quantization, teacher, (site,)):
            found = module.replay(values, _nodes(quantization, site), (logits,))
        yield site.node, whole - divergence(found[logits], taught)[0]


@torch.no_grad()
def site_work(quantization: Quantization, images: Tensor) -> dict[str, float]:
    """Return each site's share of the multiplications that all convolutions and products of the graph make."""
    module = quantization.module
    sites = {site.node: site for site in quantization.placement.sites}
    values = module(images, fetch=tuple(site.raw_output for site in sites.values()))
    work = {}
    for node, site in sites.items():
        weight = module.parameter(site.weight_name)
        work[node] = float(values[site.raw_output].numel()) * weight.numel() / weight.shape[site.weight_axis]
    whole = sum(work.values()) or 1.0
    return {node: count / whole for node, count in work.items()}


def site_weights(quantization: Quantization) -> dict[str, float]:
    """Return each site's share of the weights of all sites; sites that share a tensor each have all of it."""
    sizes = {
        site.weight_name: quantization.module.parameter(site.weight_name).numel()
        for site in quantization.placement.sites
    }
    whole = sum(sizes.values()) or 1
    return {site.node: sizes[site.weight_name] / whole for site in quantization.placement.sites}


def _own(quantization: Quantization, site: Site) -> list[FakeQuantizer]:
    """Return all quantizers that a site works with."""
    found = [quantization.weights[site.weight_name], quantization.activations[site.input_value]]
    if site.output_value is not None:
        found.append(quantization.activations[site.output_value])
    return found


def _only_own(quantization: Quantization, site: Site) -> list[FakeQuantizer]:
    """Return the quantizers that would go if the site became float: those that no other site works with."""
    others = [
        quantizer
        for other in quantization.placement.sites
        if other is not site
        for quantizer in _own(quantization, other)
    ]
    return [own for own in _own(quantization, site) if not any(own is other for other in others)]


def _nodes(quantization: Quantization, site: Site) -> list[str]:
    """Return the nodes at which a site's quantizers act: its own, and what makes a value that is quantized there."""
    makers = {value.name: node.name for node in quantization.module.model.graph for value in node.outputs}
    at_output = {other.output_value for other in quantization.placement.sites}
    values = [value for value in (site.input_value, site.output_value) if value in at_output]
    sums = [residual.node for residual in quantization.placement.residuals if residual.value == site.input_value]
    return [site.node, *sums, *(name for value in values if value in makers and (name := makers[value]))]


_Kept = list[tuple[nn.Parameter, Tensor]]


def _parameters(quantization: Quantization, site: Site) -> _Kept:
    """Return weight and bias of a site with copies of what they are."""
    bias = quantization.bias(site)
    found = [quantization.module.parameter(site.weight_name), *([] if bias is None else [bias])]
    return [(parameter, parameter.detach().clone()) for parameter in found]


@contextmanager
def _borrowed(quantization: Quantization, teacher: GraphModule, sites: Sequence[Site]) -> Iterator[None]:
    """Give sites the float model's weights and biases while the body runs."""
    borrowed: _Kept = []
    for site in sites:
        weight, *rest = _parameters(quantization, site)
        borrowed.append((weight[0], teacher.parameter(site.weight_name).detach()))
        for bias, _ in rest:
            of_teacher = None if site.bias_name is None else teacher.parameter(site.bias_name).detach()
            borrowed.append((bias, torch.zeros_like(bias) if of_teacher is None else of_teacher))
    with _swapped(borrowed):
        yield


@contextmanager
def _swapped(values: _Kept) -> Iterator[None]:
    """Give parameters other values while the body runs."""
    before = [(parameter, parameter.detach().clone()) for parameter, _ in values]
    try:
        for parameter, value in values:
            parameter.data.copy_(value)
        yield
    finally:
        for parameter, value in before:
            parameter.data.copy_(value)


@contextmanager
def _mode(quantizers: Sequence[FakeQuantizer], mode: Mode) -> Iterator[None]:
    """Put quantizers into a mode while the body runs."""
    before = [quantizer.mode for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.mode = mode
    try:
        yield
    finally:
        for quantizer, old in zip(quantizers, before, strict=True):
            quantizer.mode = old


def _energy(values: Tensor) -> float:
    return values.double().square().sum().item()
