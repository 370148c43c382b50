"""Register: the winner becomes the champion in MLflow; without a winner nothing happens."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import Environment
from slateflow.environments import preset
from tasks.references import Registration, VerdictReport
from tasks.register import register_winner


@flow(name="register", flow_run_name="register {environment}")
def register(
    environment: Environment,
    verdict: VerdictReport,
    seed: int = 0,
    parameters: dict[str, Any] | None = None,
) -> Registration:
    """Register the verdict's winner, if it wins against the champion of this moment, too."""
    return register_winner(preset(environment, **(parameters or {})), verdict, seed)
