"""The compact copy of a study: what is worth committing, without the run folders."""

import gzip
import json
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

from kvformer.analysis import provenance
from kvformer.analysis.cost import FILES as COST_FILES
from kvformer.analysis.frames import packed_name
from kvformer.analysis.results import COLLECTED
from kvformer.analysis.study import read_study
from kvformer.errors import KvformerError
from kvformer.files import canonical_json, write_bytes, write_json, write_text
from kvformer.records.provenance import Provenance
from kvformer.records.study import look_file, looks_taken
from kvformer.reporting.page_files import png_uri

FILES = {"study.json": "", "runs.csv": "collect", "curves.csv.gz": "collect", "report.html": "report"}
"""What a copy must have, and the command that makes it."""
TRIALS = ("tuning.json", "tuning/study.json", "tuning/runs.csv")
OPTIONAL = ("results.json", "correct.csv.gz", *COST_FILES, *TRIALS)
"""What it has where the study has it."""
PACKED = (*COLLECTED, "tuning/runs.csv")
"""Tables that a compact copy packs as tightly as it can."""
FOLDERS = ("tables", "figures")
LOOKS = "looks"
HEAVY = (".svg", ".pdf", ".tex")
"""Formats that a compact copy leaves out: PNG, CSV and Markdown show the same."""
REPEATED = "results.json"
"""What it leaves out because `kvformer analyse` writes it again."""
HEAVY_LINK = re.compile(r'<a href="(?:tables|figures)/[^"]+\.(?:svg|pdf|tex)"[^>]*>\w+</a>')
OF_ONE_RUN: dict[str, Any] = {
    **dict.fromkeys(("start", "end", "attempts", "command", "data", "runs", "taken_over_from"), True),
    "identity": {"configuration", "variant", "data", "digest"},
}
"""Keys of provenance.json that differ from run to run; data and their checksums are in runs.csv."""


def export(results: Path, out: Path, compact: bool = False) -> list[Path]:
    """Copy tables, figures, report and the collected runs of a study to `out`; returns the paths.

    `provenance.json` of the copy holds what the runs' own files say, once for all runs that say the same. What an
    earlier export left in `out` is replaced. compact: only PNG of figures, CSV and Markdown of tables; runs, curves
    and answers packed by xz; no `results.json`; and the report shows the pictures in `figures` instead of holding them.

    Raises:
        KvformerError: a part of the study has not been made yet, or `out` holds run folders, is `results`, or holds
            tables, figures or looks that are not of an export.
    """
    study = read_study(results)
    for name, command in {**FILES, **dict.fromkeys(FOLDERS)}.items():
        if not (results / name).exists():
            raise KvformerError(f"{results / name}: no such file; `kvformer {command or name} {results}` makes it")
    if (out / "runs").exists() or out.resolve() == results.resolve():
        raise KvformerError(f"{out}: holds the study itself; an export goes to a folder of its own")
    for folder in (*FOLDERS, LOOKS):
        if (out / folder).exists() and not (out / "study.json").is_file():
            raise KvformerError(
                f"{out / folder}: is not of an earlier export (no study.json next to it); name a new folder"
            )
    paths = [results / name for name in (*FILES, *OPTIONAL) if (results / name).is_file()]
    for name in (*FILES, *OPTIONAL, *map(packed_name, PACKED)):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / LOOKS, ignore_errors=True)
    paths += [look_file(results, record.look) for record in looks_taken(results)]
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
        paths += sorted(path for path in (results / folder).iterdir() if not path.name.startswith("."))
    if compact:
        paths = [path for path in paths if path.suffix not in HEAVY and path.name != REPEATED]
    copies = []
    for path in paths:
        name, content = str(path.relative_to(results)), path.read_bytes()
        if compact and name in PACKED:
            name, content = packed_name(name), _pack(content, name)
        copies.append(out / name)
        write_bytes(copies[-1], content)
    if compact:
        _lighten(out / "report.html")
    write_json(out / provenance.SHARED, {"records": _shared(provenance.by_run(results, study))})
    return [*copies, out / provenance.SHARED]


def _pack(table: bytes, name: str) -> bytes:
    return lzma.compress(gzip.decompress(table) if name.endswith(".gz") else table)


def _lighten(report: Path) -> None:
    """Let the report show what lies next to it."""
    page = HEAVY_LINK.sub("", report.read_text(encoding="utf-8"))
    for name in PACKED:
        page = page.replace(f'href="{name}">{name}<', f'href="{(packed := packed_name(name))}">{packed}<')
    for picture in (report.parent / "figures").glob("*.png"):
        page = page.replace(png_uri(picture.read_bytes()), f"figures/{picture.name}")
    write_text(report, page)


def _shared(records: dict[str, Provenance]) -> list[dict[str, Any]]:
    """Equal records once, each with the paths of its runs, the first start and the last end."""
    groups: dict[str, dict[str, Provenance]] = {}
    for path, record in records.items():
        common = canonical_json(record.model_dump(mode="json", exclude_unset=True, exclude=OF_ONE_RUN))
        groups.setdefault(common, {})[path] = record
    return [
        {
            **json.loads(common),
            "runs": list(runs),
            "start": min((record.start for record in runs.values() if record.start), default=None),
            "end": max((record.end for record in runs.values() if record.end), default=None),
        }
        for common, runs in groups.items()
    ]
