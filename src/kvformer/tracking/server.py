"""`kvformer ui`: MLflow's own pages on this machine, filled while training goes on."""

import http
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from kvformer.errors import ConfigError, KvformerError
from kvformer.tracking.ingest import Ingestion
from kvformer.tracking.store import ENVIRONMENT, database_uri

HOST = "127.0.0.1"
STARTUP_SECONDS = 300
STOP_SECONDS = 10
LONGEST_PAUSE = 60.0
START_PAGE = "#/experiments?workflowType=machine_learning"  # instead of MLflow's pages for language models
SAY = partial(print, flush=True)


def ui_command(results: Path) -> str:
    """The plain MLflow command that shows a results folder without kvformer."""
    database = results / "mlflow" / "mlflow.db"
    return f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{database.as_posix()}')}"


def study_folders(results: Path) -> list[Path]:
    """The studies in a results folder that have runs; an export, such as results/reference, has none to show."""
    return sorted(path.parent for path in results.glob("*/runs"))


def serve(results: Path, port: int = 5000, interval: float = 5.0, say: Callable[[str], None] = SAY) -> None:
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
    # SIGINT too: in the background of a script it would be ignored.
    with _handled_by(signal.default_int_handler):
        try:
            with _server(results, port) as server:
                say(f"MLflow shows {results} at http://{HOST}:{port}/{START_PAGE} (Ctrl-C ends it)")
                tunnel = f"ssh -L {port}:{HOST}:{port} USER@{socket.gethostname()}"
                say(f"From another machine: {tunnel}, then open the same address there")
                say(f"The same without kvformer: {ui_command(results)}")
                _keep_ingesting(ingestion, results, server, interval, say)
        except KeyboardInterrupt:
            say("MLflow stopped")


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> Iterator[None]:
    """SIGINT and SIGTERM go to `handler` meanwhile."""
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _keep_ingesting(
    ingestion: Ingestion, results: Path, server: "subprocess.Popen[bytes]", interval: float, say: Callable[[str], None]
) -> None:
    told: set[str] = set()
    while True:
        began = time.monotonic()
        try:
            report = ingestion.track(study_folders(results), live=True)
            problems = report.problems
            if report.added or report.updated:
                say(f"{time.strftime('%H:%M:%S')} {report}")
        except KvformerError as error:
            problems = [str(error)]
        for problem in problems:
            if problem not in told:
                say(f"{time.strftime('%H:%M:%S')} {problem}")
        told.update(problems)
        # Looking at thousands of folders takes time that belongs to training.
        pause = max(interval, min(10 * (time.monotonic() - began), LONGEST_PAUSE))
        try:
            code = server.wait(timeout=pause)
        except subprocess.TimeoutExpired:
            continue
        raise KvformerError(f"MLflow's server ended by itself (exit code {code}), see {_log(results)}")


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            message = f"port {port} on {HOST} cannot be used ({reason}); choose another with --port"
            raise KvformerError(message) from None


def _log(results: Path) -> Path:
    return results / "mlflow" / "server.log"


@contextmanager
def _server(results: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    folder = results.absolute() / "mlflow"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database_uri(results)]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri()]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | ENVIRONMENT
    server: subprocess.Popen[bytes] | None = None
    interrupts: list[int] = []
    try:
        # An interrupt while the process is being born would leave it running with nobody to end it: note it for now.
        with _log(results).open("wb") as log, _handled_by(lambda number, frame: interrupts.append(number)):
            server = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C then reaches this process only, which ends the server and its workers together.
                start_new_session=True,
            )
        if interrupts:
            raise KeyboardInterrupt
        _wait_until_up(server, port, results)
        yield server
    finally:
        if server is not None:
            with _handled_by(signal.SIG_IGN):
                _stop(server)


def _wait_until_up(server: "subprocess.Popen[bytes]", port: int, results: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise KvformerError(f"MLflow's server did not start (exit code {server.returncode}), see {_log(results)}")
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise KvformerError(f"MLflow's server did not answer within {STARTUP_SECONDS} seconds, see {_log(results)}")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            return
        try:
            server.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
