"""`python -m benchmarks`: measure, and write tables with their provenance."""

import argparse
import csv
import gc
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import decoding, training
from benchmarks.cases import CASES, write_data
from kvformer.files import write_json, write_text
from kvformer.training.provenance import git_state, package_versions, processor, utc_now

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
SPREADS = ("speedup", "time_vs_qkv", "batch_speedup", "gain")


def main() -> None:
    """Run the chosen benchmarks; the tables are written after every case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the speed of kvformer.")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder of the tables")
    parser.add_argument("--rounds", type=int, default=7, help="number of turns of every action")
    parser.add_argument("--only", default="", help="cases whose names contain this; 'decoding' for decoding alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    started = utc_now()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_data(data)
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
    provenance = {
        "git": git_state().model_dump(),
        "packages": package_versions(),
        "cpu": processor(),
        "threads": 1,
        "rounds": options.rounds,
        "clock": "processor time of the process",
        "start": started,
        "end": utc_now(),
    }
    write_json(options.out / "provenance.json", provenance)


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
    if key in SPREADS:
        return f"{row[key]:.2f} ({row[f'{key}_low']:.2f}–{row[f'{key}_high']:.2f})"
    value = row[key]
    return f"{value:.2f}" if key.startswith("share") else f"{value:.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
