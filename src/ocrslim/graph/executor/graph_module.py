"""The user's ONNX graph as a differentiable torch module."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import overload

import onnx_ir as ir
import torch
from torch import Tensor, nn

from ocrslim.errors import ModelError
from ocrslim.graph.executor.program import Plan, Step, compile_steps, constants_of, plan, to_torch

__all__ = ["GraphModule"]

FIXED_INPUTS = {  # float inputs that steer an operator: nothing to learn
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Pow": (1,),
    "Resize": (1, 2),
}


class GraphModule(nn.Module):
    """Runs an ONNX graph of one input; its weights are the module's parameters.

    Every float constant is a :class:`torch.nn.Parameter`, once, however many nodes read it; what only steers an
    operator (scales of Resize, bounds of Clip, statistics of BatchNormalization) is a buffer. Integers stay on the CPU:
    they are shapes and axes. Batch and spatial sizes may differ from call to call.

    Args:
        model: not changed; nodes and values have unique names, as
            :func:`ocrslim.graph.passes.canonical.canonicalize` gives them.

    Raises:
        ModelError: an operator has no implementation, or the graph has several inputs.
    """

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self.model = model.clone()
        self._steps = compile_steps(self.model)
        constants = constants_of(self.model)
        inputs = [value.name or "" for value in self.model.graph.inputs if value.name not in constants]
        if len(inputs) != 1:
            raise ModelError(f"the model has the inputs {', '.join(inputs) or 'none'}; exactly one is expected")
        self._input = inputs[0]
        self._outputs = tuple(value.name or "" for value in self.model.graph.outputs)
        self._places: dict[str, str] = {}
        self._integers: dict[str, Tensor] = {}
        self.weights = nn.Module()
        self._add_constants(constants)
        self.hooks = nn.ModuleList()
        self._input_hooks: dict[str, dict[int, int]] = {}
        self._output_hooks: dict[str, int] = {}
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], Plan] = {}

    def parameter(self, name: str) -> nn.Parameter:
        """Return the parameter of the initializer ``name``.

        Raises:
            ModelError: no initializer of that name is trained.
        """
        found = getattr(self.weights, self._places.get(name, ""), None)
        if not isinstance(found, nn.Parameter):
            raise ModelError(f"{name!r} is no trained initializer of the graph")
        return found

    def named_initializers(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of each trained initializer."""
        for name, place in self._places.items():
            found = getattr(self.weights, place)
            if isinstance(found, nn.Parameter):
                yield name, found

    def set_input_hook(self, node_name: str, input_index: int, module: nn.Module) -> None:
        """Pass input ``input_index`` of one node through ``module``: a tensor in, a tensor of that shape out.

        The input may be a weight. A module that serves several inputs is registered once.

        Raises:
            ModelError: there is no such node or input.
        """
        steps = {step.node: step for step in self._steps}
        if node_name not in steps:
            raise ModelError(f"no node of the graph is named {node_name!r}")
        if not 0 <= input_index < len(steps[node_name].inputs) or steps[node_name].inputs[input_index] is None:
            raise ModelError(f"node {node_name!r} has no input {input_index}")
        self._input_hooks.setdefault(node_name, {})[input_index] = self._add_hook(module)

    def set_output_hook(self, value_name: str, module: nn.Module) -> None:
        """Pass a value through ``module`` as soon as it is there, before any node reads it or it is fetched.

        Raises:
            ModelError: no node makes that value, and it is not the graph's input.
        """
        if value_name != self._input and not any(value_name in step.outputs for step in self._steps):
            raise ModelError(f"no value of the graph is named {value_name!r}")
        self._output_hooks[value_name] = self._add_hook(module)

    def clear_hooks(self) -> None:
        """Take all hooks away."""
        self.hooks = nn.ModuleList()
        self._input_hooks.clear()
        self._output_hooks.clear()

    @overload
    def forward(self, x: Tensor, fetch: None = None) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, fetch: Sequence[str], given: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]: ...

    def forward(
        self, x: Tensor, fetch: Sequence[str] | None = None, given: Mapping[str, Tensor] | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Run the graph.

        Args:
            x: the graph's input, for the ten models ``[N, 3, H, W]``.
            fetch: names of values; only the nodes that they need are run. ``None`` is the graph's only output.
            given: values that are known, by name: what makes them is not run.

        Returns:
            Tensor | dict: the output, or each fetched value by name.

        Raises:
            ModelError: a name is unknown, a node failed, or the graph has several outputs and ``fetch`` is ``None``.
        """
        if fetch is None and len(self._outputs) != 1:
            raise ModelError(f"the graph has the outputs {', '.join(self._outputs)}: name what to fetch")
        wanted = self._outputs if fetch is None else tuple(fetch)
        given = given or {}
        chosen = self._plan(wanted, tuple(given))
        values = {name: self._constant(name) for name in chosen.constants} | dict(given)
        values[self._input] = self._hooked(self._input, x)
        for step, dead in chosen.steps:
            self._run(step, values)
            for name in dead:
                values.pop(name, None)
        return values[wanted[0]] if fetch is None else {name: values[name] for name in wanted}

    def replay(self, values: Mapping[str, Tensor], nodes: Collection[str], fetch: Sequence[str]) -> dict[str, Tensor]:
        """Run some nodes again, and what depends on them and ``fetch`` needs, on the stored values of everything else.

        Args:
            values: of a whole run, by name, as :meth:`forward` fetches them; not changed.
            nodes: names of those whose hooks or weights differ from that run's.
            fetch: names of values.

        Returns:
            dict: each fetched value by name.

        Raises:
            ModelError: a value is needed but is not stored, or a node failed.
        """
        present = dict(values)
        stale: set[str] = set()
        for step, dead in self._plan(tuple(fetch)).steps:
            if step.node in nodes or any(name in stale for name in step.inputs):
                stale.update(step.outputs)
                for name in step.inputs:
                    if name is not None and name not in present:
                        if name not in self._integers and name not in self._places:
                            raise ModelError(f"node {step.node!r} reads {name!r}, which is not stored")
                        present[name] = self._constant(name)
                self._run(step, present)
            for name in dead:
                present.pop(name, None)
        return {name: present[name] for name in fetch}

    def value_names(self) -> tuple[str, ...]:
        """Return the names of all values that nodes make, in the order of the graph."""
        return tuple(name for step in self._steps for name in step.outputs if name)

    def to_ir(self) -> ir.Model:
        """Return the graph with the present values of the parameters, in the types that it came with."""
        model = self.model.clone()
        nodes = {node.outputs[0].name: node for node in model.graph if node.op_type == "Constant"}
        for name, parameter in self.named_initializers():
            array = parameter.detach().cpu().numpy()
            if name in nodes:
                old = ir.convenience.get_const_tensor(nodes[name].outputs[0])
                assert old is not None
                value = ir.tensor(array.astype(old.dtype.numpy()), name=name)
                nodes[name].attributes.clear()
                nodes[name].attributes["value"] = ir.AttrTensor("value", value)
            else:
                initializer = model.graph.initializers[name]
                assert initializer.const_value is not None
                initializer.const_value = ir.tensor(array.astype(initializer.const_value.dtype.numpy()), name=name)
        return model

    def _run(self, step: Step, values: dict[str, Tensor]) -> None:
        """Run one step and store what it makes."""
        arguments = [None if name is None else values[name] for name in step.inputs]
        for index, hook in self._input_hooks.get(step.node, {}).items():
            arguments[index] = self.hooks[hook](arguments[index])
        try:
            results = step.function(*arguments)
        except torch.OutOfMemoryError:
            raise
        except (ModelError, RuntimeError, ValueError, IndexError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"{step.op_type} node {step.node!r} failed: {said[0]}") from error
        if isinstance(results, Tensor):
            results = (results,)
        for name, result in zip(step.outputs, results, strict=False):
            if name:
                values[name] = self._hooked(name, result)

    def _hooked(self, name: str, value: Tensor) -> Tensor:
        if name not in self._output_hooks:
            return value
        hooked: Tensor = self.hooks[self._output_hooks[name]](value)
        return hooked

    def _plan(self, wanted: tuple[str, ...], given: tuple[str, ...] = ()) -> Plan:
        if (wanted, given) not in self._plans:
            names = (*self._places, *self._integers)
            self._plans[wanted, given] = plan(self._steps, wanted, (self._input, *given), frozenset(names))
        return self._plans[wanted, given]

    def _constant(self, name: str) -> Tensor:
        if name in self._integers:
            return self._integers[name]
        found: Tensor = getattr(self.weights, self._places[name])
        return found

    def _add_hook(self, module: nn.Module) -> int:
        for number, present in enumerate(self.hooks):
            if present is module:
                return number
        self.hooks.append(module)
        return len(self.hooks) - 1

    def _add_constants(self, constants: dict[str, ir.TensorProtocol]) -> None:
        fixed = {
            step.inputs[index]
            for step in self._steps
            for index in FIXED_INPUTS.get(step.op_type, ())
            if index < len(step.inputs)
        }
        for name, tensor in constants.items():
            value = to_torch(tensor)
            if not value.is_floating_point():
                self._integers[name] = value
                continue
            place = _place(name)
            self._places[name] = place
            if name in fixed or not value.numel():
                self.weights.register_buffer(place, value)
            else:
                self.weights.register_parameter(place, nn.Parameter(value))


def _place(name: str) -> str:
    """Return a name that torch takes (it splits at dots) and that no attribute of a module has.

    >>> _place("conv2d_37.w_0")
    '@conv2d_37%2Ew_0'
    """
    return "@" + name.replace("%", "%25").replace(".", "%2E")
