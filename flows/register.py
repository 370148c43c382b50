"""Register: the winner becomes the champion in MLflow; without a winner nothing happens."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.parameters import Environment, SpecParameters, WholeSeed
from slateflow.environments import preset
from tasks.register import register_winner
from tasks.reports.documents import Registration, VerdictReport
from tasks.reports.report import final_state, verdict_line
from tasks.server.orphans import record_process


@flow(name="register", flow_run_name="register {environment}", on_running=[record_process])
def register(
    environment: Environment,
    verdict: VerdictReport,
    seed: WholeSeed = 0,
    parameters: SpecParameters = None,
) -> Registration:
    """Register the verdict's winner, if it wins against the champion of this moment, too.

    Args:
        environment: Preset of the world.
        verdict: What `evaluate` gave.
        seed: Seed of the evaluation, for another one if the champion has changed since.
        parameters: Fields of the world's spec that differ from the preset.
    """
    done = register_winner(preset(environment, **(parameters or {})), verdict, seed)
    return cast(
        Registration, Completed(name=final_state(done), message=verdict_line(done), data=done)
    )
