"""A real `slateflow up` in its own folder, with operations on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.services.processes import descendants
from tests.servers import BIN, free_port

STARTED = "Ctrl-C stops them all"


class Up:
    """`slateflow up` with its servers and worker; ready when the constructor returns."""

    def __init__(self, folder: Path, programs: Path = BIN, **environment: str) -> None:
        self.folder = folder
        self.programs = programs
        self.environment = environment
        self.ports = free_port(), free_port()
        self.start()

    def start(self) -> None:
        """Start `up`, in the same folder after a kill."""
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            self.command(*self.ports),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self.environment},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.read_until(STARTED)
            self.pause_schedules()
        except (AssertionError, OSError):
            self.stop()
            raise

    def pause_schedules(self) -> None:
        """Pause schedules, which would start runs if a test ran at their hour."""
        for deployment in self.post("deployments/filter", {}):
            self.post(f"deployments/{deployment['id']}/pause_deployment", None)

    def post(self, path: str, body: dict[str, Any] | None) -> Any:
        """Prefect's answer to a request."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if login := self.environment.get("PREFECT_SERVER_API_AUTH_STRING"):
            headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        request = urllib.request.Request(f"{self.api}/{path}", data, headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def command(self, prefect: int, mlflow: int) -> list[str]:
        """The command line with these ports."""
        ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
        return [str(self.programs / "slateflow"), "up", "--folder", str(self.folder), *ports]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def read_until(self, text: str, seconds: float = 240) -> None:
        """Wait for a line with the text."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            assert self._reader.is_alive(), "\n".join(self.lines)
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.2)

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def api(self) -> str:
        return f"{self.ui}/api"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    def family(self, service: str) -> list[int]:
        """The process of a service and all of its descendants."""
        sign = {
            "prefect": "flows.services.prefect_server",
            "mlflow": "mlflow server",
            "worker": "prefect worker",
        }
        for pid in descendants(self.process.pid):
            if sign[service] in command_line(pid).replace(f"{BIN}/", ""):
                return [pid, *descendants(pid)]
        return []

    def kill(self) -> None:
        """Kill -9 of `up` only."""
        kill([self.process.pid])
        self.stop()

    def stop(self) -> None:
        """Ctrl-C, unless it has ended or dies."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=120)
        self._reader.join(timeout=20)
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running_up(folder: Path, programs: Path = BIN, **environment: str) -> Iterator[Up]:
    """An `up` for the block; `programs` is the folder of another checkout's programs."""
    up = Up(folder, programs, **environment)
    try:
        yield up
    finally:
        up.stop()


def command_line(pid: int) -> str:
    """Program and arguments of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def refused(command: list[str], started: bool = False, **environment: str) -> str:
    """The line of a command that is refused, perhaps late, without leaving a process behind."""
    mark = uuid.uuid4().hex
    environment = {**os.environ, **environment, "STARTED_BY_TEST": mark}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2, done.stderr
    assert bool(done.stdout) == started, done.stdout
    assert processes_with(mark) == []
    (line,) = done.stderr.splitlines()
    return line.removeprefix("slateflow: ")


def processes_with(mark: str) -> list[str]:
    """Command lines of running processes that inherited a mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inherited = mark.encode() in (process / "environ").read_bytes()
        except OSError:  # it has ended, or belongs to another user
            continue
        if inherited:
            found.append(command_line(int(process.name)))
    return found


def kill(pids: list[int]) -> None:
    """Send SIGKILL."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until(reached: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the answer is true; returns that answer."""
    deadline = time.monotonic() + seconds
    while not (answer := reached()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
    return answer
