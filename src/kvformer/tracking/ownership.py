"""Which tags of a run or an experiment kvformer may change: people write tags, names and descriptions there, too.

A tag is kvformer's as long as it is as kvformer left it. The tag `written` remembers that, as a digest of each value.
"""

import json
from collections.abc import Mapping
from contextlib import suppress

from kvformer.files import canonical_json
from kvformer.tracking.entries import digest

NOTE = "mlflow.note.content"
"""MLflow's tag for the description of a run or an experiment, in Markdown."""
WRITTEN = "written"
Tags = Mapping[str, str]
Changes = dict[str, str | None]


def first_tags(wanted: Tags, kept: Tags) -> dict[str, str]:
    """The tags of something new. kept: what a person wrote on what it replaces."""
    return {**wanted, **kept, WRITTEN: canonical_json({key: _mark(value) for key, value in wanted.items()})}


def changed_tags(stored: Tags, wanted: Mapping[str, str | None]) -> Changes:
    """What to set, and to delete (None), so that `stored` tags become the `wanted` ones; what a person added, changed
    or deleted stays as it is."""
    record, changes = _record(stored, wanted), Changes()
    for key, value in wanted.items():
        if stored.get(key) == value or _is_ours(stored, record, key):
            changes[key] = value
            record[key] = None if value is None else _mark(value)
    changes[WRITTEN] = canonical_json({key: mark for key, mark in record.items() if mark})
    return {key: value for key, value in changes.items() if stored.get(key) != value}


def own_tags(stored: Tags) -> Changes:
    """The tags that kvformer wrote, as tags that are no longer wanted."""
    return dict.fromkeys(_record(stored, {}))


def foreign_tags(stored: Tags, wanted: Tags) -> dict[str, str]:
    """The tags that a person wrote; MLflow keeps a run's name as a tag, too, and that is no one's."""
    record = _record(stored, wanted)
    others = {key: value for key, value in stored.items() if not _is_ours(stored, record, key)}
    return {key: value for key, value in others.items() if key not in (WRITTEN, "mlflow.runName")}


def _is_ours(stored: Tags, record: Mapping[str, str | None], key: str) -> bool:
    return record.get(key) == (_mark(stored[key]) if key in stored else None)


def _record(stored: Tags, known: Mapping[str, str | None]) -> dict[str, str | None]:
    if WRITTEN not in stored:  # of an older version, which wrote these tags, and descriptions that are edited or not
        return {key: _mark(stored[key]) for key in ("failure", *known) if key in stored and key != NOTE}
    with suppress(ValueError):
        return dict(json.loads(stored[WRITTEN]))
    return {}


def _mark(value: str) -> str:
    return digest(value)[:8]
