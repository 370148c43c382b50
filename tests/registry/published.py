"""A small model, trained and registered where `MLFLOW_TRACKING_URI` points."""

from __future__ import annotations

from pathlib import Path

from slateflow.environments import preset
from slateflow.learners import learner_config, train
from slateflow.policies import AnyScorer
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.evaluate import take_verdict
from tasks.register import take_over
from tasks.reports.documents import ModelReference
from tasks.store.tracking import log_training, mlflow_client

RECIPES = Path(__file__).parents[2] / "datasets"
NAME = "modified-lts-20-2"
MODEL_URI = f"models:/slateflow-{NAME}@champion"


def publish_champion(folder: Path) -> AnyScorer:
    """Train fitted-q on 60 logged episodes and make it champion; gives what was registered."""
    dataset = generate(read_recipe(RECIPES, NAME).varied(60, 1), Folder(str(folder)))
    scorer, report = train(dataset, learner_config("fitted-q"), seed=1)
    run_id = log_training(mlflow_client(), dataset, scorer, report)
    model = ModelReference(learner="fitted-q", run_id=run_id, train_seconds=0.0)
    spec = preset(NAME)
    assert take_over(spec, take_verdict(spec, [model], 100, 1), 1).registered is not None
    return scorer
