"""`slateflow up` from the command line."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows import bounds
from flows.cli.options import number


def up_command(
    *,
    prefect_port: Annotated[int, number(bounds.Port, "Port of Prefect's server.")] = 4200,
    mlflow_port: Annotated[int, number(bounds.Port, "Port of MLflow's server.")] = 5000,
    folder: Annotated[
        str | None,
        Parameter(help="Folder of both stores. [default: those of `slateflow run`]"),
    ] = None,
    prefect_database: Annotated[
        str | None,
        Parameter(
            help="URL such as postgresql+asyncpg://…; with a password rather in "
            "PREFECT_SERVER_DATABASE_CONNECTION_URL."
        ),
    ] = None,
    mlflow_database: Annotated[
        str | None,
        Parameter(
            help="URL such as postgresql+psycopg://…; with a password rather in "
            "MLFLOW_BACKEND_STORE_URI."
        ),
    ] = None,
) -> None:
    """Prefect and MLflow servers, a worker and the deployments on this machine, until Ctrl-C.

    Example: slateflow up --prefect-port 4201 --mlflow-port 5001 --folder stores
    """
    from flows.services.up import UpOptions, up

    up(UpOptions(prefect_port, mlflow_port, folder, prefect_database, mlflow_database))
