"""The converters, one family a file; importing this package registers them all."""

from ocrslim.graph.importers.paddle.operators import (
    activation,
    arithmetic,
    constant,
    convolution,
    normalization,
    pooling,
    recurrent,
    resize,
    shape,
    slicing,
)

__all__ = [
    "activation",
    "arithmetic",
    "constant",
    "convolution",
    "normalization",
    "pooling",
    "recurrent",
    "resize",
    "shape",
    "slicing",
]
