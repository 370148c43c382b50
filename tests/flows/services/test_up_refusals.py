"""Refusals of `slateflow up` before it starts anything: one line, and no remaining process."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.servers import BIN, free_port
from tests.up import refused


def refused_up(folder: str | Path, *options: str, **environment: str) -> str:
    """The one line of a refused `slateflow up`."""
    return refused([str(BIN / "slateflow"), "up", "--folder", str(folder), *options], **environment)


def ports(prefect: int | None = None, mlflow: int | None = None) -> list[str]:
    """Options with free ports, unless ports are given."""
    chosen = [free_port() if port is None else port for port in (prefect, mlflow)]
    return ["--prefect-port", str(chosen[0]), "--mlflow-port", str(chosen[1])]


@pytest.mark.parametrize("flag", ["--prefect-port", "--mlflow-port"])
def test_a_port_on_which_somebody_listens(tmp_path, flag):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused_up(tmp_path, *(ports(port) if "prefect" in flag else ports(None, port)))
    assert f"expected port {port} of 127.0.0.1 to be free, got Address already in use" in line
    assert line.endswith(f"choose another with {flag}")


@pytest.mark.parametrize(
    ("port", "bound"), [(0, "at least 1"), (-1, "at least 1"), (65536, "at most 65535")]
)
def test_a_number_that_is_not_a_port(tmp_path, port, bound):
    expected = f"--mlflow-port: expected {bound}, got {port}; see `slateflow up --help`"
    assert refused_up(tmp_path, *ports(None, port)) == expected


def test_one_port_for_both(tmp_path):
    port = free_port()
    expected = f"--mlflow-port: expected a port other than Prefect's, got {port}"
    assert refused_up(tmp_path, *ports(port, port)) == expected


@pytest.mark.parametrize(
    ("server", "driver", "variable"),
    [
        ("prefect", "asyncpg", "PREFECT_SERVER_DATABASE_CONNECTION_URL"),
        ("mlflow", "psycopg", "MLFLOW_BACKEND_STORE_URI"),
    ],
)
def test_a_database_that_refuses_the_connection(tmp_path, server, driver, variable):
    port = free_port()
    url = f"postgresql+{driver}://somebody:secret@127.0.0.1:{port}/{server}"
    expected = (
        f"--{server}-database: expected a database at 127.0.0.1:{port}, got Connection refused; "
        "start it or give another address"
    )
    assert refused_up(tmp_path, *ports(), f"--{server}-database", url) == expected
    assert refused_up(tmp_path, *ports(), **{variable: url}) == expected


def test_an_address_that_is_none(tmp_path):
    line = refused_up(
        tmp_path, *ports(), "--mlflow-database", "postgresql://somebody:secret@[::1/x"
    )
    assert line == (
        "--mlflow-database: expected an address such as postgresql+…://HOST/NAME, "
        "got Invalid IPv6 URL"
    )


def test_a_folder_that_cannot_be_made_or_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    line = refused_up(tmp_path / "file" / "folder")
    assert line.startswith(f"--folder: expected a folder to write in, got {tmp_path}/file/folder: ")
    if Path("/proc/self").is_dir():  # exists, but is not writable
        assert refused_up("/proc/self").startswith(
            "--folder: expected a folder to write in, got /proc/"
        )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "a"}, "expected both or none, got no MLFLOW_TRACKING_PASS"),
        ({"MLFLOW_TRACKING_PASSWORD": "long-enough-it-is"}, "got no MLFLOW_TRACKING_USERNAME"),
        (
            {"MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "short"},
            "expected 12 characters or more, got 5",
        ),
        (
            {"PREFECT_SERVER_API_AUTH_STRING": "a:b", "PREFECT_API_AUTH_STRING": "a:c"},
            "expected the same NAME:PASSWORD, got two",
        ),
    ],
)
def test_passwords_that_cannot_be(tmp_path, variables, expected):
    assert expected in refused_up(tmp_path, *ports(), **variables)
