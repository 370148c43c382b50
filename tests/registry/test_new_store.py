"""MLflow's store in a SQLite file is complete from the first moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.stack import Logins, Stack
from slateflow.errors import InputError
from tasks.store.new_store import make_store
from tasks.store.tracking import mlflow_client

OPENS = "from tasks.store.tracking import mlflow_client; mlflow_client()"


def test_what_was_interrupted_leaves_nothing_and_the_next_command_makes_it(tmp_path, monkeypatch):
    from alembic import command

    def interrupted(config, revision):
        upgrade(config, "+10")
        raise KeyboardInterrupt

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new/mlflow.db")
    with monkeypatch.context() as patch:
        upgrade = command.upgrade
        patch.setattr(command, "upgrade", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mlflow_client()
    assert os.listdir(tmp_path / "new") == []
    assert mlflow_client().get_experiment("0").name == "Default"


def test_of_two_first_commands_the_second_waits(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    both = [subprocess.Popen([sys.executable, "-c", OPENS], env=environment) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]


def test_an_empty_file_is_no_store_and_other_stores_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("whole.db").write_bytes(b"somebody's")
    Path("empty.db").touch()
    for name in ("whole.db", "empty.db?timeout=9", ":memory:", "file:a?mode=memory&uri=true", ""):
        make_store(f"sqlite:///{name}")
    make_store("postgresql://somebody@127.0.0.1/mlflow")
    assert Path("whole.db").read_bytes() == b"somebody's"
    assert Path("empty.db").read_bytes().startswith(b"SQLite format 3")
    assert sorted(os.listdir()) == ["empty.db", "whole.db"]


def test_servers_find_theirs_made_and_private(tmp_path):
    Stack(tmp_path, 1, 2, None, None, True, Logins(None, None)).prepare()
    assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"garbage " * 200, None])
def test_a_file_that_is_no_store_is_refused_at_once(tmp_path, monkeypatch, content):
    """MLflow used to try for two minutes to open it."""
    path = tmp_path / "mlflow.db"
    path.mkdir() if content is None else path.write_bytes(content)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(InputError, match=f"expected a SQLite store at {path}, got .*; make it"):
        mlflow_client()
