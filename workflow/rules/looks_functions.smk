"""Which runs are asked for: all at once, or with looks those that the looks so far have asked for."""

from kvformer.config.looks import describe_looks
from kvformer.records.run import RunFolder
from kvformer.records.study import LookRecord, looks_taken
from kvformer.training.attempts import ATTEMPTS


def summaries(runs):
    """The files that say how these runs ended."""
    return [f"{STUDY_FOLDER}/{run.path}/summary.json" for run in runs]


ASKED = summaries(RUNS.values())
ENDED = []
LOOK = f"{STUDY_FOLDER}/looks/look{{look}}.json"

if STUDY.looks:
    REPEATED = []
    ENDED = f"{STUDY_FOLDER}/looks/ended"
    if workflow.is_main_process:
        print(describe_looks(MANIFEST, looks_taken(Path(STUDY_FOLDER), MANIFEST)), file=sys.stderr)
        REPEATED = summaries(run for run in RUNS.values() if RunFolder(Path(STUDY_FOLDER, run.path)).given_up)
        found = filter(os.path.exists, (LOOK.format(look=look) for look in range(1, len(STUDY.looks) + 1)))
        REPEATED += [path for path in found if LookRecord.read(Path(path)) is None]

    def repeat():
        """Let a run that fails on its last attempt stop no look; when the study is started again, it is tried again. A
        damaged record of a look is made again, too."""
        if workflow.is_main_process and workflow.execution_settings:
            os.environ[ATTEMPTS] = str(workflow.execution_settings.retries + 1)
        workflow.dag.forcefiles.update(REPEATED)

    def asked_after(looks):
        """The summaries of the runs that are asked for after this many looks, or after fewer if nothing is open then; and the
        records of these looks, so that a look is taken again, before anything else, if a run of it is."""
        repeat()
        taken, records = [], []
        for look in range(1, looks + 1):
            records.append(checkpoints.look.get(look=look).output.record)
            taken.append(LookRecord.load(Path(records[-1])))
            if not taken[-1].open:
                break
        return summaries(MANIFEST.asked(taken)) + records

    def asked(wildcards):
        """The same after all looks."""
        return asked_after(len(STUDY.looks))

    ASKED = asked

elif workflow.is_main_process:
    os.environ.pop(ATTEMPTS, None)
