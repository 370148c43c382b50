"""Evaluate: candidates against random and the champion, on the same users."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.parameters import (
    Environment,
    EvaluationEpisodes,
    Models,
    ReferenceEpisodes,
    SpecParameters,
    WholeSeed,
)
from slateflow.environments import preset
from tasks.evaluate import check_reference, evaluate_models
from tasks.reports.documents import VerdictReport, World
from tasks.reports.report import publish_verdict
from tasks.server.lineage import verdict_given
from tasks.server.orphans import record_process


@flow(name="evaluate", flow_run_name="evaluate {environment}", on_running=[record_process])
def evaluate(
    environment: Environment,
    models: Models,
    evaluation_episodes: EvaluationEpisodes = 1000,
    seed: WholeSeed = 0,
    parameters: SpecParameters = None,
    reference_episodes: ReferenceEpisodes = 0,
) -> VerdictReport:
    """Play everyone on common users and give the verdict.

    Args:
        environment: Preset of the world.
        models: Trained models: the MLflow runs that hold their weights.
        evaluation_episodes: Episodes that each policy plays, 2 or more.
        seed: Seed of users, candidates and noise, 0 or more.
        parameters: Fields of the world's spec that differ from the preset.
        reference_episodes: Episodes that the best candidate plays in RecSim's own code, too.
    """
    spec = preset(environment, **(parameters or {}))
    verdict = evaluate_models(spec, models, evaluation_episodes, seed)
    if reference_episodes:
        best = verdict.candidates[0]
        verdict.reference = check_reference(
            spec, best, evaluation_episodes, reference_episodes, seed
        )
    publish_verdict(environment, verdict)
    verdict_given(verdict, World(environment=environment, parameters=parameters or {}, seed=seed))
    winner = verdict.winner
    name, message = ("No winner", None) if winner is None else ("Winner", f"{winner.learner} wins")
    return cast(VerdictReport, Completed(name=name, message=message, data=verdict))
