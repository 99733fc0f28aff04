"""The statements of docs/theory.md that no other test checks, numerically."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from references import make_attention, small_model
from scipy.linalg import schur

from kvformer.spec.terms.queries_keys import turned
from kvformer.spec.variants import VARIANTS

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"
TESTS = Path(__file__).parent


def rotation(angles: np.ndarray) -> np.ndarray:
    """The matrix that turns pair t by angles[t]."""
    matrix = np.zeros((2 * len(angles), 2 * len(angles)))
    for t, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        matrix[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] = [[cos, -sin], [sin, cos]]
    return matrix


class TestTheory:
    @pytest.mark.parametrize("seed", range(5))
    def test_every_form_with_a_positive_part_is_a_turn(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        root, other = random.normal(size=(2, 8, 8))
        form = root @ root.T + (other - other.T)
        lower = np.linalg.cholesky((form + form.T) / 2)
        inverse = np.linalg.inv(lower)
        blocks, basis = schur(inverse @ ((form - form.T) / 2) @ inverse.T, output="real")
        sizes = blocks[np.arange(1, 8, 2), np.arange(0, 8, 2)]
        angles, lengths = np.arctan(sizes), np.sqrt(1 + sizes**2)
        change = np.repeat(np.sqrt(lengths), 2)[:, None] * (basis.T @ lower.T)
        assert np.abs(angles).max() < np.pi / 2
        np.testing.assert_allclose(change.T @ rotation(angles) @ change, form, atol=1e-9)

    def test_any_causal_logits_are_those_of_some_keys(self) -> None:
        random = np.random.default_rng(0)
        wanted = np.tril(random.normal(size=(8, 8)), -1)
        whole = wanted + wanted.T
        price = -np.linalg.eigvalsh(whole).min()
        values, vectors = np.linalg.eigh(whole + price * np.eye(8))
        keys = vectors * np.sqrt(np.clip(values, 0, None))
        np.testing.assert_allclose(np.tril(keys @ keys.T, -1), wanted, atol=1e-9)
        assert price > 0

    def test_rotary_positions_tell_the_order_of_two_contents(self) -> None:
        attention = make_attention(VARIANTS["kv"].attention, small_model(positions="rope"), 6)
        x = torch.randn(1, 2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        attention.recording = []
        attention(x)
        attention(x.flip(1))
        first, swapped = (recorded.unmasked[0, :, 0, 1] for recorded in attention.recording)
        a, b = attention.apply_maps(x, ("key",))["key"][0].unbind(1)  # (H, h) each
        cross = a[:, 0::2] * b[:, 1::2] - a[:, 1::2] * b[:, 0::2]
        theta = 10_000.0 ** (-2 * torch.arange(2, dtype=torch.float64) / 4)
        change = 2 * attention.scale * (torch.sin(theta) * cross).sum(-1)
        torch.testing.assert_close((swapped - first).abs(), change.abs(), rtol=1e-5, atol=1e-7)
        assert change.abs().min() > 1e-4

    def test_a_turn_commutes_with_rotary_positions(self) -> None:
        random = torch.Generator().manual_seed(0)
        x = torch.randn(3, 8, dtype=torch.float64, generator=random)
        one, two = (torch.randn(4, dtype=torch.float64, generator=random) for _ in range(2))
        there = turned(turned(x, one.cos(), one.sin()), two.cos(), two.sin())
        back = turned(turned(x, two.cos(), two.sin()), one.cos(), one.sin())
        torch.testing.assert_close(there, back, rtol=1e-12, atol=1e-12)


def test_every_test_that_the_page_names_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.glob("test_*.py"))
    named = re.findall(r"`(?:(Test\w+)(?:::)?)?(test_\w+)?`", PAGE.read_text(encoding="utf-8"))
    names = {name for pair in named for name in pair if name}
    assert len(names) > 15
    for name in names:
        assert f"def {name}(" in sources or f"class {name}:" in sources, name
