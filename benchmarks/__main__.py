"""`python -m benchmarks`: measure, and write tables with their provenance."""

import argparse
import csv
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import decoding, device, training
from benchmarks.cases import CASES, write_data
from benchmarks.memory import kept
from kvformer.files import write_json, write_text
from kvformer.models.fast.linear import library
from kvformer.training.linear_maps import settle_linear
from kvformer.training.provenance import git_state, package_versions, processor, utc_now
from kvformer.training.run import make_deterministic

TRAINING_COLUMNS = {
    "case": "model",
    "variant": "variant",
    "kvformer_ms": "kvformer, ms",
    "published_ms": "published, ms",
    "speedup": "speed-up",
    "time_vs_qkv": "time / qkv",
    "share_of_torch.mm": "share of torch.mm",
    "share_of_oneDNN": "share of oneDNN",
    "batch_speedup": "batches, speed-up",
}
DECODING_COLUMNS = {
    "context": "context",
    "variant": "variant",
    "cached_tokens_per_second": "tokens/s, cache",
    "whole_tokens_per_second": "tokens/s, none",
    "gain": "gain",
}
DEVICE_COLUMNS = {
    "case": "model",
    "variant": "variant",
    "graph_ms": "graph, ms",
    "eager_ms": "eager, ms",
    "gain": "graph, speed-up",
    "time_vs_qkv": "time / qkv",
    "published_ms": "published, ms",
    "speedup_published": "speed-up",
    "speedup_published_step": "without batches",
    "flop_utilisation": "FLOP utilisation",
    "tf32_ms": "TF32, ms",
    "bf16_ms": "bf16, ms",
}
COMPILED_COLUMNS = {
    "case": "model",
    "variant": "variant",
    "compiled_ms": "compiled, ms",
    "graph_ms": "graph, ms",
    "first_step_seconds": "first step, s",
}
SPREADS = ("speedup_published", "speedup_published_step", "speedup", "time_vs_qkv", "batch_speedup", "gain")


def main() -> None:
    """Run the chosen benchmarks; the tables are written after every case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the speed of kvformer.")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder of the tables")
    parser.add_argument("--rounds", type=int, default=7, help="number of turns of every action")
    parser.add_argument("--only", default="", help="cases whose names contain this; 'decoding' for decoding alone")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what trains (default cpu)")
    parser.add_argument("--tiny", action="store_true", help="rehearse the GPU benchmark on any device")
    parser.add_argument("--seconds", type=float, default=1e9, help="on a GPU: begin no other case after this time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    on_gpu = options.device == "cuda"
    print(f"on {torch.cuda.get_device_name() if on_gpu else processor()}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    provenance: dict[str, Any] = {
        "git": git_state().model_dump(),
        "packages": package_versions(),
        "cpu": processor(),
        "threads": 1,
        "rounds": options.rounds,
        "clock": "wall" if on_gpu or options.tiny else "processor time of the process",
        "start": utc_now(),
    }
    if on_gpu:
        provenance |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        if not on_gpu:
            kept(lambda: settle_linear(data))()
            provenance["linear"] = library()
            print(f"linear maps by {library()}", flush=True)
        write_json(options.out / "provenance.json", provenance)  # for a benchmark that is cut off
        write_data(data)
        if on_gpu or options.tiny:
            _on_gpu(options, data)
        else:
            _on_cpu(options, data)
    write_json(options.out / "provenance.json", provenance | {"end": utc_now()})


def _on_cpu(options: argparse.Namespace, data: Path) -> None:
    """Training steps and decoding, next to the published formulation."""
    rows: list[dict[str, Any]] = []
    for case in CASES:
        if options.only in case:
            rows += training.measure(case, data, options.rounds)
            gc.collect()  # models and batches of gigabytes refer to each other
            _write(options.out, "training", rows, TRAINING_COLUMNS)
    rows = []
    for context in decoding.CONTEXTS:
        if options.only in "decoding":
            rows += decoding.measure(context, options.rounds)
            _write(options.out, "decoding", rows, DECODING_COLUMNS)


def _on_gpu(options: argparse.Namespace, data: Path) -> None:
    """Training steps, recorded and not; then compiled ones, which take long to start."""
    chosen, end = torch.device(options.device), time.monotonic() + options.seconds
    if not torch.cuda.is_available():
        device.stand_in()
    make_deterministic(1)
    arguments = (data, options.rounds, chosen, options.tiny)
    rows: list[dict[str, Any]] = []
    for case in CASES:
        if options.only in case and time.monotonic() < end:
            rows += device.measure(case, *arguments)
            gc.collect()
            _write(options.out, "device", rows, DEVICE_COLUMNS)
    rows = []
    for variant in device.COMPILED:
        for case in CASES:
            if options.only in case and time.monotonic() < end:
                rows.append(device.compiled(case, variant, *arguments))
                gc.collect()
                _write(options.out, "compiled", rows, COMPILED_COLUMNS)


def _write(out: Path, name: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    with (out / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    shown = {key: label for key, label in columns.items() if key in rows[0]}
    lines = ["| " + " | ".join(cells) + " |" for cells in (shown.values(), ["---"] * len(shown))]
    lines += ["| " + " | ".join(_cell(row, key) for key in shown) + " |" for row in rows]
    write_text(out / f"{name}.md", "\n".join(lines) + "\n")
    print("\n".join(lines[-len(rows) :][-6:]), flush=True)


def _cell(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if key in SPREADS:
        return f"{value:.2f} ({row[f'{key}_low']:.2f}–{row[f'{key}_high']:.2f})"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if key.startswith(("share", "flop")) else f"{value:.1f}"


if __name__ == "__main__":
    main()
