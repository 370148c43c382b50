"""The whole line: generate, train, evaluate, register."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.evaluate import evaluate
from flows.generate import generate
from flows.parameters import (
    DataURL,
    Environment,
    Episodes,
    EvaluationEpisodes,
    Learners,
    Seed,
    Workers,
    resolve_seed,
)
from flows.register import register
from flows.train import train
from slateflow.environments import DEFAULT_PRESET
from tasks.generate import find_recipe
from tasks.reports.documents import PipelineReport
from tasks.reports.report import final_state, publish_report, verdict_line
from tasks.server.orphans import record_process


@flow(name="pipeline", flow_run_name="pipeline {environment}", on_running=[record_process])
def pipeline(
    environment: Environment = DEFAULT_PRESET,
    episodes: Episodes = None,
    seed: Seed = None,
    learners: Learners = None,
    evaluation_episodes: EvaluationEpisodes = 1000,
    data: DataURL = None,
    workers: Workers = 1,
) -> PipelineReport:
    """Generate logs, train on them, evaluate against random, register the winner.

    Args:
        environment: Preset of the world, and name of the recipe in `datasets`.
        episodes: Episodes of the dataset, 1 or more, instead of the recipe's.
        seed: Seed of data, training and evaluation, 0 or more, instead of the recipe's. `date`
            takes the scheduled day as a number, so that every night has new logs; `hour` day and
            hour.
        learners: Learners to train; default those that are made for the world.
        evaluation_episodes: Episodes that each policy plays in the evaluation, 2 or more.
        data: Folder of the datasets, or a URL of pyarrow.fs; default `datasets`.
        workers: Processes that simulate, 1 or more.
    """
    recipe = find_recipe(environment, episodes, resolve_seed(seed))
    dataset = generate(environment, recipe.episodes, recipe.seed, data, workers)
    models = train(dataset.path, learners, recipe.seed)
    verdict = evaluate(
        recipe.environment, models, evaluation_episodes, recipe.seed, recipe.parameters
    )
    registration = register(recipe.environment, verdict, recipe.seed, recipe.parameters)
    verdict = registration.verdict
    report = PipelineReport(
        environment=recipe.environment,
        dataset=dataset,
        baseline=verdict.baseline,
        optimum=verdict.optimum,
        champion=verdict.champion,
        candidates=verdict.candidates,
        registered=registration.registered,
    )
    publish_report(report)
    # Prefect shows the state's name and gives the caller its data
    return cast(
        PipelineReport,
        Completed(name=final_state(report), message=verdict_line(report), data=report),
    )
