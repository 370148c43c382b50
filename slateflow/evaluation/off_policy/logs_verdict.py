"""The verdict from logs alone, from policies' estimated returns on held-out sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.evaluation.off_policy.estimates import LogEstimates, estimate_policies
from slateflow.evaluation.off_policy.overlap import NoVerdict, Overlap
from slateflow.evaluation.verdict import Candidate, Contender, PlayedPolicy, Verdict, decide
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Dataset

RANDOM, CHAMPION = "random", "champion"


@dataclass(frozen=True)
class LogsVerdict:
    """A verdict, and how well the logs support it.

    Attributes:
        verdict: Baseline, logging policy, champion and candidates.
        overlaps: Overlap of the logs with each candidate.
        refusals: Reasons for which the logs cannot evaluate some candidates, by name.
        no_verdict: Reason for which the logs can evaluate no candidate; None where they can.
    """

    verdict: Verdict
    overlaps: dict[str, Overlap]
    refusals: dict[str, NoVerdict]
    no_verdict: NoVerdict | None


def logs_verdict(
    dataset: Dataset,
    candidates: Mapping[str, ScoringPolicy],
    champion: Target | None = None,
) -> LogsVerdict:
    """Estimate all policies on the held-out sessions, and decide from paired differences.

    Without an estimate of random and of the champion there is nothing to be better than, and so no
    verdict.

    Args:
        dataset: The logs; the candidates have not seen its held-out sessions.
        candidates: Policies by the name of their learner.
        champion: The current champion.
    """
    targets = {f"learner {name}": policy for name, policy in candidates.items()}
    reference = {RANDOM: RandomPolicy(dataset.spec.slate_size)}
    reigning = {} if champion is None else {CHAMPION: champion}
    found = estimate_policies(dataset, {**reference, **reigning, **targets}, held_out_only=True)
    estimates = {name: found.policies[f"learner {name}"] for name in candidates}
    refusals = {name: one.refusal for name, one in estimates.items() if one.refusal is not None}
    missing = _missing_reference(found, champion=champion is not None)
    judged = [_contender(name, found) for name in candidates]
    sure = [one for one in judged if missing is None and one.learner not in refusals]
    unsure = [
        Candidate(**vars(one), p_value=1.0, verdict="no verdict")
        for one in judged
        if one not in sure
    ]
    unsure.sort(key=lambda one: one.mean, reverse=True)
    decided = [*decide(sure), *unsure]  # untrusted values come after all others
    if missing is None and not sure:
        missing = refusals[decided[0].learner]
    return LogsVerdict(
        Verdict(
            baseline=_policy(RANDOM, found.policies[RANDOM].contributions),
            logged=(_policy("logged", found.logged),),
            optimum=None,
            champion=None
            if champion is None
            else _policy(CHAMPION, found.policies[CHAMPION].contributions),
            candidates=tuple(decided),
        ),
        {name: one.overlap for name, one in estimates.items()},
        refusals,
        missing,
    )


def _missing_reference(found: LogEstimates, *, champion: bool) -> NoVerdict | None:
    """The reason for which the logs cannot evaluate random or the champion; None if they can."""
    for name in [RANDOM, CHAMPION] if champion else [RANDOM]:
        if (refusal := found.policies[name].refusal) is not None:
            return NoVerdict(f"{name}: {refusal.reason}", refusal.advice)
    return None


def _contender(learner: str, found: LogEstimates) -> Contender:
    one, champion = found.policies[f"learner {learner}"], found.policies.get(CHAMPION)
    own = one.contributions
    return Contender(
        learner=learner,
        mean=own.value,
        sem=own.sem,
        over_baseline=one.over(found.policies[RANDOM]).compare(),
        over_champion=None if champion is None else one.over(champion).compare(),
        over_logged=(own - found.logged).compare(),
    )


def _policy(name: str, contributions: Contributions) -> PlayedPolicy:
    return PlayedPolicy(name, contributions.value, contributions.sem, contributions.sessions)
