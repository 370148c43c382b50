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
from tasks.reports.documents import (
    CandidateReport,
    ModelReference,
    RegisteredVersion,
    Registration,
    VerdictReport,
)
from tasks.reports.report import run_links
from tasks.server.lineage import model_promoted
from tasks.server.progress import stage
from tasks.server.retries import RETRIES
from tasks.store.champion import CHAMPION, aliased, aliases_locked, promote
from tasks.store.model_page import model_description, verdict_tag, version_description
from tasks.store.tracking import PROJECT, SCORER_FILE, load_scorer, mlflow_client, model_name

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient


@task(task_run_name="register {spec.name}", **RETRIES)
def register_winner(spec: EnvironmentSpec, verdict: VerdictReport, seed: int) -> Registration:
    """Make the verdict's winner the champion; without a winner nothing happens."""
    progress = stage("register")
    registration = take_over(spec, verdict, seed)
    progress(1, 1)
    registered, winner = registration.registered, registration.verdict.winner
    if registered is None or winner is None:
        get_run_logger().info("No winner: nothing is registered")
    else:
        get_run_logger().info("%s version %d is the champion", registered.name, registered.version)
        model_promoted(registered, winner.run_id, spec.name)
    return registration


def take_over(spec: EnvironmentSpec, verdict: VerdictReport, seed: int) -> Registration:
    """Register the winner of a verdict that is taken against the reigning champion.

    Somebody else may have become champion since the verdict; then the verdict is taken again,
    on the same users. Every round of that has a new champion, better than the one before.
    """
    client = mlflow_client()
    name = model_name(spec.name)
    while (winner := verdict.winner) is not None:
        with aliases_locked(name):
            reigning = aliased(client, name, CHAMPION)
            if reigning == (verdict.champion and verdict.champion.version):
                version = _tested_version(client, spec, winner, verdict)
                # Another machine does not see the lock
                if promote(client, name, version, reigning):
                    registered = RegisteredVersion(name=name, version=version, alias=CHAMPION)
                    return Registration(verdict=verdict, registered=registered)
        fields = set(ModelReference.model_fields)
        models = [ModelReference(**c.model_dump(include=fields)) for c in verdict.candidates]
        verdict = take_verdict(spec, models, verdict.baseline.episodes, seed)
    return Registration(verdict=verdict, registered=None)


def _tested_version(
    client: MlflowClient, spec: EnvironmentSpec, winner: CandidateReport, verdict: VerdictReport
) -> int:
    """The winner's version in the registry, loaded from there and asked once.

    A version that an earlier try left, killed before the alias moved, is taken up.
    """
    name = model_name(spec.name)
    weights = load_scorer(client, winner.run_id)
    observation, _ = batched_environment(spec, 4).reset(seed=0)
    example = request_frame(observation)
    version = _registered_before(client, name, winner.run_id)
    if version is None:
        model_id = _log_model(client, winner.run_id, weights, example)
        _create_model(client, name, spec.name)
        version = _create_version(client, name, model_id, winner)
    _explain(client, name, version, winner, verdict, example)
    _ask_once(f"models:/{name}/{version}", example, weights, observation)
    return int(version)


def request_frame(observation: Observation) -> pd.DataFrame:
    """Observations as the registry's contract has requests: one row each."""
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
    # whole columns, and says which row does not fit.
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
    """The version that was made of this run, if there is one."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return max((str(version.version) for version in found), key=int, default=None)


def _create_model(client: MlflowClient, name: str, environment: str) -> None:
    """Make the registered model where it is missing; what somebody wrote on its page stays."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=model_description(name, environment))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _create_version(client: MlflowClient, name: str, model_id: str, winner: CandidateReport) -> str:
    run = client.get_run(winner.run_id)
    tags = {
        "learner": winner.learner,
        "seed": run.data.params["seed"],
        "dataset_digest": run.data.tags["slateflow.dataset_digest"],
        "recipe": run.data.tags["slateflow.recipe"],
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
    winner: CandidateReport,
    verdict: VerdictReport,
    example: pd.DataFrame,
) -> None:
    """Write the verdict on the version's page."""
    client.set_model_version_tag(name, version, "verdict", json.dumps(verdict_tag(winner, verdict)))
    run, links = client.get_run(winner.run_id), run_links(verdict.candidates)
    description = version_description(winner, verdict, links, run, example)
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
