"""`slateflow up`: both servers, a worker and the deployments on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from flows.services import HOST, Service, answers, end_all, require_free
from slateflow.errors import InputError

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
_SECONDS_BETWEEN_SWEEPS = 15.0


def add_up(add: Callable[..., Any]) -> None:
    """Add it to the command line."""
    up = add("up", _up, "Prefect and MLflow servers, a worker and the deployments, until Ctrl-C")
    up.add_argument("--prefect-port", metavar="PORT", type=int, default=4200, help="default 4200")
    up.add_argument("--mlflow-port", metavar="PORT", type=int, default=5000, help="default 5000")
    up.add_argument(
        "--folder",
        metavar="DIR",
        help="folder of both stores; default those that `slateflow run` uses without servers",
    )
    up.add_argument("--prefect-database", metavar="URL", help="such as postgresql+asyncpg://…")
    up.add_argument("--mlflow-database", metavar="URL", help="such as postgresql://…")


def _up(options: argparse.Namespace) -> None:
    folder = Path(options.folder or PROJECT / ".slateflow").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--folder: expected one to write in, got {folder}: {error.strerror}; choose another"
        ) from error
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts jobs with SIGINT ignored
        signal.signal(number, _interrupt)
    with _only_one(folder, f"Prefect on {options.prefect_port}, MLflow on {options.mlflow_port}"):
        require_free(options.prefect_port, "Prefect", "--prefect-port")
        require_free(options.mlflow_port, "MLflow", "--mlflow-port")
        prefect, mlflow, worker = services = _services(options, folder)
        try:
            prefect.start()
            mlflow.start()
            prefect.wait()
            mlflow.wait()
            _deploy(prefect.environment)
            worker.start()
            worker.wait()
            _announce(prefect.environment)
            _watch(services)
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr, flush=True)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end_all([worker, mlflow, prefect])


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _only_one(folder: Path, ports: str) -> Iterator[None]:
    """Hold the folder; refuse where another `slateflow up` does."""
    with (folder / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"up: expected it not to run yet, got {lock.read()}; stop that, or choose "
                "another --folder and other ports"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} ({ports})")
        lock.flush()
        yield


def _services(options: argparse.Namespace, folder: Path) -> list[Service]:
    """Prefect's server, MLflow's, and the worker."""
    store = folder if options.folder else PROJECT / "mlflow"
    prefect = f"http://{HOST}:{options.prefect_port}"
    mlflow = f"http://{HOST}:{options.mlflow_port}"
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_API_URL": f"{prefect}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DO_NOT_TRACK": "true",
        # The locks of the embedded store and of the server are the same ones
        "SLATEFLOW_LOCKS": os.environ.get("SLATEFLOW_LOCKS", str(store / "locks")),
    }
    if options.folder:
        environment["PREFECT_HOME"] = str(folder / "prefect")
    if options.prefect_database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = options.prefect_database
    database = options.mlflow_database or f"sqlite:///{store}/mlflow.db"

    def service(name: str, command: list[str], ready: Callable[[], bool]) -> Service:
        program = [str(BIN / command[0]), *command[1:]]
        return Service(name, program, ready, folder / f"{name}.log", environment, PROJECT)

    at = ["--host", HOST, "--port"]
    return [
        service(
            "prefect",
            ["prefect", "server", "start", *at, str(options.prefect_port)],
            lambda: answers(f"{prefect}/api/health"),
        ),
        service(
            "mlflow",
            [
                *("mlflow", "server", *at, str(options.mlflow_port), "--workers", "1"),
                *("--backend-store-uri", database),
                *("--artifacts-destination", str(store / "artifacts")),
            ],
            lambda: answers(f"{mlflow}/health"),
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
    from tasks.deployments import POOL

    with _client(environment) as client:
        workers = client.read_workers_for_work_pool(POOL)
    return any(worker.status == "ONLINE" for worker in workers)


def _deploy(environment: dict[str, str]) -> None:
    """Make the server's deployments those of prefect.yaml, and bury what died before."""
    from tasks.deployments import (
        ensure_pool,
        planned_deployments,
        prune_deployments,
        sweep_orphans,
    )

    with _client(environment) as client:
        ensure_pool(client)
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
        for name in prune_deployments(client, planned_deployments()):
            print(f"pruned {name}: prefect.yaml has it no longer", flush=True)
        for name in sweep_orphans(client):
            print(f"crashed {name}: its process is gone", flush=True)


def _announce(environment: dict[str, str]) -> None:
    from tasks.deployments import planned_deployments

    print(f"Prefect   {environment['PREFECT_API_URL'].removesuffix('/api')}")
    print(f"MLflow    {environment['MLFLOW_TRACKING_URI']}")
    for planned in planned_deployments():
        when = ", ".join(planned.schedules) or "on its event"
        print(f"{when:22s} {planned.flow}/{planned.name}")
    print("Ctrl-C stops them all", flush=True)


def _watch(services: list[Service]) -> None:
    """Sweep now and then; start again what ended by itself."""
    from tasks.deployments import sweep_orphans

    swept = time.monotonic()
    while True:
        time.sleep(0.5)
        for service in services:
            if service.ended:
                print(f"{service.name} ended; started again", flush=True)
                service.start()
                service.wait()
        if time.monotonic() - swept > _SECONDS_BETWEEN_SWEEPS:
            swept = time.monotonic()
            with _client(services[0].environment) as client:
                for name in sweep_orphans(client):
                    print(f"crashed {name}: its process is gone", flush=True)
