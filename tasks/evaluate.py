"""Step three: candidates, baseline and champion on the same users, and the verdict."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prefect import task

from slateflow.environments import EnvironmentSpec, optimal_return
from slateflow.errors import InputError
from slateflow.evaluation import Verdict, decide_winner, episode_returns, standard_error
from slateflow.evaluation.recsim_check import agreement, recsim_returns
from slateflow.policies import AnyScorer, Policy, RandomPolicy, ScoringPolicy
from tasks.reports.documents import (
    BaselineReport,
    CandidateReport,
    ChampionReport,
    ModelReference,
    ReferenceReport,
    VerdictReport,
)
from tasks.server.progress import stage
from tasks.server.retries import RETRIES
from tasks.store.champion import CHAMPION, aliased
from tasks.store.tracking import load_scorer, mlflow_client, model_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Returns = NDArray[np.float64]


@task(task_run_name="evaluate {spec.name}", **RETRIES)
def evaluate_models(
    spec: EnvironmentSpec, models: list[ModelReference], episodes: int, seed: int
) -> VerdictReport:
    """Play every candidate, random and the champion on common users, and judge them."""
    return take_verdict(spec, models, episodes, seed)


def take_verdict(
    spec: EnvironmentSpec, models: list[ModelReference], episodes: int, seed: int
) -> VerdictReport:
    """The same, whether Prefect runs it or not."""
    if not models:
        raise InputError("models: expected at least one to evaluate, got none")
    client = mlflow_client()

    def play(name: str, policy: Policy) -> Returns:
        progress = stage(f"evaluate {name}")
        returns = episode_returns(spec, policy, episodes, seed)
        progress(1, 1)
        return returns

    baseline = play("random", RandomPolicy(spec.slate_size))
    returns = {
        model.learner: play(model.learner, _policy(load_scorer(client, model.run_id), spec))
        for model in models
    }
    champion = _champion(client, spec.name)
    champion_returns = None
    if champion is not None:
        version, run_id = champion
        champion_returns = play("champion", _policy(load_scorer(client, run_id), spec))
    verdict = decide_winner(baseline, returns, optimal_return(spec), champion_returns)
    report = _report(verdict, models)
    if champion is not None and champion_returns is not None:
        report.champion = ChampionReport(
            version=version,
            mean=float(champion_returns.mean()),
            sem=standard_error(champion_returns),
        )
    _log_evaluation(report)
    return report


@task(task_run_name="check {candidate.learner} against RecSim", **RETRIES)
def check_reference(
    spec: EnvironmentSpec, candidate: CandidateReport, compared: int, episodes: int, seed: int
) -> ReferenceReport:
    """Play a candidate in RecSim's own code, and compare with `compared` batched episodes."""
    policy = _policy(load_scorer(mlflow_client(), candidate.run_id), spec)
    progress = stage(f"RecSim plays {candidate.learner}")
    recsim = recsim_returns(spec, policy, episodes, seed, progress)
    found = agreement(episode_returns(spec, policy, compared, seed), recsim)
    return ReferenceReport(
        learner=candidate.learner,
        batched=found.batched,
        batched_sem=found.batched_sem,
        reference=found.recsim,
        reference_sem=found.recsim_sem,
        episodes=found.episodes,
        deviation=found.deviation,
    )


def _policy(scorer: AnyScorer, spec: EnvironmentSpec) -> Policy:
    sizes = ("user_size", "document_size", "slate_size")
    wanted, got = ({name: getattr(one, name) for name in sizes} for one in (spec, scorer))
    if wanted != got:
        raise InputError(
            f"model: expected {wanted} for {spec.name}, got {got}; train it on this environment"
        )
    return ScoringPolicy(scorer)


def _champion(client: MlflowClient, environment: str) -> tuple[int, str] | None:
    """Version and run of the reigning champion."""
    name = model_name(environment)
    version = aliased(client, name, CHAMPION)
    if version is None:
        return None
    return version, str(client.get_model_version(name, str(version)).run_id)


def _report(verdict: Verdict, models: list[ModelReference]) -> VerdictReport:
    by_learner = {model.learner: model for model in models}
    return VerdictReport(
        baseline=BaselineReport(
            policy=verdict.baseline.policy,
            mean=verdict.baseline.mean,
            sem=verdict.baseline.sem,
            episodes=verdict.baseline.episodes,
        ),
        optimum=verdict.optimum,
        champion=None,
        candidates=[
            CandidateReport(
                learner=candidate.learner,
                mean=candidate.mean,
                sem=candidate.sem,
                uplift=candidate.over_baseline.uplift,
                ci=candidate.over_baseline.ci,
                p_value=candidate.over_baseline.p_value,
                normalised=candidate.score,
                train_seconds=by_learner[candidate.learner].train_seconds,
                live_steps=by_learner[candidate.learner].live_steps,
                winner=candidate.winner,
                run_id=by_learner[candidate.learner].run_id,
            )
            for candidate in verdict.candidates
        ],
    )


def _log_evaluation(report: VerdictReport) -> None:
    """The verdict's figures as metrics of each candidate's run."""
    from mlflow.entities import Metric

    client = mlflow_client()
    now = int(time.time() * 1000)
    for candidate in report.candidates:
        figures = {
            "evaluation_mean": candidate.mean,
            "evaluation_sem": candidate.sem,
            "uplift": candidate.uplift,
            "uplift_ci_low": candidate.ci[0],
            "uplift_ci_high": candidate.ci[1],
            "p_value": candidate.p_value,
            "normalised": candidate.normalised,
        }
        metrics = [
            Metric(key, value, now, 0) for key, value in figures.items() if value is not None
        ]
        client.log_batch(candidate.run_id, metrics=metrics)
