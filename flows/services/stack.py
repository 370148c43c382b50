"""The servers and the worker of `slateflow up`: commands, addresses, and who may ask them."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from flows.services.prefect_server import own_origins
from flows.services.processes import HOST, PRIVATE, Service, responds, status_of
from slateflow.errors import InputError
from tasks.project import PROJECT
from tasks.store.new_store import make_store, sqlite_url

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

BIN = Path(sys.executable).parent
PREFECT_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
MLFLOW_DATABASE = "MLFLOW_BACKEND_STORE_URI"
_LEVEL = "PREFECT_SERVER_LOGGING_LEVEL"
_PREFECT_LOGINS = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
_MLFLOW_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_SHORTEST_PASSWORD = 12  # MLflow's rule


@dataclass(frozen=True)
class Logins:
    """Logins of the servers, `NAME:PASSWORD` each; None where everybody on the machine may ask.

    They come from the variables that clients use, too, so that a shell in which `up` was started
    can use its servers. They are never part of a command line.
    """

    prefect: str | None
    mlflow: str | None

    @classmethod
    def from_environment(cls) -> Logins:
        """Read and check the variables."""
        given = {name: os.environ[name] for name in _PREFECT_LOGINS if os.environ.get(name)}
        if len(set(given.values())) > 1:
            raise InputError(
                f"{' and '.join(_PREFECT_LOGINS)}: expected the same NAME:PASSWORD, got two; "
                "unset one of them"
            )
        user, password = (os.environ.get(name) or "" for name in _MLFLOW_LOGIN)
        if bool(user) != bool(password):
            missing = _MLFLOW_LOGIN[0 if password else 1]
            raise InputError(
                f"{' and '.join(_MLFLOW_LOGIN)}: expected both or none, got no {missing}; set it"
            )
        if password and len(password) < _SHORTEST_PASSWORD:
            raise InputError(
                f"{_MLFLOW_LOGIN[1]}: expected {_SHORTEST_PASSWORD} characters or more, got "
                f"{len(password)}; choose a longer one"
            )
        return cls(next(iter(given.values()), None), f"{user}:{password}" if user else None)


@dataclass(frozen=True)
class Stack:
    """Where the servers of one `slateflow up` listen, and where their stores are."""

    folder: Path  # logs
    prefect_port: int
    mlflow_port: int
    prefect_database: str | None
    mlflow_database: str | None
    own_stores: bool  # in the folder, not where commands without servers have them
    logins: Logins

    @property
    def prefect(self) -> str:
        """Address of Prefect's server."""
        return f"http://{HOST}:{self.prefect_port}"

    @property
    def mlflow(self) -> str:
        """Address of MLflow's server."""
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def store(self) -> Path:
        """Folder of MLflow's database and artifacts."""
        return self.folder if self.own_stores else PROJECT / "mlflow"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a client of both servers, such as the worker.

        Databases' addresses may hold passwords, and are only in the environment of the servers.
        """
        server_only = {PREFECT_DATABASE, MLFLOW_DATABASE, _PREFECT_LOGINS[0]}
        environment = {
            **{key: value for key, value in os.environ.items() if key not in server_only},
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # A run that an event starts should not wait ten seconds for the worker to look
            "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2"),
            "MLFLOW_TRACKING_URI": self.mlflow,
            "DO_NOT_TRACK": "true",
        }
        if self.own_stores:
            environment["PREFECT_HOME"] = str(self.folder / "prefect")
        if self.logins.prefect:
            environment[_PREFECT_LOGINS[1]] = self.logins.prefect
        return environment

    def services(self) -> tuple[Service, Service, Service]:
        """Prefect's server, MLflow's, and the worker."""
        from tasks.server.deployments import POOL

        def service(
            name: str,
            command: list[str],
            responds: Callable[[], bool],
            environment: dict[str, str],
            port: int | None = None,
        ) -> Service:
            log = self.folder / f"{name}.log"
            return Service(name, command, responds, log, environment, PROJECT, port)

        prefect = service(
            "prefect",
            [sys.executable, "-m", "flows.services.prefect_server", str(self.prefect_port)],
            lambda: responds(f"{self.prefect}/api/health"),
            self._prefect_environment(),
            self.prefect_port,
        )
        mlflow = service(
            "mlflow",
            [
                *(str(BIN / "mlflow"), "server", "--host", HOST, "--port", str(self.mlflow_port)),
                *("--workers", "1", "--artifacts-destination", str(self.store / "artifacts")),
                *(("--app-name", "basic-auth") if self.logins.mlflow else ()),
            ],
            lambda: responds(f"{self.mlflow}/health"),
            self._mlflow_environment(),
            self.mlflow_port,
        )
        worker = service(
            "worker",
            [str(BIN / "prefect"), "worker", "start", "--pool", POOL, "--type", "process"],
            lambda: self._hears_from(worker),
            self.environment,
        )
        worker.survived = True
        worker.umask = os.umask(PRIVATE)  # its runs write as any shell does
        os.umask(worker.umask)
        return prefect, mlflow, worker

    def _prefect_environment(self) -> dict[str, str]:
        environment = {
            **self.environment,
            "PREFECT_UI_API_URL": f"{self.prefect}/api",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(self.prefect_port)),
            # In memory, where it is by default, a run's right to run would not survive the server
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
        }
        if environment.get(_LEVEL) == "CRITICAL":  # as of servers that a command starts for itself
            environment[_LEVEL] = "WARNING"
        # By default it forgets events, and keeps runs and their logs for ever
        environment.setdefault("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events,flow_runs")
        if self.prefect_database:
            environment[PREFECT_DATABASE] = self.prefect_database
        if self.logins.prefect:
            environment[_PREFECT_LOGINS[0]] = self.logins.prefect
        return environment

    def _mlflow_environment(self) -> dict[str, str]:
        environment = {
            **self.environment,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST},{HOST}:*,localhost,localhost:*,[[]::1]:*",
            MLFLOW_DATABASE: self.mlflow_database or sqlite_url(self.store / "mlflow.db"),
        }
        if self.logins.mlflow:
            user, _, password = self.logins.mlflow.partition(":")
            environment |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(self._users_file),
                "MLFLOW_AUTH_ADMIN_USERNAME": user,
                "MLFLOW_AUTH_ADMIN_PASSWORD": password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
            }
        return environment

    @property
    def _users_file(self) -> Path:
        return self.store / "users.ini"

    def prepare(self) -> None:
        """Make MLflow's store, write its configuration, and take from others the right to read.

        Files that the servers write from now on are private by their umask.
        """
        self.store.mkdir(parents=True, exist_ok=True)
        make_store(self._mlflow_environment()[MLFLOW_DATABASE])
        if self.logins.mlflow:
            database = sqlite_url(self.store / "users.db").replace("%", "%%")
            self._users_file.write_text(
                f"[mlflow]\ndatabase_uri = {database}\ndefault_permission = READ\n"
                # A password is hashed for many milliseconds, and not again for each request
                "auth_cache_ttl_seconds = 60\n"
            )
        home = Path(self.environment.get("PREFECT_HOME") or Path.home() / ".prefect")
        files = [*self.folder.glob("*.log*"), *self.store.glob("*.db*"), *home.glob("*.db*")]
        for path in (*files, self.store / "artifacts"):
            if path.exists():
                path.chmod(path.stat().st_mode & ~PRIVATE)

    def check_login(self) -> None:
        """Ask MLflow with the login: it keeps its users, and forgets none because of a variable.

        Raises:
            InputError: The password is another than that of the user there.
        """
        address = f"{self.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
        if status_of(address, self.logins.mlflow) == HTTPStatus.UNAUTHORIZED:
            user = str(self.logins.mlflow).partition(":")[0]
            raise InputError(
                f"{_MLFLOW_LOGIN[1]}: expected the password that {user} has in "
                f"{self.store}/users.db, got another; give that one, or delete the file"
            )

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client of Prefect's server."""
        from prefect.client.orchestration import SyncPrefectClient

        with SyncPrefectClient(f"{self.prefect}/api", auth_string=self.logins.prefect) as client:
            yield client

    def _hears_from(self, worker: Service) -> bool:
        """Whether Prefect has heard from a worker since the start of this worker."""
        import httpx

        from tasks.server.deployments import POOL

        try:
            with self.client() as client:
                workers = client.read_workers_for_work_pool(POOL)
        except httpx.HTTPError:  # the server has also just died
            return False
        heard = [one.last_heartbeat_time for one in workers if one.last_heartbeat_time]
        return any(time.timestamp() > worker.started for time in heard)
