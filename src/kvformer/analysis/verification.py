"""Train runs of a published study again and compare them with the published results.

On the platform of the original, the results must be the same to the last bit. Other hardware rounds differently, and
training amplifies it. There the first recorded loss must agree closely (same data, same initial weights), and the
result must be as close as another seed's.
"""

import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from kvformer.analysis.collect import curve_points
from kvformer.analysis.frames import KEYS, load_curves, load_runs, scores, usable
from kvformer.analysis.provenance import by_run
from kvformer.analysis.study import read_study
from kvformer.config.run import RunConfig
from kvformer.data.prepare import prepare
from kvformer.errors import DataError, KvformerError
from kvformer.records.provenance import Provenance
from kvformer.records.run import RunFolder, Summary
from kvformer.records.study import RunEntry

PLATFORM = ("cpu", "gpu", "cuda", "device", "compile", "precision", "threads", "linear", "torch", "numpy")
"""Facts and packages of a run's provenance that decide how sums are rounded."""
UNRECORDED_LINEAR = "oneDNN"
"""What computed linear maps on x86 CPUs before that was recorded."""
SPREADS = 3.0
"""On another platform a result may differ by this many standard deviations between seeds, or by the study's margin."""
FIRST_LOSS = 0.02
"""On another platform the first recorded training loss may differ by this fraction of it."""


@dataclass(frozen=True)
class Verdict:
    """The result for one run: `identical`, `within tolerance`, `MISMATCH` or `FAILED`, and the reason."""

    name: str
    word: str
    reason: str

    @property
    def good(self) -> bool:
        """Whether the run was reproduced."""
        return self.word in ("identical", "within tolerance")

    def __str__(self) -> str:
        return f"{self.name}: {self.word}: {self.reason}"


class Reference:
    """A study's collected files, as `kvformer export` leaves them.

    Raises:
        KvformerError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.study = read_study(folder)
        self.runs = load_runs(folder)
        self.curves = load_curves(folder)
        self.provenance = by_run(folder, self.study)

    def sample(self, count: int, seed: int, tasks: Collection[str] = ()) -> list[RunEntry]:
        """Up to `count` different runs that came to an end (only of `tasks`, if any are named), in the study's order.

        Raises:
            KvformerError: there is no such run.
        """
        ended = set(self.runs.loc[self.runs["status"].isin(["finished", "diverged"]), "path"])
        runs = [run for run in self.study.runs if run.path in ended and (not tasks or run.task in tasks)]
        if not runs:
            of = f" of {', '.join(tasks)}; its tasks: {', '.join(self.study.tasks)}" if tasks else ""
            raise KvformerError(f"study '{self.study.name}' has no run that came to an end{of}")
        places = np.random.default_rng(seed).choice(len(runs), size=min(count, len(runs)), replace=False)
        return [runs[place] for place in sorted(places)]

    def configuration(self, run: RunEntry) -> RunConfig:
        """The run's configuration.

        Raises:
            KvformerError: study.json does not list it, or this version of kvformer reads it differently.
        """
        entry = self.study.sections.get((run.task, run.setting))
        if entry is None:
            raise KvformerError(f"study '{self.study.name}': its study.json does not list the settings of {run.task}")
        try:
            config = RunConfig.from_entry(run, entry)
            found = config.hash
        except (ValueError, KvformerError):
            found = "not valid"
        if found != run.hash:
            raise KvformerError(
                f"{run.path}: its configuration {run.hash} is {found} for this version of kvformer; check out the "
                "commit that provenance.json names"
            )
        return config

    def verify(self, run: RunEntry, data: Path, user_folder: Path, device: str | None = None) -> Verdict:
        """Train a run again, on the original's kind of device unless one is named, and compare.

        data: folder of prepared data. user_folder: folder of the user's own data files.
        """
        config = self.configuration(run)
        name = run.path.removeprefix("runs/")
        try:
            for dataset in config.datasets:
                prepare(dataset, data / dataset, user_folder)
        except DataError as error:
            return Verdict(name, "FAILED", str(error))
        original = self.provenance.get(run.path, Provenance())
        device = device or original.device or "cpu"
        with TemporaryDirectory(prefix="kvformer-verify-") as folder:
            if reason := retrain(config, Path(folder), data, device, original.compile):
                return Verdict(name, "FAILED", reason)
            return self.judge(run, RunFolder(Path(folder)))

    def judge(self, run: RunEntry, folder: RunFolder) -> Verdict:
        """Compare a run that was trained again into `folder` with the reference."""
        name, summary = run.path.removeprefix("runs/"), Summary.load(folder.summary_file)
        rows = self.runs[self.runs["path"] == run.path]
        if "; ".join(data.sha256 for data in summary.data) != rows["data_sha256"].iloc[0]:
            return Verdict(name, "MISMATCH", "the data are not those of the reference, by their SHA-256")
        mine = np.logical_and.reduce([self.curves[key] == getattr(run, key) for key in KEYS])
        then = _curves(self.curves.loc[mine, ["metric", "step", "value"]].to_numpy())
        now = _curves([(row[0], row[1], row[-1]) for row in curve_points(folder.metrics_file)])
        final, again = rows.set_index("metric")["value"].sort_index(), pd.Series(summary.metrics)
        # runs.csv has an empty row for the metric that a diverged run did not reach.
        again = again.reindex(again.index.union(final.index))
        primary = str(rows.loc[rows["primary"], "metric"].iloc[0])
        if summary.status == rows["status"].iloc[0] and then.equals(now) and final.equals(again):
            reason = f"{len(then)} points of its curves and {len(summary.metrics)} final values are equal"
            return Verdict(name, "identical", f"{reason}, {primary} {final[primary]:.4g}")
        value = f"{primary} was {final[primary]:.4g}, is {again[primary]:.4g}"
        platform = self._other_platform(run, Provenance.load(folder.provenance_file))
        if not platform:
            return Verdict(name, "MISMATCH", f"{value}; {_first_difference(then, now)}, on the same platform")
        allowed = self._tolerance(run, primary)
        where = f"another platform ({platform}), {value}, allowed ±{allowed:.2g}"
        start, begun = _first_loss(then), _first_loss(now)
        if not abs(begun - start) <= FIRST_LOSS * abs(start):
            return Verdict(name, "MISMATCH", f"{where}; its first training loss was {start:.4g}, is {begun:.4g}")
        close = abs(again[primary] - final[primary]) <= allowed
        return Verdict(name, "within tolerance" if close else "MISMATCH", where)

    def _other_platform(self, run: RunEntry, here: Provenance) -> str:
        """How the platforms differ, in words; empty where they do not."""
        there = self.provenance.get(run.path)
        if there is None:
            return "the original's is not recorded"
        old, new = (record.model_dump() | record.packages for record in (there, here))
        old["linear"] = (there.linear or UNRECORDED_LINEAR) if here.linear else None
        return "; ".join(
            f"{key} {old.get(key)}, here {new.get(key)}" for key in PLATFORM if old.get(key) != new.get(key)
        )

    def _tolerance(self, run: RunEntry, metric: str) -> float:
        """The study's margin, or three standard deviations between the seeds of the run's cell if that is larger."""
        frame = usable(scores(self.runs))
        cell = np.logical_and.reduce([frame[key] == getattr(run, key) for key in KEYS[:3]])
        spread = frame.loc[cell, "value"].std() if cell.sum() > 1 else 0.0
        return max(self.study.margin(metric) or 0.0, SPREADS * float(spread))


def retrain(config: RunConfig, out: Path, data: Path, device: str, compiler_mode: str | None = None) -> str:
    """Train a run into `out` in a process of its own, as the workflow does.

    compiler_mode: compile training steps by torch.compile with this mode. Returns the last line of its error output if
    it failed, and an empty string otherwise.
    """
    command = [sys.executable, "-m", "kvformer", "train", "--run", config.to_json(), "--out", str(out)]
    command += ["--data", str(data), "--device", device]
    command += ["--compile", compiler_mode] if compiler_mode else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


def _curves(rows: Iterable[Sequence[Any]]) -> pd.Series:
    """Values by step and metric, in this order, from rows of metric, step and value."""
    frame = pd.DataFrame(rows, columns=["metric", "step", "value"]).astype({"step": int, "value": float})
    return frame.set_index(["step", "metric"])["value"].sort_index()


def _first_difference(then: pd.Series, now: pd.Series) -> str:
    both = pd.DataFrame({"then": then, "now": now})  # nan where one of them has no point
    differing = both[(both["then"] != both["now"]) & both.notna().any(axis=1)]
    for step, metric, was, value in differing.reset_index().itertuples(index=False, name=None):
        return f"first difference at step {step}: {metric} was {was:.6g}, is {value:.6g}"
    return "the curves are equal"


def _first_loss(curves: pd.Series) -> float:
    losses = curves[curves.index.get_level_values("metric") == "train/loss"]
    return float(losses.iloc[0]) if len(losses) else float("nan")
