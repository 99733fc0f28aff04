"""Words for results/reference/benchmarks: the speed of training and decoding, and what a study costs besides."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tools.numbers.results import benchmark
from tools.numbers.values import fixed, span, table, three_digits


def speed(column: str, variant: str = "", case: str = "", decimals: int = 2) -> str:
    """`1.52 to 4.90`: the range of a column of training.csv over the cases that match (alternatives: "GPT|ViT")."""
    return span(list(_training(variant, case)[column].astype(float)), decimals)


def product_time(variant: str, case: str) -> str:
    """Milliseconds that the products of one step would take at the full rate of oneDNN."""
    return fixed(_product_ms(variant, case), 0)


def product_speedup(variant: str, case: str) -> str:
    """How often such a step of nothing but products fits into the published one."""
    return fixed(_training(variant, case)["published_ms"].iloc[0] / _product_ms(variant, case), 1)


def _product_ms(variant: str, case: str) -> float:
    (row,) = _training(variant, case).to_dict("records")
    return float(1e3 * row["gflop"] / row["oneDNN_gflop_per_second"])


def _training(variant: str, case: str) -> pd.DataFrame:
    frame = benchmark("training")
    chosen = frame[frame["case"].str.contains(case) & ((frame["variant"] == variant) | (not variant))]
    if chosen.empty:
        raise ValueError(f"training.csv has no row of {variant} {case}")
    return chosen


def training_speed() -> str:
    """training steps against the published formulation."""
    columns = {"kvformer_ms": "kvformer, ms", "published_ms": "published, ms", "speedup": "speed-up"}
    columns |= {"time_vs_qkv": "time / `qkv`", "share_of_torch.mm": "share of torch.mm"}
    columns |= {"share_of_oneDNN": "share of oneDNN", "batch_speedup": "batches, speed-up"}
    rows = benchmark("training").to_dict("records")
    lines = [[row["case"], f"`{row['variant']}`", *(_measured(row, column) for column in columns)] for row in rows]
    return table(["model", "variant", *columns.values()], lines)


def decoding_speed() -> str:
    """greedy decoding with the cache and without."""
    columns = {"cached_tokens_per_second": "tokens/s, cache", "whole_tokens_per_second": "tokens/s, none"}
    columns["gain"] = "gain"
    rows = benchmark("decoding").to_dict("records")
    lines = [
        [str(row["context"]), f"`{row['variant']}`", *(_measured(row, column) for column in columns)] for row in rows
    ]
    return table(["context", "variant", *columns.values()], lines)


def _measured(row: Mapping[Any, Any], column: str) -> str:
    """A value, with its quartiles where there are any. The file holds four significant digits."""
    if f"{column}_low" in row:
        return (
            f"{three_digits(row[column])} ({three_digits(row[f'{column}_low'])}–{three_digits(row[f'{column}_high'])})"
        )
    return fixed(row[column], 2) if column.startswith("share") else three_digits(row[column])


def overheads(group: str) -> str:
    """the rows of a group of benchmarks/overhead.csv."""
    frame = benchmark("overhead").fillna("")
    rows = frame[frame["group"] == group].to_dict("records")
    return table(
        ["", "bound", "measured"],
        [[row["what"], row["bound"], f"{row['value']} {row['unit']}".strip()] for row in rows],
    )
