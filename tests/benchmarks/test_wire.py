"""Arrays over a pipe come out as they went in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from wire import read_array, write_array

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@given(st.lists(hnp.arrays(np.float32, shapes), max_size=3))
def test_round_trip(arrays: list[np.ndarray]) -> None:
    stream = io.BytesIO()
    for array in arrays:
        write_array(stream, array)
    stream.seek(0)
    for array in arrays:
        np.testing.assert_array_equal(read_array(stream), array)
    assert read_array(stream) is None


def test_what_is_not_in_order_or_float32_is_made_so() -> None:
    stream = io.BytesIO()
    write_array(stream, np.arange(6, dtype=np.float64).reshape(2, 3).T)
    stream.seek(0)
    found = read_array(stream)
    assert (found.dtype, found.tolist()) == (np.float32, [[0, 3], [1, 4], [2, 5]])
    found[0, 0] = 7  # the reader's own


def test_a_stream_that_ends_early_is_told() -> None:
    stream = io.BytesIO()
    write_array(stream, np.zeros((2, 3), np.float32))
    with pytest.raises(EOFError, match=r"\[2, 3\] ends early"):
        read_array(io.BytesIO(stream.getvalue()[:-1]))
