"""Step three: candidates, baseline and champion, by play or by logs, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass
from typing import Any

from prefect import task

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.evaluation import Verdict, episode_returns, played_verdict
from slateflow.evaluation.off_policy.estimates import unsupported_shares
from slateflow.evaluation.off_policy.logging_policies import logged_behaviours
from slateflow.evaluation.off_policy.logs_verdict import logs_verdict
from slateflow.evaluation.recsim_check import agreement, recsim_returns
from slateflow.evaluation.returns import BLOCK_EPISODES, returns_of, standard_error
from slateflow.policies import (
    Policy,
    RandomPolicy,
    ScoringPolicy,
    SessionScorer,
    behaviour_policy,
)
from slateflow.progress import Progress
from slateflow.side_by_side import PROCESSORS, map_calls
from slateflow.trajectories import Dataset
from slateflow.trajectories.item_effects import items_differ
from tasks.experiment import Experiment, ModelRef
from tasks.reports.report import (
    CandidateLine,
    OverlapFigures,
    PolicyLine,
    RecSimCheck,
    Report,
)
from tasks.server.retries import RETRIES
from tasks.server.stages import stage
from tasks.side_by_side import workers_at_hand
from tasks.store.champion import (
    CHAMPION,
    aliased,
    require_same_world,
    scoring_policy,
    version_policy,
)
from tasks.store.tracking import mlflow_client, model_name, run_scorer


@task(task_run_name="evaluate {experiment.recipe}", **RETRIES)
def evaluate_models(experiment: Experiment, models: list[ModelRef], episodes: int) -> Report:
    """Compare every candidate with random and the champion, and decide the winner."""
    return take_verdict(experiment, models, episodes)


def take_verdict(experiment: Experiment, models: Sequence[ModelRef], episodes: int) -> Report:
    """Decide the winner; `evaluate_models` is the task for flows."""
    if not models:
        raise InputError("models: expected at least one to evaluate, got none")
    client, spec = mlflow_client(), experiment.spec
    require_same_world(client, experiment.recipe, spec)
    name = model_name(experiment.recipe)
    version = aliased(client, name, CHAMPION)
    scorers = {model.learner: run_scorer(client, model.run_id) for model in models}
    policies = {learner: scoring_policy(scorer, spec) for learner, scorer in scorers.items()}
    champion = None
    if version is not None:
        logs = None if spec.simulated else experiment.open_dataset()
        found = client.get_model_version(name, str(version))
        champion = version_policy(client, found, spec, logs)
    contest = _Contest(experiment, models, policies, champion, version)
    played = experiment.evidence == "played"
    report = _by_play(contest, episodes) if played else _by_logs(contest, episodes)
    _log_evaluation(report)
    return report


@dataclass(frozen=True)
class _Contest:
    """The candidates of an experiment, and the champion that they have to beat."""

    experiment: Experiment
    models: Sequence[ModelRef]
    policies: dict[str, ScoringPolicy]  # by learner
    champion: ScoringPolicy | None
    version: int | None  # of the champion

    @property
    def scorers(self) -> dict[str, SessionScorer]:
        """The candidates' scorers, by learner."""
        return {name: policy.scorer for name, policy in self.policies.items()}

    def to_play(self, dataset: Dataset) -> _Policies:
        """Random, the candidates, the champion, the logging policies and the best that there is."""
        spec, champion = dataset.spec, self.champion
        return {
            ("baseline", "random"): RandomPolicy(spec.slate_size),
            **{("candidate", name): policy for name, policy in self.policies.items()},
            **({} if champion is None else {("champion", "champion"): champion}),
            **{
                ("logged", name): behaviour_policy(behaviour, spec)
                for name, behaviour in logged_behaviours(dataset).items()
                if behaviour != "random"
            },
            ("optimum", "optimum"): None,
        }

    def report(self, verdict: Verdict, overlaps: dict[str, OverlapFigures]) -> Report:
        """The verdict as it is published."""
        return Report.on(self.experiment, verdict, self.models, self.version, overlaps)


def _by_play(contest: _Contest, episodes: int) -> Report:
    """Play all policies on common users."""
    experiment = contest.experiment
    dataset, spec = experiment.open_dataset(), experiment.spec
    policies, scorers = contest.to_play(dataset), contest.scorers
    with ThreadPoolExecutor(1) as beside:
        unseen = beside.submit(copy_context().run, hardly_seen_shares, dataset, scorers)
        returns = _play_all(spec, policies, episodes, experiment.seed)
    baseline = returns["baseline", "random"]
    verdict = played_verdict(
        baseline,
        {name: returns["candidate", name] for name in contest.policies},
        returns["optimum", "optimum"],
        returns.get(("champion", "champion")),
        {name: returns.get(("logged", name), baseline) for name in logged_behaviours(dataset)},
    )
    overlaps = {name: OverlapFigures(unsupported=share) for name, share in unseen.result().items()}
    return contest.report(verdict, overlaps)


_Policies = dict[tuple[str, str], Policy | None]
"""Policies by role and name; None is the best that there is."""


def _play_all(
    spec: EnvironmentSpec, policies: _Policies, episodes: int, seed: int
) -> dict[tuple[str, str], Any]:
    """Returns (episodes,) of each, played side by side.

    With more than one block of episodes, a process is started for each processor.
    """
    jobs = [(name, spec, policy, episodes, seed) for (_, name), policy in policies.items()]
    workers, long = workers_at_hand(), episodes > BLOCK_EPISODES
    if workers is not None and (workers.count >= PROCESSORS or not long):
        found = workers.map(returns_of, jobs, _begin)
    elif long:
        found = map_calls(returns_of, jobs, begin=_begin)
    else:
        found = (returns_of(*job, progress=_begin(*job)) for job in jobs)
    return dict(zip(policies, found, strict=True))


def _begin(name: str, *_: Any) -> Progress:
    """Progress of a play that begins."""
    return stage(f"evaluate {name}")


def _by_logs(contest: _Contest, episodes: int) -> Report:
    """Estimate all policies on the held-out sessions; in a simulated world play them, too.

    What they earn by play stands beside the estimates, and decides nothing.
    """
    progress = stage("evaluate on held-out logs")
    dataset = contest.experiment.open_dataset()
    found = logs_verdict(dataset, contest.policies, contest.champion)
    progress(1, 1)
    overlaps = {name: OverlapFigures.of(one) for name, one in found.overlaps.items()}
    report = contest.report(found.verdict, overlaps)
    report.no_verdict = found.no_verdict
    report.items_differ = None if dataset.spec.simulated else items_differ(dataset)
    for candidate in report.candidates:
        candidate.no_verdict = found.refusals.get(candidate.learner)
    if dataset.spec.simulated:
        policies = contest.to_play(dataset)
        returns = _play_all(dataset.spec, policies, episodes, contest.experiment.seed)
        report.played = [
            PolicyLine(policy=name, mean=one.mean(), sem=standard_error(one), episodes=episodes)
            for (_, name), one in returns.items()
            if one is not None
        ]
    return report


@task(task_run_name="check {candidate.learner} against RecSim", **RETRIES)
def check_against_recsim(
    experiment: Experiment, candidate: CandidateLine, compared: int, episodes: int
) -> RecSimCheck:
    """Play a candidate in RecSim's own code, and compare with `compared` batched episodes."""
    spec, seed = experiment.spec, experiment.seed
    policy = scoring_policy(run_scorer(mlflow_client(), candidate.run_id), spec)
    progress = stage(f"RecSim plays {candidate.learner}")
    recsim = recsim_returns(spec, policy, episodes, seed, progress)
    found = agreement(episode_returns(spec, policy, compared, seed), recsim)
    return RecSimCheck(learner=candidate.learner, **asdict(found), deviation=found.deviation)


def hardly_seen_shares(dataset: Dataset, scorers: Mapping[str, SessionScorer]) -> dict[str, float]:
    """The share of each policy's choices that are hardly seen in the logs.

    Empty where the logs are too few.
    """
    try:
        if (workers := workers_at_hand()) is None:
            return unsupported_shares(dataset, scorers)
        with workers.free() as worker:
            shares: dict[str, float] = worker.call(unsupported_shares, dataset, scorers)
            return shares
    except InputError:
        return {}


def _log_evaluation(report: Report) -> None:
    """Log the verdict's figures as metrics of each candidate's run."""
    from mlflow.entities import Metric, RunTag

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
        if candidate.score_ci is not None:
            figures["score_ci_low"], figures["score_ci_high"] = candidate.score_ci
        if (over := candidate.over_champion) is not None:
            figures["uplift_over_champion"] = over.uplift
            figures["uplift_over_champion_ci_low"] = over.ci[0]
            figures["uplift_over_champion_ci_high"] = over.ci[1]
            figures["p_value_over_champion"] = over.p_value
        metrics = [
            Metric(key, value, now, 0) for key, value in figures.items() if value is not None
        ]
        tags = [RunTag("slateflow.verdict", candidate.verdict)]
        client.log_batch(candidate.run_id, metrics=metrics, tags=tags)
