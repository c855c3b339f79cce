"""Put fake quantizers into a graph and find their first grids: prepare -> calibrate -> (train) -> freeze -> export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ocrslim.engines.targets import Target
from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.fake_quantizer import ChannelBias, FakeQuantizer, Mode
from ocrslim.slimming.quantization.numerics import scale_and_zero_point
from ocrslim.slimming.quantization.observer import Observer, mse_scale, open_observer
from ocrslim.slimming.quantization.placement import Placement, Site
from ocrslim.slimming.quantization.process_group import ALONE, ProcessGroup, merge_observers
from ocrslim.slimming.quantization.scale_gradient import HeldBias, ScaleGradient
from ocrslim.spec import PerAxis

__all__ = ["Quantization", "calibrate", "observe", "prepare", "transfer"]

BIAS_STEPS = float(1 << 30)
"""An int32 bias is ``b / (input scale * weight scale)``: a dead channel with a bias must not overflow it."""


@dataclass(frozen=True)
class Quantization:
    """A module with fake quantizers in it.

    Args:
        module: the graph; the fake quantizers are its submodules, so its ``state_dict`` holds them.
        placement: where they are.
        target: what for.
        weights: name of the weight -> its fake quantizer.
        activations: name of the value -> its fake quantizer, one for each value however many nodes read it.
        biases: name of a convolution without a bias in the graph -> the one that it is given.
        factors: name of a value whose channels have scales of their own -> what each channel's is multiplied with,
            ``[channels]``; see :mod:`.channels`.
    """

    module: GraphModule
    placement: Placement
    target: Target
    weights: Mapping[str, FakeQuantizer]
    activations: Mapping[str, FakeQuantizer]
    biases: Mapping[str, ChannelBias]
    factors: Mapping[str, Tensor] = field(default_factory=dict)

    def weight_scales(self) -> list[nn.Parameter]:
        """Return the logarithms of the weights' scales."""
        return [quantizer.log_scale for quantizer in self.weights.values()]

    def activation_scales(self) -> list[nn.Parameter]:
        """Return the logarithms of the activations' scales, and the zero points where they are learned."""
        return [parameter for quantizer in self.activations.values() for parameter in quantizer.parameters()]

    def bias(self, site: Site) -> nn.Parameter | None:
        """Return what is added to the output of a site, ``[channels]``; ``None`` if that is shared or missing."""
        if site.bias_name is not None:
            return self.module.parameter(site.bias_name)
        return self.biases[site.node].bias if site.node in self.biases else None

    def install(self) -> None:
        """Hook the fake quantizers into the module, in the same order each time, and nothing else."""
        self.module.clear_hooks()
        others = {site.weight_name for site in self.placement.sites if not _gradient_at_output(site)}
        quantized = {site.output_value for site in self.placement.sites}
        for site in self.placement.sites:
            self.module.set_input_hook(site.node, 1, self.weights[site.weight_name])
            if site.input_value not in quantized:
                self.module.set_input_hook(site.node, 0, self.activations[site.input_value])
            chains: dict[str, list[nn.Module]] = {site.raw_output: []}
            self.weights[site.weight_name].at_output = site.weight_name not in others
            if site.weight_name not in others:
                chains[site.raw_output].append(self._scale_gradient(site))
            if site.node in self.biases:
                chains[site.raw_output].append(self.biases[site.node])
            if site.output_value is not None:
                chains.setdefault(site.output_value, []).append(self.activations[site.output_value])
            for value, chain in chains.items():
                if chain:
                    self.module.set_output_hook(value, chain[0] if len(chain) == 1 else nn.Sequential(*chain))
        for residual in self.placement.residuals:
            if residual.value not in quantized:
                self.module.set_input_hook(residual.node, residual.index, self.activations[residual.value])

    def _scale_gradient(self, site: Site) -> ScaleGradient:
        """Return what gives a site's scales their gradient, and hook in what leaves it the bias's."""
        quantizer, bias = self.weights[site.weight_name], None
        if site.has_bias:
            assert site.bias_name is not None
            bias = self.module.parameter(site.bias_name)
            self.module.set_input_hook(site.node, 2, HeldBias(quantizer))
        return ScaleGradient(quantizer, bias, -1 if site.kind == "matmul" else 1)

    def set_mode(self, mode: Mode) -> None:
        """Make all fake quantizers quantize or pass floats on."""
        for quantizer in self.activations.values():
            quantizer.mode = mode
        for quantizer in self.weights.values():
            quantizer.mode = mode

    @torch.no_grad()
    def floor_weight_scales(self) -> None:
        """Raise weight scales where a quantized bias would overflow."""
        if not self.target.quantize_bias:
            return
        for site in self.placement.sites:
            bias = self.bias(site)
            if site.kind == "matmul" or bias is None:
                continue
            least = bias.detach().abs() / (self.activations[site.input_value].scale * BIAS_STEPS)
            quantizer = self.weights[site.weight_name]
            quantizer.set_grid(torch.maximum(quantizer.scale, least.to(quantizer.scale.dtype)))

    def fix_codes(self) -> None:
        """Train with the integers that the weights have now; see :meth:`FakeQuantizer.fix_codes`."""
        for name, quantizer in self.weights.items():
            quantizer.fix_codes(self.module.parameter(name).detach())

    def freeze(self) -> None:
        """End the training: make the grids those that the engine will have, and stop all gradients."""
        with torch.no_grad():
            for name, weight_quantizer in self.weights.items():
                if weight_quantizer.codes is not None:
                    self.module.parameter(name).copy_(weight_quantizer.settled())
            self.floor_weight_scales()
            for quantizer in self.activations.values():
                quantizer.zero_point.copy_(quantizer.whole_zero_point)
        self.module.requires_grad_(False)


def prepare(
    module: GraphModule,
    placement: Placement,
    target: Target,
    *,
    learn_zero_points: bool = False,
    pact: bool = False,
    factors: Mapping[str, Tensor] | None = None,
) -> Quantization:
    """Put fake quantizers into ``module``; until :func:`calibrate` they have a grid, but a meaningless one.

    Args:
        module: changed in place: its hooks are replaced.
        placement: made from the same graph.
        target: gives the integers.
        learn_zero_points: let the zero points of activations be learned too (LSQ+).
        pact: give the activations' scales the gradient of PACT's bound.
        factors: see :func:`.channels.find_factors`; those of values that no site reads are left out.
    """
    read = {site.input_value for site in placement.sites}
    factors = {value: factor for value, factor in (factors or {}).items() if value in read}
    weights: dict[str, FakeQuantizer] = {}
    activations: dict[str, FakeQuantizer] = {}
    for site in placement.sites:
        if site.weight_name not in weights:
            weights[site.weight_name] = _weight_quantizer(module, site, target, factors.get(site.input_value))
    for value in placement.values():
        activations[value] = FakeQuantizer(
            target.activation,
            torch.ones(1),
            torch.zeros(1),
            learn_zero_point=learn_zero_points,
            pact=pact,
            factor=_over_channels(factors.get(value)),
        )
    biases = {
        site.node: ChannelBias(module.parameter(site.weight_name).shape[0])
        for site in placement.sites
        if site.kind in ("conv", "depthwise") and not site.has_bias
    }
    quantization = Quantization(module, placement, target, weights, activations, biases, factors)
    quantization.install()
    return quantization


@torch.no_grad()
def calibrate(
    quantization: Quantization,
    batches: Sequence[Tensor],
    observer: str = "percentile",
    group: ProcessGroup = ALONE,
) -> None:
    """Find the grids of activations on images and those of weights by their squared error.

    Args:
        quantization: changed in place; quantizes afterwards.
        batches: what the model will see, ``[N, 3, H, W]`` each.
        observer: see :data:`ocrslim.slimming.quantization.observer.OBSERVERS`.
        group: processes that look at a part of the batches each; all have to call it, the first one gets the grids.

    Raises:
        InputError: an unknown observer.
        ValueError: there were no batches.
    """
    if not batches:
        raise ValueError("there were no batches to calibrate on")
    observers = {name: open_observer(observer, it.spec) for name, it in quantization.activations.items()}
    observe(quantization, observers, batches, group)
    if group.rank:
        return
    floors = {site.output_value: site.output_floor for site in quantization.placement.sites}
    for name, quantizer in quantization.activations.items():
        low, high = observers[name].range()
        floor = floors.get(name)
        low = low if floor is None else max(low, floor)
        quantizer.set_grid(*scale_and_zero_point(torch.tensor([low]), torch.tensor([high]), quantizer.spec))
    for name, quantizer in quantization.weights.items():
        weight = quantization.module.parameter(name).detach()
        quantizer.set_grid(mse_scale(quantizer.divided(weight), quantizer.spec))
    quantization.floor_weight_scales()


@torch.no_grad()
def observe(
    quantization: Quantization,
    observers: Mapping[str, Observer],
    batches: Sequence[Tensor],
    group: ProcessGroup = ALONE,
) -> None:
    """Run the float model and show each value of each batch to its observer, in the units of its grid's scale.

    Args:
        quantization: its quantizers are off meanwhile, and on afterwards.
        observers: name of an activation -> what looks at it.
        batches: ``[N, 3, H, W]`` each.
        group: processes that look at a part of the batches each; all have to call it. The first one's observers have
            seen what all saw.

    Raises:
        ModelError: a value is no finite number.
    """
    quantization.set_mode("float")
    try:
        for batch in batches[group.rank :: group.size]:
            found = quantization.module(batch, fetch=tuple(observers))
            for value, observer in observers.items():
                if not bool(torch.isfinite(found[value]).all()):
                    raise ModelError(
                        f"{value}: the float model makes numbers there that are not finite, on calibration images; it"
                        " can't be quantized"
                    )
                observer.update(quantization.activations[value].divided(found[value]))
    finally:
        quantization.set_mode("quantize")
    merge_observers(group, observers)


@torch.no_grad()
def transfer(old: Quantization, new: Quantization) -> None:
    """Give the sites of ``new`` the weights, biases and grids that they have in ``old``.

    What is no site in ``new`` keeps the weights that its module has.

    Args:
        old: of the same graph.
        new: its sites are among those of ``old``.
    """
    for site in new.placement.sites:
        new.module.parameter(site.weight_name).copy_(old.module.parameter(site.weight_name))
        bias, known = new.bias(site), old.bias(site)
        if bias is not None and known is not None:
            bias.copy_(known)
        new.weights[site.weight_name].load_state_dict(old.weights[site.weight_name].state_dict())
    for value, quantizer in new.activations.items():
        quantizer.load_state_dict(old.activations[value].state_dict())


def _weight_quantizer(module: GraphModule, site: Site, target: Target, factor: Tensor | None) -> FakeQuantizer:
    spec = replace(target.weight, granularity=PerAxis(site.weight_axis))
    channels = module.parameter(site.weight_name).shape[site.weight_axis]
    divisor = None if factor is None else _over_channels(1.0 / factor)
    if divisor is not None and site.kind == "depthwise":
        divisor = divisor.transpose(0, 1).contiguous()  # its channels are those of the outputs: [channels, 1, h, w]
    return FakeQuantizer(spec, torch.ones(channels), torch.zeros(channels), factor=divisor)


def _gradient_at_output(site: Site) -> bool:
    """Return whether the output is the weight's scales times something, but for a bias of its own."""
    return site.kind != "gemm" and (site.bias_name is not None or not site.has_bias)


def _over_channels(factor: Tensor | None) -> Tensor | None:
    """Return ``[channels]`` as ``[1, channels, 1, 1]``: so lie those of images and those that a weight reads."""
    return None if factor is None else factor.reshape(1, -1, 1, 1).clone()
