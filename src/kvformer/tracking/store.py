"""Where the runs go: the SQLite file next to the results, or the server that MLFLOW_TRACKING_URI names."""

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from kvformer.errors import ConfigError, KvformerError
from kvformer.locks import hold

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

SERVERS = ("http", "https")
DATABASE_PORTS = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
# A server that is down should be noticed within seconds; by default MLflow retries for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
BUSY_SECONDS = 60


class Store:
    """An MLflow tracking store: its address, the lock that keeps it to one writer, and where artifacts go.

    `uri` is the address to use, or None for MLFLOW_TRACKING_URI and failing that `<results>/mlflow/mlflow.db`.
    Raises ConfigError for text that is not an address and for an address that MLflow does not support.
    """

    def __init__(self, results: Path, uri: str | None) -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or database_uri(results)
        self.shown = without_secrets(self.uri)
        self._parts = _split(self.uri)
        self._dialect = self._parts.scheme.partition("+")[0]
        if self._dialect not in (*SERVERS, *DATABASE_PORTS):
            allowed = ", ".join(f"{name}://" for name in (*SERVERS, *DATABASE_PORTS))
            raise ConfigError(f"MLflow tracking URI {self.shown!r} is not supported, must begin with one of {allowed}")
        folder, name = results.absolute() / "mlflow", "track"
        self.database: Path | None = None
        if self._dialect == "sqlite":
            self.database = Path(self.uri.partition("?")[0].partition(":///")[2]).absolute()
            folder, name = self.database.parent, self.database.name
        self._lock = folder / f"{name}.lock"
        # A server chooses the place of artifacts itself. A database would take ./mlruns, wherever that is.
        self._artifacts = None if self._dialect in SERVERS else folder / "artifacts"

    @contextmanager
    def writer(self) -> Iterator["MlflowClient"]:
        """Wait until no other process writes, and open the store; a database is created if it is missing.

        Raises KvformerError, in one line and without secrets, for everything that goes wrong with the store meanwhile.
        """
        # Processes that migrate a new SQLite file together, or write to it together, fail: "database is locked".
        with self._plain_errors():
            with hold(self._lock, -1, "another process is writing to this store"):
                yield self._client()

    def _client(self) -> "MlflowClient":
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        logging.getLogger("alembic").setLevel(logging.WARNING)
        event.listen(Engine, "connect", _without_flushes)
        return MlflowClient(self._address())

    def _address(self) -> str:
        """The address to give to MLflow, after a look at what it would take minutes to give up on."""
        if self.database is None:
            port = self._parts.port or DATABASE_PORTS.get(self._dialect)
            if self._dialect not in SERVERS and self._parts.hostname and port:
                socket.create_connection((self._parts.hostname, port), timeout=10).close()
            return self.uri
        self.database.touch()
        try:
            with closing(sqlite3.connect(self.database, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            advice = "if it is damaged, delete it: `kvformer track` writes it again"
            raise KvformerError(f"{self.database}: cannot be used ({error}); {advice}") from None
        # MLflow keeps a store open per address and would go on writing to a file that was deleted: the fraction of a
        # second tells a new file from an old one.
        waiting = f"timeout={BUSY_SECONDS}.{self.database.stat().st_ino}"
        return f"{self.uri}{'&' if '?' in self.uri else '?'}{waiting}"

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError | OSError | ImportError):
                raise
            text = str(error)
            for secret in filter(None, (self._parts.query, self._parts.password, unquote(self._parts.password or ""))):
                text = text.replace(secret, "***")
            reason = " ".join(without_secrets(text).split())[:300]
            message = f"MLflow at {self.shown}: {reason}; nothing is lost, run `kvformer track` again to complete it"
            raise KvformerError(message) from None  # the chain would print the address with its password

    def experiment(self, client: "MlflowClient", name: str, note: str) -> "Experiment":
        """The experiment called `name`, created if it is missing.

        Raises KvformerError where it was deleted in MLflow, or keeps its artifacts where the results folder was before.
        """
        location = None if self._artifacts is None else (self._artifacts / name).as_uri()
        found = client.get_experiment_by_name(name)
        if found is None:
            # The kind spares the user MLflow's question whether this is about language models or training.
            tags = {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"}
            return client.get_experiment(client.create_experiment(name, artifact_location=location, tags=tags))
        if found.lifecycle_stage != "active":
            raise KvformerError(
                f"MLflow at {self.shown}: experiment {name!r} was deleted there; restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        if self.database is not None and found.artifact_location != location:
            raise KvformerError(
                f"{self.database}: was created at a different location ({found.artifact_location}); delete it, "
                "`kvformer track` writes it again from the run folders"
            )
        if found.tags.get("mlflow.note.content") != note:
            client.set_experiment_tag(found.experiment_id, "mlflow.note.content", note)
        return found


def _without_flushes(connection: Any, _record: Any) -> None:
    """Spare SQLite a flush to the disk after each of thousands of small transactions, which takes most of the time.

    Only a power failure can then damage the file, and all of it can be ingested again.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


def _split(uri: str) -> SplitResult:
    """The parts of an address. Raises ConfigError where it is not one."""
    try:
        parts = urlsplit(uri)
        _ = parts.port  # read from the text only now
    except ValueError:
        # The password may be anywhere in it, and the ValueError quotes parts of the text.
        shown = re.sub("(?s)//.*", "//***", uri) if re.search("[@?]", uri) else uri
        raise ConfigError(
            f"MLflow tracking URI {shown!r} is not an address, must be like http://host:5000; the port is a number up "
            "to 65535, and special characters in user and password are written as %XX"
        ) from None
    return parts


def database_uri(results: Path) -> str:
    """The address of the SQLite file that belongs to a results folder."""
    return f"sqlite:///{results.absolute() / 'mlflow' / 'mlflow.db'}"


def without_secrets(text: str) -> str:
    """`text` without the user, password and query (tokens) of the addresses in it."""
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", re.sub(r"://[^/\s]*@", "://", text))
