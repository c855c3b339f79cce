"""Arrays over a pipe, for both ends: a line with the shape as a JSON list, then the float32 values.

Standard library and numpy only, as the other side's environment has no more.
"""

from __future__ import annotations

import json
import math
from typing import IO, Any

import numpy as np

__all__ = ["read_array", "write_array"]


def read_array(stream: IO[bytes]) -> Any:
    """Read one array, float32; ``None`` at the end of the stream.

    Raises:
        EOFError: the stream ends within an array.
    """
    line = stream.readline()
    if not line:
        return None
    shape = json.loads(line)
    data = stream.read(4 * math.prod(shape))
    if len(data) < 4 * math.prod(shape):
        raise EOFError(f"an array of {shape} ends early")
    return np.frombuffer(data, np.float32).reshape(shape).copy()


def write_array(stream: IO[bytes], array: Any) -> None:
    """Write one array as float32."""
    whole = np.ascontiguousarray(array, np.float32)
    stream.write(json.dumps(whole.shape).encode() + b"\n" + whole.tobytes())
    stream.flush()
