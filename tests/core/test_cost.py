"""Costs: formula, PyTorch's counter and a running decoder agree for every variant; times and memory are measured."""

from pathlib import Path

import pytest
import torch

from kvformer.cli import main
from kvformer.cli.cost import _say_where
from kvformer.config.loading import single_run
from kvformer.config.run import RunConfig
from kvformer.errors import ConfigError
from kvformer.spec.formulas import cache_elements, macs
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS
from kvformer.training import cost
from kvformer.training.cost import Subject, measure
from kvformer.training.graphs import Action
from kvformer.training.peaks import peak_flops, utilisation

SMALL = ["model.dim=32", "model.layers=3", "model.heads=8", "training.batch_size=2"]
TRANSLATION = Shape(12, 40, 50, target_inputs=50)
CASES = {
    "reverse": [],
    "mnist": [],
    "anomaly": [],
    "characters": ["data.context=16"],
    "characters, rope": [
        "data.context=16",
        "model.positions=rope",
        "model.qk_norm=rms_scale",
        "model.activation=swiglu",
    ],
    "numbers": [],
    "numbers, half rope": ["model.positions=rope", "model.rope_fraction=0.5"],
    "translation_en_de": ["data.max_length=12", "model.cross_query=key"],
    "translation_de_en": ["data.max_length=12", "model.cross_query=own"],
}


def runs(task: str, *variants: str) -> list[RunConfig]:
    found = []
    for variant in variants or VARIANTS:
        try:
            found.append(single_run(task.partition(",")[0], variant, 0, overrides=[*SMALL, *CASES[task]])[0])
        except ConfigError as error:
            words = ("only decoders", "needs model.positions rope", "a set has no order", "qk_norm must be none")
            assert any(word in str(error) for word in words), error
    return found


def shape_of(run: RunConfig) -> Shape:
    return TRANSLATION if run.definition.architecture == "seq2seq" else run.definition.shape(run.data, None)


@pytest.mark.parametrize("task", CASES)
def test_macs_by_formula_are_those_that_pytorch_counts(task: str) -> None:
    for run in runs(task):
        subject = Subject(run, shape_of(run), torch.device("cpu"))
        expected = macs(run.definition.architecture, VARIANTS[run.variant], run.model, shape_of(run))
        assert subject.counted_macs() == expected, run.variant


@pytest.mark.parametrize("task", ["characters", "characters, rope", "numbers, half rope", "translation_en_de"])
def test_a_running_decoder_caches_what_the_formula_says(task: str) -> None:
    for run in runs(task):
        cache = Subject(run, shape_of(run), torch.device("cpu")).decode()
        assert cache.length == shape_of(run).length
        assert cache.bytes == 4 * cache.length * cache_elements(VARIANTS[run.variant], run.model), run.variant


def test_one_row_per_variant_with_ordered_times_and_memory_above_the_weights() -> None:
    chosen = runs("characters", "qkv", "kv", "k")
    rows = measure(chosen, shape_of(chosen[0]), torch.device("cpu"), rounds=3, baseline="kv")
    assert [row["variant"] for row in rows] == ["qkv", "kv", "k"]
    for row in rows:
        assert 0 < row["step_seconds_low"] <= row["step_seconds"] <= row["step_seconds_high"]
        assert row["decode_low"] <= row["decode_tokens_per_second"] <= row["decode_high"]
        # Weights, their gradients and Adam's two moments are all held at the end of a step.
        assert row["peak_bytes"] > 4 * 4 * row["parameters"]
    assert rows[1]["step_ratio"] == 1.0 != rows[0]["step_ratio"]
    assert rows[0]["cache_bytes_per_token"] == 2 * rows[2]["cache_bytes_per_token"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rounds", "0"], "--rounds: must be at least 2, not 0"),
        (["--rounds", "1"], "--rounds: must be at least 2, not 1"),
        (["--task", "revers"], "--task: there is no task 'revers' to measure; allowed: reverse, tiny_imagenet"),
        (["--setting", "dim3"], "--setting: there is no setting 'dim3' to measure; allowed: dim16, dim32, default"),
        (["--task", "reverse", "--setting", "default"], "'default' to measure; allowed: dim16, dim32"),
        (["--task", "tiny_imagenet"], "tiny_imagenet (setting default): data.patch must divide the images"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(
    options: list[str], words: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = tmp_path / "study.yaml", tmp_path / "cost.csv"
    study.write_text(
        "tasks: {reverse: {grid: {model.dim: [16, 32]}}, tiny_imagenet: {data: {patch: 7, image_size: null}}}"
    )
    assert main(["cost", "--config", str(study), "--data", str(prepared), "--out", str(out), *options]) == 2
    output = capsys.readouterr()
    assert words in output.err and output.err.count("\n") == 1 and output.out == ""
    assert not out.exists()


def test_utilisation_is_three_forward_passes_over_the_peak() -> None:
    assert utilisation(10**9, 100, 0.01, 1e14) == pytest.approx(0.6)


def test_costs_on_a_gpu_say_which_one_and_give_no_share_of_an_unknown_peak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, gpu = ["NVIDIA H100 80GB HBM3"], torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[-1])
    assert peak_flops(gpu, "bf16") == 989.5e12 and peak_flops(torch.device("cpu"), "fp32") is None
    _say_where(gpu, {"fp32", "tf32"})
    for name, precision in (("NVIDIA L40", "fp32"), ("Tesla T4", "bf16")):
        names.append(name)
        assert peak_flops(gpu, precision) is None
        _say_where(gpu, {precision})
    assert capsys.readouterr().out.splitlines() == [
        "on NVIDIA H100 80GB HBM3",
        "on NVIDIA L40; its peak in fp32 is not known, so no utilisation is given",
        "on Tesla T4; its peak in bf16 is not known, so no utilisation is given",
    ]


def test_a_step_that_is_recorded_is_what_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[int] = []

    def record(action: Action, undo: Action) -> Action:
        action()
        return lambda: replays.append(1)

    monkeypatch.setattr(cost, "recorder", lambda device: record)
    monkeypatch.setattr(cost, "peak_flops", lambda device, precision: 1e12)
    chosen = runs("reverse", "kv")
    (row,) = measure(chosen, shape_of(chosen[0]), torch.device("cpu"), rounds=3)
    assert len(replays) == 4
    assert row["flop_utilisation"] == pytest.approx(6e-12 * 2 * row["macs"] / row["step_seconds"])


@pytest.mark.gpu
def test_costs_on_a_gpu() -> None:
    for task in ("reverse", "characters", "translation_en_de"):
        chosen = runs(task, "qkv", "kv")
        rows = measure(chosen, shape_of(chosen[0]), torch.device("cuda"), rounds=3)
        for row in rows:
            assert row["macs_counted"] == row["macs"]
            assert 16 * row["parameters"] < row["peak_bytes"] < 100e6
            assert 0 < row.get("flop_utilisation", 0.5) < 1
