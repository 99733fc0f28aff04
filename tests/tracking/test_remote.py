"""A tracking server, as a cluster has one: sixteen sweeps at once, and a server that goes away and comes back."""

import http.client
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_runs import EPOCH, FINAL_POINTS, FakeRun, curve_points, free_port, write_report, write_study

from kvformer import tracking
from kvformer.errors import KvformerError
from kvformer.records.metrics import MetricPoint

Export = Callable[..., dict[str, dict[str, Any]]]
POINTS = [*curve_points(60), MetricPoint("train/loss", 900, math.nan, time=EPOCH)]
POINTS += [MetricPoint("train/loss", 901, -math.inf, time=EPOCH)]


class TrackingServer:
    """`mlflow server` on a database; it can be stopped and started again."""

    def __init__(self, folder: Path, database: str) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", database]
        self._command = [*command, "--artifacts-destination", (folder / "artifacts").as_uri()]
        self._folder = folder
        self._environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "TrackingServer":
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return self
            except OSError:
                time.sleep(0.2)
            finally:
                connection.close()
        raise AssertionError((self._folder / "server.log").read_text())

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The address of an empty PostgreSQL database, on a server of Debian's package that this test starts."""
    pytest.importorskip("psycopg2", reason="MLflow needs psycopg2 to talk to PostgreSQL")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # PostgreSQL refuses to run as root; its package has a user for it, who must reach the folder.
    runner = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if runner:
        shutil.chown(folder, "postgres")
    port = free_port()

    def command(name: str, *arguments: str) -> None:
        program = [*runner, str(found[-1].with_name(name)), *arguments]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    try:
        command("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "mlflow", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        command("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            command("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
            yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            command("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[TrackingServer]:
    """A running tracking server."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "sqlite":
        database = f"sqlite:///{shutil.copy(empty_database, folder)}"
    else:
        database = request.getfixturevalue("postgresql")
    started = TrackingServer(folder, database)
    try:
        yield started.start()
    finally:
        started.stop()


def test_sixteen_sweeps_and_a_server_that_goes_away(
    server: TrackingServer, tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    studies = [tmp_path / f"sweep{number}" / f"study{number}" for number in range(16)]
    runs = {study: FakeRun(study, "reverse/default/kv/seed0").finish(POINTS) for study in studies}
    for study in studies:
        write_study(study, [runs[study]])
        write_report(study)

    def track(study: Path) -> bool:
        try:
            tracking.track([study])
        except KvformerError as error:
            assert str(error).startswith(f"MLflow at {server.uri}: ")
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        first = [pool.submit(track, study) for study in studies[:-1]]
        while not any(future.done() for future in first):
            time.sleep(0.05)
        server.stop()
        assert not track(studies[-1])
        for future in first:  # some got through, for some the server went away
            future.result()
        server.start()
        assert all(pool.map(track, studies))

    for study in studies:
        stored = export(study, server.uri)
        assert set(stored) == {runs[study].key, f"study@{study.name}"}
        seen = stored[runs[study].key]
        assert seen["status"] == "FINISHED"
        assert len(seen["points"]) == len({point[:2] for point in seen["points"]}) == len(POINTS) + FINAL_POINTS
        assert "attention.npz" in seen["artifacts"]
        assert "figures/loss.svg" in stored[f"study@{study.name}"]["artifacts"]
    again = [tracking.track([study]) for study in studies]
    assert [(report.added, report.updated, report.points) for report in again] == [(0, 0, 0)] * 16


def test_a_run_is_followed_on_a_server(server: TrackingServer, study: Path, export: Export) -> None:
    run = FakeRun(study, "reverse/default/kv/seed0").begin().log(POINTS[:30])
    write_study(study, [run])
    assert tracking.track([study], server.uri, live=True).points == 30
    run.log(POINTS[30:50])
    assert tracking.track([study], server.uri, live=True).points == 20
    run.finish(POINTS)
    assert tracking.track([study], server.uri).points == 12 + FINAL_POINTS
    (key,) = (key for key in export(study, server.uri) if key == run.key)
    assert export(study, server.uri)[key]["status"] == "FINISHED"
    # Not-a-number and infinity came back as they were stored, else the run would be taken for another one.
    (study / "runs" / run.name / "config.json").touch()
    report = tracking.track([study], server.uri)
    assert (report.updated, report.points) == (1, 0)
