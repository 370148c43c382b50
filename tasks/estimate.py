"""Estimates of a policy's return on a recipe's logs, and which to trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from slateflow.errors import InputError, refused
from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.overlap import NoVerdict
from slateflow.evaluation.verdict import Interval
from slateflow.policies import BEHAVIOURS, behaviour_policy
from slateflow.trajectories import Dataset
from tasks.experiment import Experiment
from tasks.reports.report import OverlapFigures
from tasks.store.champion import misfits, version_policy
from tasks.store.logs_seen import seen_by
from tasks.store.tracking import mlflow_client, version_rows

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOGGED = "logged"
"""Name of the policy that wrote the logs."""


class Mean(BaseModel):
    """Mean return of the logged sessions."""

    mean: float
    sem: float


class Estimate(BaseModel):
    """The return of a session by one estimator, with its 95% interval."""

    estimator: str
    value: float
    ci: Interval


class EstimateReport(BaseModel):
    """`slateflow estimate --json`; its fields are a contract."""

    recipe: str
    policy: str
    rows: int
    sessions: int
    visitors: int | None
    logged: Mean
    estimates: list[Estimate]
    overlap: OverlapFigures | None
    trusted: str | None
    no_verdict: NoVerdict | None


def estimate(
    experiment: Experiment, policy: str, estimators: Sequence[str] | None = None
) -> EstimateReport:
    """Estimate the return of a session under a policy.

    Args:
        experiment: The logs.
        policy: A behaviour policy of the world, `logged`, or the URI of a registered version.
        estimators: The wanted ones; None for all that there are.

    Raises:
        InputError: There is no such policy or estimator, or the model has seen all of the logs, or
            does not fit them.
    """
    dataset = experiment.open_dataset()
    targets: dict[str, Target] = {}
    held_out_only = False
    if policy.startswith("models:/"):
        target, held_out_only = _registered(policy, dataset)
        targets[policy] = target
    elif policy in BEHAVIOURS:
        targets[policy] = behaviour_policy(policy, dataset.spec)
    elif policy != LOGGED:
        rules = BEHAVIOURS if dataset.spec.simulated else ("random",)
        raise InputError(
            f"--policy: expected {', '.join(rules)}, {LOGGED} or a version such as "
            f"models:/slateflow-{experiment.recipe}@champion, got {policy}"
        )
    found = estimate_policies(dataset, targets, held_out_only=held_out_only)
    known = {"mean": found.logged} if policy == LOGGED else found.policies[policy].estimates
    subject = "--policy logged" if policy == LOGGED else "these logs"
    for name in estimators or ():
        if name not in known:
            raise InputError(
                f"--estimator: expected some of {', '.join(known)} for {subject}, got {name}; "
                "leave it out for all that there are"
            )
    one = None if policy == LOGGED else found.policies[policy]
    trusted = "mean" if one is None else one.trusted
    return EstimateReport(
        recipe=experiment.recipe,
        policy=policy,
        rows=found.rows,
        sessions=found.sessions,
        visitors=found.visitors,
        logged=Mean(mean=found.logged.value, sem=found.logged.sem),
        estimates=[_estimate(name, known[name]) for name in estimators or known],
        overlap=None if one is None else OverlapFigures.of(one.overlap),
        trusted=None if one and one.refusal else trusted,
        no_verdict=None if one is None else one.refusal,
    )


def _estimate(name: str, contributions: Contributions) -> Estimate:
    return Estimate(estimator=name, value=contributions.value, ci=contributions.interval())


def _registered(uri: str, dataset: Dataset) -> tuple[Target, bool]:
    """The policy of a registered version, and whether it has seen what is not held out."""
    from mlflow.exceptions import MlflowException

    client = mlflow_client()
    expected = f"--policy: expected a version such as models:/NAME@champion at {uri}"
    with refused(expected, MlflowException, ValueError):
        found = _version_at(client, uri)
    if wrong := misfits(found, dataset.spec):
        raise InputError(
            f"--policy {uri}: expected a model that fits these logs, got {', '.join(wrong)}; name "
            "a version of this recipe"
        )
    seen = seen_by(found, dataset, version_rows(found))
    if seen == "all":
        raise InputError(
            f"--policy: expected a model that has not seen all of these logs, got {uri}, which "
            "has; train and register it with --evidence logs"
        )
    return version_policy(client, found, dataset.spec, dataset), seen != "nothing"


def _version_at(client: MlflowClient, uri: str) -> ModelVersion:
    """The version at `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/NAME/latest`.

    Raises:
        ValueError: The URI has no version, or the model has none.
        MlflowException: There is no such model or version.
    """
    name, _, alias = uri.removeprefix("models:/").partition("@")
    if alias:
        return client.get_model_version_by_alias(name, alias)
    name, _, version = name.rpartition("/")
    if version == "latest":
        query, last = f"name = '{name}'", ["version_number DESC"]
        for found in client.search_model_versions(query, max_results=1, order_by=last):
            return found
    elif name and version:
        return client.get_model_version(name, version)
    raise ValueError("none")
