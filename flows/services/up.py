"""`slateflow up`: both servers, a worker and the deployments on this machine, until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from cyclopts import Parameter

from flows import bounds
from flows.cli.interruption import interrupt
from flows.cli.options import number
from flows.services.guard import Guard
from flows.services.processes import (
    HOST,
    Service,
    adopt_orphans,
    alive,
    descendants,
    end_all,
    end_family,
    reap_orphans,
    require_database,
    require_free,
    responds,
    wait_for,
)
from slateflow.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
_DATABASES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "MLFLOW_BACKEND_STORE_URI")
"""Variables with the addresses of the two servers' databases."""
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
    ports = f"Prefect on {options.prefect_port}, MLflow on {options.mlflow_port}"
    with _only_one(folder, ports) as lock:
        _check_addresses(options)
        prefect, mlflow, worker = services = _services(options, folder)
        adopt_orphans()
        guard = Guard(lock)
        try:
            for server in (prefect, mlflow):
                server.start()
                guard.watch(server)
            wait_for([prefect, mlflow])
            _deploy(worker.environment)
            worker.start()
            guard.watch(worker)
            wait_for([worker])
            _announce(worker.environment)
            _watch(services, guard)
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr, flush=True)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end_all([worker, mlflow, prefect])
            for orphan in set(descendants(os.getpid())) - {guard.process.pid}:
                end_family(orphan)
            guard.dismiss()


def _check_addresses(options: UpOptions) -> None:
    """Refuse ports in use, and databases that nobody serves, before anything starts."""
    require_free(options.prefect_port, "Prefect", "--prefect-port")
    require_free(options.mlflow_port, "MLflow", "--mlflow-port")
    if options.prefect_port == options.mlflow_port:
        port = options.mlflow_port
        raise InputError(f"--mlflow-port: expected a port other than Prefect's, got {port}")
    for name, variable in zip(("prefect", "mlflow"), _DATABASES, strict=True):
        url = getattr(options, f"{name}_database") or os.environ.get(variable)
        require_database(url, f"--{name}-database")


@contextmanager
def _only_one(folder: Path, ports: str) -> Iterator[IO[str]]:
    """Hold the folder's lock; refuse where another `slateflow up` holds it.

    If that was killed, its guard holds the lock, and is waited for.
    """
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


def _services(options: UpOptions, folder: Path) -> list[Service]:
    """Prefect's server, MLflow's, and the worker.

    Databases' addresses may hold passwords: each is only in the environment of its own server.
    """
    store = folder if options.folder else PROJECT / "mlflow"
    prefect = f"http://{HOST}:{options.prefect_port}"
    mlflow = f"http://{HOST}:{options.mlflow_port}"
    environment = {
        **{key: value for key, value in os.environ.items() if key not in _DATABASES},
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_API_URL": f"{prefect}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, where it is by default, a run's right to run would not survive the server
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # A run that an event starts should not wait ten seconds for the worker to look
        "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2"),
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DO_NOT_TRACK": "true",
        # The locks of the embedded store and of the server are the same ones
        "SLATEFLOW_LOCKS": os.environ.get("SLATEFLOW_LOCKS", str(store / "locks")),
    }
    if options.folder:
        environment["PREFECT_HOME"] = str(folder / "prefect")

    def service(
        name: str, command: list[str], ready: Callable[[], bool], **databases: str | None
    ) -> Service:
        program = [str(BIN / command[0]), *command[1:]]
        own = {key: value for key, value in databases.items() if value}
        log = folder / f"{name}.log"
        return Service(name, program, ready, log, {**environment, **own}, PROJECT)

    at = ["--host", HOST, "--port"]
    by_prefect, by_mlflow = _DATABASES
    return [
        service(
            "prefect",
            ["prefect", "server", "start", *at, str(options.prefect_port)],
            lambda: responds(f"{prefect}/api/health"),
            **{by_prefect: options.prefect_database or os.environ.get(by_prefect)},
        ),
        service(
            "mlflow",
            [
                *("mlflow", "server", *at, str(options.mlflow_port), "--workers", "1"),
                *("--artifacts-destination", str(store / "artifacts")),
            ],
            lambda: responds(f"{mlflow}/health"),
            **{
                by_mlflow: options.mlflow_database
                or os.environ.get(by_mlflow, f"sqlite:///{store}/mlflow.db")
            },
        ),
        service(
            "worker",
            ["prefect", "worker", "start", "--pool", "slateflow", "--type", "process"],
            lambda: _worker_is_online(environment),
        ),
    ]


@contextmanager
def _client(environment: dict[str, str]) -> Iterator[Any]:
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(environment["PREFECT_API_URL"]) as client:
        yield client


def _worker_is_online(environment: dict[str, str]) -> bool:
    import httpx

    from tasks.server.deployments import POOL

    try:
        with _client(environment) as client:
            workers = client.read_workers_for_work_pool(POOL)
    except httpx.HTTPError:  # the server has also just died
        return False
    return any(worker.status == "ONLINE" for worker in workers)


def _deploy(environment: dict[str, str]) -> None:
    """Make the server's deployments those of prefect.yaml, and sweep dead runs."""
    from tasks.server.deployments import (
        ensure_pool,
        pause_again,
        planned_deployments,
        prune_deployments,
        read_paused,
    )

    with _client(environment) as client:
        ensure_pool(client)
        paused = read_paused(client)
        command = [str(BIN / "prefect"), "--no-prompt", "deploy", "--all"]
        done = subprocess.run(
            command,
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            reason = (done.stdout + done.stderr).strip().splitlines()[-1]
            raise InputError(f"prefect.yaml: expected deployments, got: {reason}")
        for name in pause_again(client, paused):
            print(f"{name} stays paused", flush=True)
        for name in prune_deployments(client, planned_deployments()):
            print(f"pruned {name}: prefect.yaml no longer has it", flush=True)
    _sweep(environment)


def _announce(environment: dict[str, str]) -> None:
    from tasks.server.deployments import planned_deployments

    print(f"Prefect   {environment['PREFECT_API_URL'].removesuffix('/api')}")
    print(f"MLflow    {environment['MLFLOW_TRACKING_URI']}")
    for planned in planned_deployments():
        when = ", ".join(planned.schedules + planned.events) or "on request"
        print(f"{when:28s} {planned.flow}/{planned.name}")
    print("Ctrl-C stops them all", flush=True)


def _watch(services: list[Service], guard: Guard) -> None:
    """Restart services that end, and sweep dead runs now and then, until a signal comes."""
    swept = time.monotonic()
    while True:
        time.sleep(0.5)
        for service in services:
            if service.ended:
                print(f"{service.name} ended; started again", flush=True)
                service.start()
                guard.watch(service)
                try:
                    wait_for([service])
                except InputError as error:
                    print(error, flush=True)
                    time.sleep(_SECONDS_BEFORE_ANOTHER_START)
        if time.monotonic() - swept > _SECONDS_BETWEEN_SWEEPS:
            swept = time.monotonic()
            reap_orphans(services)
            _sweep(services[-1].environment)


def _sweep(environment: dict[str, str]) -> None:
    import httpx

    from tasks.server.orphans import sweep_orphans

    # The sweep of a server that has just died comes later
    with suppress(httpx.HTTPError), _client(environment) as client:
        for name in sweep_orphans(client):
            print(f"crashed {name}: its process is gone", flush=True)
