"""Train runs of a published study anew and hold them against what was published.

On the platform of the original the results must be the same to the last bit. Elsewhere sums are rounded otherwise, and
training amplifies it: there the first recorded loss must agree closely (same data, same start), and the result must lie
as near as another seed's would.
"""

import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kvformer.analysis.collect import curve_points
from kvformer.analysis.frames import KEYS, load_curves, load_runs, scores, usable
from kvformer.analysis.provenance import by_run
from kvformer.analysis.study import Study, read_study
from kvformer.config.run import RunConfig
from kvformer.data.prepare import prepare
from kvformer.errors import KvformerError
from kvformer.files import read_json

PLATFORM = ("cpu", "gpu", "cuda", "device", "compile", "precision", "threads", "torch", "numpy")
"""Facts and packages of provenance.json that decide how sums are rounded."""
SPREADS = 3.0
"""Elsewhere a result may be off by so many standard deviations between seeds, or by the study's margin if that is
more."""
FIRST_LOSS = 0.02
"""Elsewhere the first recorded training loss may be off by this share."""


@dataclass(frozen=True)
class Verdict:
    """What became of one run: `identical`, `within tolerance`, `MISMATCH` or `FAILED`, and why."""

    name: str
    word: str
    reason: str

    @property
    def good(self) -> bool:
        """Whether the run was reproduced."""
        return self.word in ("identical", "within tolerance")

    def __str__(self) -> str:
        """One line."""
        return f"{self.name}: {self.word}: {self.reason}"


class Reference:
    """A study's collected files, as `kvformer export` leaves them."""

    def __init__(self, folder: Path) -> None:
        self.study: Study = read_study(folder)
        self.runs = load_runs(folder)
        self.curves = load_curves(folder)
        self.provenance = by_run(folder, self.study)

    def sample(self, count: int, seed: int, tasks: Collection[str] = ()) -> list[dict[str, Any]]:
        """`count` runs that came to an end (of `tasks`, if any are named), without repetition, in the study's order.

        Raises:
            KvformerError: there is no such run.
        """
        ended = set(self.runs.loc[self.runs["status"].isin(["finished", "diverged"]), "path"])
        runs = [run for run in self.study.runs if run["path"] in ended and (not tasks or run["task"] in tasks)]
        if not runs:
            of = f" of {', '.join(tasks)}; its tasks: {', '.join(self.study.tasks)}" if tasks else ""
            raise KvformerError(f"study '{self.study.name}' has no run that came to an end{of}")
        places = np.random.default_rng(seed).choice(len(runs), size=min(count, len(runs)), replace=False)
        return [runs[place] for place in sorted(places)]

    def configuration(self, run: Mapping[str, Any]) -> RunConfig:
        """The run's configuration.

        Raises:
            KvformerError: study.json does not list it, or this version of the code understands it otherwise.
        """
        entry = self.study.sections.get((run["task"], run["setting"]))
        if entry is None:
            raise KvformerError(
                f"study '{self.study.name}': its study.json does not list the settings of {run['task']}"
            )
        try:
            config = RunConfig(
                **{key: run[key] for key in ("task", "setting", "variant", "seed")},
                **{key: entry[key] for key in ("protocol", "data", "model", "training")},
            )
            found = config.hash
        except (KeyError, ValueError):
            found = "not valid"
        if found != run["hash"]:
            raise KvformerError(
                f"{run['path']}: its configuration {run['hash']} is {found} for this version of kvformer; check out "
                "the commit that provenance.json names"
            )
        return config

    def verify(self, run: Mapping[str, Any], data: Path, user_folder: Path, device: str | None = None) -> Verdict:
        """Train a run anew (on the original's kind of device, unless one is named, compiled as it was) and judge it."""
        config = self.configuration(run)
        for dataset in config.datasets:
            prepare(dataset, data / dataset, user_folder)
        original = self.provenance.get(run["path"], {})
        device = device or original.get("device", "cpu")
        with TemporaryDirectory(prefix="kvformer-verify-") as folder:
            if trouble := train_anew(config, Path(folder), data, device, original.get("compile")):
                return Verdict(_name(run), "FAILED", trouble)
            return self.judge(run, Path(folder))

    def judge(self, run: Mapping[str, Any], folder: Path) -> Verdict:
        """Hold a run that was trained anew into `folder` against the reference."""
        name = _name(run)
        summary = read_json(folder / "summary.json")
        rows = self.runs[self.runs["path"] == run["path"]]
        digests = "; ".join(str(record.get("sha256", "")) for record in summary.get("data") or [])
        if digests != rows["data_sha256"].iloc[0]:
            return Verdict(name, "MISMATCH", "the data are not those of the reference, by their SHA-256")
        points = self._points(run)
        new = {(key, step): float(value) for key, step, _, _, value in curve_points(folder / "metrics.jsonl")}
        then = dict(zip(rows["metric"], rows["value"], strict=True))
        now = {key: float(value) for key, value in summary["metrics"].items()}
        primary = rows.loc[rows["primary"], "metric"].iloc[0]
        if (
            summary["status"] == rows["status"].iloc[0]
            and _equal(points, new)
            and _equal(then, now | _lacking(then, now))
        ):
            reason = f"{len(points)} points of its curves and {len(now)} final values are equal"
            return Verdict(name, "identical", f"{reason}, {primary} {then[primary]:.4g}")
        changed = self._other_platform(run, read_json(folder / "provenance.json"))
        value = f"{primary} was {then[primary]:.4g}, is {now.get(primary, float('nan')):.4g}"
        if not changed:
            return Verdict(name, "MISMATCH", f"{value}; {_first_difference(points, new)}, on the same platform")
        allowed = self._tolerance(run, str(primary))
        start, begun = _first_loss(points), _first_loss(new)
        where = f"another platform ({changed}), {value}, allowed ±{allowed:.2g}"
        if not abs(begun - start) <= FIRST_LOSS * abs(start):
            return Verdict(name, "MISMATCH", f"{where}; its first training loss was {start:.4g}, is {begun:.4g}")
        close = abs(now.get(str(primary), float("nan")) - then[primary]) <= allowed
        return Verdict(name, "within tolerance" if close else "MISMATCH", where)

    def _points(self, run: Mapping[str, Any]) -> dict[tuple[str, int], float]:
        mine = np.logical_and.reduce([self.curves[key] == run[key] for key in KEYS])
        rows = self.curves.loc[mine, ["metric", "step", "value"]]
        return {(str(metric), int(step)): float(value) for metric, step, value in rows.itertuples(index=False)}

    def _other_platform(self, run: Mapping[str, Any], here: Mapping[str, Any]) -> str:
        """In what the platforms differ, in words; empty where they do not."""
        there = self.provenance.get(run["path"])
        if there is None:
            return "the original's is not recorded"
        old, new = ({**record, **(record.get("packages") or {})} for record in (there, here))
        return "; ".join(
            f"{key} {old.get(key)}, here {new.get(key)}" for key in PLATFORM if old.get(key) != new.get(key)
        )

    def _tolerance(self, run: Mapping[str, Any], metric: str) -> float:
        """The study's margin, or three standard deviations between the seeds of the run's cell if that is more."""
        frame = usable(scores(self.runs))
        cell = np.logical_and.reduce([frame[key] == run[key] for key in KEYS[:3]])
        spread = frame.loc[cell, "value"].std() if cell.sum() > 1 else 0.0
        return max(self.study.margin(metric) or 0.0, SPREADS * float(spread))


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['task']}/{run['setting']}/{run['variant']}/seed{run['seed']}"


def train_anew(config: RunConfig, out: Path, data: Path, device: str, compiler_mode: str | None = None) -> str:
    """Train a run into `out` in a process of its own, as the workflow does; returns its last words if it failed.

    compiler_mode: compile training steps by torch.compile with this mode.
    """
    command = [sys.executable, "-m", "kvformer", "train", "--run", config.to_json(), "--out", str(out)]
    command += ["--data", str(data), "--device", device]
    command += ["--compile", compiler_mode] if compiler_mode else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _equal(one: Mapping[Any, float], other: Mapping[Any, float]) -> bool:
    return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())


def _same(one: float, other: float) -> bool:
    return one == other or (np.isnan(one) and np.isnan(other))


def _lacking(then: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """runs.csv has an empty row for the metric that a diverged run did not reach."""
    return {key: float("nan") for key in then.keys() - now.keys()}


def _first_difference(then: Mapping[tuple[str, int], float], now: Mapping[tuple[str, int], float]) -> str:
    differing = [
        key for key in then.keys() | now.keys() if not (key in then and key in now and _same(then[key], now[key]))
    ]
    if not differing:
        return "the curves are equal"
    metric, step = min(differing, key=lambda key: (key[1], key[0]))
    values = [f"{points[metric, step]:.6g}" if (metric, step) in points else "absent" for points in (then, now)]
    return f"first difference at step {step}: {metric} was {values[0]}, is {values[1]}"


def _first_loss(points: Mapping[tuple[str, int], float]) -> float:
    steps = [step for metric, step in points if metric == "train/loss"]
    return points["train/loss", min(steps)] if steps else float("nan")
