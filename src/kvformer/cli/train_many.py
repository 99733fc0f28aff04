"""Train several runs of a study in one process, one after the other. Each has its own folder, checkpoint and log; those
that are finished are skipped, and one that fails does not stop the others. With --part, processes share a study."""

import gc
import sys
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kvformer.cli.options import data_folders
from kvformer.cli.train import add_how, check_how, end_of, start_of, taken_over, trained

if TYPE_CHECKING:
    import torch

    from kvformer.config.execution import Execution
    from kvformer.config.run import RunConfig
    from kvformer.records.run import Summary
    from kvformer.records.study import RunEntry
    from kvformer.training.signals import StopSignals
    from kvformer.training.stepping import KeptStep

Run = TypeVar("Run", "RunConfig", "RunEntry")
EXAMPLE = "kvformer train-many config/smoke.yaml --part 1/2"


def add_arguments(parser: ArgumentParser) -> None:
    """Which runs, where their files go, and how they are executed."""
    parser.add_argument(
        "study", nargs="?", type=Path, help="study file, or a study.json (`kvformer plan --json` prints it)"
    )
    parser.add_argument("--runs", metavar="JSON", help="resolved runs as one line of JSON, instead of a study")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="train only the i-th of n parts, e.g. 2/8")
    parser.add_argument(
        "--out", type=Path, help="folder of the study (default: results/<study>, or that of study.json)"
    )
    parser.add_argument(
        "--first-seed",
        type=int,
        metavar="SEED",
        help="leave out the other seeds of a cell if the run with this seed failed (default: the study's first)",
    )
    add_how(parser)


def run(options: Namespace) -> int:
    """Train the runs. Returns 1 if one of them failed."""
    from kvformer.errors import Interrupted
    from kvformer.training.attempts import give_up_what_fails
    from kvformer.training.provenance import utc_now
    from kvformer.training.signals import StopSignals

    check_how(options)
    options.study_started = options.study_started or utc_now()
    runs, execution = _asked_for(options)
    if options.runs is not None and options.attempts_left == 0:
        folders = [options.out / one.path for one in runs]
        return give_up_what_fails(lambda left: _command_for(runs, options.out, left), folders)
    first_seeds = {str(Path(one.path).parent): one.seed for one in reversed(runs)}
    failed = 0
    with ExitStack() as held, StopSignals() as stop:
        process = Process(options, execution, stop, held)
        for one in part_of(runs, options.part):
            if stop.received is not None:
                raise Interrupted(f"stopped by {stop.received.name} between two runs")
            first = first_seeds[str(Path(one.path).parent)] if options.first_seed is None else options.first_seed
            failed += not process.finish(one, first)
    return 1 if failed else 0


def _command_for(runs: "list[RunConfig]", study: Path, folders: Sequence[Path]) -> list[str]:
    """The arguments of this process, but only for the runs in these folders."""
    from kvformer.config.run import runs_to_json

    given = sys.argv[1:]
    given[given.index("--runs") + 1] = runs_to_json([one for one in runs if study / one.path in folders])
    return given


def part_of(runs: Sequence[Run], part: str) -> list[Run]:
    """The i-th of n parts (`i/n`) of the runs: whole cells, which have most in common, if there are enough of them.

    Raises:
        ConfigError: there is no such part.
    """
    from kvformer.errors import ConfigError

    number, _, count = part.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--part: is '{part}'; allowed: i/n with i from 1 to n, e.g. 2/8")
    cells: dict[Path, list[Run]] = {}
    for one in runs:
        cells.setdefault(Path(one.path).parent, []).append(one)
    shares = list(cells.values()) if len(cells) >= int(count) else [[one] for one in runs]
    return [one for share in shares[int(number) - 1 :: int(count)] for one in share]


class Process:
    """Runs that are trained one after the other: they share PyTorch, the device, the signals to stop and, if they are
    of one cell, the recorded step."""

    def __init__(self, options: Namespace, execution: "Execution", stop: "StopSignals", held: ExitStack) -> None:
        from kvformer.cli import STARTED

        self.options, self.execution, self.stop, self.held = options, execution, stop, held
        self.started = STARTED
        self.device: torch.device | None = None
        self.kept: KeptStep | None = None

    def finish(self, one: "RunConfig", first_seed: int) -> bool:
        """Bring a run to its end: skip it, take it over or train it. False where it failed, which is printed.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            KvformerError: no other run can be trained in this process.
        """
        from kvformer.errors import Interrupted, KvformerError

        out = self.options.out / one.path
        log = self.options.out / "logs" / f"{one.path}.log"
        print(f"{one.path.removeprefix('runs/')}:", flush=True)
        try:
            summary = self._finished(one, out) or self._trained(one, out, log, first_seed)
        except Interrupted:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, KvformerError) else f"{type(error).__name__}: {error}; see {log}"
        else:
            print(end_of(summary), flush=True)
            return True
        print(f"failed: {reason}", flush=True)
        self._check_device()
        return False

    def _finished(self, one: "RunConfig", out: Path) -> "Summary | None":
        """The summary of a run that is finished, in its folder or in the archive."""
        from kvformer.records.run import RunFolder
        from kvformer.training.archive import prepared_digests
        from kvformer.training.identity import outdated

        folder, data = RunFolder(out), prepared_digests(data_folders(self.options, self.execution)[0], one.datasets)
        if (summary := folder.outcome(one.hash)[1]) is not None and not outdated(one, folder, data):
            return summary
        return taken_over(one, self.execution, self.options, out)

    def _trained(self, one: "RunConfig", out: Path, log: Path, first_seed: int) -> "Summary":
        from kvformer.training.canary import stop_if_first_seed_failed

        if one.seed != first_seed:
            stop_if_first_seed_failed(one, out.parent / f"seed{first_seed}", out, self.options.study_started)
        device = self._claimed()
        log.parent.mkdir(parents=True, exist_ok=True)
        stream = log.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        with stream, redirect_stdout(stream), redirect_stderr(stream):
            print(start_of(one))
            try:
                summary = trained(one, self.execution, self.options, out, self.started, device, self.stop, self.kept)
                print(end_of(summary))
                return summary
            except Exception:
                traceback.print_exc()
                raise
            finally:
                self._clean_up()

    def _claimed(self) -> "torch.device":
        """The device, which is claimed when it is needed first; until then PyTorch is not imported."""
        if self.device is None:
            from kvformer.training.gpus import own_device

            self.device = self.held.enter_context(own_device(self.options.device or self.execution.device))
            import kvformer.training.run  # noqa: F401
            from kvformer.training.stepping import KeptStep

            self.kept = KeptStep()
            gc.freeze()  # what is there stays to the end: looking for garbage after each run is quick
        return self.device

    def _clean_up(self) -> None:
        """Let the next run start as the first one did."""
        if self.options.compile or self.execution.compile:
            import torch

            torch._dynamo.reset()  # it would compile for sizes that change from run to run
        gc.collect()
        self.started = time.monotonic()

    def _check_device(self) -> None:
        """After a failure: free its memory. Raises KvformerError if the process cannot use its GPU any more."""
        from kvformer.errors import KvformerError

        if self.device is None or self.device.type != "cuda":
            return

        import torch

        gc.collect()
        try:
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise KvformerError(
                f"this process cannot use the GPU any more ({reason}); the other runs are left"
            ) from None


def _asked_for(options: Namespace) -> "tuple[list[RunConfig], Execution]":
    """The runs and how they are executed; fills in the options that a study decides."""
    from kvformer.config.execution import Execution
    from kvformer.config.run import runs_from_json, runs_of
    from kvformer.errors import ConfigError
    from kvformer.records.study import read_manifest

    if options.runs is not None:
        if options.out is None:
            raise ConfigError("--runs also needs --out, the folder of the study")
        return runs_from_json(options.runs), Execution()
    if options.study is None:
        raise ConfigError("give a study, e.g. kvformer train-many config/smoke.yaml; or --runs")
    if options.study.name == "study.json":
        folder = options.study.absolute().parent
        runs, execution = runs_of(read_manifest(folder)), Execution(results_folder=str(folder.parent))
    else:
        runs, execution, folder = _of_configuration(options)
    options.out = options.out or folder
    options.archive = options.archive or execution.archive
    return runs, execution


def _of_configuration(options: Namespace) -> "tuple[list[RunConfig], Execution, Path]":
    """The runs of a study's file, how they are executed, and the study's folder. Prepares the data; what has none is
    left out, or is an error, as the study says."""
    from kvformer.config.availability import leave_out_missing
    from kvformer.config.loading import load_study, read_yaml
    from kvformer.config.tuning import tuning_runs
    from kvformer.data.prepare import prepare
    from kvformer.errors import ConfigError
    from kvformer.records.study import looks_taken

    study = load_study(options.study)
    if tuning_runs(study):
        raise ConfigError("train-many: values are tuned first; start the study with Snakemake, which writes study.json")
    prepared, user_folder = data_folders(options, study.execution)
    study, skipped = leave_out_missing(read_yaml(options.study), (prepared, user_folder))
    for task in skipped:
        print(f"{task.task} is left out: {task.reason}", file=sys.stderr)
    for dataset in study.datasets():
        prepare(dataset, prepared / dataset, user_folder)
    folder, manifest = Path(study.execution.results_folder, study.name), study.manifest()
    asked = {entry.path for entry in manifest.asked(looks_taken(folder, manifest))}
    return [one for one in study.runs() if one.path in asked], study.execution, folder
