"""Register: the winner becomes the champion in MLflow; without a winner nothing happens."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from flows.parameters import Environment
from slateflow.environments import preset
from tasks.references import RegisteredVersion, VerdictReport
from tasks.register import register_winner


@flow(name="register", flow_run_name="register {environment}")
def register(
    environment: Environment, verdict: VerdictReport, parameters: dict[str, Any] | None = None
) -> RegisteredVersion | None:
    """Register the verdict's winner, if there is one."""
    if verdict.winner is None:
        get_run_logger().info("No winner: nothing is registered")
        return None
    spec = preset(environment, **(parameters or {}))
    return register_winner(spec, verdict.winner, verdict)
