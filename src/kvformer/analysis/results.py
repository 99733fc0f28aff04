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
from kvformer.analysis.study import Study, read_study
from kvformer.errors import KvformerError
from kvformer.files import read_json, sha256_file, write_text

FILE = "results.json"
FORMAT = 2
"""Increased with every change that an older reader would misunderstand."""
INPUTS = ("study.json", "runs.csv", "curves.csv.gz", "tuning.json", *COST_FILES)
"""Files of the study's folder that the numbers and the averaged curves come from."""


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
    "winner",
)
PAIRED = Columns(
    "task setting variant metric goal verdict unpaired",
    "n favourable unfavourable",
    "difference low high error freedom margin p_t p_t_holm p_wilcoxon p_wilcoxon_holm smallest_p effect_dz effect_rank",
)


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
    """Means at every setting, without bootstrap and winner; empty where every task has one setting."""
    seeds: Annotated[pd.DataFrame, Columns("task variant", "seed", "value")]
    """The metric by seed, averaged over settings, of the seeds that finished all of them."""
    families: Annotated[pd.DataFrame, Columns("family variant", "", "average fewest_parameters most_parameters")]
    """Mean over the tasks of a family that is judged by accuracy, and the range of the numbers of parameters."""
    paired: Annotated[pd.DataFrame, PAIRED]
    """Paired differences to the baseline; n: pairs. `comparisons.describe_differences` explains the columns."""
    paired_settings: Annotated[pd.DataFrame, PAIRED]
    """The same at every setting; empty where every task has one setting."""
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
    drawn_costs: Annotated[pd.DataFrame, Columns("task variant", "", "parameters", open=True)]
    """Costs averaged over settings."""
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
