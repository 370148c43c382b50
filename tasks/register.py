"""Step four: the winner becomes the champion of the MLflow registry."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from prefect import get_run_logger, task

from slateflow.environments import EnvironmentSpec
from slateflow.policies import AnyScorer, ScoringPolicy, scorer_code
from slateflow.trajectories import Dataset
from slateflow.trajectories.ranges import feature_ranges
from slateflow.trajectories.sources.logged_rows import LoggedRows
from tasks.evaluate import take_verdict
from tasks.experiment import Experiment
from tasks.project import PROJECT
from tasks.reports.model_page import verdict_tag, version_description
from tasks.reports.page import fill_in, run_links
from tasks.reports.report import CandidateLine, RegisteredVersion, Report
from tasks.server.lineage import model_promoted
from tasks.server.retries import RETRIES
from tasks.server.stages import stage
from tasks.store.alias_lock import aliases_locked
from tasks.store.champion import (
    CHAMPION,
    SPEC,
    aliased,
    promote,
    require_same_world,
    was_rolled_back,
)
from tasks.store.requests import Examples, example_requests
from tasks.store.tracking import ROWS_FILE, SCORER_FILE, mlflow_client, model_name, run_scorer

RECOMMENDER = PROJECT / "mlflow"
"""Folder of the code that a version carries."""

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.models import ModelSignature
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
        get_run_logger().info(done.summary)
    else:
        made = done.registered
        get_run_logger().info("%s version %d is the champion", made.name, made.version)
        model_promoted(done)
    return done


def take_over(report: Report) -> Report:
    """Register the winner, after a new verdict if the champion has changed since.

    A changed champion means that the verdict is taken again, on the same users. This ends, because
    the champion of every round is better than the one before. A version that was rolled back is not
    registered again: somebody saw what no verdict shows.
    """
    client, experiment = mlflow_client(), report.experiment
    name = model_name(experiment.recipe)
    while (winner := report.winner) is not None:
        with aliases_locked(client, name):
            reigning = aliased(client, name, CHAMPION)
            if reigning is not None and _is_of_run(client, name, reigning, winner.run_id):
                return _registered(report, name, reigning)  # an earlier try moved the alias
            if reigning == (report.champion and report.champion.version):
                version = _tested_version(client, report, winner)
                if was_rolled_back(client, name, version):
                    return report.model_copy(update={"rolled_back": version})
                # Another machine does not see the lock
                if promote(client, name, version, reigning):
                    return _registered(report, name, version)
        report = take_verdict(experiment, report.candidates, report.baseline.episodes)
    return report


def _is_of_run(client: MlflowClient, name: str, version: int, run_id: str) -> bool:
    """Whether a version has the weights of that run."""
    return bool(client.get_model_version(name, str(version)).run_id == run_id)


def _registered(report: Report, name: str, version: int) -> Report:
    """The report of a verdict whose winner is the champion by now."""
    registered = RegisteredVersion(name=name, version=version, alias=CHAMPION)
    return report.model_copy(update={"registered": registered})


def _tested_version(client: MlflowClient, report: Report, winner: CandidateLine) -> int:
    """The winner's version in the registry, loaded from there and tested with one request.

    A version left by an earlier try that was killed before the alias moved is used again.
    """
    name = model_name(report.experiment.recipe)
    weights, run = run_scorer(client, winner.run_id), client.get_run(winner.run_id)
    examples = example_requests(report.experiment)
    found = client.search_model_versions(f"name = '{name}' and run_id = '{winner.run_id}'")
    version = max((int(one.version) for one in found), default=0)
    if not version:
        version = _create_version(client, name, run, weights, examples, report.experiment)
    verdict, links = verdict_tag(winner, report), run_links(report.candidates)
    client.set_model_version_tag(name, str(version), "verdict", json.dumps(verdict))
    remembers = weights.memory_size > 0
    description = version_description(
        winner, report, links, run, examples.frame, remembers=remembers
    )
    client.update_model_version(name, str(version), description)
    _ask_once(f"models:/{name}/{version}", examples, weights)
    return version


def _create_version(
    client: MlflowClient,
    name: str,
    run: Run,
    weights: AnyScorer,
    examples: Examples,
    experiment: Experiment,
) -> int:
    """Register the run's weights; an edited page of the registered model stays as it is."""
    from mlflow.exceptions import MlflowException

    model_id = _log_model(client, run, weights, examples, experiment.open_dataset())
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


def _log_model(
    client: MlflowClient, run: Run, weights: AnyScorer, examples: Examples, dataset: Dataset
) -> str:
    """Log the model that a version carries; returns its id."""
    import mlflow
    from mlflow.models import Model

    # `pyfunc.log_model` would make the run active; a kill would leave it "running" then
    run_id = run.info.run_id
    model = client.create_logged_model(
        run.info.experiment_id, "recommender", source_run_id=run_id, params=run.data.params
    )
    with tempfile.TemporaryDirectory() as folder:
        weights.save(Path(folder) / SCORER_FILE)
        artifacts = {
            "weights": f"{folder}/{SCORER_FILE}",
            **scorer_code(weights),
            "ranges": _ranges(dataset, Path(folder)),
            **_encoder(dataset, Path(folder)),
        }
        # Of a path MLflow takes `%41` for an A
        addresses = {name: Path(path).as_uri() for name, path in artifacts.items()}
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=model.model_id,
            python_model=str(RECOMMENDER / "recommender.py"),
            artifacts=addresses,
            signature=_signature(dataset),
            input_example=examples.frame,
            pip_requirements=["mlflow-skinny", "numpy", "pandas"],
        )
    return str(model.model_id)


def _ranges(dataset: Dataset, folder: Path) -> str:
    """File with the ranges of the features and steps that were seen in training."""
    path = folder / "ranges.npz"
    low, high = feature_ranges(dataset)
    np.savez(path, low=low, high=high, last_step=dataset.spec.horizon - 1)
    return str(path)


def _encoder(dataset: Dataset, folder: Path) -> dict[str, str]:
    """Files of a version of own logs beside the weights: encoders, catalogue, row sample, code."""
    if dataset.encoding is None or dataset.catalogue is None:
        return {}
    encoding, catalogue = folder / "encoding.json", folder / "catalogue.npz"
    document = {**dataset.encoding.to_dict(), "format": dataset.recipe.get("format", "table")}
    encoding.write_text(json.dumps(document), encoding="utf-8")
    np.savez(catalogue, features=dataset.catalogue.features)
    rows = folder / ROWS_FILE
    rows.write_text(json.dumps(LoggedRows.of(dataset).to_dict()), encoding="utf-8")
    files = {"encoding": str(encoding), "catalogue": str(catalogue), "rows": str(rows)}
    return {**files, "encoder": str(RECOMMENDER / "encoder.py")}


def _signature(dataset: Dataset) -> ModelSignature:
    """Columns of requests and answers, and the parameters.

    MLflow checks every element of every row of an `Array`, which costs many times the scoring; its
    server takes the whole part of a number. The recommender checks all of them itself, in whole
    columns, and names the row that does not fit.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array

    requests = {"user": True, "candidates": True, "step": False, "history": False}
    answers = {
        "slate": Array(DataType.long),
        "items": Array(DataType.string),
        "scores": Array(DataType.double),
        "propensity": DataType.double,
        "outside": DataType.long,
    }
    if (encoding := dataset.encoding) is None:
        del answers["items"]
    else:
        # MLflow drops columns that it is not told of; the encoder refuses features of candidates
        requests = dict.fromkeys(["user", "items", "candidates", "step", "history"], False)
        requests["user"] = bool(encoding.user)
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), key, required=must) for key, must in requests.items()]),
        outputs=Schema([ColSpec(kind, key) for key, kind in answers.items()]),
        params=ParamSchema(
            [ParamSpec("epsilon", DataType.double, 0.0), ParamSpec("seed", DataType.long, None)]
        ),
    )


def _ask_once(uri: str, examples: Examples, weights: AnyScorer) -> None:
    """Load the registered version and compare its slates with the policy's that was evaluated."""
    import mlflow

    answer = mlflow.pyfunc.load_model(uri).predict(examples.frame)
    policy, rng = ScoringPolicy(weights), np.random.Generator(np.random.SFC64(0))
    slates, _ = policy.act(examples.observation, rng)
    if answer["slate"].tolist() != slates.tolist():
        raise RuntimeError(f"{uri} answers other slates than the policy that was evaluated")
