"""A small model, trained and registered where `MLFLOW_TRACKING_URI` points."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from slateflow.environments import EnvironmentSpec, preset
from slateflow.learners import learner_config, train
from slateflow.policies import AnyScorer
from slateflow.trajectories import Dataset, Folder, Recipe, generate, read_recipe
from tasks.evaluate import take_verdict
from tasks.experiment import Experiment, ModelRef
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


@cache
def _few_logs(spec: EnvironmentSpec) -> Dataset:
    """Ten random episodes in a world, in a folder of this process's own."""
    defaults = preset(spec.name).to_dict()
    other = {key: value for key, value in spec.to_dict().items() if value != defaults[key]}
    folder = tempfile.mkdtemp(prefix="slateflow-few-logs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    recipe = Recipe("few", spec.name, 10, 0, {"random": 1.0}, other)
    return generate(recipe, Folder(folder))


def experiment_on(spec: EnvironmentSpec, recipe: str, seed: int) -> Experiment:
    """An experiment in a world, on a few logs."""
    return Experiment.on(_few_logs(spec), recipe, seed)
