"""`slateflow up`: both servers, a worker and the deployments on this machine, until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from cyclopts import Parameter

from flows import bounds
from flows.bounded_option import number
from flows.interruption import interrupt
from flows.services.deploy import HERE, deploy
from flows.services.guard import Guard
from flows.services.processes import (
    PRIVATE,
    Service,
    adopt_orphans,
    alive,
    descendants,
    end_family,
    end_processes,
    reap_orphans,
    require_database,
    require_free,
    wait_for,
)
from flows.services.stack import MLFLOW_DATABASE, PREFECT_DATABASE, Logins, Stack
from slateflow.errors import InputError
from tasks.project import PROJECT

_SECONDS_BETWEEN_SWEEPS = 15.0
_SECONDS_BEFORE_ANOTHER_START = 5.0
_GUARD_SECONDS = 60.0  # a guard may have to end three services by force


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """Options of `slateflow up`."""

    prefect_port: Annotated[int, number(bounds.Port, "Port of Prefect's server.")] = 4200
    mlflow_port: Annotated[int, number(bounds.Port, "Port of MLflow's server.")] = 5000
    folder: Annotated[
        str | None, Parameter(help="Folder of both stores. [default: those of `slateflow run`]")
    ] = None
    prefect_database: Annotated[
        str | None,
        Parameter(
            help="URL such as postgresql+asyncpg://…; with a password rather in "
            "PREFECT_SERVER_DATABASE_CONNECTION_URL."
        ),
    ] = None
    mlflow_database: Annotated[
        str | None,
        Parameter(
            help="URL such as postgresql+psycopg://…; with a password rather in "
            "MLFLOW_BACKEND_STORE_URI."
        ),
    ] = None


DEFAULTS = UpOptions()


def up(options: UpOptions) -> None:
    """Run both servers, a worker and the deployments until a signal comes."""
    folder = Path(options.folder or PROJECT / ".slateflow").resolve()
    for caught in (signal.SIGTERM, signal.SIGINT):  # a shell starts jobs with SIGINT ignored
        signal.signal(caught, interrupt)
    stack = _stack(options, folder)
    prefect, mlflow, worker = services = stack.services()
    os.umask(PRIVATE)
    with _only_one(stack) as lock:
        for service in services:
            end_family(service.mark)  # both `up` and its guard were killed
        _check_addresses(options, stack)
        stack.prepare()
        adopt_orphans()
        guard = Guard(list(services), lock)
        try:
            print(f"starting both servers; their logs are in {folder}", flush=True)
            prefect.start()
            mlflow.start()
            wait_for([prefect, mlflow], _say_ready)
            stack.check_login()
            _deploy(stack)
            worker.start()
            wait_for([worker], _say_ready)
            _announce(stack)
            _watch(stack, services)
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr, flush=True)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for service in (worker, mlflow, prefect):
                end_family(service.mark)
            end_processes([one for one in descendants(os.getpid()) if one != guard.process.pid])
            guard.dismiss()


def _stack(options: UpOptions, folder: Path) -> Stack:
    return Stack(
        folder=folder,
        prefect_port=options.prefect_port,
        mlflow_port=options.mlflow_port,
        prefect_database=options.prefect_database or os.environ.get(PREFECT_DATABASE),
        mlflow_database=options.mlflow_database or os.environ.get(MLFLOW_DATABASE),
        own_stores=options.folder is not None,
        logins=Logins.from_environment(),
    )


def _say_ready(service: Service) -> None:
    print(f"{service.name} is ready", flush=True)


def _check_addresses(options: UpOptions, stack: Stack) -> None:
    """Refuse ports in use, and databases that nobody serves, before anything starts."""
    require_free(options.prefect_port, "Prefect", "--prefect-port")
    require_free(options.mlflow_port, "MLflow", "--mlflow-port")
    if options.prefect_port == options.mlflow_port:
        port = options.mlflow_port
        raise InputError(f"--mlflow-port: expected a port other than Prefect's, got {port}")
    require_database(stack.prefect_database, "--prefect-database")
    require_database(stack.mlflow_database, "--mlflow-database")


@contextmanager
def _only_one(stack: Stack) -> Iterator[IO[str]]:
    """Hold the lock of the stack's folder; refuse where another `slateflow up` holds it.

    If that was killed, its guard holds the lock, and is waited for.
    """
    folder = stack.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "up.lock").open("a+")
    except OSError as error:
        raise InputError(
            f"--folder: expected a folder to write in, got {folder}: {error.strerror}; choose "
            "another"
        ) from error
    with lock:
        if not _locked(lock):
            lock.seek(0)
            holder = lock.read()
            pid = re.match(r"process (\d+)", holder)
            if (pid and alive(int(pid[1]))) or not _locked(lock, _GUARD_SECONDS):
                raise InputError(
                    f"up: expected none on this folder, got {holder}; stop that, or choose "
                    "another --folder and other ports"
                )
        lock.truncate(0)
        ports = f"Prefect on {stack.prefect_port}, MLflow on {stack.mlflow_port}"
        lock.write(f"process {os.getpid()} ({ports})")
        lock.flush()
        yield lock


def _locked(lock: IO[str], patience: float = 0.0) -> bool:
    """Whether the lock was taken within so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        else:
            return True


def _deploy(stack: Stack) -> None:
    """Make the server's deployments those of prefect.yaml, and sweep dead runs."""
    from tasks.server.deployments import ensure_pool

    with stack.client() as client:
        ensure_pool(client)
        for line in deploy(client, HERE, stack.environment):
            print(line, flush=True)
    _sweep(stack)


def _announce(stack: Stack) -> None:
    from tasks.server.deployments import planned_deployments

    print(f"Prefect   {stack.prefect}")
    print(f"MLflow    {stack.mlflow}")
    for planned in planned_deployments():
        when = ", ".join(planned.schedules or planned.events) or "on request"
        print(f"{when:28s} {planned.flow}/{planned.name}")
    print("Ctrl-C stops them all", flush=True)


def _watch(stack: Stack, services: tuple[Service, ...]) -> None:
    """Restart services that end, and sweep dead runs now and then, until a signal comes."""
    swept = time.monotonic()
    while True:
        time.sleep(0.5)
        for service in services:
            if service.ended:
                print(f"{service.name} ended; started again", flush=True)
                service.start()
                try:
                    wait_for([service], _say_ready)
                except InputError as error:
                    print(error, flush=True)
                    time.sleep(_SECONDS_BEFORE_ANOTHER_START)
            service.rotate_log()
        if time.monotonic() - swept > _SECONDS_BETWEEN_SWEEPS:
            swept = time.monotonic()
            reap_orphans(list(services))
            _sweep(stack)


def _sweep(stack: Stack) -> None:
    import httpx
    from prefect.exceptions import ObjectNotFound

    from tasks.server.orphans import sweep_orphans

    # Where a server has just died, or somebody deletes a run meanwhile, the next sweep does it
    with suppress(httpx.HTTPError, ObjectNotFound), stack.client() as client:
        for name in sweep_orphans(client):
            print(f"crashed {name}: its process is gone", flush=True)
