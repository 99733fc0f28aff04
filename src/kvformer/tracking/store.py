"""Where the runs go: the SQLite file beside the results, or the server that MLFLOW_TRACKING_URI names."""

import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

from kvformer.errors import ConfigError, KvformerError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

SERVER_SCHEMES = ("http", "https")
DATABASE_PORTS = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SQLITE_HEADER = b"SQLite format 3\0"
# A server that is down shall be noticed within seconds; MLflow's own defaults retry for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
BUSY_SECONDS = 60
_opened: dict[
    Path, list[int]
] = {}  # SQLite files that this process opened: the inodes, one for each time that it was anew


class Store:
    """An MLflow tracking store: its address, the lock that keeps it to one writer, and where artifacts go.

    `uri` is the address to use, or None for MLFLOW_TRACKING_URI and failing that `<results>/mlflow/mlflow.db`.
    Raises ConfigError for what is no address, and for an address that MLflow does not support (any more).
    """

    def __init__(self, results: Path, uri: str | None) -> None:
        folder = results.absolute() / "mlflow"
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or database_uri(results)
        self.shown = without_secrets(self.uri)
        self._parts = _split(self.uri)
        scheme = self._parts.scheme
        dialect = scheme.partition("+")[0]
        if scheme not in SERVER_SCHEMES and dialect not in DATABASE_PORTS:
            allowed = ", ".join(f"{name}://" for name in (*SERVER_SCHEMES, *DATABASE_PORTS))
            raise ConfigError(f"MLflow tracking URI {self.shown!r} is not supported, must begin with one of {allowed}")
        self.database: Path | None = None
        self._lock = folder / "track.lock"
        # A server chooses the place of artifacts itself. A database would take ./mlruns, wherever that is.
        self._artifacts = None if scheme in SERVER_SCHEMES else folder / "artifacts"
        if dialect == "sqlite":
            self.database = Path(self.uri.partition("?")[0].partition(":///")[2]).absolute()
            self._lock = self.database.with_name(f"{self.database.name}.lock")
            self._artifacts = self.database.parent / "artifacts"

    @contextmanager
    def writer(self) -> Iterator["MlflowClient"]:
        """Wait until no other process writes and open the store, creating it if need be.

        Raises KvformerError, in one line and without secrets, for everything that goes wrong with the store meanwhile.
        """
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            stream = self._lock.open("w")
        except OSError as error:
            raise KvformerError(f"{self._lock}: cannot be written ({error.strerror})") from None
        with stream:
            # Several processes that migrate a new SQLite file, or write to it, fail with "database is locked".
            fcntl.flock(stream, fcntl.LOCK_EX)
            with self._plain_errors():
                yield self._client()
                self._flush()

    def _client(self) -> "MlflowClient":
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        logging.getLogger("alembic").setLevel(logging.WARNING)
        if not event.contains(Engine, "connect", _prepare_connection):
            event.listen(Engine, "connect", _prepare_connection)
        return MlflowClient(self._address())

    def _address(self) -> str:
        """The address to give to MLflow, after a look at what it would take minutes to give up on."""
        if self.database is not None:
            return self._database_address(self.database)
        parts = self._parts
        port = parts.port or DATABASE_PORTS.get(parts.scheme.partition("+")[0])
        if parts.scheme not in SERVER_SCHEMES and parts.hostname and port:
            socket.create_connection((parts.hostname, port), timeout=10).close()
        return self.uri

    def _database_address(self, database: Path) -> str:
        """The address with a waiting time for readers that hold the file, another one each time that the file is new.

        MLflow keeps a store open for each address, and would go on writing to a file that was deleted.
        """
        if database.exists() and _first_bytes(database) not in (b"", SQLITE_HEADER):
            raise KvformerError(f"{database}: is not a database; delete it, `kvformer track` writes it anew")
        inodes = _opened.setdefault(database, [])
        new = not database.exists()
        database.touch()
        if new or database.stat().st_ino not in inodes[-1:]:
            inodes.append(database.stat().st_ino)
        return f"{self.uri}{'&' if '?' in self.uri else '?'}timeout={BUSY_SECONDS + len(inodes)}"

    def _flush(self) -> None:
        if self.database is not None:
            with self.database.open("rb+") as stream:
                os.fsync(stream)

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except (KvformerError, KeyboardInterrupt):
            raise
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError | OSError | ImportError):
                raise
            reason = " ".join(without_secrets(self._censored(str(error))).split())[:300]
            message = f"MLflow at {self.shown}: {reason}; nothing is lost, run `kvformer track` again to complete it"
            raise KvformerError(message) from None  # the chain would print the address with its password

    def _censored(self, text: str) -> str:
        password = self._parts.password
        for secret in (self.uri, self._parts.query, password, unquote(password or "")):
            text = text.replace(secret, "***") if secret else text
        return text

    def experiment(self, client: "MlflowClient", name: str, note: str) -> "Experiment":
        """The experiment called `name`, created where it is missing.

        Raises KvformerError where it was deleted in MLflow, or keeps its artifacts where the results folder was before.
        """
        from mlflow.exceptions import MlflowException

        location = None if self._artifacts is None else (self._artifacts / name).as_uri()
        found = client.get_experiment_by_name(name)
        if found is None:
            # The kind spares the user MLflow's question whether this is about language models or training.
            tags = {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"}
            try:
                client.create_experiment(name, artifact_location=location, tags=tags)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = cast("Experiment", client.get_experiment_by_name(name))
        if found.lifecycle_stage != "active":
            raise KvformerError(
                f"MLflow at {self.shown}: experiment {name!r} was deleted there; restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        if self.database is not None and found.artifact_location != location:
            raise KvformerError(
                f"{self.database}: was filled when its folder was elsewhere ({found.artifact_location}); delete it, "
                "`kvformer track` writes it anew from the run folders"
            )
        if found.tags.get("mlflow.note.content") != note:
            client.set_experiment_tag(found.experiment_id, "mlflow.note.content", note)
        return found


def _prepare_connection(connection: Any, _record: Any) -> None:
    """SQLite without a disk flush for each of the thousands of small transactions; `Store._flush` does one at the end.

    Only a power failure in between can damage the file, and all of it can be ingested again.
    """
    import sqlite3

    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(SQLITE_HEADER))


def _split(uri: str) -> SplitResult:
    """The parts of an address. Raises ConfigError where it has none."""
    try:
        parts = urlsplit(uri)
        _ = parts.port  # read from the text only now
    except ValueError:
        # What is no address may hold its password anywhere, and the ValueError quotes some of it.
        shown = re.sub("(?s)//.*", "//***", uri) if re.search("[@?]", uri) else uri
        raise ConfigError(
            f"MLflow tracking URI {shown!r} is no address, must be like http://host:5000; the port is a number up to "
            "65535, and other characters than letters and digits in user and password are written as %XX"
        ) from None
    return parts


def database_uri(results: Path) -> str:
    """The address of the SQLite file that belongs to a results folder."""
    return f"sqlite:///{results.absolute() / 'mlflow' / 'mlflow.db'}"


def without_secrets(text: str) -> str:
    """`text` without the user, password and query (tokens) of the addresses in it."""
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", re.sub(r"://[^/\s]*@", "://", text))
