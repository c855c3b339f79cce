"""What every engine checks in the same words: one input, one output, a batch that fits; and its errors in one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import EngineError, ModelError

__all__ = ["check_batch", "fits", "one_line", "only", "shape_text"]

SAID = 200  # characters of an engine's own message that are worth repeating


def only(path: Path, names: Iterable[str], kind: str) -> str:
    """Return the only one of ``names``.

    Args:
        path: the model, for the message.
        names: of the graph's inputs or outputs.
        kind: ``input`` or ``output``.

    Raises:
        ModelError: there are none or several.
    """
    found = list(names)
    if not found:
        raise ModelError(f"{path}: holds no graph with an {kind}; it is no ONNX model, or an incomplete copy of one")
    if len(found) > 1:
        raise ModelError(f"{path}: has {len(found)} {kind}s ({', '.join(found)}); a PP-OCR model has one")
    return found[0]


def fits(declared: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Say whether an input declared as ``declared`` takes an array of ``shape``; ``None`` takes any size.

    >>> fits((None, 3, 48, None), (6, 3, 48, 320)), fits((None, 3, 48, None), (1, 3, 640, 640))
    (True, False)
    """
    return len(declared) == len(shape) and all(
        want is None or want == got for want, got in zip(declared, shape, strict=True)
    )


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape as people write it.

    >>> shape_text((None, 3, 48, 320))
    '?x3x48x320'
    """
    return "x".join("?" if size is None else str(size) for size in shape)


def check_batch(path: Path, declared: Sequence[int | None], x: NDArray[Any]) -> None:
    """Refuse an array that the model was not made for, before an engine says so in its own words.

    Raises:
        TypeError: ``x`` is not float32.
        EngineError: its shape is not what the model takes.
    """
    if x.dtype != np.float32:
        raise TypeError(f"the input is {x.dtype}; give float32, for instance x.astype(np.float32)")
    if not fits(declared, x.shape):
        raise EngineError(f"{path}: takes {shape_text(declared)}, not {shape_text(x.shape)}")


def one_line(error: BaseException, noise: Sequence[str] = ()) -> str:
    r"""Return an engine's message as one line of at most 200 characters.

    Args:
        error: what the engine raised.
        noise: beginnings of lines that tell a user nothing, as the place in the engine's source.

    >>> one_line(RuntimeError("Exception from core.cpp:84:\nModel can't be parsed\n"), ("Exception from",))
    "Model can't be parsed"
    """
    lines = [line.strip() for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line and not line.startswith(tuple(noise))) or type(error).__name__
    return said if len(said) <= SAID else said[: SAID - 3] + "..."
