"""The first seed of a cell goes ahead: while it fails with an error, its other seeds are not started."""

from pathlib import Path

from kvformer.config.run import RunConfig
from kvformer.errors import KvformerError
from kvformer.records.run import Failure, RunFolder
from kvformer.training.identity import cell_digest
from kvformer.training.provenance import utc_now


def stop_if_first_seed_failed(run: RunConfig, first_seed: Path, out: Path, since: str) -> None:
    """Leave the record of a run that was not started in `out` if the run in the folder `first_seed` failed.

    It must have failed since the time `since` (ISO 8601, UTC), with the same configuration and code, and with an error:
    a run that was killed or that needs more memory than there is says nothing about the other seeds.

    Raises:
        KvformerError: it failed; the line says why.
    """
    failure = RunFolder(first_seed).failure()
    if failure is None or failure.cell is None or (failure.time or "") < since:
        return
    if failure.cell != cell_digest(run):
        return
    reason = f"{first_seed.name.replace('seed', 'seed ')} failed"
    folder = RunFolder(out)
    for path in (folder.summary_file, folder.config_file):  # of an earlier training, with other values, code or data
        path.unlink(missing_ok=True)
    Failure.not_started(reason, utc_now()).write(folder.failure_file)
    raise KvformerError(f"not started: {reason} ({failure.type}: {failure.error})")
