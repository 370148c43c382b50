"""An MLflow store in a SQLite file that appears with all its tables, or not at all.

MLflow alters tables in the file itself, one by one, and cannot go on where it was killed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from slateflow.errors import refused
from slateflow.trajectories.files.atomic_files import make_folder, write_whole

_SECONDS_LOCKED = 60.0
"""Seconds for which a process that writes may keep others from reading."""


def make_store(uri: str) -> None:
    """Make the store where it is a SQLite file that is missing or empty."""
    path = database_file(uri)
    if path is None or _is_there(path):
        return
    make_folder(path.parent)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not _is_there(path):  # nobody has made it while we waited
            write_whole(path, _tables())
    finally:
        os.close(folder)


def sqlite_url(path: Path) -> str:
    """Address of a store in a SQLite file, whatever signs are in its path."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def database_file(uri: str) -> Path | None:
    """The file of a SQLite store; None of another store."""
    if not uri.startswith("sqlite:///"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return None if not name or name.startswith((":", "file:")) else Path(name).resolve()


def check_store(uri: str) -> None:
    """Refuse a SQLite file that cannot be read; MLflow would try for minutes to open it."""
    path = database_file(uri)
    if path is None or not _is_there(path):
        return
    expected = f"MLFLOW_TRACKING_URI: expected a SQLite store at {path}"
    with (
        refused(expected, sqlite3.Error, remedy="make it readable, or name another store"),
        closing(sqlite3.connect(path, timeout=_SECONDS_LOCKED)) as connection,
    ):
        connection.execute("PRAGMA schema_version").fetchone()


def _is_there(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _tables() -> bytes:
    """The file of a store without runs; made in memory it takes a tenth of the time."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)
    engine = create_engine("sqlite://")
    _initialize_tables(engine)
    with engine.connect() as connection:
        content: bytes = connection.connection.driver_connection.serialize()  # type: ignore[union-attr]
    engine.dispose()
    return content
