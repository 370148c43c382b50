"""`slateflow up` from the command line."""

from __future__ import annotations

from flows.services.up import DEFAULTS, UpOptions, up


def up_command(*, options: UpOptions = DEFAULTS) -> None:
    """Prefect and MLflow servers, a worker and the deployments on this machine, until Ctrl-C.

    Example: slateflow up --prefect-port 4201 --mlflow-port 5001 --folder stores
    """
    up(options)
