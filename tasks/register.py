"""Step four: the winner becomes the champion of the MLflow registry."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from prefect import get_run_logger, task

from slateflow.environments import EnvironmentSpec, Observation, batched_environment
from slateflow.policies import AnyScorer, ScoringPolicy
from tasks.evaluate import take_verdict
from tasks.experiment import Experiment
from tasks.reports.page import fill_in, run_links
from tasks.reports.report import Candidate, RegisteredVersion, Report
from tasks.server.lineage import model_promoted
from tasks.server.progress import stage
from tasks.server.retries import RETRIES
from tasks.store.champion import (
    CHAMPION,
    SPEC,
    aliased,
    aliases_locked,
    promote,
    require_same_world,
)
from tasks.store.model_page import verdict_tag, version_description
from tasks.store.tracking import PROJECT, SCORER_FILE, load_scorer, mlflow_client, model_name

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


@task(task_run_name="check the champion of {recipe}", **RETRIES)
def check_champion(recipe: str, spec: EnvironmentSpec) -> None:
    """Refuse a recipe whose world is not the one in which its champion was judged."""
    require_same_world(mlflow_client(), recipe, spec)


@task(task_run_name="register {report.experiment.recipe}", **RETRIES)
def register_winner(report: Report) -> Report:
    """Make the verdict's winner the champion; without a winner nothing happens."""
    progress = stage("register")
    done = take_over(report)
    progress(1, 1)
    if done.registered is None:
        get_run_logger().info("No winner: nothing is registered")
    else:
        made = done.registered
        get_run_logger().info("%s version %d is the champion", made.name, made.version)
        model_promoted(done)
    return done


def take_over(report: Report) -> Report:
    """Register the winner of a verdict that is taken against the reigning champion.

    If there is another champion since the verdict, the verdict is taken again on the same users.
    Every round of that has a new champion, better than the one before.
    """
    client, experiment = mlflow_client(), report.experiment
    name = model_name(experiment.recipe)
    while (winner := report.winner) is not None:
        with aliases_locked(name):
            reigning = aliased(client, name, CHAMPION)
            if reigning == (report.champion and report.champion.version):
                version = _tested_version(client, report, winner)
                # Another machine does not see the lock
                if promote(client, name, version, reigning):
                    registered = RegisteredVersion(name=name, version=version, alias=CHAMPION)
                    return report.model_copy(update={"registered": registered})
        report = take_verdict(experiment, report.candidates, report.baseline.episodes)
    return report


def _tested_version(client: MlflowClient, report: Report, winner: Candidate) -> int:
    """The winner's version in the registry, loaded from there and asked once.

    A version that an earlier try left, killed before the alias moved, is used again.
    """
    name = model_name(report.experiment.recipe)
    weights, run = load_scorer(client, winner.run_id), client.get_run(winner.run_id)
    observation, _ = batched_environment(report.experiment.spec, 4).reset(seed=0)
    example = request_frame(observation)
    found = client.search_model_versions(f"name = '{name}' and run_id = '{winner.run_id}'")
    version = max((int(one.version) for one in found), default=0)
    if not version:
        version = _create_version(client, name, run, weights, example, report.experiment)
    verdict, links = verdict_tag(winner, report), run_links(report.candidates)
    client.set_model_version_tag(name, str(version), "verdict", json.dumps(verdict))
    description = version_description(winner, report, links, run, example)
    client.update_model_version(name, str(version), description)
    _ask_once(f"models:/{name}/{version}", example, weights, observation)
    return version


def request_frame(observation: Observation) -> pd.DataFrame:
    """Observations as requests of the registry's contract: one row each."""
    import pandas as pd

    return pd.DataFrame(
        {
            "user": observation["user"].astype(np.float64).tolist(),
            "candidates": observation["candidates"].astype(np.float64).tolist(),
            "step": observation["step"][:, 0].astype(np.int64),
        }
    )


def _create_version(
    client: MlflowClient,
    name: str,
    run: Run,
    weights: AnyScorer,
    example: pd.DataFrame,
    experiment: Experiment,
) -> int:
    """Register the run's weights; an edited page of the registered model stays as it is."""
    from mlflow.exceptions import MlflowException

    model_id = _log_model(client, run, weights, example)
    try:
        page = fill_in("model.md", name=name, experiment=experiment)
        client.create_registered_model(name, description=page)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {
        "learner": run.data.tags["slateflow.learner"],
        "seed": run.data.params["seed"],
        "dataset_digest": run.data.tags["slateflow.dataset_digest"],
        "recipe": run.data.tags["slateflow.recipe"],
        SPEC: json.dumps(experiment.spec.to_dict(), sort_keys=True),
        "code_commit": run.data.tags["slateflow.code_commit"],
    }
    source, run_id = f"models:/{model_id}", run.info.run_id
    made = client.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
    return int(made.version)


def _log_model(client: MlflowClient, run: Run, weights: AnyScorer, example: pd.DataFrame) -> str:
    """Log the model that a version carries; returns its id."""
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array

    # Of an `Array` MLflow checks every element of every row, which costs many times the scoring;
    # of a number its server takes the whole part. The recommender checks all of them itself, in
    # whole columns, and names the row that does not fit.
    requests = {"user": True, "candidates": True, "step": False, "history": False}
    signature = ModelSignature(
        inputs=Schema([ColSpec(AnyType(), key, required=must) for key, must in requests.items()]),
        outputs=Schema(
            [
                ColSpec(Array(DataType.long), "slate"),
                ColSpec(Array(DataType.double), "scores"),
                ColSpec(DataType.double, "propensity"),
            ]
        ),
        params=ParamSchema(
            [ParamSpec("epsilon", DataType.double, 0.0), ParamSpec("seed", DataType.long, None)]
        ),
    )
    # `pyfunc.log_model` would make the run active; a kill would leave it "running" then
    run_id = run.info.run_id
    model = client.create_logged_model(
        run.info.experiment_id, "recommender", source_run_id=run_id, params=run.data.params
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SCORER_FILE
        weights.save(path)
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=model.model_id,
            python_model=str(PROJECT / "mlflow" / "recommender.py"),
            artifacts={"weights": str(path), "scorer": inspect.getfile(type(weights))},
            signature=signature,
            input_example=example,
            pip_requirements=["mlflow-skinny", "numpy", "pandas"],
        )
    return str(model.model_id)


def _ask_once(
    uri: str, example: pd.DataFrame, weights: AnyScorer, observation: Observation
) -> None:
    """Load the registered version and compare its slates with the policy's that was evaluated."""
    import mlflow

    answer = mlflow.pyfunc.load_model(uri).predict(example)
    slates, _ = ScoringPolicy(weights).act(observation, np.random.Generator(np.random.SFC64(0)))
    if answer["slate"].tolist() != slates.tolist():
        raise RuntimeError(f"{uri} answers other slates than the policy that was evaluated")
