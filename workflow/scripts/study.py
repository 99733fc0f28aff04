"""Snakemake's script of the rule `study`: write the study as data, for reporting."""

from pathlib import Path

from kvformer.records.study import StudyManifest

study = StudyManifest.model_validate_json(snakemake.params.study)
study.write(Path(snakemake.output.study))
Path(snakemake.log[0]).write_text(f"{snakemake.output.study}: {len(study.runs)} runs\n", encoding="utf-8")
