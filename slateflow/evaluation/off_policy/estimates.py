"""Returns of policies from logs alone: estimators, overlap, and the estimate to trust.

The form of the logs decides which estimator is trusted, before any result is seen. For single
decisions it is doubly robust with propensities (`dr`): the weights of one decision are known, and
the estimate is unbiased whatever the model (Dudík, Langford and Li 2011). For sessions of several
steps, and for slates from which users choose, products of weights leave hardly a row, and it is
double reinforcement learning (`drl`: Kallus and Uehara 2020). The others are shown for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.evaluation.off_policy.contributions import Contributions, rare
from slateflow.evaluation.off_policy.corrections import Estimated, trusted_kind
from slateflow.evaluation.off_policy.decision_weights import DecisionWeights
from slateflow.evaluation.off_policy.double_learning import PreparedSessions, Target
from slateflow.evaluation.off_policy.item_sessions import ItemSessions
from slateflow.evaluation.off_policy.logging_policies import require_two
from slateflow.evaluation.off_policy.overlap import NoVerdict, Overlap
from slateflow.evaluation.off_policy.propensity_check import disagreement
from slateflow.evaluation.off_policy.repeated_choices import RepeatedChoices
from slateflow.evaluation.off_policy.single_steps import SingleSteps
from slateflow.evaluation.off_policy.slate_sessions import SlateSessions
from slateflow.evaluation.off_policy.visitors import Visitors
from slateflow.policies import RandomPolicy, SessionScorer
from slateflow.policies.learned import ScoringPolicy
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.held_out import HELD_OUT, parts_and_held_out
from slateflow.user_models.session_memory import STATELESS, SessionState, session_state

Array = NDArray[np.float64]

MOST_ROWS, MOST_SLATES = 300_000, 60_000
"""Most rows of sessions in memory, and most where users choose from slates, which have many
features; of more rows, every second, third … session is taken."""

FIRST_LOOK_ROWS = 1_000_000
"""Most single decisions with which a first look asks the gate."""


@dataclass(frozen=True)
class PolicyEstimate:
    """Estimates of a policy's return.

    Attributes:
        estimates: Contributions of the sessions by estimator; those of single decisions are
            computed on demand, because there is one for each row.
        kinds: Contributions of sessions by each kind of correction, `Estimated.kinds`.
        trusted: The estimator that decides.
        overlap: Overlap of the logs with the policy.
        guess: Reason for which the estimates are mere guesses; None where they may be used to
            choose between trainings.
        refusal: Reason for which the logs cannot evaluate the policy; None where a verdict may rest
            on them.
    """

    estimates: Mapping[str, Contributions]
    trusted: str
    overlap: Overlap
    guess: NoVerdict | None
    refusal: NoVerdict | None
    kinds: Sequence[Contributions] = ()

    @property
    def contributions(self) -> Contributions:
        """Contributions by the trusted estimator."""
        return self.estimates[self.trusted]

    def over(self, other: PolicyEstimate) -> Contributions:
        """The difference from another policy's return, corrected by one kind of weights for both.

        Similar policies differ by little, but by far more if one were corrected by learnt weights
        and the other by propensities.
        """
        pairs = zip(self.kinds, other.kinds, strict=False)  # one side may have only the first kind
        differences = [ours - others for ours, others in pairs]
        if not differences:
            return self.contributions - other.contributions
        return differences[trusted_kind([one.sem for one in differences])]


@dataclass(frozen=True)
class LogEstimates:
    """Estimates of several policies on the same sessions.

    Attributes:
        logged: Returns of the sessions, under the policies that wrote them.
        policies: The estimates for each target.
        rows: Number of logged steps that are evidence.
        visitors: Number of visitors with these sessions; None where it is unknown.
    """

    logged: Contributions
    policies: dict[str, PolicyEstimate]
    rows: int
    visitors: int | None

    @property
    def sessions(self) -> int:
        """Number of logged sessions that are evidence."""
        return self.logged.sessions


def estimate_policies(
    dataset: Dataset, targets: Mapping[str, Target], *, held_out_only: bool, beside: bool = True
) -> LogEstimates:
    """Estimate the return of a session under each target.

    Args:
        dataset: The logs.
        targets: Policies by name.
        held_out_only: Whether only the held-out sessions are evidence, because a target was learnt
            from the others.
        beside: Whether values and weights may be fitted to the other sessions, too.

    Raises:
        InputError: There are too few sessions.
    """
    if _of_one_step(dataset):
        return _of_single_steps(SingleSteps(dataset, held_out_only=held_out_only), targets)
    rows, others, choices = _rows(dataset, held_out_only=held_out_only)
    return _of_sessions(dataset, rows, others if beside else None, choices, targets)


def refusal_of_random(dataset: Dataset) -> str | None:
    """The reason for which held-out logs cannot evaluate even a random policy; None if they can.

    More than `FIRST_LOOK_ROWS` single decisions are not checked: the check would take long, and so
    many decisions suffice for random.
    """
    if _of_one_step(dataset) and dataset.rows > FIRST_LOOK_ROWS:
        return None
    targets = {"random": RandomPolicy(dataset.spec.slate_size)}
    try:
        refusal = estimate_policies(dataset, targets, held_out_only=True).policies["random"].refusal
    except InputError as error:
        return str(error)
    return None if refusal is None else str(refusal)


@dataclass(frozen=True)
class HeldOutValue:
    """The return of a policy on held-out sessions; None with a reason if it cannot be estimated."""

    value: float | None
    reason: str = ""


def held_out_values(
    dataset: Dataset, scorers: Mapping[str, SessionScorer]
) -> dict[str, HeldOutValue]:
    """Returns on held-out sessions, by which settings and trainings are chosen.

    They have weaker requirements than a verdict, as a wrong choice between one's own trainings
    costs little. For sessions they come from the model of values alone; where policies are far from
    the logs, its correction adds more variance than it removes bias. The model is fitted only to
    held-out sessions: policies learnt from the others prefer what these happen to favour.
    """
    targets = {name: ScoringPolicy(scorer) for name, scorer in scorers.items()}
    found = estimate_policies(dataset, targets, held_out_only=True, beside=False).policies
    return {
        name: HeldOutValue(one.estimates["dr" if "dr" in one.estimates else "dm"].value)
        if one.guess is None
        else HeldOutValue(None, str(one.guess))
        for name, one in found.items()
    }


def unsupported_shares(dataset: Dataset, scorers: Mapping[str, SessionScorer]) -> dict[str, float]:
    """The share of each scorer's choices that the logs hardly show.

    Raises:
        InputError: There are too few sessions.
    """
    targets = {name: ScoringPolicy(scorer) for name, scorer in scorers.items()}
    if _of_one_step(dataset):
        return SingleSteps(dataset, held_out_only=True).unsupported(targets)
    rows, others, _ = _rows(dataset, held_out_only=True)
    sessions = _SessionsByState(dataset, rows, others)
    return {name: sessions.of(target).unsupported(target) for name, target in targets.items()}


def _of_one_step(dataset: Dataset) -> bool:
    """True if rows are single decisions, in each of which the user sees one candidate."""
    return dataset.spec.horizon == 1 and not dataset.spec.user_chooses


def _of_single_steps(steps: SingleSteps, targets: Mapping[str, Target]) -> LogEstimates:
    logged, weights, unfit = steps.evaluate(targets)
    visitors = steps.visitors
    found = {
        name: PolicyEstimate(
            visitors.contributions(weighted),
            "dr",
            overlap,
            overlap.unseen(),
            overlap.refusal() or unfit,
        )
        for name, (weighted, overlap) in weights.items()
    }
    return LogEstimates(visitors.sums(logged), found, steps.rows, visitors.count)


def _rows(
    dataset: Dataset, *, held_out_only: bool
) -> tuple[Trajectories, Trajectories | None, RepeatedChoices]:
    """Whole sessions that are evidence, spread evenly over the dataset, others, and first choices.

    A policy learnt from the others is fixed when values and weights are fitted to these: the
    evidence corrects errors of both, which the policy's choices may have made larger.
    """
    most = MOST_SLATES if dataset.spec.user_chooses else MOST_ROWS
    every = max(-(-dataset.rows // (most * (HELD_OUT if held_out_only else 1))), 1)
    room = most - dataset.rows // HELD_OUT
    of_beside = -(-dataset.rows // room) if held_out_only and room > 0 else 0
    kept, beside, choices, earlier = [], [], [], 0
    for _, rows, held_out in parts_and_held_out(dataset):
        number = earlier + rows.sessions
        evidence = held_out if held_out_only else np.ones(len(rows), np.bool_)
        among = number // HELD_OUT if held_out_only else number  # every fifth may be held out
        evidence = evidence & (among % every == 0)
        kept.append(rows.where(evidence))
        choices.append(RepeatedChoices.of(rows, evidence))
        if of_beside:
            beside.append(rows.where(~held_out & (number % of_beside == 0)))
        earlier += len(rows.starts)
    rows = Trajectories.from_parts(kept) if kept else dataset.read()
    require_two(len(rows.starts), dataset, held_out_only=held_out_only)
    others = Trajectories.from_parts(beside) if beside else None
    return rows, others, RepeatedChoices.joined(choices)


def _of_sessions(
    dataset: Dataset,
    rows: Trajectories,
    beside: Trajectories | None,
    choices: RepeatedChoices,
    targets: Mapping[str, Target],
) -> LogEstimates:
    weights, sessions = DecisionWeights.of(dataset, rows), _SessionsByState(dataset, rows, beside)
    visitors = Visitors.of(None if rows.visitor is None else rows.visitor[rows.starts])
    unfit = weights.refusal() or choices.refusal() or visitors.refusal()
    evidence = _Evidence(weights, visitors, unfit)
    found = {
        name: evidence.estimate(sessions.of(target), target) for name, target in targets.items()
    }
    each = _rewards(rows)
    returns = np.add.reduceat(each, rows.starts)
    logged = visitors.sums(Contributions.of(np.zeros(len(returns)), returns, each))
    return LogEstimates(logged, found, len(rows), visitors.count)


class _SessionsByState:
    """Sessions, prepared once for all targets with the same session memory."""

    def __init__(self, dataset: Dataset, rows: Trajectories, beside: Trajectories | None) -> None:
        self.spec, self.rows, self.beside = dataset.spec, rows, beside
        # State for a target without a session memory of its own
        self.state = STATELESS if dataset.spec.user_chooses else session_state(dataset)
        self.prepared: dict[SessionState, PreparedSessions] = {}

    def of(self, target: Target) -> PreparedSessions:
        """The sessions for a target."""
        own = tuple(target.scorer.decays.tolist()) if isinstance(target, ScoringPolicy) else ()
        state = SessionState(own) if own else self.state
        if state not in self.prepared:
            self.prepared[state] = prepared_sessions(self.rows, self.spec, state, self.beside)
        return self.prepared[state]


def prepared_sessions(
    rows: Trajectories,
    spec: EnvironmentSpec,
    state: SessionState = STATELESS,
    beside: Trajectories | None = None,
) -> PreparedSessions:
    """Sessions prepared for targets with this session state; see `ItemSessions`."""
    if spec.user_chooses:
        return SlateSessions(rows, spec, beside)
    return ItemSessions(rows, spec, state, beside)


@dataclass(frozen=True)
class _Evidence:
    """Whole sessions from which targets are estimated.

    Attributes:
        weights: Weights of their decisions, by propensities.
        visitors: Their visitors.
        unfit: The refusal if they cannot evaluate any policy; otherwise None.
    """

    weights: DecisionWeights
    visitors: Visitors
    unfit: NoVerdict | None

    def estimate(self, sessions: PreparedSessions, target: Target) -> PolicyEstimate:
        """Estimate a target's return with all estimators, and ask the gate."""
        probability = sessions.probabilities(target)
        ratio = self.weights.of_decisions(probability)
        estimated, reward = sessions.estimate(target, ratio), _rewards(sessions.rows)
        correction = estimated.trusted
        of_one = self.weights.of_one * float(probability.max(initial=0.0))
        model = Contributions(estimated.start)
        drl = estimated.contributions(correction, reward, of_one)
        overlap = Overlap.of_weights(
            correction.weight,
            self.visitors.totals(correction.weighted),
            sessions.unsupported(target),
            self.weights.checked(probability),
            skewness=abs(drl.skewness) if drl.rewarded is None else 0.0,
            events=rare(reward),
        )
        learnt = len(correction.weight) if correction is estimated.learnt else 0
        guess = _guess(sessions, overlap, model, drl)
        refusal = (
            self.unfit
            or _too_few(sessions, overlap, learnt)
            or guess
            or self._contradiction(sessions, estimated, drl, ratio)
        )
        kinds = [estimated.contributions(one, reward, of_one) for one in estimated.kinds]
        return PolicyEstimate(
            self.visitors.contributions(
                {**self.weights.estimates(probability), "dm": model, "drl": drl}
            ),
            "drl",
            overlap,
            guess,
            refusal,
            [self.visitors.sums(one) for one in kinds],
        )

    def _contradiction(
        self, sessions: PreparedSessions, estimated: Estimated, drl: Contributions, ratio: Array
    ) -> NoVerdict | None:
        """The refusal if propensities, or the range of possible returns, contradict an estimate."""
        return (
            estimated.refusal(one_policy=not self.weights.known)
            or _impossible(drl.value, sessions.rows, _chance(drl))
            or disagreement(estimated, ratio, self.visitors)
        )


def _rewards(rows: Trajectories) -> Array:
    """(R,) rewards, in double precision."""
    return rows.reward.astype(np.float64)


def _guess(
    sessions: PreparedSessions, overlap: Overlap, model: Contributions, drl: Contributions
) -> NoVerdict | None:
    """The refusal if estimates are mere guesses; None if they can choose between trainings."""
    return (
        sessions.unfit
        or _few(sessions.fitted_steps, sessions.least_steps)
        or overlap.unseen()
        or _impossible(model.value, sessions.rows, _chance(drl))
    )


def _too_few(sessions: PreparedSessions, overlap: Overlap, learnt: int) -> NoVerdict | None:
    """The refusal if sessions are too few for a verdict, or overlap too little; otherwise None.

    Args:
        sessions: The sessions.
        overlap: Their overlap with the target.
        learnt: Number of steps with learnt weights; 0 where these follow from the propensities.
    """
    return (
        sessions.unfit
        or _few(sessions.fitted_steps, sessions.verdict_steps(by_propensity=not learnt))
        or overlap.learnt_refusal(learnt, len(sessions.rows.starts))
    )


def _chance(estimate: Contributions) -> tuple[float, float]:
    """Ends of an estimate's interval, less the estimate."""
    low, high = estimate.interval()
    return low - estimate.value, high - estimate.value


def _few(steps: int, least: int) -> NoVerdict | None:
    """The refusal if there are too few steps for the features of values and weights."""
    if steps >= least:
        return None
    return NoVerdict(
        f"values and weights are learnt from {steps:,} logged steps, but at least {least:,} are "
        "needed",
        "log more sessions",
    )


def _impossible(
    value: float, rows: Trajectories, chance: tuple[float, float] = (0.0, 0.0)
) -> NoVerdict | None:
    """The refusal if no session can have this return, even allowing for chance.

    Where policies earn nearly the possible maximum, or nothing, chance moves estimates beyond it.

    Args:
        value: The estimate.
        rows: Whole sessions.
        chance: Ends of the trusted estimate's interval, less this estimate. An interval wider than
            the possible range is not allowed for.
    """
    steps, rewards = int(rows.lengths.max()), rows.reward
    low, high = steps * float(rewards.min()), steps * float(rewards.max())
    if rows.lengths.min() < steps:  # shorter sessions return less
        low, high = min(low, 0.0, float(rewards.min())), max(high, 0.0, float(rewards.max()))
    rounding = 1e-6 * max(abs(low), abs(high))
    below, above = chance if chance[1] - chance[0] <= high - low else (0.0, 0.0)
    if low - rounding <= value + above and value + below <= high + rounding:
        return None
    return NoVerdict(
        f"the estimate is {value:.4g}, but a session can return only {low:.4g} to {high:.4g}",
        "log more of what this policy shows",
    )
