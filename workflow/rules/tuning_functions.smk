"""What the jobs of tuning ask for: the trials, the choice, and the runs at the chosen values."""

import errno
import functools

from kvformer.config.tuning import at_chosen, tuning_manifest
from kvformer.files import canonical_json
from kvformer.records.tuning import TuningChoice, choice_file

CHOICE = [str(choice_file(Path(STUDY_FOLDER)))] if TRIALS else []
TRIAL_PATH = f"{TUNING}/{RUN_PATH}"
TRIAL_STUDY = f"{STUDY_FOLDER}/{TUNING}/study.json"


def chosen_values(wildcards=None):
    """The file of the choices; nothing where nothing is tuned."""
    return [ancient(checkpoints.choose.get().output.choice)] if TRIALS else []


def tuned_runs():
    """The runs at the chosen values, and their records, by path.

    Raises FileNotFoundError while nothing is chosen, or for other values than can be used now: Snakemake then asks again
    after the checkpoint.
    """
    try:
        return runs_at_choice(os.stat(CHOICE[0]).st_mtime_ns)
    except (KvformerError, ValueError):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), CHOICE[0]) from None


@functools.lru_cache(1)
def runs_at_choice(time):
    """The runs at the choices in the file as it was at that time."""
    found = at_chosen(RUNS.values(), TuningChoice.load(Path(CHOICE[0])))
    return {run.path: (run, entry) for run, entry in found}


def tuned_manifest():
    """The study as data, at the chosen values."""
    if not TRIALS:
        return MANIFEST
    return MANIFEST.model_copy(update={"runs": [tuned_runs()[run.path][1] for run in MANIFEST.runs]})


def tuning_warnings():
    """What `kvformer choose` warned of, one line each; empty if there is nothing."""
    log = Path(STUDY_FOLDER, "logs", "choose.log")
    if not TRIALS or not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8").splitlines()
    return "".join(f"\n{line}" for line in lines if line.startswith("warning:"))


def trials_json(wildcards):
    """The trials as one line of JSON: the content of their study.json."""
    return canonical_json(tuning_manifest(STUDY).model_dump(mode="json"))


def trials_differ(wildcards):
    """No input; makes Snakemake write the trials down again where the file has others."""
    write_again(TRIAL_STUDY, tuning_manifest(STUDY))
    return []
