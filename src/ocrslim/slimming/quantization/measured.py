"""Measured placement: the policy proposes, the machine disposes.

Whether int8 pays at a place depends on the processor, the engine and what stands beside it: an int8 convolution that
writes float for a float neighbour pays for the conversion. So groups of sites are changed one by one in the real graph,
and what the engine runs faster is kept (NetAdapt, arXiv 1804.03230). Times don't depend on what the numbers are, so
that grids from a single random image will do; what the choice costs in accuracy is the climb's question.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
import torch

from ocrslim.atomic import read_object, write_bytes
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.probe import random_batch
from ocrslim.engines.session import open_session
from ocrslim.engines.targets import Target
from ocrslim.engines.timing import TimeRatio, time_ratios, time_rounds
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.placement import Site, place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare, transfer

Export = Callable[[Quantization, Path], object]
"""Writes a model as its engine reads it; see :func:`ocrslim.export.onnx_qdq.export_qdq`."""

__all__ = ["MEASURED", "Measured", "Trial", "conditions", "fingerprint", "measure_placement", "recall", "remember"]

MEASURED = frozenset({"onnxruntime", "openvino"})
"""Targets whose engine is timed. Paddle takes seconds to load a model; TensorRT is not where models are compressed."""

VERSION = 1  # of how placements are written and timed: what another one measured is asked again
AT_ONCE = 5  # placements that are loaded and timed together
ROUNDS = 12
LEAST = 0.005  # share of the time that a change has to save
EVERYTHING, LARGEST = "sites (all that may be int8)", "sites (all but the largest)"  # changed at the start
OUTPUTS = "*outputs*"  # among the nodes of a placement: what its sites make is quantized too
OF_SITES = "outputs of sites"  # the group of that
FINAL = 2  # times as many rounds for the choice between what single changes and all of them together make


@dataclass(frozen=True)
class Trial:
    """A question to the clock.

    Args:
        group: in words.
        nodes: that were changed.
        int8: they were made int8, not float.
        saved: share of the time of the policy's model; negative where the change costs time.
        kept: the change is part of the fastest placement.
    """

    group: str
    nodes: tuple[str, ...]
    int8: bool
    saved: float
    kept: bool


@dataclass(frozen=True)
class Measured:
    """What the clock said.

    Args:
        slow: nodes that the policy makes int8 and that are float in the fastest placement.
        fast: optional nodes that are int8 there; see :attr:`.placement.Placement.optional`.
        slow_alone: nodes that are faster in float where no optional node is int8.
        ratio: time of the fastest placement to that of the policy's.
        trials: what was asked.
        outputs: what sites make is quantized there too, where the target usually leaves it float.
    """

    slow: frozenset[str] = frozenset()
    fast: frozenset[str] = frozenset()
    slow_alone: frozenset[str] = frozenset()
    ratio: float = 1.0
    trials: tuple[Trial, ...] = ()
    outputs: bool = False


def measure_placement(
    graph: ir.Model,
    target: Target,
    shape: Sequence[int],
    threads: int,
    export: Export,
    keep_float: Collection[str] = (),
    table: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    small: Collection[str] = (),
) -> Measured:
    """Ask the clock which sites should be int8.

    1. Start from the fastest of the policy's placement, every optional node in int8 too, and the largest sites alone.
    2. Change each group alone: the sites of one kind at one size of the image, and whether outputs are quantized.
    3. Of all changes that pay together, the best of them alone and none, keep what is fastest.

    Args:
        graph: canonical; not changed.
        target: one of :data:`MEASURED`.
        shape: of the input that is timed, N x C x H x W.
        threads: of a run.
        export: writes what is timed.
        keep_float: nodes that must stay float.
        table: JSON file of what was timed before, on any machine; made and extended. ``None`` forgets.
        progress: called with the number of placements that are timed, and how many there are at most.
        small: sites of the policy beside those that hold most of the work, which are tried alone where there are any.

    Raises:
        EngineError: the engine can't run the model.
    """
    bench = _Bench(graph, target, shape, threads, export, frozenset(keep_float), table)
    policy = frozenset(site.node for site in bench.policy.sites)
    everything = frozenset(site.node for site in bench.full.placement.sites)
    groups = _groups(bench.full, shape)
    convolutions = {site.node for site in bench.full.placement.sites if site.kind in ("conv", "depthwise")}
    if not target.quantize_outputs and convolutions & policy:
        groups[OF_SITES] = frozenset({OUTPUTS})
    bench.expect(len(groups) + 7, progress)
    starts = {EVERYTHING: everything, LARGEST: policy - frozenset(small)}
    starts = {name: sites for name, sites in starts.items() if sites and sites != policy}
    times = bench.ratios(list(starts.values())) | {policy: TimeRatio(1.0, 0.0)}
    faster = [sites for sites in starts.values() if _saves(times[sites], 1.0)]
    start = min(faster, key=lambda sites: times[sites].value, default=policy)
    changed = {name: _switched(start, nodes) for name, nodes in groups.items()}
    times |= bench.ratios([sites for sites in changed.values() if sites not in times])
    paying = [name for name, sites in changed.items() if _saves(times[sites], times[start].value)]
    together = functools.reduce(_switched, (groups[name] for name in paying), start)  # groups are disjoint
    alone = min((changed[name] for name in paying), key=lambda sites: times[sites].value, default=start)
    wanted = list(dict.fromkeys(sites for sites in (start, alone, together) if sites != policy))
    finals = bench.ratios(wanted, FINAL * ROUNDS) | {policy: TimeRatio(1.0, 0.0)}
    best = min(finals, key=lambda sites: (finals[sites].value, len(sites)))
    usual = policy & best
    if usual != best:  # where nothing optional is int8, neighbours are other ones than those that it was timed beside
        others = {sites for sites in (usual, starts.get(LARGEST)) if sites and sites != policy}
        alone_times = bench.ratios(sorted(others, key=sorted), FINAL * ROUNDS)
        faster = [sites for sites in others if _saves(alone_times[sites], 1.0)]
        usual = min(faster, key=lambda sites: (alone_times[sites].value, len(sites)), default=policy)
    trials = [
        Trial(name, tuple(sorted(sites ^ policy)), sites > policy, 1.0 - times[sites].value, kept)
        for name, sites in starts.items()
        for kept in [sites == start and best != policy]
    ]
    for name, nodes in groups.items():
        saved, kept = times[start].value - times[changed[name]].value, (nodes <= best) != (nodes <= start)
        told = tuple(sorted(start & convolutions if name == OF_SITES else nodes))
        trials.append(Trial(name, told, not nodes <= start, saved, kept))
    fast = best - policy - {OUTPUTS}
    return Measured(policy - best, fast, policy - usual, finals[best].value, tuple(trials), OUTPUTS in best)


def _switched(sites: frozenset[str], group: frozenset[str]) -> frozenset[str]:
    """Return the sites with a group made float where all of it is int8, and int8 elsewhere."""
    return sites - group if group <= sites else sites | group


def _saves(ratio: TimeRatio, other: float) -> bool:
    return ratio.saves_from(other, LEAST)


class _Bench:
    """Exports placements of one graph and times them beside the policy's."""

    def __init__(
        self,
        graph: ir.Model,
        target: Target,
        shape: Sequence[int],
        threads: int,
        export: Export,
        keep_float: frozenset[str],
        table: Path | None,
    ) -> None:
        self._graph, self._target, self._threads, self._keep_float = graph, target, threads, keep_float
        self._batch, self._export = random_batch(shape), export
        self.policy = place(graph, target, keep_float)
        self.full = self._prepared(False, keep_float, self.policy.optional)
        self._calibrated: dict[bool, Quantization] = {}
        self._table = table
        self._known = recall(table)
        self._asked, self._most = 0, 0
        self._progress: Callable[[int, int], None] = lambda done, total: None
        self._about = conditions(graph, target, shape, threads)

    def expect(self, most: int, progress: Callable[[int, int], None]) -> None:
        """Tell of the placements that are timed, ``most`` of them."""
        self._most, self._progress = most, progress

    def ratios(self, wanted: Sequence[frozenset[str]], rounds: int = ROUNDS) -> dict[frozenset[str], TimeRatio]:
        """Return what each set of int8 nodes takes to what the policy's takes; from the table where it is known."""
        found = {
            sites: TimeRatio(*self._known[key]) for sites in wanted if (key := self._key(sites, rounds)) in self._known
        }
        unknown = [sites for sites in dict.fromkeys(wanted) if sites not in found]
        for start in range(0, len(unknown), AT_ONCE):
            chunk = unknown[start : start + AT_ONCE]
            for sites, ratio in zip(chunk, self._time(chunk, rounds), strict=True):
                found[sites] = ratio
                self._known[self._key(sites, rounds)] = [ratio.value, ratio.error]
            self._save()  # an interrupted run goes on from here
            self._asked += len(chunk)
            self._progress(self._asked, max(self._most, self._asked))
        return found

    def _time(self, chunk: Sequence[frozenset[str]], rounds: int) -> list[TimeRatio]:
        with tempfile.TemporaryDirectory(prefix="ocrslim-") as folder:
            placed = [frozenset(site.node for site in self.policy.sites), *chunk]
            sessions = []
            for number, sites in enumerate(placed):
                path = Path(folder) / f"{number}.onnx"
                self._export(self._quantized(sites), path)
                sessions.append(open_session(path, self._target.engine, self._threads))
            return time_ratios(time_rounds(sessions, self._batch, rounds))

    def _quantized(self, sites: frozenset[str]) -> Quantization:
        outputs = OUTPUTS in sites
        if outputs not in self._calibrated:  # only what has to be timed needs grids
            full = self._prepared(True, self._keep_float, self.policy.optional) if outputs else self.full
            calibrate(full, [torch.from_numpy(self._batch)], "minmax")
            self._calibrated[outputs] = full
        everything = {site.node for site in self.full.placement.sites}
        nodes = sites - {OUTPUTS}
        quantization = self._prepared(outputs, self._keep_float | everything - nodes, nodes)
        transfer(self._calibrated[outputs], quantization)
        quantization.module.eval()
        quantization.freeze()
        return quantization

    def _prepared(self, outputs: bool, keep_float: frozenset[str], also: Collection[str]) -> Quantization:
        target = replace(self._target, quantize_outputs=True) if outputs else self._target
        return prepare(GraphModule(self._graph).eval(), place(self._graph, target, keep_float, also), target)

    def _key(self, sites: frozenset[str], rounds: int) -> str:
        return hashlib.sha256(f"{self._about} {sorted(sites)} {rounds}".encode()).hexdigest()

    def _save(self) -> None:
        if self._table is not None:
            remember(self._table, self._known)


def _groups(full: Quantization, shape: Sequence[int]) -> dict[str, frozenset[str]]:
    """Return name -> nodes: the sites of one kind whose outputs have one size."""
    sites = full.placement.sites
    full.set_mode("float")
    with torch.no_grad():
        values = full.module(torch.zeros(tuple(shape)), fetch=tuple({site.raw_output for site in sites}))
    full.set_mode("quantize")
    optional = set(full.placement.optional)
    found: dict[str, set[str]] = {}
    for site in sites:
        found.setdefault(f"{_kind(site, optional)} at {_size(site, values)}", set()).add(site.node)
    return {name: frozenset(nodes) for name, nodes in found.items()}


def _kind(site: Site, optional: Collection[str]) -> str:
    if site.kind == "depthwise":
        return "depthwise convolutions"
    if site.kind != "conv":
        return "products"
    return "convolutions of few products" if site.node in optional else "convolutions"


def _size(site: Site, values: Mapping[str, torch.Tensor]) -> str:
    size = values[site.raw_output].shape
    return "x".join(str(side) for side in (size[2:] if site.kind in ("conv", "depthwise") else size[1:-1]))


def recall(table: Path | None) -> dict[str, list[float]]:
    """Return what is in a table: question -> ratio and its standard error; a damaged or unreadable one is empty.

    Args:
        table: see :func:`measure_placement`.
    """
    known = {} if table is None else read_object(table)
    return {key: value for key, value in known.items() if _is_pair(value)}


def remember(table: Path, known: Mapping[str, Sequence[float]]) -> None:
    """Add to a table; where it can't be written nothing is remembered, which costs a later run time alone.

    Args:
        table: made if missing.
        known: as of :func:`recall`.
    """
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(table, json.dumps(recall(table) | dict(known), indent=0).encode())  # others write there too
    except OSError:
        return


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, float | int) for item in value)


def conditions(graph: ir.Model, target: Target, shape: Sequence[int], threads: int) -> str:
    """Return what a time depends on beside the placement, in words: the first part of a question to the table.

    Args:
        graph: canonical.
        target: what for.
        shape: of the input.
        threads: of a run.
    """
    about = [target.name, target.weight.bits, versions().get(target.engine), threads, list(shape)]
    return json.dumps([*about, cpu_info().model, cpu_info().flags, fingerprint(graph)])


def fingerprint(graph: ir.Model) -> str:
    """Return the hash of what decides how long a graph takes: operators, attributes, edges and shapes of constants.

    Args:
        graph: canonical.
    """
    nodes = [
        [node.op_type, str(node.attributes), [value and value.name for value in (*node.inputs, *node.outputs)]]
        for node in graph.graph
    ]
    shapes = [f"{name} {value.shape}" for name, value in graph.graph.initializers.items()]
    return hashlib.sha256(json.dumps([VERSION, nodes, shapes]).encode()).hexdigest()
