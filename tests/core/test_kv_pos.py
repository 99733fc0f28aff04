"""kv_pos in its reduced form against the published m-channel form: outputs and gradients."""

import math

import pytest
import torch
from models import make_model
from references import full_code, make_attention, naive_pos2d, small_model
from torch import Tensor, nn

from kvformer.models.attention import FUSED_FROM, Attention
from kvformer.spec.position_codes import code_2d, column_code, row_channels
from kvformer.spec.terms import Span
from kvformer.spec.variants import VARIANTS

TIGHT = {"rtol": 1e-10, "atol": 1e-11}


class NaivePos2D(nn.Module):
    """The published layer: linear maps d→d for K and V, a tensor P (n, n, m), and a linear map m→1."""

    def __init__(self, reduced: Attention, length: int) -> None:
        super().__init__()
        dim = reduced.output.weight.shape[0]
        self.heads, self.scale = reduced.heads, reduced.scale
        self.key, self.value, self.output = (nn.Linear(dim, dim, dtype=torch.float64) for _ in range(3))
        assert reduced.position is not None
        maps, channels = reduced.position.weight.shape
        self.mix = nn.ModuleList(nn.Linear(channels, 1, dtype=torch.float64) for _ in range(maps))
        self.code = full_code(length, channels)
        with torch.no_grad():
            for layer, weight, bias in zip(
                (self.key, self.value), reduced.projection.split(dim), reduced.projection_bias.split(dim), strict=True
            ):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            self.output.load_state_dict(reduced.output.state_dict())
            for index, mix in enumerate(self.mix):
                mix.weight.copy_(reduced.position.weight[index : index + 1])
                mix.bias.copy_(reduced.position.bias[index : index + 1])

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        batch, length, dim = x.shape
        split = (batch, length, self.heads, dim // self.heads)
        keys, values = (layer(x).view(split).transpose(1, 2) for layer in (self.key, self.value))
        channels = (keys @ keys.transpose(-1, -2) * self.scale)[..., None] + self.code[:length, :length]
        if len(self.mix) == 1:
            logits = self.mix[0](channels)[..., 0]
        else:
            logits = torch.stack([mix(channels[:, h])[..., 0] for h, mix in enumerate(self.mix)], dim=1)
        if causal:
            logits = logits.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        mixed = torch.softmax(logits, dim=-1) @ values
        return self.output(mixed.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize("channels", [10, 20, 50])
@pytest.mark.parametrize("maps", ["layer", "head"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [9, FUSED_FROM + 1], ids=["explicit", "fused"])
def test_reduced_form_is_the_published_form(length: int, causal: bool, maps: str, channels: int) -> None:
    model = small_model(position_channels=channels, position_maps=maps)
    reduced = make_attention(VARIANTS["kv_pos"].attention, model, length)
    naive = NaivePos2D(reduced, length)
    random = torch.Generator().manual_seed(7)
    x = torch.randn(2, length, 16, dtype=torch.float64, generator=random)
    direction = torch.randn(2, length, 16, dtype=torch.float64, generator=random)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    output, expected = reduced(ours, causal=causal)[0], naive(theirs, causal)
    torch.testing.assert_close(output, expected, **TIGHT)
    (output * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **TIGHT)
    projection = torch.cat([naive.key.weight.grad, naive.value.weight.grad])
    torch.testing.assert_close(reduced.projection.grad, projection, **TIGHT)
    torch.testing.assert_close(
        reduced.projection_bias.grad, torch.cat([naive.key.bias.grad, naive.value.bias.grad]), **TIGHT
    )
    weight = torch.cat([mix.weight.grad for mix in naive.mix])
    torch.testing.assert_close(reduced.position.weight.grad, weight, **TIGHT)
    torch.testing.assert_close(reduced.output.weight.grad, naive.output.weight.grad, **TIGHT)
    # In the published form the bias of the map cancels up to rounding; here exactly.
    assert all(abs(float(mix.bias.grad)) < 1e-12 for mix in naive.mix)
    assert torch.equal(reduced.position.bias.grad, torch.zeros(len(naive.mix), dtype=torch.float64))


@pytest.mark.parametrize("channels", [10, 20, 50])
@pytest.mark.parametrize("length", [9, FUSED_FROM + 1], ids=["explicit", "fused"])
def test_row_channels_act_through_the_gain_alone(length: int, channels: int) -> None:
    rows = row_channels(channels)
    attention = make_attention(VARIANTS["kv_pos"].attention, small_model(position_channels=channels), length)
    x = torch.randn(2, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    output = attention(x, causal=True)[0]
    output.square().sum().backward()
    gradient = attention.position.weight.grad[0]
    # One number, dLoss/ds, in every row channel: they are interchangeable.
    torch.testing.assert_close(gradient[:rows], gradient[:1].expand(rows), rtol=1e-12, atol=0)
    assert not torch.allclose(gradient[rows:], gradient[:1].expand(channels - rows), rtol=1e-3, atol=0)
    with torch.no_grad():
        attention.position.weight[0, 0] += 0.7
        attention.position.weight[0, 1] -= 0.7
        attention.position.bias += 3.0
    torch.testing.assert_close(attention(x, causal=True)[0], output, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        attention.position.weight[0, -1] += 0.7
        attention.position.weight[0, 0] -= 0.7
    assert not torch.allclose(attention(x, causal=True)[0], output)


@pytest.mark.parametrize(("channels", "rows", "columns"), [(10, 6, 4), (20, 10, 10), (50, 26, 24), (7, 4, 3)])
def test_the_code_has_the_published_channels(channels: int, rows: int, columns: int) -> None:
    assert row_channels(channels) == rows
    assert column_code(5, channels).shape == (5, columns)
    code = torch.from_numpy(code_2d(12, channels).copy())
    assert torch.equal(code.double(), full_code(12, channels))
    # Row channels do not depend on the column, nor column channels on the row; nothing depends on i - j alone.
    assert torch.equal(code[:, :1, :rows].expand(-1, 12, -1), code[:, :, :rows])
    assert torch.equal(code[:1, :, rows:].expand(12, -1, -1), code[:, :, rows:])


def test_periods_of_the_published_code() -> None:
    """Periods/2π 1, 21.5, 464 for m = 10; the columns keep the first two."""
    angles = [math.atan2(*column_code(2, 10)[1, 2 * t : 2 * t + 2].tolist()) for t in range(2)]
    assert [1 / angle for angle in angles] == pytest.approx([1.0, 10_000 ** (1 / 3)], rel=1e-4)


def test_naive_reference_agrees_with_algebra() -> None:
    """L = s·S + ρ_i + γ_j + b: the reference itself, checked by hand on numbers."""
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    code = full_code(2, 4)
    weight, bias = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64)
    rho = [0.1 * math.sin(i) + 0.2 * math.cos(i) for i in range(2)]
    gamma = [0.3 * math.sin(j) + 0.4 * math.cos(j) for j in range(2)]
    expected = [[1.0 * float(scores[i, j]) + rho[i] + gamma[j] + 5.0 for j in range(2)] for i in range(2)]
    torch.testing.assert_close(
        naive_pos2d(scores, weight, bias, code), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_published_initial_spread_of_the_gain() -> None:
    """The sum of m uniform weights has sd √(2m/(m+1)) (Xavier, 2023) or √(1/3) (PyTorch's default), and is negative
    half the time; that of m normal ones of sd 0.02 (2026) has 0.02·√m: attention starts out uniform."""
    for name, scheme, deviation in (
        ("kv_pos", "xavier", math.sqrt(10 * 2 / 11)),
        ("kv_pos", "default", math.sqrt(1 / 3)),
        ("kv_pos_small", "xavier", 0.02 * math.sqrt(10)),
    ):
        gains = []
        for seed in range(800):
            attention = Attention(VARIANTS[name].attention, small_model(), 4)

            def stream(purpose: str, seed: int = seed) -> torch.Generator:
                return torch.Generator().manual_seed(seed)

            attention.position.initialise(scheme, stream)
            gains.append(attention.position.term.gain(attention.position).item())
        sample = torch.tensor(gains)
        assert float(sample.std()) == pytest.approx(deviation, rel=0.08)
        assert float((sample < 0).double().mean()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("init", ["xavier_fused", "default"])
def test_the_controls_start_as_kv_pos_does(init: str) -> None:
    """kv_gain has kv_pos's initial gain and kv_bias its initial key bias: pairs of runs differ in the term alone."""
    positions = {
        name: make_model("encoder", name, init=init).stack.blocks[1].attention.position
        for name in ("kv_pos", "kv_gain", "kv_bias")
    }
    gains = {name: p.term.gain(p) for name, p in positions.items()}
    biases = {name: p.term.key_bias(p, Span(0, 6, 6)) for name, p in positions.items()}
    assert torch.equal(gains["kv_gain"], gains["kv_pos"]) and biases["kv_gain"] is None
    torch.testing.assert_close(biases["kv_bias"], biases["kv_pos"], rtol=0, atol=0)
    assert gains["kv_bias"] is None
