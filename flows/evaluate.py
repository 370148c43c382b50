"""Evaluate: candidates against random and the champion, on the same users."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import Environment, EvaluationEpisodes
from slateflow.environments import preset
from tasks.evaluate import check_reference, evaluate_models
from tasks.references import ModelReference, VerdictReport


@flow(name="evaluate", flow_run_name="evaluate {environment}")
def evaluate(
    environment: Environment,
    models: list[ModelReference],
    evaluation_episodes: EvaluationEpisodes = 1000,
    seed: int = 0,
    parameters: dict[str, Any] | None = None,
    reference_episodes: int = 0,
) -> VerdictReport:
    """Play everyone on common users and give the verdict.

    With `reference_episodes` the best candidate plays as many in RecSim's own code, too.
    """
    spec = preset(environment, **(parameters or {}))
    verdict = evaluate_models(spec, models, evaluation_episodes, seed)
    if reference_episodes:
        best = verdict.candidates[0]
        verdict.reference = check_reference(
            spec, best, evaluation_episodes, reference_episodes, seed
        )
    return verdict
