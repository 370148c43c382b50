"""The report: baseline, candidates and champion on the same users, and the registered winner.

`slateflow run --json` prints it; its fields are a contract. So they are flat, in lines of their
own beside the policies of `slateflow.evaluation.verdict`, from which `Report.on` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from slateflow.digits import decimals
from slateflow.evaluation.off_policy.overlap import NoVerdict, Overlap
from slateflow.evaluation.verdict import (
    Candidate,
    Comparison,
    Interval,
    PlayedPolicy,
    Score,
    Verdict,
    VerdictWord,
)
from slateflow.learners import learners_for, learners_left_out
from slateflow.trajectories.description.first_look import ITEMS_DIFFER
from tasks.experiment import Experiment, ModelRef

NO_VERDICT = "No verdict"


class PolicyLine(BaseModel):
    """A policy on the same users as the candidates, such as the baseline."""

    policy: str
    mean: float
    sem: float
    episodes: int

    @classmethod
    def of(cls, found: PlayedPolicy) -> PolicyLine:
        """The policy without its score."""
        return cls(policy=found.policy, mean=found.mean, sem=found.sem, episodes=found.episodes)


class ScoredPolicy(PolicyLine):
    """A policy that wrote the logs; its score is that of a candidate."""

    score: float | None
    score_ci: Interval | None

    @classmethod
    def of(cls, found: PlayedPolicy) -> ScoredPolicy:
        """The policy with its score."""
        return cls(**PolicyLine.of(found).model_dump(), **_flat_score(found.score))


class Optimum(BaseModel):
    """The best policy on the same users; where it cannot be played, its expected earnings."""

    mean: float
    sem: float


class Champion(BaseModel):
    """The reigning champion, on the same users as the candidates."""

    version: int
    mean: float
    sem: float


class OverlapFigures(BaseModel):
    """Figures of `Overlap`, of the logs with a policy, as they are published.

    With evidence by play there is only `unsupported`, the share of choices that are hardly seen in
    the logs. With evidence by logs, `mean_weight` and its interval are None (null in JSON) where
    the mean weight was not checked, because the logging policies are known, or a few rows carry the
    whole sum.
    """

    ess: float | None = None
    effective_rewards: float | None = None
    mean_weight: float | None = None
    mean_weight_ci: Interval | None = None
    largest_weight: float | None = None
    largest_share: float | None = None
    unsupported: float
    weight_counts: tuple[int, ...] | None = None

    @classmethod
    def of(cls, measured: Overlap) -> OverlapFigures:
        """All figures of an estimate."""
        return cls(**{name: getattr(measured, name) for name in cls.model_fields})


class CandidateLine(ModelRef):
    """A learner in the verdict; `uplift`, `ci` and `p_value` are those over random.

    p-values over random, and those over the champion, are corrected over the candidates (Holm);
    intervals are pointwise. `score` is 0 for random and 1 for the optimum; None where the optimum
    is unknown, or is not above random for certain.
    """

    mean: float
    sem: float
    uplift: float
    ci: Interval
    p_value: float
    over_champion: Comparison | None = None
    over_logged: Comparison | None = None
    score: float | None
    score_ci: Interval | None = None
    verdict: VerdictWord
    overlap: OverlapFigures | None = None
    no_verdict: NoVerdict | None = None

    @classmethod
    def of(cls, found: Candidate, model: ModelRef, overlap: OverlapFigures | None) -> CandidateLine:
        """A decided candidate, and the model that it is."""
        return cls(
            **model.model_dump(include=set(ModelRef.model_fields)),
            mean=found.mean,
            sem=found.sem,
            **asdict(found.over_baseline),
            over_champion=found.over_champion,
            over_logged=found.over_logged,
            **_flat_score(found.score),
            verdict=found.verdict,
            overlap=overlap,
        )

    @property
    def judged(self) -> bool:
        """Whether the logs can judge it: otherwise pages and tables have no figures of it."""
        return self.no_verdict is None


def _flat_score(score: Score | None) -> dict[str, Any]:
    return {"score": score and score.value, "score_ci": score and score.ci}


class RecSimCheck(BaseModel):
    """A candidate in RecSim's own code beside the batched simulator.

    `deviation` is the difference of the means in its standard errors.
    """

    learner: str
    batched: float
    batched_sem: float
    recsim: float
    recsim_sem: float
    episodes: int
    deviation: float


class RegisteredVersion(BaseModel):
    """A version in the MLflow registry."""

    name: str
    version: int
    alias: str


class Report(BaseModel):
    """The verdict on an experiment's models, best first, and what became of the winner.

    `logged` is the best of the `logging_policies`, which are sorted best first; None and an empty
    list where nobody knows them, as in imported logs. `items_differ` is whether items earn more, or
    less, than their columns predict; None where it was not tested. `rolled_back` is the winner's
    version where somebody has rolled it back, so that it is not registered again. `played` is what
    policies earn by play, beside a verdict from the logs of a world that can be played.
    """

    experiment: Experiment
    baseline: PolicyLine
    logged: ScoredPolicy | None = None
    logging_policies: list[ScoredPolicy] = []
    optimum: Optimum | None
    champion: Champion | None
    candidates: list[CandidateLine]
    no_verdict: NoVerdict | None = None
    items_differ: bool | None = None
    registered: RegisteredVersion | None = None
    rolled_back: int | None = None
    recsim_check: RecSimCheck | None = None
    played: list[PolicyLine] | None = None

    @classmethod
    def on(
        cls,
        experiment: Experiment,
        verdict: Verdict,
        models: Sequence[ModelRef],
        version: int | None,
        overlaps: Mapping[str, OverlapFigures],
    ) -> Report:
        """The verdict on an experiment's models, before anything is registered.

        Args:
            experiment: The recipe's dataset and world.
            verdict: The decision.
            models: The candidates' models.
            version: Number of the champion's; None where there is none.
            overlaps: Of the logs with each learner's policy, for those that are known.
        """
        by_learner = {model.learner: model for model in models}
        logging = [ScoredPolicy.of(policy) for policy in verdict.logged]
        optimum, champion = verdict.optimum, verdict.champion
        return cls(
            experiment=experiment,
            baseline=PolicyLine.of(verdict.baseline),
            logged=logging[0] if logging else None,
            logging_policies=logging,
            optimum=None if optimum is None else Optimum(mean=optimum.mean, sem=optimum.sem),
            champion=None
            if champion is None or version is None
            else Champion(version=version, mean=champion.mean, sem=champion.sem),
            candidates=[
                CandidateLine.of(one, by_learner[one.learner], overlaps.get(one.learner))
                for one in verdict.candidates
            ],
        )

    @property
    def winner(self) -> CandidateLine | None:
        """The candidate to register, if there is any."""
        return next((one for one in self.candidates if one.verdict == "winner"), None)

    @property
    def scored(self) -> bool:
        """Whether there are scores: the optimum is known, and is above random for certain."""
        return any(one.score is not None for one in self.candidates)

    @property
    def decimals(self) -> int:
        """Digits after the point that returns need: two of the smallest standard error."""
        return decimals(self.baseline.sem, *(one.sem for one in self.candidates if one.judged))

    @property
    def sessions(self) -> str:
        """Number and kind of the sessions that the verdict rests on."""
        kind = "episodes" if self.experiment.evidence == "played" else "held-out sessions"
        return f"{self.baseline.episodes:,} {kind}"

    @property
    def headline(self) -> str:
        """Who wins, or that nobody does."""
        if self.winner is not None:
            return f"{self.winner.learner} wins"
        return "no winner" if self.no_verdict is None else "no verdict"

    @property
    def refusals(self) -> dict[str, list[str]]:
        """Learners by the reason that they cannot be judged, unless nobody can for that reason."""
        found: dict[str, list[str]] = {}
        for one in self.candidates:
            reason = one.no_verdict and one.no_verdict.reason
            if reason and not (self.no_verdict and self.no_verdict.reason.endswith(reason)):
                found.setdefault(str(one.no_verdict), []).append(one.learner)
        return found

    @property
    def advice(self) -> list[str]:
        """Advice on how learners could get more from these logs; empty where there is none."""
        spec, trained = self.experiment.spec, {one.learner for one in self.candidates}
        left_out = learners_left_out(spec) if trained == {*learners_for(spec)} else []
        return [f"items: {ITEMS_DIFFER}"] * bool(self.items_differ) + [
            f"{', '.join(left_out)}: left out, because users and items have too many features, or "
            "too many items are offered at a time; describe them by fewer features"
        ] * bool(left_out)

    @property
    def summary(self) -> str:
        """The verdict in one line, and what became of it."""
        champion, registered = self.champion, self.registered
        if self.winner is None:
            stays = "nothing registered"
            if champion is not None:
                stays = f"version {champion.version} stays champion"
            return f"{self.headline}, {stays}"
        if self.rolled_back is not None:
            return f"{self.headline}, not registered: version {self.rolled_back} was rolled back"
        if registered is None:
            return f"{self.headline}, not registered"
        return f"{self.headline}, registered as version {registered.version}"

    @property
    def outcome(self) -> str:
        """The verdict in a word or two, as a flow run's name and tags have it."""
        if self.registered is not None:
            return "Promoted"
        if self.no_verdict is not None:
            return NO_VERDICT
        return "No winner" if self.champion is None else "Kept champion"

    def document(self) -> dict[str, Any]:
        """The report as the command line prints it."""
        fields = self.model_dump(mode="json")
        experiment = fields.pop("experiment")
        for asked in ("items_differ", "rolled_back", "recsim_check", "played"):
            if fields[asked] is None:
                del fields[asked]
        return {
            "recipe": experiment["recipe"],
            "environment": self.experiment.environment,
            "evidence": experiment["evidence"],
            "dataset": experiment["dataset"],
            **fields,
        }
