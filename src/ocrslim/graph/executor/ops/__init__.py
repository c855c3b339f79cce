"""The operators, one family a file; importing this package registers them all."""

from ocrslim.graph.executor.ops import (
    activation,
    arithmetic,
    convolution,
    linear,
    normalization,
    pooling,
    resize,
    shape,
)

__all__ = ["activation", "arithmetic", "convolution", "linear", "normalization", "pooling", "resize", "shape"]
