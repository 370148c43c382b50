"""Servers and workers as processes of this machine: start, wait for, end with all descendants."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import psutil

from slateflow.errors import InputError, refused

HOST = "127.0.0.1"
PRIVATE = 0o077
"""The umask of databases and logs: only their owner reads them."""
_MARK = "SLATEFLOW_SERVICE"
_LOG_BYTES = 10_000_000
_POSTGRES_PORT = 5432
_STARTUP_SECONDS = 180.0
_SHUTDOWN_SECONDS = 10.0


def require_free(port: int, name: str, flag: str) -> None:
    """Refuse a port on which somebody listens."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        expected = f"{name}: expected port {port} of {HOST} to be free"
        with refused(expected, OSError, remedy=f"choose another with {flag}"):
            probe.bind((HOST, port))


def require_database(url: str | None, flag: str) -> None:
    """Refuse the address of a database server on which nobody listens; files are not checked."""
    with refused(f"{flag}: expected an address such as postgresql+…://HOST/NAME", ValueError):
        parts = urllib.parse.urlsplit(url or "")
        host, port = parts.hostname, parts.port or _POSTGRES_PORT
    if host is None or not parts.scheme.startswith("postgresql"):
        return
    expected = f"{flag}: expected a database at {host}:{port}"
    with refused(expected, OSError, remedy="start it or give another address"):
        socket.create_connection((host, port), timeout=10).close()


def responds(url: str, login: str | None = None) -> bool:
    """Whether the address answers without an error; `login` is a name and its password."""
    return status_of(url, login) < HTTPStatus.BAD_REQUEST


def status_of(url: str, login: str | None = None) -> int:
    """The status of the answer; 503 where nobody answers."""
    request = urllib.request.Request(url)
    if login is not None:
        request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return HTTPStatus.SERVICE_UNAVAILABLE


@dataclass
class Service:
    """A process that runs until a signal ends it."""

    name: str  # for messages
    command: list[str]  # program and arguments
    responds: Callable[[], bool]  # function that returns whether it works by now
    log: Path  # file that its output goes to
    environment: dict[str, str]  # variables in which it runs
    folder: Path  # working directory
    port: int | None = None  # where one of its processes listens
    umask: int = PRIVATE  # permissions that its files do not get
    survived: bool = False  # whether its children go on without it, as a worker's runs do
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started: float = field(default=0.0, init=False)  # in seconds since 1970

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only us.

        Leftovers of one before, of which only the first process has died, end first: they would
        keep the port.
        """
        if not self.survived:
            end_family(self.mark)
        self.started = time.time()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environment, _MARK: self.mark},
                cwd=self.folder,
                umask=self.umask,
                start_new_session=True,
            )

    @property
    def mark(self) -> str:
        """Value of a variable that all its processes have, those that outlive their parent, too."""
        return str(self.log)

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended."""
        return self.process is not None and self.process.poll() is not None

    @property
    def ready(self) -> bool:
        """Whether it works by now, and it is this process, not a stranger on its port."""
        return (self.port is None or self._listens(self.port)) and self.responds()

    def _listens(self, port: int) -> bool:
        if self.process is None:
            return False
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with suppress(psutil.Error):
                for connection in psutil.Process(pid).net_connections("tcp"):
                    if (connection.status, connection.laddr[1]) == (psutil.CONN_LISTEN, port):
                        return True
        return False

    def rotate_log(self) -> None:
        """Move a log that has grown too long to `….1`; its processes go on writing to the file.

        One that somebody has deleted is made anew when the service starts again.
        """
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self.log, f"{self.log}.1")
                os.truncate(self.log, 0)


def wait_for(services: list[Service], on_ready: Callable[[Service], None]) -> None:
    """Wait until all of them are ready; each is reported once.

    Raises:
        InputError: A service ended, or took too long.
    """
    deadline = time.monotonic() + _STARTUP_SECONDS
    waiting = list(services)
    while waiting:
        for service in list(waiting):
            if service.ready:
                waiting.remove(service)
                on_ready(service)
            elif service.ended or time.monotonic() > deadline:
                outcome = (
                    "ended" if service.ended else f"did not answer in {_STARTUP_SECONDS:.0f} s"
                )
                raise InputError(
                    f"{service.name}: expected it to come up, it {outcome}; see {service.log}"
                )
        time.sleep(0.3)


def end_family(mark: str) -> None:
    """End all processes of a service, by force after ten seconds.

    A worker starts each flow run in a session of its own, so process groups do not find them, and
    the tree of processes has lost those whose parent died. They are known by the variable that
    they inherited, and those below them by the tree.
    """
    while family := [pid for pid in _marked(mark) if alive(pid)]:
        end_processes([*family, *(below for pid in family for below in descendants(pid))])


def _marked(mark: str) -> Iterator[int]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended, or is somebody else's
            if process.environ().get(_MARK) == mark:
                yield process.pid


def end_processes(pids: list[int]) -> None:
    """End these processes, by force after ten seconds."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    while time.monotonic() < deadline and any(alive(pid) for pid in pids):
        time.sleep(0.1)
    for pid in filter(alive, pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent dies, such as runs of a killed worker."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def reap_orphans(services: list[Service]) -> None:
    """Wait for adopted processes that have ended, which would otherwise stay zombies."""
    own = {service.process.pid for service in services if service.process is not None}
    for pid in set(descendants(os.getpid())) - own:
        with suppress(ChildProcessError):  # a child of a child
            os.waitpid(pid, os.WNOHANG)


def descendants(root: int) -> list[int]:
    """All descendants of the process `root`, the nearest first."""
    try:
        return [child.pid for child in psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which waits for its parent, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
