"""Which sites of a quantized model cost its accuracy: a row for each, the worst first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ocrslim.config.profile import Task
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.sensitivity import Divergence, measure_alone, measure_gains, site_work
from ocrslim.slimming.training.distillation import compare

__all__ = ["measure_site_gains", "measure_sites"]


def measure_sites(
    task: Task, quantization: Quantization, teacher: GraphModule, images: Tensor, logits: str
) -> list[dict[str, Any]]:
    """Measure every site.

    Args:
        task: decides how answers are compared.
        quantization: calibrated.
        teacher: the float model.
        images: ``[N, 3, H, W]``; all values that the graph makes of them are kept in memory.
        logits: name of the value to compare.

    Returns:
        list: of each site ``node``; ``sqnr_db`` of its output, ``divergence_alone`` and the share of decisions
            ``changed_alone`` when it alone is quantized; ``gain_if_float``, the divergence that is saved when it alone
            is float; and its share of the ``work``. The site with the largest ``divergence_alone`` comes first.
    """
    divergence = _divergence(task)
    gains = measure_site_gains(task, quantization, teacher, images, logits)
    work = site_work(quantization, images)
    rows = [
        {
            "node": row.node,
            "sqnr_db": row.sqnr_db,
            "divergence_alone": row.divergence,
            "changed_alone": row.changed,
            "gain_if_float": gains[row.node],
            "work": work[row.node],
        }
        for row in measure_alone(quantization, teacher, images, logits, divergence)
    ]
    return sorted(rows, key=lambda row: -row["divergence_alone"])


def measure_site_gains(
    task: Task, quantization: Quantization, teacher: GraphModule, images: Tensor, logits: str
) -> dict[str, float]:
    """Return for each site's node the divergence that is saved when it alone is float; arguments as above."""
    with torch.no_grad():
        taught = teacher(images, fetch=(logits,))[logits]
    return dict(measure_gains(quantization, teacher, images, taught, logits, _divergence(task)))


def _divergence(task: Task) -> Divergence:
    def divergence(answer: Tensor, target: Tensor) -> tuple[float, float]:
        far, agreed = compare(task, [answer], [target])
        return far, 1.0 - agreed

    return divergence
