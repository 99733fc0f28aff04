"""What jobs on the whole study ask for."""

from contextlib import suppress

from kvformer.dependencies import CONFIGURATION
from kvformer.files import canonical_json, read_json, sha256_bytes
from kvformer.spec.variants import VARIANTS


def manifest_json(wildcards):
    """The study as one line of JSON: the content of its study.json."""
    return canonical_json(tuned_manifest().model_dump(mode="json"))


def study_differs(wildcards):
    """No input; makes Snakemake write study.json again where it says something else."""
    with suppress(FileNotFoundError):  # no values are chosen that can be used; once they are, this is asked again
        write_again(f"{STUDY_FOLDER}/study.json", tuned_manifest())
    return []


def write_again(path, study):
    """Make Snakemake write a study down again where the file `path` says something else. Parameters alone would not do:
    Snakemake compares them only where it ran before, not after `.snakemake` was deleted."""
    if compares() and Path(path).exists():
        content = None
        with suppress(ValueError):  # damaged
            content = read_json(Path(path))
        if content != study.model_dump(mode="json"):
            workflow.dag.forcefiles.add(path)


def cost_digest(wildcards):
    """A digest of what the costs depend on: settings, variants, baseline, tuned models and code."""
    definitions = {variant.name: VARIANTS[variant.name].definition for variant in MANIFEST.variants}
    settings = [setting.model_dump(mode="json") for setting in MANIFEST.settings]
    code = digest("training.cost", without=CONFIGURATION)
    parts = [settings, definitions, MANIFEST.baseline, code]
    if tuned := {run.path: run.tuned for run in tuned_manifest().runs if run.tuned}:
        parts.append(tuned)
    return sha256_bytes(canonical_json(parts).encode())
