"""What can be known of MLflow's address before anything is trained. Never imports MLflow."""

import socket
import ssl
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from kvformer.errors import ConfigError
from kvformer.tracking.store import DATABASE_PORTS, SERVERS, Store, dialect, without_secrets

SECONDS = 5.0


def check_address(results: Path, uri: str | None = None) -> None:
    """Raise ConfigError for an address that MLflow does not support, or whose database driver is not installed.

    `uri` is the address, by default that of MLFLOW_TRACKING_URI and failing that the SQLite file in `results`.
    """
    try:
        store = Store(results, uri)
    except ConfigError as error:
        raise ConfigError(f"{error}; it comes from execution.tracking_uri or else MLFLOW_TRACKING_URI") from None
    if store.dialect in DATABASE_PORTS and store.dialect != "sqlite":
        from sqlalchemy import make_url

        try:
            make_url(store.uri).get_dialect().import_dbapi()
        except ImportError as error:
            raise ConfigError(f"MLflow at {store.shown}: the driver is missing ({error})") from None


def unreachable(uri: str | None) -> str | None:
    """Why the server or the database at this address gives no answer now, without secrets; None where it does, or where
    there is no need to ask."""
    if not uri:
        return None
    parts = urlsplit(uri)
    kind = dialect(parts)
    if kind == "sqlite":
        return None
    try:
        if kind in SERVERS:
            address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
            urlopen(address, timeout=SECONDS).close()
        elif port := parts.port or DATABASE_PORTS[kind]:
            socket.create_connection((parts.hostname or "localhost", port), timeout=SECONDS).close()
    except HTTPError:  # it asks for a password, say; but it is there
        return None
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return None if isinstance(reason, ssl.SSLError) else f"MLflow at {without_secrets(uri)}: {reason}"
    return None
