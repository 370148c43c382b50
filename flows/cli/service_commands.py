"""`slateflow up` and `slateflow deploy` from the command line."""

from __future__ import annotations

from flows.services.deploy import HERE, Source, deploy_from_shell
from flows.services.up import DEFAULTS, UpOptions, up


def up_command(*, options: UpOptions = DEFAULTS) -> None:
    """Prefect and MLflow servers, a worker and the deployments on this machine, until Ctrl-C.

    Example: slateflow up --prefect-port 4201 --mlflow-port 5001 --folder stores
    """
    up(options)


def deploy_command(*, source: Source = HERE) -> None:
    """Make the deployments of prefect.yaml on the Prefect server of `PREFECT_API_URL`.

    With a repository each run clones it, on whatever machine, and installs what it asks for. The
    runs take `MLFLOW_TRACKING_URI` from the shell that deploys.

    Example: slateflow deploy --repository https://git.example.org/slateflow.git --branch v1
    """
    from tasks.server.deployments import planned_deployments

    for line in deploy_from_shell(source):
        print(line)
    code = f"{source.branch} of {source.repository}" if source.repository else "this checkout"
    print(f"{len(planned_deployments())} deployments run {code}")
