"""The compact copy of a study: what is worth committing, without the run folders."""

import re
import shutil
from pathlib import Path
from typing import Any

from kvformer.analysis import provenance
from kvformer.analysis.study import read_study
from kvformer.errors import KvformerError
from kvformer.files import canonical_json, write_bytes, write_json, write_text

FILES = {"study.json": "", "runs.csv": "collect", "curves.csv.gz": "collect", "report.html": "report"}
"""What a copy must have, and the command that makes it."""
OPTIONAL = ("profile.csv",)
FOLDERS = ("tables", "figures")
HEAVY = (".svg", ".pdf", ".tex")
"""Formats that a compact copy leaves out: what they show is in PNG, CSV and Markdown, too."""
HEAVY_LINK = re.compile(r'<a href="(?:tables|figures)/[^"]+\.(?:svg|pdf|tex)"[^>]*>\w+</a>')
OF_ONE_RUN = {"start", "end", "attempts", "command", "data", "identity", "taken_over_from"}
"""Keys of provenance.json that differ from run to run; data and their checksums are in runs.csv."""


def export(results: Path, out: Path, compact: bool = False) -> list[Path]:
    """Copy tables, figures, report and the collected runs of a study to `out`; returns the paths.

    `provenance.json` of the copy holds what the runs' own files say, once for all runs that say the same. What an
    earlier export left in `out` is replaced. compact: figures in PNG and tables in CSV and Markdown alone.

    Raises:
        KvformerError: a part of the study has not been made yet, or `out` holds run folders or is `results`.
    """
    study = read_study(results)
    for name, command in {**FILES, **dict.fromkeys(FOLDERS)}.items():
        if not (results / name).exists():
            raise KvformerError(f"{results / name}: no such file; `kvformer {command or name} {results}` makes it")
    if (out / "runs").exists() or out.resolve() == results.resolve():
        raise KvformerError(f"{out}: holds the study itself; an export goes to a folder of its own")
    paths = [results / name for name in (*FILES, *OPTIONAL) if (results / name).is_file()]
    for name in OPTIONAL:
        (out / name).unlink(missing_ok=True)
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
        paths += sorted(path for path in (results / folder).iterdir() if not path.name.startswith("."))
    if compact:
        paths = [path for path in paths if path.suffix not in HEAVY]
    copies = []
    for path in paths:
        copies.append(out / path.relative_to(results))
        write_bytes(copies[-1], path.read_bytes())
    if compact:
        report = out / "report.html"
        write_text(report, HEAVY_LINK.sub("", report.read_text(encoding="utf-8")))
    write_json(out / provenance.SHARED, {"records": _shared(provenance.by_run(results, study))})
    return [*copies, out / provenance.SHARED]


def _shared(records: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Equal records once, each with the paths of its runs, the first start and the last end."""
    found: dict[str, dict[str, Any]] = {}
    for path, record in records.items():
        common = {key: value for key, value in record.items() if key not in OF_ONE_RUN}
        shared = found.setdefault(canonical_json(common), {**common, "runs": [], "start": [], "end": []})
        shared["runs"].append(path)
        for key in ("start", "end"):
            shared[key] += [record[key]] if record.get(key) else []
    return [
        record | {"start": min(record["start"], default=None), "end": max(record["end"], default=None)}
        for record in found.values()
    ]
