"""A small model, trained and registered where `MLFLOW_TRACKING_URI` points."""

from __future__ import annotations

from pathlib import Path

from slateflow.environments import EnvironmentSpec
from slateflow.learners import learner_config, train
from slateflow.policies import AnyScorer
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.evaluate import take_verdict
from tasks.experiment import DatasetRef, Experiment, ModelRef
from tasks.register import take_over
from tasks.store.tracking import log_training, mlflow_client

RECIPES = Path(__file__).parents[2] / "datasets"
NAME = "modified-lts-20-2"
MODEL_URI = f"models:/slateflow-{NAME}@champion"


def publish_champion(folder: Path) -> AnyScorer:
    """Train fitted-q on 60 logged episodes and make it champion; gives what was registered."""
    dataset = generate(read_recipe(RECIPES, NAME).varied(60, 1), Folder(str(folder)))
    scorer, report = train(dataset, learner_config("fitted-q"), seed=1)
    run_id = log_training(mlflow_client(), NAME, dataset, scorer, report)
    model = ModelRef(learner="fitted-q", run_id=run_id, train_seconds=0.0)
    verdict = take_verdict(Experiment.on(dataset, NAME, 1), [model], 100)
    assert take_over(verdict).registered is not None
    return scorer


def experiment_on(spec: EnvironmentSpec, recipe: str, seed: int) -> Experiment:
    """An experiment in a world, whose dataset nobody reads."""
    dataset = DatasetRef(path="unread", digest="sha256:0", rows=0)
    return Experiment(recipe=recipe, spec=spec, seed=seed, dataset=dataset)
