"""A small model, trained and registered at `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from slateflow.environments import EnvironmentSpec, preset
from slateflow.learners import learner_config, train
from slateflow.learners.training import TrainingSummary
from slateflow.policies import AnyScorer
from slateflow.trajectories import Dataset, Folder, Recipe, generate, read_recipe
from tasks.evaluate import take_verdict
from tasks.experiment import Experiment, ModelRef
from tasks.register import take_over
from tasks.reports.report import CandidateLine, PolicyLine, Report
from tasks.store.tracking import mlflow_client
from tasks.store.training_run import training_run

RECIPES = Path(__file__).parents[2] / "datasets"
NAME = "modified-lts-20-2"
MODEL_URI = f"models:/slateflow-{NAME}@champion"


def publish_champion(folder: Path) -> AnyScorer:
    """Train fitted-q on 60 logged episodes and make it champion; returns the registration."""
    dataset = generate(read_recipe(RECIPES, NAME).varied(60, 1), Folder(str(folder)))
    scorer, report = train(dataset, learner_config("fitted-q"), seed=1)
    model = logged_model(dataset, NAME, scorer, report)
    verdict = take_verdict(Experiment.on(dataset, NAME, 1), [model], 100)
    assert take_over(verdict).registered is not None
    return scorer


def logged_model(
    dataset: Dataset, recipe: str, scorer: AnyScorer, summary: TrainingSummary
) -> ModelRef:
    """A trained model as a run."""
    client, learner = mlflow_client(), summary.learner
    config = learner_config(learner, **summary.parameters)
    with training_run(client, recipe, dataset, config, summary.seed) as run:
        run.log(scorer, summary)
    return ModelRef(learner=learner, run_id=run.run_id, train_seconds=summary.train_seconds)


def register_winner(
    dataset: Dataset,
    recipe: str,
    scorer: AnyScorer,
    summary: TrainingSummary,
    register: Callable[[Report], Report] = take_over,
) -> None:
    """Register a trained model as the winner of an artificial verdict."""
    winner = CandidateLine(
        **logged_model(dataset, recipe, scorer, summary).model_dump(),
        mean=2.0, sem=0.1, uplift=1.0, ci=(0.5, 1.5), p_value=0.0, score=None, verdict="winner",
    )  # fmt: skip
    verdict = Report(
        experiment=Experiment.on(dataset, recipe, 0),
        baseline=PolicyLine(policy="random", mean=1.0, sem=0.1, episodes=10),
        optimum=None,
        champion=None,
        candidates=[winner],
    )
    assert register(verdict).registered is not None


@cache
def _few_logs(spec: EnvironmentSpec) -> Dataset:
    """Ten random episodes in a world, in a folder of this process."""
    defaults = preset(spec.name).to_dict()
    other = {key: value for key, value in spec.to_dict().items() if value != defaults[key]}
    folder = tempfile.mkdtemp(prefix="slateflow-few-logs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    recipe = Recipe("few", spec.name, 10, 0, {"random": 1.0}, other)
    return generate(recipe, Folder(folder))


def experiment_on(spec: EnvironmentSpec, recipe: str, seed: int) -> Experiment:
    """An experiment in a world, on a few logs."""
    return Experiment.on(_few_logs(spec), recipe, seed)
