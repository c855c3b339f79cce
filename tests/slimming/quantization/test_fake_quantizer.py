"""Forward: the closed form. Backward: LSQ's and PACT's formulas, written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.slimming import parts
from ocrslim.slimming.quantization.fake_quantizer import ChannelBias, FakeQuantizer
from ocrslim.slimming.quantization.numerics import fake_quantize
from ocrslim.slimming.quantization.observer import MinMax
from ocrslim.spec import PerAxis, PerTensor, QuantizationSpec

U8 = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
S4 = QuantizationSpec(4, signed=True, symmetric=True, granularity=PerAxis(0))


def tensor_quantizer(**options: bool) -> FakeQuantizer:
    return FakeQuantizer(U8, torch.tensor([0.02]), torch.tensor([40.0]), **options)


def sample(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) * 3


def test_forward_is_the_closed_form() -> None:
    x = sample()
    assert torch.allclose(
        tensor_quantizer()(x), fake_quantize(x, torch.tensor([0.02]), torch.tensor([40.0]), U8), atol=1e-6
    )
    scale = torch.tensor([0.1, 0.2, 0.4, 0.8])
    channels = FakeQuantizer(S4, scale, torch.zeros(4))
    assert torch.allclose(channels(x), fake_quantize(x, scale, torch.zeros(4), S4), atol=1e-6)


@pytest.mark.parametrize("pact", [False, True])
def test_per_tensor_gradients_are_the_formulas(pact: bool) -> None:
    quantizer = tensor_quantizer(pact=pact, learn_zero_point=True)
    x = sample().requires_grad_()
    gradient = sample(1)
    y = quantizer(x)
    y.backward(gradient)
    scale, offset = 0.02, 40
    inside = (x > -offset * scale) & (x < (255 - offset) * scale)
    assert 0 < inside.sum() < x.numel()  # both cases occur
    assert x.grad is not None
    assert quantizer.log_scale.grad is not None
    assert quantizer.zero_point.grad is not None
    assert torch.allclose(x.grad, gradient * inside)
    # d y / d s = (y - x) / s inside, y / s outside; in log space times s.
    within = torch.zeros_like(x) if pact else y - x
    expected = (gradient * torch.where(inside, within, y)).sum()
    assert quantizer.log_scale.grad.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    assert quantizer.zero_point.grad.item() == pytest.approx(
        (-scale * gradient * ~inside).sum().item(), rel=1e-3, abs=1e-5
    )


@pytest.mark.parametrize("pact", [False, True])
def test_with_a_factor_each_channel_has_the_formulas_of_its_own_scale(pact: bool) -> None:
    factor = torch.tensor([1.0, 0.5, 0.25, 2.0, 1.0, 0.1]).reshape(1, 6)
    quantizer = FakeQuantizer(U8, torch.tensor([0.02]), torch.tensor([40.0]), pact=pact, factor=factor)
    x, gradient = sample().requires_grad_(), sample(1)
    y = quantizer(x)
    y.backward(gradient)
    assert x.grad is not None
    assert quantizer.log_scale.grad is not None
    expected = 0.0
    for channel, part in enumerate(factor.reshape(-1).tolist()):
        alone = FakeQuantizer(U8, torch.tensor([0.02 * part]), torch.tensor([40.0]), pact=pact)
        column = x.detach()[:, channel].clone().requires_grad_()
        alone(column).backward(gradient[:, channel])
        assert alone.log_scale.grad is not None
        assert column.grad is not None
        assert torch.allclose(alone(column), y[:, channel], atol=1e-6)
        assert torch.allclose(x.grad[:, channel], column.grad)
        expected += alone.log_scale.grad.item()
    assert quantizer.log_scale.grad.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_an_observer_sees_what_the_grid_is_of() -> None:
    quantizer = FakeQuantizer(U8, torch.ones(1), torch.zeros(1), factor=torch.tensor([[1.0, 4.0]]))
    observer = MinMax()
    observer.update(quantizer.divided(torch.tensor([[1.0, 8.0], [-1.0, 0.0]])))
    assert observer.range() == (-1.0, 2.0)


def test_per_axis_gradients_are_the_formulas() -> None:
    scale = torch.tensor([0.1, 0.2, 0.4, 0.8])
    quantizer = FakeQuantizer(S4, scale, torch.zeros(4))
    x = sample().requires_grad_()
    gradient = sample(1)
    y = quantizer(x)
    y.backward(gradient)
    column = scale[:, None]
    inside = (x >= -8 * column) & (x <= 7 * column)
    assert 0 < inside.sum() < x.numel()
    assert x.grad is not None
    assert quantizer.log_scale.grad is not None
    assert torch.allclose(x.grad, gradient * inside)
    assert torch.allclose(quantizer.log_scale.grad, (gradient * torch.where(inside, y - x, y)).sum(1), atol=1e-4)


def test_learning_the_scale_lowers_the_error() -> None:
    quantizer = FakeQuantizer(S4, torch.full((4,), 2.0), torch.zeros(4))
    x = sample()
    before = (quantizer(x) - x).square().mean().item()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    assert (quantizer(x) - x).square().mean().item() < 0.5 * before
    assert bool((quantizer.scale > 0).all())


def test_modes() -> None:
    quantizer, x = tensor_quantizer(), sample()
    quantizer.mode = "float"
    assert quantizer(x) is x
    quantizer.mode = "quantize"
    assert not torch.equal(quantizer(x), x)


def test_scale_and_zero_point_exist_from_the_beginning_and_are_saved() -> None:
    quantizer = tensor_quantizer()
    assert set(quantizer.state_dict()) == {"log_scale", "zero_point"}
    assert [name for name, _ in quantizer.named_parameters()] == ["log_scale"]
    assert [name for name, _ in tensor_quantizer(learn_zero_point=True).named_parameters()] == [
        "log_scale",
        "zero_point",
    ]


def test_a_learned_zero_point_is_whole_for_the_engine() -> None:
    quantizer = tensor_quantizer(learn_zero_point=True)
    with torch.no_grad():
        quantizer.zero_point.fill_(300.4)
    assert quantizer.whole_zero_point.item() == 255.0


def test_illegal_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match="one scale only"):
        FakeQuantizer(S4, torch.ones(4), torch.zeros(4), learn_zero_point=True)
    with pytest.raises(ValueError, match="positive"):
        FakeQuantizer(U8, torch.zeros(1), torch.zeros(1))


@given(
    x=st.lists(st.floats(-50, 50, width=32, allow_subnormal=False), min_size=1, max_size=30),
    scale=st.floats(0.001, 10.0),
    zero=st.integers(0, 255),
)
def test_twice_is_once_and_every_value_is_on_the_grid(x: list[float], scale: float, zero: int) -> None:
    quantizer = FakeQuantizer(U8, torch.tensor([scale]), torch.tensor([zero]))
    once = quantizer(torch.tensor(x))
    assert torch.allclose(quantizer(once), once, rtol=1e-5)
    steps = once / quantizer.scale
    assert torch.allclose(steps, steps.round(), atol=1e-2)
    assert bool((steps.round() >= -zero).all())
    assert bool((steps.round() <= 255 - zero).all())
    inside = (torch.tensor(x) > -zero * scale) & (torch.tensor(x) < (255 - zero) * scale)
    error = (once - torch.tensor(x)).abs()[inside]
    assert bool((error <= scale * 0.5001 + 1e-6).all())


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_means_that_channel_in_any_rank(axis: int) -> None:
    spec = QuantizationSpec(4, signed=True, symmetric=True, granularity=PerAxis(axis))
    scale = torch.tensor([0.1, 0.5, 2.0])
    quantizer = FakeQuantizer(spec, scale, torch.zeros(3))
    shape = [2, 2, 4, 5]
    shape[axis] = 3
    y = quantizer(torch.full(shape, 1.2))
    for channel, step in enumerate(scale.tolist()):
        expected = min(7, round(1.2 / step)) * step
        assert y.select(axis, channel).unique().tolist() == pytest.approx([expected])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_the_layout_in_memory_changes_neither_values_nor_gradients(layout: str) -> None:
    plain = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(3)) * 3
    x = {
        "contiguous": plain.clone(),
        "channels_last": plain.contiguous(memory_format=torch.channels_last),
        "strided": plain.transpose(2, 3).contiguous().transpose(2, 3),
    }[layout].requires_grad_()
    gradient = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(4))
    found, expected = tensor_quantizer(), tensor_quantizer()
    y = found(x)
    y.backward(gradient)
    reference = plain.clone().requires_grad_()
    z = expected(reference)
    z.backward(gradient)
    assert torch.equal(y, z)
    assert x.grad is not None
    assert reference.grad is not None
    assert torch.equal(x.grad, reference.grad)
    assert found.log_scale.grad is not None
    assert expected.log_scale.grad is not None
    assert found.log_scale.grad.item() == pytest.approx(expected.log_scale.grad.item(), rel=1e-4)


def test_a_frozen_scale_gets_no_gradient_and_the_input_keeps_its_own() -> None:
    quantizer = tensor_quantizer()
    quantizer.requires_grad_(False)
    x = sample().requires_grad_()
    quantizer(x).sum().backward()
    assert quantizer.log_scale.grad is None
    assert x.grad is not None
    assert set(x.grad.unique().tolist()) <= {0.0, 1.0}


def test_a_new_grid_replaces_the_old_one_in_place() -> None:
    quantizer = tensor_quantizer()
    parameter = quantizer.log_scale
    quantizer.set_grid(torch.tensor([0.5]))
    assert quantizer.log_scale is parameter  # the optimiser knows it by identity
    assert quantizer.scale.item() == pytest.approx(0.5)
    assert quantizer.zero_point.item() == 40.0
    quantizer.set_grid(torch.tensor([0.25]), torch.tensor([7.0]))
    assert (quantizer.scale.item(), quantizer.whole_zero_point.item()) == (0.25, 7.0)
    again = tensor_quantizer()
    again.load_state_dict(quantizer.state_dict())
    assert torch.equal(again(sample()), quantizer(sample()))


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_a_channel_bias_is_added_to_its_channel(rank: int) -> None:
    bias = ChannelBias(3)
    x = torch.zeros(2, 3, *([4] * (rank - 2)))
    assert torch.equal(bias(x), x)
    with torch.no_grad():
        bias.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert [bias(x).select(1, channel).unique().item() for channel in range(3)] == [1.0, 2.0, 3.0]
    bias(x).sum().backward()
    assert bias.bias.grad is not None
    assert bias.bias.grad.tolist() == [x[:, 0].numel()] * 3


def test_fixed_codes_ignore_what_comes_in_and_their_scale_alone_learns() -> None:
    """The closed form: ``y = codes * s``, so ``dlog_s = sum of g * y`` over a channel and nothing for the input."""
    weight = sample()
    quantizer = FakeQuantizer(S4, torch.tensor([0.1, 0.2, 0.4, 0.8]), torch.zeros(4))
    before = quantizer(weight).detach()
    quantizer.fix_codes(weight)
    moved = (weight + 7.0).requires_grad_()
    y = quantizer(moved)
    assert torch.equal(y, before)
    gradient = sample(1)
    (y * gradient).sum().backward()
    assert moved.grad is None
    assert quantizer.log_scale.grad is not None
    assert torch.allclose(quantizer.log_scale.grad, (gradient * before).sum(1), rtol=1e-5)
    assert quantizer.codes is not None
    assert quantizer.codes.dtype == torch.int8
    assert quantizer.codes.abs().max() <= S4.quant_max + 1


def test_settled_codes_are_the_weight_that_rounds_to_themselves() -> None:
    quantizer = FakeQuantizer(S4, torch.tensor([0.1, 0.2, 0.4, 0.8]), torch.zeros(4))
    quantizer.fix_codes(sample())
    with torch.no_grad():
        quantizer.log_scale.add_(torch.tensor([0.3, -0.2, 0.05, 1.0]))
    trained = quantizer(sample()).detach()
    weight = quantizer.settled()
    assert quantizer.codes is None
    assert torch.equal(weight, trained)
    assert torch.allclose(quantizer(weight), trained, rtol=1e-6)
    with pytest.raises(RuntimeError, match="no integers"):
        quantizer.settled()


def test_fixed_codes_are_part_of_the_state() -> None:
    quantizer, other = (FakeQuantizer(S4, torch.full((4,), 0.1), torch.zeros(4)) for _ in range(2))
    assert "codes" not in quantizer.state_dict()
    quantizer.fix_codes(sample())
    other.fix_codes(sample(2))
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(sample(3)), quantizer(sample(4)))


@pytest.mark.parametrize("layout", ["rows", "channels last", "strided", "scalar", "empty"])
def test_parts_of_a_cache_change_no_bit(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0)) * 3
    x = {
        "rows": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "strided": x[:, ::2, 1:],
        "scalar": x[0, 0, 0, 0],
        "empty": x[:0],
    }[layout]
    found = []
    for size in (7, 1 << 40):
        monkeypatch.setattr(parts, "IN_CACHE", size)
        found.append(tensor_quantizer()(x))
    assert torch.equal(*found)
    assert found[0].stride() == (x / 2).stride()  # the layout goes on through the network


@pytest.mark.parametrize("pact", [False, True])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("wanted", [False, True], ids=["scales only", "the input's too"])
@pytest.mark.parametrize("layout", ["rows", "channels last", "strided"])
def test_parts_of_a_cache_change_no_gradient(
    layout: str, wanted: bool, learned: bool, pact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0)) * 3
    x = {"rows": x, "channels last": x.contiguous(memory_format=torch.channels_last), "strided": x[:, ::2, 1:]}[layout]
    slope, found = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), []
    if layout == "channels last":
        slope = slope.contiguous(memory_format=torch.channels_last)
    for size in (7, 1 << 40):
        monkeypatch.setattr(parts, "IN_CACHE", size)
        quantizer = FakeQuantizer(U8, torch.tensor([0.03]), torch.tensor([90]), learn_zero_point=learned, pact=pact)
        seen = x.detach().requires_grad_(wanted)
        quantizer(seen).backward(slope)
        assert quantizer.log_scale.grad is not None
        found.append([quantizer.log_scale.grad, *([quantizer.zero_point.grad] if learned else [])])
        if wanted:
            found[-1].append(seen.grad)
            seen.grad = None
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(*found, strict=True))
    assert found[0][0].abs().item() > 0.1
    if wanted:
        assert torch.equal(found[0][-1], found[1][-1])
        assert 0 < int((found[0][-1] == 0).sum()) < x.numel()
