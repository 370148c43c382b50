"""Servers and workers as processes of this machine: start, wait for, end with all descendants."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from slateflow.errors import InputError, refused

HOST = "127.0.0.1"
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


def responds(url: str) -> bool:
    """Whether the address answers without an error."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False


@dataclass
class Service:
    """A process that runs until a signal ends it."""

    name: str  # for messages, and for its log
    command: list[str]  # program and arguments
    ready: Callable[[], bool]  # function that returns whether it works by now
    log: Path  # file that its output goes to
    environment: dict[str, str]  # variables in which it runs
    folder: Path  # working directory
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only us."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended."""
        return self.process is not None and self.process.poll() is not None


def wait_for(services: list[Service]) -> None:
    """Wait until all of them are ready.

    Raises:
        InputError: A service ended, or took too long.
    """
    deadline = time.monotonic() + _STARTUP_SECONDS
    waiting = list(services)
    while waiting := [service for service in waiting if not service.ready()]:
        for service in waiting:
            if service.ended or time.monotonic() > deadline:
                outcome = (
                    "ended" if service.ended else f"did not answer in {_STARTUP_SECONDS:.0f} s"
                )
                raise InputError(
                    f"{service.name}: expected it to come up, it {outcome}; see {service.log}"
                )
        time.sleep(0.3)


def end_all(services: list[Service]) -> None:
    """End the services in this order, and whatever they started."""
    for service in services:
        if service.process is not None:
            end_family(service.process.pid)
            service.process.wait()


def end_family(root: int) -> None:
    """End a process and all its descendants, by force after ten seconds.

    A worker starts each flow run in a session of its own, so process groups do not find them;
    the tree of processes does.
    """
    family = [root, *descendants(root)]
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    while time.monotonic() < deadline and any(alive(pid) for pid in family):
        time.sleep(0.1)
    for pid in filter(alive, family):
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
