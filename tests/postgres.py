"""A temporary PostgreSQL cluster on 127.0.0.1 for a test."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import free_port

USER = "slateflow"


@dataclass(frozen=True)
class Cluster:
    """Location of a cluster, and the password of its only user."""

    port: int
    password: str

    def url(self, driver: str, database: str) -> str:
        """Address of a database, which is created if it is missing."""
        if (database,) not in self.ask("SELECT datname FROM pg_database"):
            self.ask(f"CREATE DATABASE {database}")
        return f"{driver}://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of a query."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname=database,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def postgres() -> Iterator[Cluster]:
    """Start a cluster as an ordinary user, which PostgreSQL requires, and end it.

    Skips the test if PostgreSQL is not installed.
    """
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/local/bin")]
    found = [folder for folder in programs if (folder / "initdb").exists()]
    if not found:
        pytest.skip("the test starts PostgreSQL, which is not installed (Debian: postgresql)")
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp") as name:
        folder, cluster = Path(name), Cluster(free_port(), secrets.token_urlsafe(18))
        password = folder / "password"
        password.write_text(cluster.password)
        user = _ordinary_user()
        if user is not None:
            for path in (folder, password):
                shutil.chown(path, user)

        def run(program: str, *arguments: str) -> None:
            with (folder / "log").open("ab") as log:
                subprocess.run(
                    [found[0] / program, *arguments],
                    check=True,
                    user=user,
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )

        data = str(folder / "data")
        run(
            *("initdb", "--pgdata", data, "--username", USER, "--pwfile", str(password)),
            *("--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--locale", "C"),
        )
        options = f"-p {cluster.port} -c listen_addresses=127.0.0.1 -k {folder} -F"
        run("pg_ctl", "--pgdata", data, "--options", options, "--wait", "start")
        try:
            yield cluster
        finally:
            run("pg_ctl", "--pgdata", data, "--mode", "immediate", "--wait", "stop")


def _ordinary_user() -> str | None:
    """The user that runs the cluster; None for the current user."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
