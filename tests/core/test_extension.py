"""A new variant is one entry, a new task is one file: the README's examples, in a copy of the package."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import SHAPES, make_inputs, model_config
from references import make_attention, plain_attention, small_model
from runs import environment

from kvformer.models.build import MODELS
from kvformer.models.initial_weights import initialise
from kvformer.spec.formulas import parameters
from kvformer.spec.variants import AttentionSpec, Variant

SOURCE = Path(__file__).parents[2] / "src" / "kvformer"

README = SOURCE.parents[1] / "README.md"
VARIANT, TASK = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more file in tasks/ and one more entry in the table of variants."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(SOURCE, root / "kvformer", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "kvformer" / "tasks" / "rotate.py").write_text(TASK)
    table = root / "kvformer" / "spec" / "variants.py"
    text = table.read_text(encoding="utf-8")
    marker = "VARIANTS: dict[str, Variant] = _table(\n"
    assert text.count(marker) == 1
    table.write_text(text.replace(marker, marker + "    " + VARIANT), encoding="utf-8")
    return root


def kvformer(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "kvformer", *arguments]
    return subprocess.run(
        line, capture_output=True, text=True, env={**environment(), "PYTHONPATH": str(root)}, cwd=root, check=False
    )


def test_a_new_task_and_a_new_variant_are_trained(extended: Path, tmp_path: Path) -> None:
    result = kvformer(
        extended, "train", "rotate", "q_kv_gain", "--set", "data.length=5",
        "--set", "data.train_examples=300", "--set", "data.test_examples=50", "--set", "data.validation_examples=50",
        "--set", "model.dim=16", "--set", "training.steps=4", "--set", "training.batch_size=32", "--device", "cpu",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["task"], summary["variant"], summary["status"]) == ("rotate", "q_kv_gain", "finished")
    assert summary["parameters"]["total"] == summary["parameters"]["formula"]


def test_they_are_listed_planned_and_validated(extended: Path, tmp_path: Path) -> None:
    assert "rotate" in kvformer(extended, "tasks").stdout
    assert "q_kv_gain" in kvformer(extended, "variants").stdout
    study = tmp_path / "study.yaml"
    study.write_text("variants: [qkv, q_kv_gain]\nseeds: 1\ntasks: {rotate: {data: {length: 5}}}\n")
    lines = kvformer(extended, "plan", str(study)).stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [
        "runs/rotate/default/qkv/seed0",
        "runs/rotate/default/q_kv_gain/seed0",
    ]
    study.write_text("tasks: {rotate: {data: {lenght: 5}}}\n")
    assert "did you mean 'length'?" in kvformer(extended, "plan", str(study)).stderr


def test_a_change_of_the_new_task_is_noticed(extended: Path) -> None:
    """A change of the helper in synthetic.py that it imports as well."""
    code = (
        "from kvformer.dependencies import code_digest; from kvformer.tasks import MODULES\n"
        "print(code_digest(MODULES['rotate']))"
    )

    def digest() -> str:
        environ = {**environment(), "PYTHONPATH": str(extended)}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True
        ).stdout

    digests = [digest()]
    for name in ("rotate.py", "synthetic.py"):
        path = extended / "kvformer" / "tasks" / name
        path.write_text(path.read_text(encoding="utf-8") + "\nUNUSED = 1\n", encoding="utf-8")
        digests.append(digest())
    assert len(set(digests)) == 3


POINTS = {
    f"{sharing} {position} {kv_heads} {normalise}": AttentionSpec(
        sharing, position, kv_heads=kv_heads, normalise_keys=normalise, mask_self=normalise
    )
    for sharing in ("none", "q=k", "k=v", "q=k=v", "q=I", "pairwise")
    for position in ("none", "pos2d", "gain", "key_bias", "relative")
    for kv_heads in (None, 2)
    for normalise in (False, True)
    if kv_heads is None or sharing in ("none", "k=v", "q=I")
}


@pytest.mark.parametrize("point", POINTS)
def test_every_point_of_the_space_of_specs_works(point: str) -> None:
    """The fields of AttentionSpec are orthogonal: combinations that no variant has compute their formula too.

    Explicit and fused, with one position map per layer and one per head.
    """
    for maps, length, causal in (("layer", 9, True), ("head", 9, False), ("layer", 99, False), ("head", 99, True)):
        attention = make_attention(POINTS[point], small_model(position_maps=maps), length)
        x = torch.randn(2, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            output, expected = attention(x, causal=causal)[0], plain_attention(attention, x, causal=causal)
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("point", POINTS)
def test_every_point_has_its_parameters_and_cache(point: str) -> None:
    from kvformer.models.attention import DecoderCache
    from kvformer.spec.formulas import cache_elements

    variant = Variant("new", "", "", POINTS[point])
    config = model_config("gpt")
    model = MODELS["gpt"](config, variant, SHAPES["gpt"])
    initialise(model, config.init, 0)
    assert sum(p.numel() for p in model.parameters()) == parameters("gpt", variant, config, SHAPES["gpt"])
    cache = DecoderCache()
    (tokens,) = make_inputs("gpt")
    with torch.no_grad():
        model(tokens, cache)
    assert cache.bytes == cache_elements(variant, config) * 4 * tokens.numel()
