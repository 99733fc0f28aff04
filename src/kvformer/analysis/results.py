"""`results.json`: every number of a study's report at full precision, written once by `kvformer analyse`.

Tables, figures, the report's page and its sentences only format what is here. Adding a number: a column below, and its
computation in `analysis.analyse`.
"""

import json
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pandas as pd

from kvformer.analysis.cost import FILES as COST_FILES
from kvformer.analysis.frames import packed_name
from kvformer.analysis.study import Study, read_study
from kvformer.errors import KvformerError
from kvformer.files import read_json, sha256_file, write_text

FILE = "results.json"
FORMAT = 2
"""Increased with every change that an older reader would misunderstand."""
COLLECTED = ("runs.csv", "curves.csv.gz", "correct.csv.gz")
INPUTS = ("study.json", *COLLECTED, *map(packed_name, COLLECTED), "tuning.json", *COST_FILES)
"""Files of the study's folder that the numbers and the averaged curves come from."""

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the steps of a run, where the table `gaps` has a row."""
TOO_FEW = "too few evaluations"
"""The verdict in `pace` on a task without numbers there."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table by type: text, integers, floats (NaN where unknown), truth values; names with spaces
    between. open: the table may have further columns of text or floats, after these."""

    text: str
    whole: str = ""
    real: str = ""
    flags: str = ""
    open: bool = False

    def table(self, rows: Any) -> pd.DataFrame:
        """A frame with these columns in this order. rows: a frame or a list of dictionaries.

        Raises:
            KeyError, TypeError, ValueError: a column is missing or has the wrong type.
        """
        kinds: dict[type, str] = {str: self.text, int: self.whole, float: self.real, bool: self.flags}
        types = {name: kind for kind, names in kinds.items() for name in names.split()}
        frame = pd.DataFrame(rows).reset_index(drop=True)
        if frame.empty:
            frame = frame.reindex(columns=list(types))
        if self.open:
            others = (name for name in frame if name not in types)
            types |= {str(name): str if pd.api.types.is_string_dtype(frame[name]) else float for name in others}
        filled = {name: frame[name].fillna("") if kind is str else frame[name] for name, kind in types.items()}
        return pd.DataFrame({name: filled[name].astype(kind) for name, kind in types.items()})


SUMMARY = Columns(
    "task family setting variant metric goal",
    "n expected",
    "mean low high bootstrap_low bootstrap_high seed_sd setting_sd minimum maximum parameters",
)
PAIRED = Columns(
    "task setting variant metric goal verdict test unpaired",
    "n favourable unfavourable decided_at",
    "difference low high error freedom margin p p_holm p_worse p_equivalence p_equivalence_holm p_not_worse "
    "p_not_worse_holm effect_dz failure_bound",
)
OVERALL = Columns(
    "variant verdict",
    "n tasks n_tasks_counted worse equal better worse_at_least",
    "mean low high p p_holm p_equivalence p_equivalence_holm p_not_worse p_not_worse_holm mean_unsolved low_unsolved "
    "high_unsolved task_low task_high leave_out_low leave_out_high",
)

GAPS = Columns("task variant metric", "n", "share difference low high margins margins_low margins_high")


@dataclass(frozen=True)
class Results:
    """All numbers of a study. Intervals (low, high) cover 95 %; `setting` is `all` where settings are averaged."""

    folder: Path
    study: Study
    inputs: dict[str, str]
    """SHA-256 of each file that the numbers come from."""

    tasks: Annotated[pd.DataFrame, Columns("task metric data")]
    """The metric, with its split, that each task is judged by, and the printed names of the data that its runs read."""
    counts: Annotated[pd.DataFrame, Columns("status", "runs", "seconds")]
    """Expected runs by status, and the seconds that they took."""
    summary: Annotated[pd.DataFrame, SUMMARY]
    """Means per task and variant, over the settings of a grid."""
    settings: Annotated[pd.DataFrame, SUMMARY]
    """Means at every setting, without bootstrap; empty where every task has one setting."""
    seeds: Annotated[pd.DataFrame, Columns("task variant", "seed", "value")]
    """The metric by seed, averaged over settings, of the seeds that finished all of them."""
    families: Annotated[pd.DataFrame, Columns("family variant", "", "average fewest_parameters most_parameters")]
    """Mean over the tasks of a family that is judged by accuracy, and the range of the numbers of parameters."""
    paired: Annotated[pd.DataFrame, PAIRED]
    """Paired differences to the baseline and the verdict on each (`decisions.judge`).

    test: `sign-flip` or `t`; empty where there is none. decided_at: the look that decided (1 without looks), 0 while
    open. p: two-sided, p_worse: one-sided, of being worse; p_equivalence, p_not_worse: one-sided, against ± margin.
    With looks, p are over all looks so far, and the interval is the repeated one. `_holm`: adjusted over the tasks of
    the variant (`testing.adjust_family`). failure_bound: where both sides solve the task, the failure rate that its
    seeds leave open (95 %).
    """
    paired_settings: Annotated[pd.DataFrame, PAIRED]
    """The same at every setting; empty where every task has one setting."""
    overall: Annotated[pd.DataFrame, OVERALL]
    """Each variant on average (`overall.overall`), in margins, positive is better; empty with fewer than four tasks.

    tasks: compared ones; n_tasks_counted: those in the average. worse, equal, better: signs of their means.
    worse_at_least: on this many tasks the variant is worse, by closed testing (95 %). `_unsolved`: without tasks that
    both sides solve. task_low, task_high: interval with tasks as a sample. leave_out: range of the mean without one.
    """
    overall_seeds: Annotated[pd.DataFrame, Columns("variant", "seed", "value")]
    """The average of each variant by seed."""
    planning: Annotated[
        pd.DataFrame, Columns("task variant plan", "n seeds", "chance hours baseline_hours", "hopeless")
    ]
    """What more seeds would decide (`planning.plan`), for each open comparison: cheapest first, hopeless ones last.

    plan: `further looks`, or `new study` where none is left. n: pairs so far. seeds: in all; of a new study, its own.
    chance: of being decided. hours: of one core, of which baseline_hours are shared by all comparisons of the task.
    """
    tuning: Annotated[
        pd.DataFrame, Columns("task setting variant metric values edge", "runs expected", "validation", "chosen")
    ]
    """The trials that chose values for each variant (`tuning.tuning_table`); empty where nothing was tuned."""
    success: Annotated[pd.DataFrame, Columns("task setting variant", "successes n", "rate low high")]
    """Share of the runs that solve a synthetic task."""
    aggregate: Annotated[
        pd.DataFrame,
        Columns("variant", "tasks n", "mean iqm iqm_low iqm_high improvement improvement_low improvement_high"),
    ]
    """Each variant over all tasks that are judged by accuracy."""
    cost: Annotated[
        pd.DataFrame,
        Columns(
            "task setting variant",
            "n",
            "parameters attention_parameters seconds stepping_seconds samples_per_second ratio",
            open=True,
        ),
    ]
    """Medians over seeds, then the columns of cost.csv."""
    relative_costs: Annotated[pd.DataFrame, Columns("task setting variant cost", "", "change")]
    """Measured costs as the change against the baseline in per cent; empty where none were measured."""
    savings: Annotated[pd.DataFrame, Columns("variant cost", "settings", "median low high")]
    """Their median and range over tasks and settings."""
    drawn_costs: Annotated[pd.DataFrame, Columns("task variant", "", "parameters", open=True)]
    """Costs averaged over settings."""
    gaps: Annotated[pd.DataFrame, GAPS]
    """Paired difference to the baseline at shares of the steps, by the validation metric, with its 95 % interval;
    margins: the same in margins, signed so that more is better (`gaps.training_gaps`)."""
    gap_curves: Annotated[pd.DataFrame, GAPS]
    """The same at the evaluations, for figures."""
    gap_averages: Annotated[pd.DataFrame, Columns("variant", "tasks", "share margins")]
    """The mean of the gaps over tasks, in margins."""
    pace: Annotated[
        pd.DataFrame,
        Columns("task variant metric verdict", "n reached evaluations", "factor low high at_least", "decays"),
    ]
    """The steps that a variant needs to reach what the baseline ends with, over the baseline's (`gaps.pace`); what the
    gap did on the way (verdict); whether the task's learning rate decays."""
    sampling: Annotated[
        pd.DataFrame,
        Columns("task variant test_sets", "n examples", "difference low high seed_share test_share wider floor"),
    ]
    """How much of a difference's variance comes from seeds, and how much from a finite test set
    (`sampling.decompose`)."""
    scaling: Annotated[
        pd.DataFrame,
        Columns(
            "task setting variant",
            "n expected",
            "size parameters total tokens compute loss loss_low loss_high gap gap_low gap_high fitted predicted",
            "held_out",
        ),
    ]
    """Loss against size, tokens and compute (`scaling.scaling`); empty unless the study names a task for it.

    size: the baseline's parameters without embeddings and head at the setting; parameters: the variant's; total: with
    them. compute: floating-point operations of the run. gap: loss minus the baseline's, paired. fitted: by the law of
    all points. predicted: by the law of all points but those of the largest size, which are held_out.
    """
    scaling_law: Annotated[pd.DataFrame, Columns("quantity", "", "value low high")]
    """E, A, alpha, B and beta of the law L = E + A/(m·N)^α + B/D^β, which all variants share (`scaling_law.Law`)."""
    scaling_variants: Annotated[
        pd.DataFrame,
        Columns(
            "variant trend",
            "n",
            "worth worth_low worth_high compute compute_low compute_high gap gap_low gap_high "
            "slope slope_low slope_high error error_low error_high",
        ),
    ]
    """Each variant in the law. worth: its m, what one of its parameters is worth in parameters of the baseline.
    compute: how much more it needs for the same loss, in per cent. gap: mean over settings. slope: of the gap, per
    tenfold size at equal tokens; trend: `grows`, `shrinks`, or `neither` where the interval of the slope holds 0.
    error: of the predicted losses of the held-out size, in per cent. n: seeds that finished every setting."""
    published: Annotated[
        pd.DataFrame,
        Columns(
            "study family task setting variant metric origin status compare_with conditions settings differs",
            "n_ours",
            "mean std n factor ours low high difference deviation",
        ),
    ]
    """Published numbers next to ours (`published.compare_published`)."""
    incomplete: Annotated[pd.DataFrame, Columns("task setting variant status path reason", "seed")]
    """Expected runs that are excluded, and what their failure.json says."""
    provenance: Annotated[pd.DataFrame, Columns("task protocol data source digests commit dirty", "runs")]
    """Data and code of each task."""
    facts: Annotated[pd.DataFrame, Columns("name value")]
    """Commit, machine and time of the runs."""
    packages: Annotated[pd.DataFrame, Columns("package version")]
    """The versions of packages that the runs used."""

    @classmethod
    def of(cls, folder: Path, study: Study, tables: dict[str, pd.DataFrame]) -> "Results":
        """The results of the study in `folder` as its files are now. tables: by name; one that is missing is empty."""
        inputs = {name: sha256_file(folder / name) for name in INPUTS if (folder / name).is_file()}
        typed = {name: columns.table(tables.get(name, [])) for name, columns in _layouts()}
        return cls(folder, study, inputs, **typed)

    def write(self) -> Path:
        """Write `results.json`: per table one line per row, NaN as null, infinity as text; returns the path."""
        tables = []
        for name, _ in _layouts():
            rows = ",\n   ".join(json.dumps(row, ensure_ascii=False) for row in _plain(getattr(self, name)))
            tables.append(f'  "{name}": [\n   {rows}\n  ]')
        head = f' "format": {FORMAT},\n "inputs": {json.dumps(self.inputs)},\n'
        path = self.folder / FILE
        write_text(path, "{\n" + head + ' "tables": {\n' + ",\n".join(tables) + "\n }\n}\n")
        return path

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """The content of `folder/results.json`.

        Raises:
            KvformerError: the file is missing, damaged, of another version, or was made from other files than are
                there now; or study.json is not readable.
        """
        path, again = folder / FILE, f"`kvformer analyse {folder}` makes it again"
        study = read_study(folder)
        try:
            content = read_json(path)
            version, inputs, tables = content["format"], content["inputs"], content["tables"]
            if version != FORMAT:
                raise KvformerError(f"{path}: has format {version}, this version of kvformer reads {FORMAT}; {again}")
            typed = {name: columns.table(tables[name]) for name, columns in _layouts()}
        except FileNotFoundError:
            raise KvformerError(f"{path}: no such file; {again}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise KvformerError(f"{path}: damaged ({type(error).__name__}: {error}); {again}") from None
        for name in INPUTS:
            if (folder / name).is_file() and sha256_file(folder / name) != inputs.get(name):
                raise KvformerError(f"{path}: was made from another {name} than is there now; {again}")
        return cls(folder, study, inputs, **typed)


def _layouts() -> Iterator[tuple[str, Columns]]:
    for name, hint in get_type_hints(Results, include_extras=True).items():
        if get_origin(hint) is Annotated:
            yield name, get_args(hint)[1]


def _plain(frame: pd.DataFrame) -> Iterator[dict[Hashable, Any]]:
    for row in frame.to_dict("records"):
        infinite = {name: str(value) for name, value in row.items() if value in (math.inf, -math.inf)}
        unknown = {name: None for name, value in row.items() if value != value}
        yield {**row, **infinite, **unknown}
