"""Temporary real Prefect and MLflow servers on 127.0.0.1 for tests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(command: list[str], health: str, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server until the block ends; wait until `health` answers."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "HOME": str(folder), "DO_NOT_TRACK": "true", **environment},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not _answers(health):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.3)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server with its store and artifacts in `folder`; returns its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with serving(command, f"{address}/health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        yield address


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """A Prefect server with its database in `folder`; returns the address of its API."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port)]
    with serving(
        command,
        f"{address}/health",
        folder,
        PREFECT_HOME=str(folder),
        PREFECT_API_URL=address,
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
    ):
        yield address


@contextmanager
def model_server(model: str, tracking_uri: str, *options: str) -> Iterator[str]:
    """Serve a model by the command of docs/consumers.md; returns its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    documented = Path(__file__).parents[1] / "docs" / "consumers.md"
    (line,) = re.findall(r"^ +uv run (mlflow models serve .*)$", documented.read_text(), re.M)
    command = line.split()
    command[0] = str(BIN / command[0])
    command[command.index("--model-uri") + 1] = model
    command[command.index("--port") + 1] = str(port)
    command += options
    with tempfile.TemporaryDirectory() as folder:
        path = f"{BIN}:{os.environ['PATH']}"
        with serving(
            command,
            f"{address}/health",
            Path(folder),
            MLFLOW_TRACKING_URI=tracking_uri,
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
            PATH=path,
        ):
            yield address


@contextmanager
def own_server(model: str, **environment: str) -> Iterator[str]:
    """The server of `mlflow/server.py` for a registered model; returns its address."""
    port = free_port()
    folder = Path(__file__).parents[1] / "mlflow"
    command = [str(BIN / "uvicorn"), "server:app", "--app-dir", str(folder), "--port", str(port)]
    command += ["--log-level", "warning"]
    address = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory() as logs,
        serving(command, f"{address}/docs", Path(logs), MODEL=model, **environment),
    ):
        yield address
