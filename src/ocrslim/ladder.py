"""The climb: calibrate, train, keep single sites float, until the loss holds the budget on the target's engine.

Read it from top to bottom: :func:`climb` is the whole ladder, each function below it one rung. What a rung makes is a
:class:`Candidate`, exported, compared with the model that it was made from, and judged in the engine on the held-back
part of the data. Which rungs are tried depends on figures and the seed, and where int8 goes on a table of what the
clock said once (:mod:`ocrslim.placing`), so that a second run makes the same file; ``max_minutes`` alone may cut a
climb short.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ocrslim.choosing import MUCH_NEARER, is_better, standard_error
from ocrslim.config.profile import Task
from ocrslim.engines.session import InferenceSession
from ocrslim.export.onnx_float import export_float
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.learning import channel_factors, verify_module
from ocrslim.placing import fastest, is_faster, measured, place_sites
from ocrslim.report.result import interval_in_words, loss_in_words
from ocrslim.scene import FLOAT_REASON, Candidate, Climb, Scene
from ocrslim.sensitivity import measure_site_gains, measure_sites
from ocrslim.slimming.quantization.equalization import equalize, find_pairs
from ocrslim.slimming.quantization.placement import Placement
from ocrslim.slimming.quantization.prepare import Quantization, prepare, transfer
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR, choose_output_ranges
from ocrslim.slimming.training.distillation import compare, distances
from ocrslim.teaching import NAME as TAUGHT
from ocrslim.teaching import Taught, teach

__all__ = ["climb"]

WEIGHTS_GO_BACK = frozenset({"paddle"})
"""Targets whose weights are written back into a file that knows only the tensors of the sites and their biases."""

LOOKED_AT = 2  # calibration batches on which the grids of outputs are chosen

LITTLE_COST = 0.05  # of a site that may become float before anything is trained; see _gains_and_costs
RELIEVED = 2  # sites at most

TINY = 1e-7  # probability; its logarithm is finite


def climb(scene: Scene) -> Climb:
    """Climb until the budget holds or the effort is spent.

    Raises:
        VerifyError: no candidate computes in the engine what it was made to compute.
    """
    scene, taught = _taught(scene)
    scene = measured(scene) if _has_time(scene) else scene
    result = _climbed(scene)
    result.taught = taught
    result.placed = scene.measured if scene.measured.trials else None
    result.best.verified.check()
    return result


def _taught(scene: Scene) -> tuple[Scene, Taught | None]:
    """Rung 0: let labels teach the float model's last layer; what is made int8 is then that float model."""
    found = teach(scene.graph, scene.lesson) if scene.lesson is not None and _has_time(scene) else None
    if found is None:
        return scene, None
    graph, taught = found
    path = scene.folder / f"{TAUGHT}.onnx"
    export_float(graph, scene.target, path)
    return replace(scene, graph=graph, teacher=GraphModule(graph).eval(), original=scene.open(path)), taught


def _climbed(scene: Scene) -> Climb:
    """Climb with the fastest placement, and with the usual one where that is too much.

    Returns:
        Climb: the best candidate is one that agrees with its module, where there is one.
    """
    graph = scene.graph
    usual, tried = _calibrated(scene)
    best = _judged(usual, tried[-1])
    if (scene.measured.fast or scene.measured.outputs) and _has_time(scene):
        faster, found = _calibrated(fastest(scene), lean=True)
        candidate = found[-1]
        tried = [*tried, *found]
        worth = candidate.verified.passed and is_faster(faster, candidate, best)
        if worth and _is_worth_its_loss(faster, _judged(faster, candidate), best):
            quick = _climb_on(faster, Climb(candidate, tried, graph))
            if _holds(scene, quick.best):
                return quick
            result = _climb_on(usual, Climb(best, quick.tried, graph))
            if _holds(scene, result.best) or not quick.best.verified.passed or result.best.points <= quick.best.points:
                return result
            quick.tried = result.tried
            return quick
    return _climb_on(usual, Climb(best, tried, graph))


def _holds(scene: Scene, candidate: Candidate) -> bool:
    return candidate.verified.passed and candidate.points <= scene.settings.max_drop


def _is_worth_its_loss(scene: Scene, faster: Candidate, usual: Candidate) -> bool:
    """Tell whether the fastest placement is worth going on with: it loses little more, and may hold the budget.

    More than the budget has to be lost by a standard error: PP-OCRv6 small det lost 0.33 points more after calibration
    (0.16 of a standard error), and gained 4 by the training that follows.
    """
    little = scene.settings.max_drop + standard_error(faster)
    return faster.points <= usual.points + little and (_is_enough(scene, faster) or _may_train(scene))


def _climb_on(scene: Scene, result: Climb) -> Climb:
    """Go on from a calibrated candidate of the scene's placement; return the result, changed."""
    free = scene.settings.steps is None  # whoever names the steps, as a file does, wants them and no more
    if free and not _is_sure(scene, result.best) and scene.effort.relieve and _has_time(scene):
        _relieve(scene, result)
    due = _must_train(scene) or not _is_sure(scene, result.best)
    if due and _may_train(scene) and _has_time(scene):
        trained = _trained(scene, result.best)
        if trained.training is not None and trained.training.best_step == 0:
            result.tried.append(trained)  # it is what it began with
        else:
            _add(scene, result, trained)
    if _is_enough(scene, result.best):
        return result
    if free:
        for candidate in _with_float_sites(scene, result):
            _add(scene, result, candidate)
            if _is_enough(scene, result.best) or not _has_time(scene):
                break
    return result


def _calibrated(scene: Scene, *, lean: bool = False) -> tuple[Scene, list[Candidate]]:
    """Rung 1: find ranges in several ways and round the weights; keep what is nearest to float in the engine.

    Args:
        scene: see there.
        lean: only in the way that usually wins.

    Returns:
        tuple: the scene, with an equalised graph where the nearest candidate has one; the candidates, it last.
    """
    settings = scene.settings
    placement = place_sites(scene)
    observers = scene.effort.observers if settings.observer == OUTPUT_ERROR else (settings.observer,)
    observers, even = (observers[:1], False) if lean else (observers, scene.effort.equalize)
    more = f", {len(scene.measured.fast)} more sites in int8" if scene.fast and scene.measured.fast else ""
    more += ", outputs too" if scene.fast and scene.measured.outputs else ""
    factors = channel_factors(scene.source.task, scene.target, scene.teacher, placement, scene.calibration)
    samples: Mapping[str, Tensor] | None = None

    def calibrate(observer: str, given: Mapping[str, Tensor]) -> tuple[Scene, Candidate]:
        nonlocal samples
        words = f"{observer}, a scale for each channel" if given else observer
        with scene.log.stage(f"calibrate ({words}{more})"):
            quantization = _prepared(scene, placement, given)
            samples = scene.calibrate(quantization, observer, samples)
            _settle_outputs(scene, quantization)
            return scene, _exported(scene, f"calibrated ({words}{more})", quantization)

    found = [calibrate(observer, factors) for observer in observers]
    if factors and even:
        found.append(calibrate(observers[min(1, len(observers) - 1)], {}))
    elif factors and not found[0][1].verified.passed:  # an engine may compute a scale for each channel otherwise
        found.append(calibrate(observers[0], {}))
    pairs = [pair for pair in find_pairs(scene.graph, placement.sites) if pair.value not in factors]
    if pairs and even and scene.target.name not in WEIGHTS_GO_BACK:
        with scene.log.stage("equalize"):
            equal = replace(scene, graph=equalize(scene.graph, pairs, scene.calibration))
            quantization = _prepared(equal, placement, factors)
            equal.calibrate(quantization, observers[0], None)
            _settle_outputs(equal, quantization)
            found.append((equal, _exported(equal, f"equalised and calibrated ({observers[0]})", quantization)))
    found.sort(key=lambda item: (item[1].verified.passed, -item[1].divergence))
    return found[-1][0], [candidate for _, candidate in found]


def _settle_outputs(scene: Scene, quantization: Quantization) -> None:
    """Choose the grids of values that no site reads, on a few calibration images."""
    batches = scene.calibration[:LOOKED_AT]

    @functools.cache  # asked for only where there are such values
    def targets() -> list[Tensor]:
        with torch.no_grad():
            return [scene.teacher(batch, fetch=(scene.logits,))[scene.logits] for batch in batches]

    def distance() -> float:
        answers = (quantization.module(batch, fetch=(scene.logits,))[scene.logits] for batch in batches)
        return compare(scene.source.task, answers, targets())[0]

    for value, high in choose_output_ranges(quantization, scene.calibration, distance).items():
        scene.log.note(f"{value}: range up to {high:.4g}")


def _relieve(scene: Scene, result: Climb) -> None:
    """Rung 1b: where single sites of little work make much of the divergence, make them float."""
    gains, costs = _gains_and_costs(_sensitivity(scene, result))
    kept: list[str] = []
    much = MUCH_NEARER[scene.source.task]
    for node in _worthiest(gains, costs, LITTLE_COST)[:RELIEVED]:
        kept.append(node)
        with scene.log.stage(f"float sites ({len(kept)})"):
            candidate = _without(scene, result.best, kept)
        if result.best.verified.passed and candidate.divergence > much * result.best.divergence:
            result.tried.append(candidate)  # the best one's loss is known; this one's is not worth the time
            return
        _add(scene, result, candidate)
        if result.best is not candidate and result.best.verified.passed:
            return


def _trained(scene: Scene, best: Candidate) -> Candidate:
    """Rung 2: train the sites to answer as the float model does."""
    with scene.log.stage("train"):
        quantization = _copied(scene, best.quantization, best.quantization.placement)
        training = scene.train(scene.graph, quantization)
        candidate = _exported(scene, f"trained {training.best_step} steps", quantization)
    candidate.training = training
    return candidate


def _with_float_sites(scene: Scene, result: Climb) -> Iterator[Candidate]:
    """Rung 3: make the sites float whose error is largest for the time that int8 saves there."""
    gains, costs = _gains_and_costs(_sensitivity(scene, result))
    kept, candidate = _relieved(result.best.quantization.placement), result.best
    for turn in range(scene.effort.turns):
        if turn > 0:
            with scene.log.stage("sensitivity"):
                gains = measure_site_gains(
                    scene.source.task, candidate.quantization, scene.teacher, _watched(scene), scene.logits
                )
        before = len(kept)
        for _ in range(1 if turn == 0 else 2):
            room = scene.effort.most_float - sum(costs.get(node, 0.0) for node in kept)
            kept += [node for node in _worthiest(gains, costs, room) if node not in kept][:1]
        if len(kept) == before:
            return
        with scene.log.stage(f"float sites ({len(kept)})"):
            candidate = _without(scene, result.best, kept)
        yield candidate


def _sensitivity(scene: Scene, result: Climb) -> list[dict[str, Any]]:
    """Return what each site of the best candidate costs, measured unless it was before."""
    if result.measured is not result.best:
        with scene.log.stage("sensitivity"):
            result.sensitivity = measure_sites(
                scene.source.task, result.best.quantization, scene.teacher, _watched(scene), scene.logits
            )
        result.measured = result.best
    return result.sensitivity


def _watched(scene: Scene) -> list[Tensor]:
    return scene.watched[: scene.effort.watched]


def _gains_and_costs(rows: Collection[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return of each site what is gained if it alone is float, and what that costs of time or size.

    A float weight takes four bytes for one, and the last layer of a recogniser has half of all weights for little of
    the work: so 1 % of the weights counts as 2 % of the multiplications.
    """
    gains = {row["node"]: row["gain_if_float"] for row in rows}
    return gains, {row["node"]: max(row["work"], 2.0 * row["weights"]) for row in rows}


def _worthiest(gains: Mapping[str, float], costs: Mapping[str, float], most: float) -> list[str]:
    """Return the sites of at most such a cost that gain something, by the gain for the cost."""
    worth = {node: gain / (costs[node] + 0.02) for node, gain in gains.items() if gain > 0 and costs[node] <= most}
    return sorted(worth, key=lambda node: -worth[node])


def _without(scene: Scene, best: Candidate, kept: Collection[str]) -> Candidate:
    """Return a candidate like the best one in which some sites are float."""
    quantization = _copied(scene, best.quantization, place_sites(scene, kept))
    candidate = _exported(scene, f"{len(kept)} sites float: {', '.join(kept)}", quantization)
    candidate.training = best.training
    return candidate


def _relieved(placement: Placement) -> list[str]:
    """Return the nodes that were made float because they cost too much."""
    return [node for node, reason in placement.float_nodes.items() if reason == FLOAT_REASON]


def _prepared(scene: Scene, placement: Placement, factors: Mapping[str, Tensor] | None = None) -> Quantization:
    return prepare(GraphModule(scene.graph).eval(), placement, scene.target, pact=scene.pact, factors=factors)


def _copied(scene: Scene, quantization: Quantization, placement: Placement) -> Quantization:
    """Return a copy with another placement; a site that is no longer one gets the float model's weights back."""
    copy = _prepared(scene, placement, quantization.factors)
    transfer(quantization, copy)
    return copy


def _exported(scene: Scene, rung: str, quantization: Quantization) -> Candidate:
    """Export a candidate and see in the engine how near it is to its module and to the float model."""
    quantization.module.eval()
    quantization.freeze()
    path = scene.folder / f"candidate-{sum(1 for _ in scene.folder.glob('candidate-*.onnx'))}.onnx"
    export_qdq(quantization, path)
    session = scene.open(path)
    verified = verify_module(scene.source.task, quantization.module, session, scene.validation, scene.required)
    candidate = Candidate(rung, quantization, path, verified, _divergence(scene, session))
    scene.log.say(f"{rung}: divergence {candidate.divergence:.5f}, {verified.kind} {verified.value:.4f}")
    return candidate


def _divergence(scene: Scene, session: InferenceSession) -> float:
    """Return how far the engine's answers are from those of the float model in it, the mean of an image."""
    task = scene.source.task

    def ask(asked: InferenceSession, batch: Tensor) -> Tensor:
        return _logits(task, asked.run(batch.numpy()))

    found = [distances(task, ask(session, batch), ask(scene.original, batch)) for batch in scene.compared]
    return torch.cat(found).mean().item()


def _logits(task: Task, output: Any) -> Tensor:
    """Undo the last Softmax, up to a constant, or the last Sigmoid."""
    probability = torch.from_numpy(output).clamp(TINY, 1.0 - TINY)
    return probability.log() if task == "rec" else torch.logit(probability)


def _judged(scene: Scene, candidate: Candidate) -> Candidate:
    with scene.log.stage(f"judge ({candidate.rung.partition(':')[0]})"):
        candidate.judged = scene.judge(scene.open(candidate.path))
    drop = candidate.judged.worse_drop
    scene.log.say(
        f"{candidate.rung}: {loss_in_words(drop)} ({interval_in_words(drop)}, {drop['n']} held-back images), at most"
        f" {scene.settings.max_drop} asked to be lost"
    )
    return candidate


def _add(scene: Scene, result: Climb, candidate: Candidate) -> None:
    """Judge a candidate; it is the best if it agrees with its module and is better than the best one."""
    result.tried.append(candidate)
    if not candidate.verified.passed:
        scene.log.say(f"{candidate.rung}: not used, the engine computes something else")
        return
    if result.best.verified.passed and not scene.by_labels and candidate.divergence >= result.best.divergence:
        return  # whatever its loss, it is no better; judging takes minutes in some engines
    much = MUCH_NEARER[scene.source.task]
    if is_better(_judged(scene, candidate), result.best, scene.by_labels, much) or not result.best.verified.passed:
        result.best = candidate


def _is_enough(scene: Scene, candidate: Candidate) -> bool:
    """Tell whether the budget holds with half a standard error to spare: what comes next costs the user speed."""
    return candidate.verified.passed and candidate.points + 0.5 * standard_error(candidate) <= scene.settings.max_drop


def _is_sure(scene: Scene, candidate: Candidate) -> bool:
    """Tell whether the budget holds at the upper end of the interval: a lucky draw should not end the climb."""
    assert candidate.judged is not None
    return candidate.verified.passed and float(candidate.judged.worse_drop["high"]) <= scene.settings.max_drop


def _must_train(scene: Scene) -> bool:
    """Tell whether training is due though the budget holds: its steps were asked for, or labels can teach more."""
    return _may_train(scene) and (bool(scene.settings.steps) or scene.by_labels)


def _may_train(scene: Scene) -> bool:
    steps = scene.effort.steps if scene.settings.steps is None else scene.settings.steps
    return not scene.settings.ptq_only and steps > 0


def _has_time(scene: Scene) -> bool:
    limit = scene.settings.max_minutes
    return limit is None or time.monotonic() - scene.began < 60 * limit
