"""What a person sees first in MLflow: the experiment's description, and a saved view with results before diagnostics.

MLflow orders metrics and charts by name and keeps the choice of columns in the browser. A saved view is the one choice
that lies in the store. Its format is MLflow's own (seen with 3.17); a version that does not know it ignores the tag.
"""

import json
from typing import Any

from kvformer.files import canonical_json
from kvformer.records.study import StudyManifest
from kvformer.tracking.entries import study_note
from kvformer.tracking.ownership import NOTE

VIEW = "kvformer"
"""The key of the view in addresses: `?viewStateShareKey=kvformer`."""
COLUMNS = {"tags.`result`": 220, "tags.`verdict`": 100, "tags.`seeds`": 100, "attributes.`Dataset`": 230}
"""The columns of the view, in this order, and their widths."""
CHARTS = ("validation", "test", "train", "cell", "final/test", "final/validation")
"""The order of the charts, after those of the cells; the others follow."""


def study_tags(manifest: StudyManifest) -> dict[str, str]:
    """The tags of a study's experiment. The kind spares the user MLflow's question whether this is about language
    models or training."""
    view = {"name": "Results", "createdAt": 1_700_000_000_000, "state": json.dumps(_state(manifest))}
    return {
        NOTE: study_note(manifest),
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": canonical_json(view),
    }


def _state(manifest: StudyManifest) -> dict[str, Any]:
    splits = [task.metric.rpartition("/")[0] or "test" for task in manifest.tasks]
    names = dict.fromkeys([*(f"cell/{split}" for split in splits), *CHARTS])
    return {
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
        "compareRunCharts": [],
        "compareRunSections": [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in names],
        "isAccordionReordered": True,
    }
