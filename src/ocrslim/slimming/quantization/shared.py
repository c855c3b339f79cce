"""What a quantized student still has in common with its float teacher: all before the first site."""

from __future__ import annotations

import onnx_ir as ir
import torch

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.shared import Shared, shared_part

__all__ = ["find_float_part"]


def find_float_part(quantization: Quantization, teacher: GraphModule) -> Shared:
    """Find the first layers that are float in the student too, with the teacher's weights, and learn nothing.

    In PP-OCRv3 to v5 they are the widest maps of the network, and its slowest layers in a training: with what the
    teacher has made of an image the student need not run them. Only sites' scales and biases may learn.

    Args:
        quantization: of the student.
        teacher: of the same graph, on the same device.
    """
    placement = quantization.placement
    changed = {site.node for site in placement.sites} | {residual.node for residual in placement.residuals}
    theirs = dict(teacher.named_initializers())
    others = {
        name
        for name, weight in quantization.module.named_initializers()
        if name not in theirs or not torch.equal(weight, theirs[name])
    }

    def alike(node: ir.Node) -> bool:
        return node.name not in changed and not any(value is not None and value.name in others for value in node.inputs)

    return shared_part(quantization.module.model, alike)
