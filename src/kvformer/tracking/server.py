"""`kvformer ui`: MLflow's own pages on this machine, filled while training goes on."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from kvformer.errors import ConfigError, KvformerError
from kvformer.tracking.ingest import Ingestion
from kvformer.tracking.store import ENVIRONMENT, database_uri
from kvformer.tracking.view import VIEW

HOST = "127.0.0.1"
LOG = Path("mlflow", "server.log")
STOPPING = (signal.SIGINT, signal.SIGTERM)  # SIGINT is ignored in the background of a script unless one asks
LONGEST_PAUSE = 60.0
WORKFLOW = "workflowType=machine_learning"  # instead of MLflow's pages for language models
Process = subprocess.Popen[bytes]


def ui_command(results: Path) -> str:
    """The plain MLflow command that shows a results folder without kvformer."""
    database = results / "mlflow" / "mlflow.db"
    return f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{database.as_posix()}')}"


def study_folders(results: Path) -> list[Path]:
    """The studies in a results folder that have runs; an export, such as results/reference, has none to show."""
    return sorted(path.parent for path in results.glob("*/study.json") if path.with_name("runs").is_dir())


def serve(results: Path, port: int = 5000, interval: float = 5.0) -> None:
    """Show a results folder at http://127.0.0.1:`port` and ingest every `interval` seconds what training adds to it.

    Returns after SIGINT or SIGTERM, with the port free again; to be called from the main thread. Raises KvformerError
    where the port is taken, the folder is missing, or MLflow's server ends by itself.
    """
    if not results.is_dir():
        raise ConfigError(f"{results}: no such folder, must be a results folder")
    _require_free(port)
    ingestion = Ingestion(results, database_uri(results))
    with ingestion.store.writer():
        pass  # creates the database: a server and a writer that both migrate a new one would fail
    # An interrupt while the server starts is only noted, because there is no handle yet by which to end the server.
    noted: list[int] = []
    before = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in STOPPING}
    server = _start(results.absolute(), port)
    try:
        for number in STOPPING:
            signal.signal(number, signal.default_int_handler)
        if noted:
            raise KeyboardInterrupt
        while not _answers(port):
            _wait(server, 0.2, results)
        _say(f"MLflow shows {results} at http://{HOST}:{port}/#/experiments?{WORKFLOW} (Ctrl-C ends it)")
        tunnel = f"ssh -L {port}:{HOST}:{port} USER@{socket.gethostname()}"
        _say(f"From another machine: {tunnel}, then open the same address there")
        _say(f"The same without kvformer: {ui_command(results)}")
        _keep_ingesting(ingestion, results, server, interval, f"http://{HOST}:{port}/#/experiments")
    except KeyboardInterrupt:
        _say("MLflow stopped")
    finally:
        # A kill does its database no harm; asked politely, the server would wait for open pages.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(text, flush=True)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise KvformerError(
                f"port {port} on {HOST} cannot be used ({reason}); choose another with --port"
            ) from None


def _start(results: Path, port: int) -> Process:
    folder = results / "mlflow"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database_uri(results)]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri()]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | ENVIRONMENT
    with (results / LOG).open("wb") as log:
        # In a session of its own, so that Ctrl-C reaches this process only, which ends the server with its workers.
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _answers(port: int) -> bool:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{HOST}:{port}/health", timeout=5):
            return True
    except OSError:
        return False


def _keep_ingesting(ingestion: Ingestion, results: Path, server: Process, interval: float, address: str) -> None:
    reported: set[str] = set()
    while True:
        began = time.monotonic()
        try:
            report = ingestion.track(study_folders(results), live=True)
            links = [
                f"Results of {study}: {address}/{number}/runs?viewStateShareKey={VIEW}&{WORKFLOW}"
                for study, number in report.experiments.items()
            ]
            lines = [*links, *report.problems]
            if report.added or report.updated:
                _say(f"{time.strftime('%H:%M:%S')} {report}")
        except KvformerError as error:
            lines = [str(error)]
        for line in lines:
            if line not in reported:
                _say(f"{time.strftime('%H:%M:%S')} {line}")
        reported.update(lines)
        # Looking at thousands of folders takes time that belongs to training.
        _wait(server, max(interval, min(10 * (time.monotonic() - began), LONGEST_PAUSE)), results)


def _wait(server: Process, seconds: float, results: Path) -> None:
    """Wait. Raises KvformerError where the server ends meanwhile."""
    try:
        code = server.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    raise KvformerError(f"MLflow's server ended by itself (exit code {code}), see {results / LOG}")
