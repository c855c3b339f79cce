from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ocrslim.errors import ModelError

Operate = Callable[..., Any]
IN, HIDDEN, TIME, BATCH = 5, 3, 7, 2


def weights_of(lstm: torch.nn.LSTM) -> list[Any]:
    """Return torch's weights in Paddle's order: all matrices, then all biases; both have the gates i, f, c, o."""
    names = [
        f"{layer}{suffix}"
        for layer in range(lstm.num_layers)
        for suffix in (("", "_reverse") if lstm.bidirectional else ("",))
    ]
    parameters = dict(lstm.named_parameters())
    return [
        parameters[f"{kind}_{which}_l{name}"].detach().numpy()
        for kind in ("weight", "bias")
        for name in names
        for which in ("ih", "hh")
    ]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_an_lstm_is_torchs(layers: int, both: bool, operate: Operate, numbers: Any) -> None:
    torch.manual_seed(1)
    lstm = torch.nn.LSTM(IN, HIDDEN, layers, bidirectional=both)
    count = layers * (2 if both else 1)
    x, h, c = numbers(TIME, BATCH, IN), numbers(count, BATCH, HIDDEN), numbers(count, BATCH, HIDDEN, seed=1)
    found = operate(
        "rnn",
        {"Input": x, "PreState": [h, c], "WeightList": weights_of(lstm)},
        {"mode": "LSTM", "is_bidirec": both, "num_layers": layers, "hidden_size": HIDDEN},
        constants=["WeightList"],
    )
    with torch.no_grad():
        wanted, _ = lstm(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c)))
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "inputs"), [({"mode": "GRU"}, {}), ({"mode": "LSTM"}, {"SequenceLength": np.array([3], np.int32)})]
)
def test_other_layers_are_refused(attributes: Any, inputs: Any, operate: Operate, numbers: Any) -> None:
    with pytest.raises(ModelError, match="only an LSTM without sequence lengths"):
        operate("rnn", {"Input": numbers(TIME, BATCH, IN), **inputs}, attributes)
