"""The pipeline and its steps from the command line, each as a Prefect flow run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows import bounds
from flows.bounded_option import number
from flows.cli.options import (
    AS_IN_RECIPE,
    JSON,
    EvaluationEpisodes,
    Evidence,
    Learners,
    Logs,
    Published,
    Recipe,
    split_learners,
)
from slateflow.errors import InputError
from tasks.project import DEFAULT_RECIPE

if TYPE_CHECKING:
    from slateflow.environments import EnvironmentSpec
    from tasks.experiment import Experiment
    from tasks.reports.report import Report

Workers = Annotated[int, number(bounds.Workers, "Processes that simulate.")]


@contextmanager
def _flow_run() -> Iterator[None]:
    """Prefect set up for a run from the command line, and progress shown."""
    from flows.cli.progress import progress
    from flows.interruption import ended_when_told

    first = "connect to Prefect" if os.environ.get("PREFECT_API_URL") else "start Prefect"
    with progress(first):
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.services.temporary_server import temporary_server

        # Each flow run would end with a second of waiting for its heartbeat
        with (
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
            temporary_server(),
            ended_when_told(),
        ):
            yield


@contextmanager
def _workers(learners: list[str] | None, spec: EnvironmentSpec | None) -> Iterator[None]:
    """Processes that train, and import while Prefect starts; own logs have to be read first."""
    if spec is None:
        yield
        return
    from slateflow.learners import learners_for
    from tasks.side_by_side import side_by_side

    with side_by_side(learners or learners_for(spec)):
        yield


def run_command(
    recipe: Recipe = DEFAULT_RECIPE,
    /,
    *,
    logs: Logs = AS_IN_RECIPE,
    learners: Learners = None,
    evaluation_episodes: EvaluationEpisodes = 1000,
    workers: Workers = 1,
    evidence: Evidence = None,
    as_json: JSON = False,
) -> None:
    """Generate logs, train on them, evaluate against random, register the winner.

    Example: slateflow run modified-lts-20-2 --episodes 200 --learners linucb,fitted-q
    """
    with _flow_run():
        from tasks.experiment import find_recipe

        names = split_learners(learners)
        chosen = find_recipe(recipe, logs.episodes, logs.seed, logs.data)
        from flows.pipeline import pipeline
        from tasks.store.champion import require_same_world
        from tasks.store.tracking import mlflow_client

        # A server that is away, or a champion of another world, is found before the work
        client = mlflow_client()
        if chosen.spec is not None:
            require_same_world(client, chosen.name, chosen.spec)
        with _workers(names, chosen.spec):
            report = pipeline(
                recipe=chosen,
                learners=names,
                evaluation_episodes=evaluation_episodes,
                data=logs.kept_data,
                workers=workers,
                evidence=evidence,
            )
    from flows.cli.console import show_report

    show_report(report, as_json)


def generate_command(
    recipe: Recipe,
    /,
    *,
    logs: Logs = AS_IN_RECIPE,
    workers: Workers = 1,
    as_json: JSON = False,
) -> None:
    """Create the dataset of a recipe unless it already exists.

    Example: slateflow generate lts-10-1 --seed 1 --workers 2
    """
    with _flow_run():
        from tasks.experiment import find_recipe

        chosen = find_recipe(recipe, logs.episodes, logs.seed, logs.data)
        from flows.generate import generate

        experiment = generate(chosen, data=logs.kept_data, workers=workers)
        from slateflow.trajectories.sources.lines_passed_by import source_remarks

        remarks = source_remarks(experiment.open_dataset())
    from flows.cli.console import show_dataset

    show_dataset(experiment.dataset, as_json, remarks)


def train_command(
    recipe: Published,
    /,
    *,
    logs: Logs = AS_IN_RECIPE,
    learners: Learners = None,
    settings: Annotated[
        list[str] | None,
        Parameter(
            name="--set", negative=(), help="Setting NAME=VALUE of the learner; may be repeated."
        ),
    ] = None,
    evidence: Evidence = None,
    as_json: JSON = False,
) -> None:
    """Train learners on a recipe's dataset.

    Example: slateflow train modified-lts-20-2 --learner cql --set width=64
    """
    with _flow_run():
        names = split_learners(learners)
        chosen = _settings(settings or [], names)
        experiment = _find(recipe, logs).judged_by(evidence)
        from flows.train import train
        from tasks.store.tracking import mlflow_client

        mlflow_client()  # a server that is away is found before the work
        models = train(experiment, names, chosen)
    from flows.cli.console import show_models

    show_models(models, as_json)


def _find(recipe: str, logs: Logs) -> Experiment:
    from tasks.experiment import find_experiment

    return find_experiment(recipe, logs.episodes, logs.seed, logs.data)


def _settings(assignments: list[str], learners: list[str] | None) -> Any:
    """The settings by learner, checked; None where none were given."""
    from slateflow.learners import learner_config

    if not assignments:
        return None
    if learners is None or len(learners) != 1:
        raise InputError(
            f"--set: expected one learner with these settings, got {len(learners or ())}; "
            "name it with --learner"
        )
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, given, text = assignment.partition("=")
        if not (name and given):
            raise InputError(f"--set: expected NAME=VALUE, got {assignment}")
        if name in settings:
            raise InputError(f"--set: expected each setting once, got {name} twice; leave one out")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    learner_config(learners[0], **settings)
    return {learners[0]: settings}


def tune_command(
    learner: Annotated[str, Parameter(help="A learner that learns from logs.")],
    recipe: Published,
    /,
    *,
    logs: Logs = AS_IN_RECIPE,
    trials: Annotated[
        int, number(bounds.Trials, "Trials in all; the first has the defaults.")
    ] = 16,
    workers: Annotated[
        int | None,
        number(bounds.Workers, "Trials at a time. [default: the number of processors]"),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Try settings of a learner; held-out logs choose.

    Example: slateflow tune fitted-q modified-lts-20-2 --trials 8
    """
    with _flow_run():
        from slateflow.tuning.trial import draw_settings

        draw_settings(learner, 0, 0)  # a learner that cannot be tuned is refused at once
        experiment = _find(recipe, logs)
        from flows.tune import tune

        study = tune(experiment, learner, trials, workers)
    from flows.cli.console import show_study
    from tasks.experiment import named

    show_study(study, named(recipe, logs.episodes, logs.seed, logs.data), as_json)


def evaluate_command(
    recipe: Published,
    /,
    *,
    logs: Logs = AS_IN_RECIPE,
    learners: Learners = None,
    evaluation_episodes: EvaluationEpisodes = 1000,
    reference: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="The best also plays in RecSim's own code."
        ),
    ] = False,
    reference_episodes: Annotated[
        int, number(bounds.EvaluationEpisodes, "Episodes in RecSim's own code.")
    ] = 500,
    evidence: Evidence = None,
    as_json: JSON = False,
) -> None:
    """Judge the newest models of a recipe beside random and the champion.

    Example: slateflow evaluate modified-lts-20-2 --reference
    """
    with _flow_run():
        names, experiment = split_learners(learners), _find(recipe, logs).judged_by(evidence)
        recsim_episodes = reference_episodes if reference else 0
        report = _evaluate(experiment, names, evaluation_episodes, recsim_episodes)
    from flows.cli.console import show_verdict

    show_verdict(report, as_json)


def register_command(
    recipe: Published,
    /,
    *,
    logs: Logs = AS_IN_RECIPE,
    learners: Learners = None,
    evaluation_episodes: EvaluationEpisodes = 1000,
    evidence: Evidence = None,
    as_json: JSON = False,
) -> None:
    """Evaluate the newest models of a recipe, and make the winner the champion.

    Example: slateflow register modified-lts-20-2 --learners fitted-q
    """
    with _flow_run():
        names, experiment = split_learners(learners), _find(recipe, logs).judged_by(evidence)
        from flows.register import register

        report = register(_evaluate(experiment, names, evaluation_episodes))
    from flows.cli.console import show_report

    show_report(report, as_json)


def _evaluate(
    experiment: Experiment, learners: list[str] | None, episodes: int, recsim_episodes: int = 0
) -> Report:
    """The verdict on the newest run of each learner on the experiment's dataset."""
    from flows.evaluate import evaluate
    from slateflow.learners import learners_for
    from tasks.train import newest_models

    names = learners or learners_for(experiment.spec)
    models = newest_models(experiment, names, required=learners is not None)
    return evaluate(experiment, models, episodes, recsim_episodes)
