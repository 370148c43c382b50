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
from tasks.reports.page import run_links
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
from tasks.store.model_page import model_description, verdict_tag, version_description
from tasks.store.tracking import PROJECT, SCORER_FILE, load_scorer, mlflow_client, model_name

if TYPE_CHECKING:
    import pandas as pd
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
        name, version = done.registered.name, done.registered.version
        get_run_logger().info("%s version %d is the champion", name, version)
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
    experiment = report.experiment
    name = model_name(experiment.recipe)
    weights = load_scorer(client, winner.run_id)
    observation, _ = batched_environment(experiment.spec, 4).reset(seed=0)
    example = request_frame(observation)
    version = _registered_before(client, name, winner.run_id)
    if version is None:
        model_id = _log_model(client, winner.run_id, weights, example)
        _create_model(client, name, experiment)
        version = _create_version(client, name, model_id, winner, experiment)
    _explain(client, name, version, winner, report, example)
    _ask_once(f"models:/{name}/{version}", example, weights, observation)
    return int(version)


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


def _log_model(client: MlflowClient, run_id: str, weights: AnyScorer, example: pd.DataFrame) -> str:
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array

    # Of an `Array` MLflow checks every element of every row, which costs many times the scoring;
    # of a number its server takes the whole part. The recommender checks all of them itself, in
    # whole columns, and names the row that does not fit.
    unchecked = AnyType()
    signature = ModelSignature(
        inputs=Schema(
            [
                ColSpec(unchecked, "user"),
                ColSpec(unchecked, "candidates"),
                ColSpec(unchecked, "step", required=False),
                ColSpec(unchecked, "history", required=False),
            ]
        ),
        outputs=Schema(
            [ColSpec(Array(DataType.long), "slate"), ColSpec(Array(DataType.double), "scores")]
        ),
    )
    run = client.get_run(run_id)
    # `pyfunc.log_model` would make the run active; a kill would leave it "running" then
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


def _registered_before(client: MlflowClient, name: str, run_id: str) -> str | None:
    """The version of this run; None where it was not registered."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return max((str(version.version) for version in found), key=int, default=None)


def _create_model(client: MlflowClient, name: str, experiment: Experiment) -> None:
    """Create the registered model where it is missing; an edited page stays as it is."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=model_description(name, experiment))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _create_version(
    client: MlflowClient, name: str, model_id: str, winner: Candidate, experiment: Experiment
) -> str:
    run = client.get_run(winner.run_id)
    tags = {
        "learner": winner.learner,
        "seed": run.data.params["seed"],
        "dataset_digest": run.data.tags["slateflow.dataset_digest"],
        "recipe": run.data.tags["slateflow.recipe"],
        SPEC: json.dumps(experiment.spec.to_dict(), sort_keys=True),
        "code_commit": run.data.tags["slateflow.code_commit"],
    }
    version = client.create_model_version(
        name, f"models:/{model_id}", run_id=winner.run_id, tags=tags, model_id=model_id
    )
    return str(version.version)


def _explain(
    client: MlflowClient,
    name: str,
    version: str,
    winner: Candidate,
    report: Report,
    example: pd.DataFrame,
) -> None:
    """Write the verdict on the version's page."""
    client.set_model_version_tag(name, version, "verdict", json.dumps(verdict_tag(winner, report)))
    run, links = client.get_run(winner.run_id), run_links(report.candidates)
    description = version_description(winner, report, links, run, example)
    client.update_model_version(name, version, description)


def _ask_once(
    uri: str, example: pd.DataFrame, weights: AnyScorer, observation: Observation
) -> None:
    """Load the registered version and compare its slates with the policy's that was evaluated."""
    import mlflow

    answer = mlflow.pyfunc.load_model(uri).predict(example)
    slates, _ = ScoringPolicy(weights).act(observation, np.random.Generator(np.random.SFC64(0)))
    if answer["slate"].tolist() != slates.tolist():
        raise RuntimeError(f"{uri} answers other slates than the policy that was evaluated")
