"""Adding a term on the logits is one class and one line of the table: a penalty, in a copy of the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import environment

from kvformer.spec.terms import Term

SOURCE = Path(__file__).parents[2] / "src" / "kvformer"
LOG_DISTANCE = '''


class LogDistance(Term):
    """S_ij - 2^(-8a/H)·log(1 + |i - j|) for head a = 1 … H (compare Chi et al. 2022, arXiv 2205.09921)."""

    explanation = "a fixed penalty on the logarithm of the distance, another one for each head"
    keeps_symmetry = True

    def constants(self) -> dict[str, np.ndarray]:
        """`slopes` (H,)."""
        return {"slopes": 2.0 ** (-8 * np.arange(1, self.heads + 1, dtype=np.float32) / self.heads)}

    def logit_bias(self, p: Any, span: Span) -> "Tensor | None":
        """The penalty, (H, queries, keys)."""
        import torch

        queries = torch.arange(span.first, span.first + span.queries)
        distance = (queries[:, None] - torch.arange(span.keys)[None, :]).abs()
        return -p.slopes[:, None, None] * distance.log1p()
'''
CHECK = """
import torch
from kvformer.models.attention import Attention
from kvformer.spec.formulas import attention_macs, attention_parameters
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import VARIANTS

spec, model = VARIANTS["kv_log"].attention, ModelConfig(dim=16, heads=4)
layer = Attention(spec, model, 9)
layer.initialise("default", lambda name: torch.Generator().manual_seed(len(name)))
x = torch.randn(2, 9, 16)
layer.recording = []
whole = layer(x, causal=True)[0]
keys = layer.apply_maps(x, ("key",))["key"]
distance = (torch.arange(9)[:, None] - torch.arange(9)).abs()
slopes = torch.tensor([2.0 ** -2, 2.0 ** -4, 2.0 ** -6, 2.0 ** -8])
expected = keys @ keys.transpose(-1, -2) / 2 - slopes[:, None, None] * distance.log1p()
torch.testing.assert_close(layer.recording[0].unmasked, expected)
count = sum(parameter.numel() for parameter in layer.parameters())
assert count == attention_parameters(spec, model, 9) == attention_parameters(VARIANTS["kv"].attention, model, 9)
assert attention_macs(spec, model, 9) == attention_macs(VARIANTS["kv"].attention, model, 9)
assert spec.symmetric_logits
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one class and one line more, and a variant that names the term."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(SOURCE, root / "kvformer", ignore=shutil.ignore_patterns("__pycache__"))
    spec = root / "kvformer" / "spec"
    with (spec / "terms" / "logits.py").open("a", encoding="utf-8") as stream:
        stream.write(LOG_DISTANCE)
    for path, marker, addition in (
        (spec / "terms" / "__init__.py", "TERMS: dict[str, type[Term]] = {\n", '    "log": logits.LogDistance,\n'),
        (
            spec / "variants.py",
            "VARIANTS: dict[str, Variant] = _table(\n",
            '    Variant("kv_log", "softmax(c·KKᵀ - m·log(1 + |i - j|))·V", "mine", AttentionSpec("q=k", "log")),\n',
        ),
    ):
        text = path.read_text(encoding="utf-8")
        assert text.count(marker) == 1
        path.write_text(text.replace(marker, marker + addition), encoding="utf-8")
    return root


def test_a_misspelt_effect_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Misspelt: bias is not part of a term: .*logit_bias"):
        type("Misspelt", (Term,), {"bias": None})


def run(root: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**environment(), "PYTHONPATH": str(root)}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_computes_its_logits_and_counts_its_parameters(extended: Path) -> None:
    run(extended, "-c", CHECK)


def test_it_is_explained_listed_and_trained(extended: Path, tmp_path: Path) -> None:
    text = run(extended, "-m", "kvformer", "explain", "kv_log")
    assert "a fixed penalty on the logarithm" in text
    assert "the logits are symmetric" in text
    assert "kv_log" in run(extended, "-m", "kvformer", "variants")
    small = ["data.length=6", "data.train_examples=200", "data.test_examples=20", "data.validation_examples=20"]
    small += ["model.dim=16", "training.steps=3", "training.batch_size=20"]
    settings = [part for value in small for part in ("--set", value)]
    out = tmp_path / "run"
    run(extended, "-m", "kvformer", "train", "copy", "kv_log", *settings, "--device", "cpu", "--out", str(out))
    assert json.loads((out / "summary.json").read_text())["status"] == "finished"
