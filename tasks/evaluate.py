"""Step three: candidates, baseline and champion on the same users, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from prefect import task

from slateflow.environments import EnvironmentSpec, optimal_return
from slateflow.errors import InputError
from slateflow.evaluation import Verdict, decide_winner, episode_returns, standard_error
from slateflow.evaluation.off_policy.fitted_q_evaluation import (
    Estimator,
    held_out_estimator,
    memory_decays,
)
from slateflow.evaluation.recsim_check import agreement, recsim_returns
from slateflow.evaluation.verdict import Candidate as JudgedCandidate
from slateflow.policies import (
    AnyScorer,
    Behaviour,
    Policy,
    RandomPolicy,
    ScoringPolicy,
    behaviour_policy,
)
from slateflow.trajectories import Dataset, Recipe
from tasks.experiment import Experiment, ModelRef
from tasks.reports.report import (
    Candidate,
    Champion,
    Comparison,
    Optimum,
    Overlap,
    PlayedPolicy,
    RecSimCheck,
    Report,
    VerdictWord,
)
from tasks.server.progress import stage
from tasks.server.retries import RETRIES
from tasks.store.champion import CHAMPION, aliased, require_same_world
from tasks.store.tracking import load_scorer, mlflow_client, model_name

Returns = NDArray[np.float64]  # (E,)


@task(task_run_name="evaluate {experiment.recipe}", **RETRIES)
def evaluate_models(experiment: Experiment, models: list[ModelRef], episodes: int) -> Report:
    """Play every candidate, random and the champion on common users, and decide the winner."""
    return take_verdict(experiment, models, episodes)


def take_verdict(experiment: Experiment, models: Sequence[ModelRef], episodes: int) -> Report:
    """`evaluate_models` for callers outside a flow."""
    if not models:
        raise InputError("models: expected at least one to evaluate, got none")
    client, spec = mlflow_client(), experiment.spec
    require_same_world(client, experiment.recipe, spec)
    dataset = experiment.open_dataset()

    def play(name: str, policy: Policy) -> Returns:
        progress = stage(f"evaluate {name}")
        returns = episode_returns(spec, policy, episodes, experiment.seed)
        progress(1, 1)
        return returns

    baseline = play("random", RandomPolicy(spec.slate_size))
    scorers = {model.learner: load_scorer(client, model.run_id) for model in models}
    returns = {name: play(name, _policy(scorer, spec)) for name, scorer in scorers.items()}
    champion = champion_returns = None
    name = model_name(experiment.recipe)
    version = aliased(client, name, CHAMPION)
    if version is not None:
        run_id = str(client.get_model_version(name, str(version)).run_id)
        champion_returns = play("champion", _policy(load_scorer(client, run_id), spec))
        champion = Champion(
            version=version,
            mean=float(champion_returns.mean()),
            sem=standard_error(champion_returns),
        )
    logged = {
        name: baseline if behaviour == "random" else play(name, behaviour_policy(behaviour, spec))
        for name, behaviour in _logging_policies(dataset).items()
    }
    verdict = decide_winner(baseline, returns, optimal_return(spec), champion_returns, logged)
    unseen = hardly_seen_shares(dataset, scorers)
    report = _report(experiment, verdict, models, champion, unseen)
    _log_evaluation(report)
    return report


@task(task_run_name="check {candidate.learner} against RecSim", **RETRIES)
def check_against_recsim(
    experiment: Experiment, candidate: Candidate, compared: int, episodes: int
) -> RecSimCheck:
    """Play a candidate in RecSim's own code, and compare with `compared` batched episodes."""
    spec, seed = experiment.spec, experiment.seed
    policy = _policy(load_scorer(mlflow_client(), candidate.run_id), spec)
    progress = stage(f"RecSim plays {candidate.learner}")
    recsim = recsim_returns(spec, policy, episodes, seed, progress)
    found = agreement(episode_returns(spec, policy, compared, seed), recsim)
    return RecSimCheck(
        learner=candidate.learner,
        batched=found.batched,
        batched_sem=found.batched_sem,
        recsim=found.recsim,
        recsim_sem=found.recsim_sem,
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


def _logging_policies(dataset: Dataset) -> dict[str, str | Behaviour]:
    """The policies that wrote the logs; none where these were imported."""
    recipe = dataset.recipe
    return {} if "imported" in recipe else Recipe(name="logged", **recipe).behaviours


def hardly_seen_shares(dataset: Dataset, scorers: dict[str, AnyScorer]) -> dict[str, float]:
    """Of each policy the share of its choices that the logs have hardly seen.

    Empty where there are too few logs to tell.
    """
    estimators: dict[tuple[float, ...], Estimator] = {}
    shares = {}
    for name, scorer in scorers.items():
        decays = memory_decays(scorer)
        try:
            if decays not in estimators:
                estimators[decays] = held_out_estimator(dataset, decays)
        except InputError:
            return {}
        shares[name] = estimators[decays].hardly_seen(scorer)
    return shares


def _report(
    experiment: Experiment,
    verdict: Verdict,
    models: Sequence[ModelRef],
    champion: Champion | None,
    unseen: dict[str, float],
) -> Report:
    by_learner = {model.learner: model for model in models}
    logged = [PlayedPolicy(**asdict(policy)) for policy in verdict.logged]
    return Report(
        experiment=experiment,
        baseline=PlayedPolicy(**asdict(verdict.baseline)),
        logged=logged[0] if logged else None,
        logging_policies=logged,
        optimum=None if verdict.optimum is None else Optimum(mean=verdict.optimum),
        champion=champion,
        candidates=[
            _candidate(one, by_learner[one.learner], unseen.get(one.learner))
            for one in verdict.candidates
        ],
    )


def _candidate(judged: JudgedCandidate, model: ModelRef, unseen: float | None) -> Candidate:
    over_champion, over_logged = judged.over_champion, judged.over_logged
    return Candidate(
        **model.model_dump(include=set(ModelRef.model_fields)),
        mean=judged.mean,
        sem=judged.sem,
        **asdict(judged.over_baseline),
        over_champion=None if over_champion is None else Comparison(**asdict(over_champion)),
        over_logged=None if over_logged is None else Comparison(**asdict(over_logged)),
        score=judged.score,
        verdict=_verdict_word(judged),
        overlap=None if unseen is None else Overlap(unsupported=unseen),
    )


def _verdict_word(judged: JudgedCandidate) -> VerdictWord:
    """The verdict on a candidate: where the interval of its uplift over random lies."""
    if judged.winner:
        return "winner"
    low, high = judged.over_baseline.ci
    if low > 0:
        return "better"
    return "worse" if high < 0 else "undecided"


def _log_evaluation(report: Report) -> None:
    """Log the verdict's figures as metrics of each candidate's run."""
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
            "score": candidate.score,
        }
        if candidate.over_champion is not None:
            figures["uplift_over_champion"] = candidate.over_champion.uplift
        metrics = [
            Metric(key, value, now, 0) for key, value in figures.items() if value is not None
        ]
        client.log_batch(candidate.run_id, metrics=metrics)
