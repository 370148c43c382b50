"""The whole line: generate, train, evaluate, register."""

from __future__ import annotations

from typing import cast

from prefect import flow
from prefect.states import Completed

from flows.bounds import EvaluationEpisodes, Workers
from flows.evaluate import evaluate
from flows.generate import generate
from flows.parameters import (
    DataURL,
    Episodes,
    EvidenceOrDefault,
    Learners,
    RecipeOrName,
    Seed,
    resolve_seed,
)
from flows.register import register
from flows.train import train
from slateflow.learners import learners_for
from tasks.experiment import find_recipe
from tasks.project import DEFAULT_RECIPE
from tasks.register import check_champion
from tasks.reports.overview import publish_overview
from tasks.reports.page import publish_report
from tasks.reports.report import Report
from tasks.server.orphans import record_process
from tasks.server.run_labels import label_run
from tasks.server.subflows import plain
from tasks.side_by_side import side_by_side


@flow(name="pipeline", flow_run_name="pipeline {recipe}", on_running=[record_process])
def pipeline(
    recipe: RecipeOrName = DEFAULT_RECIPE,
    episodes: Episodes = None,
    seed: Seed = None,
    learners: Learners = None,
    evaluation_episodes: EvaluationEpisodes = 1000,
    data: DataURL = None,
    workers: Workers = 1,
    evidence: EvidenceOrDefault = None,
) -> Report:
    """Generate logs, train on them, evaluate against random, register the winner.

    Args:
        recipe: Name of the recipe in `datasets`; there is one for each preset.
        episodes: Episodes of the dataset, 1 or more, instead of the recipe's.
        seed: Seed of data, training and evaluation, 0 or more, instead of the recipe's. `date`
            takes the scheduled day as a number, so that every night has new logs; `hour` day and
            hour.
        learners: Learners to train; default those that are made for the world.
        evaluation_episodes: Episodes that each policy plays in the evaluation, 2 or more.
        data: Folder of the datasets, or a URL of pyarrow.fs; default `datasets`.
        workers: Processes that simulate, 1 or more.
        evidence: Kind that the verdict goes by: `played` in the world, or `logs` that no learner
            has seen; default `played` where there is a simulator.
    """
    chosen = find_recipe(recipe, episodes, resolve_seed(seed), data)
    if chosen.spec is not None:  # own logs have to be read first; `train` checks them
        check_champion(chosen.name, chosen.spec)
    experiment = plain(generate(chosen, data=data, workers=workers)).judged_by(evidence)
    with side_by_side(learners or learners_for(experiment.spec)):
        models = plain(train(experiment, learners))
        report = plain(evaluate(experiment, models, evaluation_episodes))
    report = plain(register(report))
    publish_report(report)
    publish_overview(return_state=True)  # a page that fails is not a run that fails
    label_run(report.outcome)
    return cast(Report, Completed(message=report.summary, data=report))
