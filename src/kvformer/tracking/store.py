"""Where the runs go: the SQLite file next to the results, or the server that MLFLOW_TRACKING_URI names."""

import logging
import os
import re
import shlex
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from kvformer.errors import ConfigError, KvformerError
from kvformer.locks import hold
from kvformer.tracking.ownership import changed_tags, first_tags

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
STUDY = "kvformer.study"  # the tag by which an experiment is found again


class Store:
    """An MLflow tracking store: its address, the lock that keeps it to one writer, and where artifacts go.

    `uri` is the address to use, or None for MLFLOW_TRACKING_URI and failing that `<results>/mlflow/mlflow.db`.
    Raises ConfigError for text that is not an address and for an address that MLflow does not support.
    """

    def __init__(self, results: Path, uri: str | None) -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or database_uri(results)
        self.shown = without_secrets(self.uri)
        self._parts = _split(self.uri)
        self.dialect = dialect(self._parts)
        if self.dialect not in (*SERVERS, *DATABASE_PORTS):
            allowed = ", ".join(f"{name}://" for name in (*SERVERS, *DATABASE_PORTS))
            raise ConfigError(f"MLflow tracking URI {self.shown!r} is not supported, must begin with one of {allowed}")
        folder, name = results.absolute() / "mlflow", "track"
        self.database: Path | None = None
        if self.dialect == "sqlite":
            file = self.uri.partition("?")[0].partition(":///")[2]
            if not file or file.startswith((":", "file:")):
                raise ConfigError(f"MLflow tracking URI {self.shown!r} must name a file, like sqlite:///mlflow.db")
            self.database = Path(file).absolute()
            folder, name = self.database.parent, self.database.name
        self._lock = folder / f"{name}.lock"
        # A server chooses the place of artifacts itself. A database would take ./mlruns, wherever that is.
        self._artifacts = None if self.dialect in SERVERS else folder / "artifacts"

    @contextmanager
    def writer(self) -> Iterator["MlflowClient"]:
        """Wait until no other process writes, and open the store; a database is created if it is missing.

        Raises KvformerError, in one line and without secrets, for everything that goes wrong with the store meanwhile.
        """
        # Processes that migrate a new SQLite file together, or write to it together, fail: "database is locked".
        with self._plain_errors(), hold(self._lock, -1, "another process is writing to this store"):
            yield self._client()

    def _client(self) -> "MlflowClient":
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        logging.getLogger("alembic").setLevel(logging.WARNING)
        if not event.contains(Engine, "connect", _without_flushes):  # else each pass would add another one
            event.listen(Engine, "connect", _without_flushes)
        return MlflowClient(self._address())

    def _address(self) -> str:
        """The address to give to MLflow, after a look at what it would take minutes to give up on."""
        if self.database is None:
            port = self._parts.port or DATABASE_PORTS.get(self.dialect)
            if self.dialect not in SERVERS and self._parts.hostname and port:
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
            from alembic.util import CommandError
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError | CommandError | OSError | ImportError):
                raise
            text = str(error)
            if found := re.search(r"\(found version (\w+)|revision identified by '(\w+)'", text):
                raise KvformerError(self._of_another_version(found[1] or found[2])) from None
            for secret in filter(None, (self._parts.query, self._parts.password, unquote(self._parts.password or ""))):
                text = text.replace(secret, "***")
            reason = " ".join(without_secrets(text).split())[:300]
            message = f"MLflow at {self.shown}: {reason}; nothing is lost, run `kvformer track` again to complete it"
            raise KvformerError(message) from None  # the chain would print the address with its password

    def _of_another_version(self, revision: str) -> str:
        """What helps where the tables are those of another MLflow: `revision`, as its migrations are called."""
        import mlflow.store.db_migrations as migrations

        again = "delete it: `kvformer track` writes it again from the run folders, without people's notes and tags"
        other = again if self.database else "choose another database"
        if next(Path(migrations.__file__).parent.glob(f"versions/{revision}_*.py"), None):
            how = f"an older MLflow; `mlflow db upgrade {shlex.quote(self.shown)}` updates it (copy it first)"
        else:
            how = f"a newer MLflow than this one ({version('mlflow')}); use that one"
        return f"MLflow at {self.shown}: was made by {how}, or {other}"

    def experiment(self, client: "MlflowClient", name: str, tags: dict[str, str]) -> "Experiment":
        """The experiment of the study `name`, whatever a person has called it, with these tags; created if missing.

        Raises KvformerError where it was deleted in MLflow, or keeps its artifacts where the results folder was before.
        """
        location = None if self._artifacts is None else (self._artifacts / name).as_uri()
        wanted = {**tags, STUDY: name}
        found = _find_experiment(client, name)
        if found is None:
            first = first_tags(wanted, {})
            return client.get_experiment(client.create_experiment(name, artifact_location=location, tags=first))
        if found.lifecycle_stage != "active":
            raise KvformerError(
                f"MLflow at {self.shown}: experiment {found.name!r} was deleted there; restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        if self.database is not None and found.artifact_location != location:
            raise KvformerError(
                f"{self.database}: was created at a different location ({found.artifact_location}); delete it, "
                "`kvformer track` writes it again from the run folders"
            )
        for key, value in changed_tags(found.tags, wanted).items():
            client.set_experiment_tag(found.experiment_id, key, value)
        return found


def _find_experiment(client: "MlflowClient", study: str) -> "Experiment | None":
    """The experiment of a study: the one of its name, or the one that has the study's tag and was renamed."""
    from mlflow.entities import ViewType

    found = client.get_experiment_by_name(study)
    if found and found.tags.get(STUDY, study) == study:
        return found
    token: str | None = None
    while token != "":
        page = client.search_experiments(ViewType.ALL, 1000, f"tags.`{STUDY}` != ''", page_token=token)
        for experiment in page:
            if experiment.tags[STUDY] == study:
                return experiment
        token = page.token or ""
    return None


def _without_flushes(connection: Any, _record: Any) -> None:
    """Spare SQLite a flush to the disk after each of thousands of small transactions, which takes most of the time.

    Only a power failure can then damage the file, and all of it can be ingested again.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


def dialect(parts: SplitResult) -> str:
    """The kind of an address, a key of `DATABASE_PORTS` or one of `SERVERS`, without the database's driver."""
    return parts.scheme.partition("+")[0]


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
    """The address of the SQLite file that belongs to a results folder.

    Raises ConfigError for a folder that no address can name: MLflow takes what follows a question mark as options.
    """
    database = results.absolute() / "mlflow" / "mlflow.db"
    if "?" in str(database):
        raise ConfigError(
            f"{results}: MLflow cannot use a database in a folder with '?' in its path ({results.absolute()}); rename "
            "the folder, or name another place with MLFLOW_TRACKING_URI=sqlite:///PATH"
        )
    return f"sqlite:///{database}"


def without_secrets(text: str) -> str:
    """`text` without the user, password and query (tokens) of the addresses in it."""
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", re.sub(r"://[^/\s]*@", "://", text))
