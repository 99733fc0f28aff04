"""Stores that cannot be used: one clear line, no secrets, nothing lost."""

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FakeRun, curve_points, free_port, write_study

from kvformer import tracking
from kvformer.errors import ConfigError, KvformerError
from kvformer.files import write_text
from kvformer.tracking.store import Store, without_secrets

Export = Callable[..., dict[str, dict[str, Any]]]
NAME = "reverse/default/kv/seed0"
SECRET = "p4ssw0rd"
TRACK = (
    "import sys; from pathlib import Path; from kvformer import tracking; print(tracking.track([Path(sys.argv[1])]))"
)


@pytest.fixture
def finished(study: Path) -> Path:
    """A study of one finished run."""
    return write_study(study, [FakeRun(study, NAME).finish(curve_points(5))])


def test_mlflow_and_torch_are_not_imported_with_the_package() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import kvformer.tracking"]
    imported = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    modules = {line.split("|")[-1].strip().split(".")[0] for line in imported.splitlines()}
    assert "kvformer" in modules
    assert not modules & {"mlflow", "torch", "sqlalchemy", "pandas", "numpy"}


def test_torch_is_not_imported_by_an_ingestion(finished: Path) -> None:
    program = f"{TRACK}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, str(finished)], check=True)


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "ftp://host/x"])
def test_an_address_that_mlflow_does_not_support_is_refused(finished: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"not supported, must begin with one of http://, https://, sqlite://"):
        tracking.track([finished], uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://host:abc", "http://host:abc"),
        ("http://host:99999", "http://host:99999"),
        ("http://[bad", "http://[bad"),
        (f"http://user:{SECRET}/@host", "http://***"),
        (f"postgresql://user:{SECRET}@[bad/mlflow", "postgresql://***"),
        (f"http://host:abc?token={SECRET}", "http://***"),
    ],
)
def test_text_that_is_not_an_address_is_refused_without_secrets(finished: Path, uri: str, shown: str) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f"URI '{shown}' is not an address, must be like http://")
    ) as refused:
        tracking.track([finished], uri)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"http://user:{SECRET}@127.0.0.1:1",
        f"http://127.0.0.1:1/?token={SECRET}",
        f"postgresql://user:{SECRET}@127.0.0.1:1/mlflow",
        f"ftp://user:{SECRET}@host",
    ],
)
def test_a_store_out_of_reach_is_one_line_without_secrets(
    finished: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    result = subprocess.run([sys.executable, "-c", TRACK, str(finished)], capture_output=True, text=True)
    assert result.returncode != 0
    assert SECRET not in result.stdout + result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("kvformer.errors.")
    assert "127.0.0.1:1" in last or "ftp://host" in last


def test_a_later_ingestion_completes_what_a_store_out_of_reach_missed(finished: Path, export: Export) -> None:
    with pytest.raises(KvformerError, match="nothing is lost, run `kvformer track` again"):
        tracking.track([finished], "http://127.0.0.1:1")
    assert tracking.track([finished]).added == 1
    assert len(export(finished)) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@host:5000/path", "https://host:5000/path"),
        ("https://u:p@ss@host/path", "https://host/path"),
        ("postgresql+psycopg2://u:p@host/db?password=x", "postgresql+psycopg2://host/db"),
        ("cannot reach 'http://u:p@h/?token=x' at all", "cannot reach 'http://h/' at all"),
        ("sqlite:////a b/mlflow.db", "sqlite:////a b/mlflow.db"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_secrets_are_cut_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_damaged_database_is_one_line(finished: Path) -> None:
    write_text(finished.parent / "mlflow" / "mlflow.db", "this is not a database" * 100)
    with pytest.raises(KvformerError, match=r"mlflow\.db: cannot be used \(file is not a database\); .* delete it"):
        tracking.track([finished])


def test_a_folder_that_cannot_be_written_is_one_line(finished: Path) -> None:
    database = finished.parent / "mlflow"
    database.rename(finished.parent / "elsewhere")
    write_text(database, "a file where the folder should be")
    with pytest.raises(KvformerError, match=r"mlflow\.db: .*File exists; this file is a lock.*; nothing is lost"):
        tracking.track([finished])


def test_a_moved_results_folder_is_reported(finished: Path) -> None:
    tracking.track([finished])
    moved = finished.parent.rename(finished.parent.with_name("moved"))
    with pytest.raises(KvformerError, match="was created at a different location") as error:
        tracking.track([moved / "demo"])
    assert "delete it" in str(error.value)


def test_an_experiment_that_was_deleted_in_mlflow_is_reported(finished: Path) -> None:
    from mlflow import MlflowClient

    tracking.track([finished])
    client = MlflowClient(f"sqlite:///{finished.parent / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(KvformerError, match=f"mlflow experiments restore --experiment-id {experiment.experiment_id}"):
        tracking.track([finished])


def test_there_is_one_writer_at_a_time(finished: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with Store(finished.parent, None).writer():
            waiting = pool.submit(tracking.track, [finished])
            with pytest.raises(TimeoutError):
                waiting.result(timeout=2)
        assert waiting.result(timeout=60).added == 1


def test_a_connection_is_prepared_once_however_often_the_store_was_opened(finished: Path) -> None:
    from sqlalchemy import create_engine

    asked: list[str] = []

    class Connection(sqlite3.Connection):
        def execute(self, command: str, *values: Any) -> sqlite3.Cursor:
            asked.append(command)
            return super().execute(command, *values)

    for _ in range(3):
        with Store(finished.parent, None).writer():
            pass
    create_engine("sqlite://", creator=lambda: sqlite3.connect(":memory:", factory=Connection)).connect().close()
    assert asked.count("PRAGMA synchronous=OFF") == 1


def test_no_stray_folders(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracking.track([finished])
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in (finished.parent / "mlflow").iterdir()} == {
        "mlflow.db",
        "mlflow.db.lock",
        "artifacts",
    }


@pytest.mark.parametrize(
    "name",
    [
        "a#b",
        "a%20b",
        "100%",
        "ü ñ 中",
        "a&b=c;d",
        "[x]{y}",
        "a+b:c@d",
        'it\'s "it"',
        "back\\slash",
        "$HOME ~",
        "a!b*c,d|e",
    ],
)
def test_a_folder_with_characters_that_mean_something_in_addresses(
    tmp_path: Path, empty_database: Path, export: Export, name: str
) -> None:
    folder = tmp_path / "project"
    study = folder / name / "results" / "demo"
    (study.parent / "mlflow").mkdir(parents=True)
    shutil.copy(empty_database, study.parent / "mlflow" / "mlflow.db")
    run = FakeRun(study, NAME).finish(curve_points(5))
    write_study(study, [run])
    assert tracking.track([study]).added == 1
    assert tracking.track([study]).unchanged == 1
    assert export(study)[run.key]["artifacts"]  # MLflow finds them by the address in its database
    (artifact,) = (study.parent / "mlflow" / "artifacts" / "demo").rglob("attention.npz")
    assert artifact.samefile(run.path / "attention.npz")
    assert (list(tmp_path.iterdir()), list(folder.iterdir())) == ([folder], [folder / name])
    assert {path.name for path in study.parent.iterdir()} == {"demo", "mlflow"}


def test_a_study_with_a_quote_in_its_name(study: Path, export: Export) -> None:
    quoted = study.with_name('it\'s 100% "it" #1')
    write_study(quoted, [FakeRun(quoted, "sort/it's/kv/seed0").finish(curve_points(5))])
    assert tracking.track([quoted]).added == 1
    assert tracking.track([quoted]).unchanged == 1
    assert len(export(quoted)) == 2


def test_a_question_mark_is_refused_at_once(tmp_path: Path) -> None:
    """MLflow would take the rest of the path as options, and write a database outside the folder."""
    study = tmp_path / "a?b" / "demo"
    write_study(study, [FakeRun(study, NAME).finish(curve_points(5))])
    for start in (lambda: tracking.track([study]), lambda: tracking.serve(study.parent, free_port())):
        with pytest.raises(
            ConfigError, match=r"cannot use a database in a folder with '\?' in its path \(/.*a\?b\); rename"
        ):
            start()
    assert {path.name for path in tmp_path.iterdir()} == {"a?b"}
    assert {path.name for path in study.parent.iterdir()} == {"demo"}
    assert tracking.track([study], f"sqlite:///{tmp_path / 'elsewhere' / 'm.db'}").added == 1


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x.db?uri=true", "sqlite:///?a=b"])
def test_a_database_that_is_not_a_file_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ConfigError, match="must name a file, like sqlite:///"):
        tracking.track([finished], uri)
    assert list(elsewhere.iterdir()) == []


def set_revision(database: Path, revision: str) -> None:
    """Let a database say that it was made by the migrations up to `revision`."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


def test_a_store_of_an_older_mlflow_is_upgraded_by_the_command_in_the_message(finished: Path) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    database = finished.parent / "mlflow" / "mlflow.db"
    config = _get_alembic_config(f"sqlite:///{database}")
    older = list(ScriptDirectory.from_config(config).walk_revisions())[3].revision
    set_revision(database, older)
    with pytest.raises(KvformerError, match="made by an older MLflow; `mlflow db upgrade ") as error:
        tracking.track([finished])
    assert "or delete it: `kvformer track` writes it again" in str(error.value)
    told = re.search(r"`mlflow (db upgrade [^`]*)`", str(error.value))
    assert told
    # The command works on a database that really is older. The one above only says so.
    database.unlink()
    Base.metadata.create_all(create_engine(f"sqlite:///{database}"))
    command.upgrade(config, older)
    subprocess.run([sys.executable, "-m", "mlflow", *shlex.split(told[1])], check=True, capture_output=True)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() != (older,)
    assert tracking.track([finished]).added == 1


def test_a_store_of_a_newer_mlflow_says_what_helps(finished: Path) -> None:
    database = finished.parent / "mlflow" / "mlflow.db"
    set_revision(database, "fedcba987654")
    for start in (lambda: tracking.track([finished]), lambda: tracking.serve(finished.parent, free_port())):
        with pytest.raises(
            KvformerError, match=r"made by a newer MLflow than this one \(3\.\S+\); use that one, or delete it"
        ):
            start()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DROP TABLE webhooks")  # so that MLflow tries to migrate it
    with pytest.raises(KvformerError, match="made by a newer MLflow"):
        tracking.track([finished])
    database.unlink()
    assert tracking.track([finished]).added == 1
