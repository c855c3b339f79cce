"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from ocrslim.graph.executor.registry import register

__all__ = ["gemm", "matmul"]


@register("MatMul", 1, 9, 13)
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product, batched over leading axes."""
    return torch.matmul(a, b)


@register("Gemm", 7, 9, 11, 13)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's name in the schema
    transB: int = 0,  # noqa: N803 - the same
) -> Tensor:
    """Return ``alpha * A B + beta * C`` of matrices, either transposed on request."""
    product = torch.matmul(a.t() if transA else a, b.t() if transB else b)
    if alpha != 1.0:
        product = product * alpha
    if c is None:
        return product
    return product + (c if beta == 1.0 else c * beta)
