"""`kvformer ui` for real: pages over HTTP, runs that appear while it is up, a clean end."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_runs import FINAL_POINTS, FakeRun, curve_points, free_port, write_report, write_study

from kvformer import tracking
from kvformer.errors import KvformerError
from kvformer.tracking.server import study_folders

SERVE = """
import sys
from pathlib import Path
from kvformer import tracking
tracking.serve(Path(sys.argv[1]), int(sys.argv[2]), interval=0.5)
"""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    """`serve` in a process of its own, as the command line runs it."""

    def __init__(self, results: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-c", SERVE, str(results), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.greeting = "".join(self.process.stdout.readline() for _ in range(3))
        assert f"http://127.0.0.1:{self.port}" in self.greeting, self.greeting + self.process.stdout.read()

    def page(self, path: str) -> str:
        with DIRECT.open(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def ask(self, endpoint: str, **content: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{endpoint}",
            data=json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
        )
        with DIRECT.open(request, timeout=30) as answer:
            return json.loads(answer.read())

    def runs(self, count: int, status: str) -> list[dict[str, Any]]:
        """The runs of the first experiment, once `count` of them have the status."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            found = [
                entry
                for entry in self.ask("experiments/search", max_results=10)["experiments"]
                if entry["name"] == "demo"
            ]
            if found:
                runs = self.ask("runs/search", experiment_ids=[found[0]["experiment_id"]]).get("runs", [])
                runs = [run for run in runs if "/seed" in run["info"]["run_name"]]
                if sum(run["info"]["status"] == status for run in runs) == count:
                    return runs
            time.sleep(0.2)
        raise AssertionError(f"no {count} runs with status {status} within three minutes")

    def stop(self, number: int) -> str:
        self.process.send_signal(number)
        return self.greeting + self.process.communicate(timeout=180)[0]


def test_runs_appear_while_the_pages_are_up(cold_study: Path) -> None:
    study = cold_study
    points = curve_points(30)
    run = FakeRun(study, "reverse/default/kv/seed0").begin().log(points[:10])
    other = FakeRun(study, "reverse/default/qkv/seed0")
    write_study(study, [run, other])
    write_report(study)
    server = Server(study.parent)
    try:
        assert "<title>MLflow</title>" in server.page("/")
        (seen,) = server.runs(1, "RUNNING")
        assert seen["info"]["run_name"] == run.name
        other.finish(points)
        run.finish(points)
        runs = server.runs(2, "FINISHED")
        assert all(len(entry["data"]["metrics"]) == 5 + FINAL_POINTS for entry in runs)
        # What a plain `mlflow ui` needs too: the artifacts are found by the addresses in the database.
        (identity,) = (entry["info"]["run_id"] for entry in runs if entry["info"]["run_name"] == run.name)
        assert '"seed": 0' in server.page(f"/get-artifact?path=config.json&run_uuid={identity}")
    finally:
        output = server.stop(signal.SIGTERM)
    assert server.process.returncode == 0, output
    (link,) = (line for line in output.splitlines() if " Results of demo: " in line)
    assert f"http://127.0.0.1:{server.port}/#/experiments/1/runs?viewStateShareKey=kvformer&" in link
    assert f"ssh -L {server.port}:127.0.0.1:{server.port}" in output
    assert tracking.ui_command(study.parent) in output
    assert "Traceback" not in output
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))
    assert {path.name for path in study.parent.iterdir()} == {"demo", "mlflow"}


def test_a_server_that_ends_by_itself_is_reported(study: Path) -> None:
    server = Server(study.parent)
    (child,) = psutil.Process(server.process.pid).children()
    child.terminate()
    output = server.stop(0)
    assert server.process.returncode != 0
    assert "MLflow's server ended by itself (exit code" in output.splitlines()[-1]
    assert "server.log" in output


def _servers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Children that have become MLflow's server; imports start short-lived helpers, too."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found += [child] if "mlflow" in child.cmdline() else []
    return found


def test_an_interrupt_while_the_server_starts(study: Path) -> None:
    port = free_port()
    # In the background of a script SIGINT is ignored unless a program says otherwise.
    start = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{SERVE}"
    command = [sys.executable, "-c", start, str(study.parent), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not (servers := _servers_of(process)):
        time.sleep(0.05)
    (child,) = servers
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=180)[0]
    assert (process.returncode, output) == (0, "MLflow stopped\n")
    assert not child.is_running()


def test_an_interrupt_at_the_moment_the_server_starts(
    study: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The process exists, but `serve` has no handle on it yet: it must end nevertheless."""
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def start_and_interrupt(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(start(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start_and_interrupt)
    try:
        tracking.serve(study.parent, free_port())
        assert capfd.readouterr().out == "MLflow stopped\n"
        assert started[0].poll() is not None
    finally:
        started[0].kill()


def test_a_port_in_use_is_one_line(study: Path) -> None:
    study.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(KvformerError, match=f"port {port} on 127.0.0.1 cannot be used .Address already in use."):
            tracking.serve(study.parent, port)


@pytest.mark.parametrize("port", [-1, 70000])
def test_an_impossible_port_is_one_line(study: Path, port: int) -> None:
    with pytest.raises(KvformerError, match="choose another with --port"):
        tracking.serve(study.parent, port)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KvformerError, match="no such folder"):
        tracking.serve(tmp_path / "results", free_port())


def test_the_plain_command_survives_a_space() -> None:
    assert tracking.ui_command(Path("results")) == "mlflow ui --backend-store-uri sqlite:///results/mlflow/mlflow.db"
    assert tracking.ui_command(Path("my results")).endswith(" 'sqlite:///my results/mlflow/mlflow.db'")


def test_an_export_is_not_shown(tmp_path: Path) -> None:
    study = tmp_path / "demo"
    write_study(study, [FakeRun(study, "reverse/default/kv/seed0").begin()])
    export = tmp_path / "reference"
    export.mkdir()
    (export / "study.json").write_bytes((study / "study.json").read_bytes())
    assert study_folders(tmp_path) == [study]
