"""Files generated from the configuration's classes: the JSON schema, and the tables of keys in config/README.md."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from kvformer.config.execution import Execution, Resources
from kvformer.config.grid import TaskSection, Tuning
from kvformer.config.looks import Looks
from kvformer.config.study import StudyConfig
from kvformer.spec.sections import ModelConfig, Section, TrainingConfig
from kvformer.tasks import TASKS

BEGIN, END = "<!-- begin generated tables -->\n", "<!-- end generated tables -->\n"


def generated_files(root: Path) -> dict[Path, str]:
    """The generated files below the project's folder, with the content that they should have."""
    readme = root / "config" / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        root / "workflow" / "schemas" / "config.schema.yaml": _schema(),
        readme: f"{before}{BEGIN}\n{_tables()}\n{END}{after}",
    }


def _schema() -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_relaxed(StudyConfig.model_json_schema())}
    header = "# Generated from src/kvformer/config by `kvformer schema --write`. Do not edit.\n"
    return header + yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=120)


def _relaxed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without required keys: sections of tasks are filled with published settings before validation."""
    for definition in schema["$defs"].values():
        definition.pop("required", None)
    return schema


def _tables() -> str:
    parts = [
        _table("Study", StudyConfig, ""),
        _table("Seeds by looks", Looks, "seeds."),
        _table("Tuning", Tuning, "tuning."),
        _table("Every task", TaskSection, "tasks.<task>.", skip=("data", "model", "training", "resources")),
        _table("Model", ModelConfig, "tasks.<task>.model."),
        _table("Training", TrainingConfig, "tasks.<task>.training."),
        _table("Resources", Resources, "tasks.<task>.resources."),
        _table("Execution", Execution, "execution."),
    ]
    for data_config in dict.fromkeys(task.data_config for task in TASKS.values()):
        names = [task.name for task in TASKS.values() if task.data_config is data_config]
        parts.append(_table(f"Data of {', '.join(names)}", data_config, "tasks.<task>.data."))
    return "\n".join(parts)


def _table(title: str, section: type[Section], prefix: str, skip: tuple[str, ...] = ()) -> str:
    lines = [f"### {title}\n", "| key | values | default | what |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if name in skip:
            continue
        default = "" if field.is_required() else _plain(field.default)
        values = ", ".join(f"`{value}`" for value in _named_values(field.annotation))
        lines.append(f"| `{prefix}{field.alias or name}` | {values} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _named_values(annotation: Any) -> list[str]:
    """The names of which a key has one; none where it is a number, a path or the like."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [value for part in get_args(annotation) for value in _named_values(part)]


def _plain(value: Any) -> str:
    if hasattr(value, "model_dump"):
        return ""
    return f"`{value}`" if value not in (None, "", {}, []) else ""
