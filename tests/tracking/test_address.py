"""MLflow's address is judged before anything is trained, and without its secrets in any message."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kvformer.errors import ConfigError
from kvformer.tracking.address import check_address, unreachable


@pytest.mark.parametrize(
    "uri", ["databricks", "databricks://profile", "./mlruns", "file:///tmp/mlruns", "uc:p", "mlruns"]
)
def test_an_address_that_is_not_supported_is_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI") as caught:
        check_address(tmp_path, uri)
    assert "is not supported" in str(caught.value) and "execution.tracking_uri" in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="is not supported"):
        check_address(tmp_path)


def test_a_database_whose_driver_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the driver is missing") as caught:
        check_address(tmp_path, "mysql+pymysql://user:sesame@host/db?key=sesame")
    assert "pymysql" in str(caught.value) and "sesame" not in str(caught.value)


@pytest.mark.parametrize("uri", [None, "", "http://host:5000", "https://user:p%40@host/path", "sqlite:////tmp/a b.db"])
def test_other_addresses_are_accepted_without_asking_anyone(
    uri: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    check_address(tmp_path, uri)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["http://user:sesame@127.0.0.1:1/?token=sesame", "postgresql://user:sesame@127.0.0.1:1/db"]
)
def test_a_server_that_gives_no_answer_is_named_without_secrets(uri: str) -> None:
    text = unreachable(uri)
    assert text and "127.0.0.1:1" in text and "refused" in text and "sesame" not in text


def test_nobody_is_asked_about_a_file() -> None:
    assert unreachable(None) is unreachable("") is unreachable("sqlite:////nowhere/mlflow.db") is None


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_server_that_answers_anything_is_there(status: int) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert unreachable(f"http://user:password@127.0.0.1:{server.server_port}/") is None
    finally:
        server.shutdown()
        server.server_close()
