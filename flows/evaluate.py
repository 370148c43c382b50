"""Evaluate: candidates against random and the champion, on the same users."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.bounds import EvaluationEpisodes, RecSimEpisodes
from flows.parameters import Models, PublishedExperiment
from slateflow.errors import InputError
from tasks.evaluate import check_against_recsim, evaluate_models
from tasks.reports.overview import publish_overview
from tasks.reports.page import publish_verdict
from tasks.reports.report import Report
from tasks.server.lineage import verdict_given
from tasks.server.orphans import record_process
from tasks.server.run_labels import label_run
from tasks.server.subflows import within_pipeline


@flow(name="evaluate", flow_run_name="evaluate {experiment.recipe}", on_running=[record_process])
def evaluate(
    experiment: PublishedExperiment,
    models: Models,
    evaluation_episodes: EvaluationEpisodes = 1000,
    recsim_episodes: RecSimEpisodes = 0,
) -> Report:
    """Judge all policies, by play on common users or by logs alone, and decide the winner.

    Args:
        experiment: Name of a recipe whose dataset is published; or the experiment of an event.
        models: Trained models: the MLflow runs that hold their weights.
        evaluation_episodes: Episodes that each policy plays, 2 or more.
        recsim_episodes: Episodes that the best candidate also plays in RecSim's own code: 0, or 2
            and more.
    """
    if recsim_episodes and not experiment.spec.simulated:
        raise InputError(
            f"{experiment.recipe}: expected a world of RecSim for its reference, got own logs; "
            "leave it out"
        )
    report = evaluate_models(experiment, models, evaluation_episodes)
    if recsim_episodes:
        report.recsim_check = check_against_recsim(
            experiment, report.candidates[0], evaluation_episodes, recsim_episodes
        )
    verdict_given(report)
    if not within_pipeline():
        publish_verdict(report)
        publish_overview(return_state=True)
    label_run("Winner" if report.winner is not None else report.headline.capitalize())
    return cast(Report, Completed(message=report.headline, data=report))
