"""Which runs are asked for: all at once, or with looks those that the looks so far have asked for. A damaged record of a
look is made again."""

from kvformer.config.looks import describe_looks
from kvformer.records.study import LookRecord, looks_taken

ASKED = summaries(RUNS)
ENDED = []
LOOK = f"{STUDY_FOLDER}/looks/look{{look}}.json"

if STUDY.looks:
    DAMAGED = []
    ENDED = f"{STUDY_FOLDER}/looks/ended"
    if workflow.is_main_process:
        print(describe_looks(MANIFEST, looks_taken(Path(STUDY_FOLDER), MANIFEST)), file=sys.stderr)
        found = filter(os.path.exists, (LOOK.format(look=look) for look in range(1, len(STUDY.looks) + 1)))
        DAMAGED = [path for path in found if LookRecord.read(Path(path)) is None]

    def asked_after(looks):
        """The summaries of the runs that are asked for after this many looks, or after fewer if nothing is open then; and the
        records of these looks, so that a look is taken again, before anything else, if a run of it is."""
        workflow.dag.forcefiles.update(DAMAGED)
        taken, records = [], []
        for look in range(1, looks + 1):
            records.append(checkpoints.look.get(look=look).output.record)
            taken.append(LookRecord.load(Path(records[-1])))
            if not taken[-1].open:
                break
        return summaries(run.path for run in MANIFEST.asked(taken)) + records

    def asked(wildcards):
        """The same after all looks."""
        return asked_after(len(STUDY.looks))

    ASKED = asked
