"""Fitted-Q iteration in closed form.

Backwards from the end of the episode: Q₁ regresses the reward on a polynomial of (user,
candidate), and Q_k regresses the reward plus the best Q_{k-1} at the next step's candidates
(Ernst, Geurts and Wehenkel 2005, "Tree-Based Batch Mode Reinforcement Learning", figure 1, with
least squares in place of trees). `backward_stages` is the recursion.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.evaluation.off_policy.backward_stages import (
    Part,
    Stage,
    StageFile,
    StageSums,
    Transitions,
    backward_stages,
)
from slateflow.learners.config import (
    CountOrZero,
    Curves,
    LearnerConfig,
    NonNegative,
    Trained,
)
from slateflow.learners.features import FeatureMoments, episode_ends
from slateflow.learners.passes import repeatable, sampled
from slateflow.learners.search_space import Range, Space
from slateflow.policies import Scorer
from slateflow.policies.scorer import Support, monomials
from slateflow.progress import Progress, unwatched
from slateflow.ray_cluster import cluster_address, connected, map_tasks
from slateflow.trajectories import Dataset, PartFile, Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.held_out_choice import simplest
from slateflow.user_models.polynomial import of_degree, powers, term_count
from slateflow.user_models.reward_model import RewardScale
from slateflow.user_models.session_memory import fitting_decays, with_session_memory
from slateflow.user_models.support import left_out, logged_support, rarity_weights, without_gaps
from slateflow.validation import validated

Array = NDArray[np.float64]
Powers = NDArray[np.int64]

DEGREES = (1, 2, 3, 4, 5)
"""Among which held-out episodes choose."""

MOST_TERMS = 150
"""Polynomials of more terms are not tried, but for the products of user and candidate alone."""

MOST_PRODUCTS = 3_000
"""Of user and candidate."""

RIDGES = (1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Among which held-out episodes choose."""

CHOOSING_ROWS = 30_000
"""Rows by which degree and ridge are chosen, at most; whole episodes."""

FOLDS = 5
"""Of the episodes."""

SETTLED = 0.01
"""Change of the preferences by a stage, relative to them, below which none is added."""

PATIENCE = 5
"""Stages after which preferences have to change less; otherwise the values grow without bound."""

SPREAD_ROWS = 3_000
"""Rows by which preferences are measured, at most."""

SAMPLE_ROWS = 1_000_000
"""Rows that are in memory together, at most; of more, every so many sessions."""


@validated
class FittedQConfig(LearnerConfig):
    """Fitted-Q iteration by least squares on polynomials (Ernst et al. 2005)."""

    learner: ClassVar[str] = "fitted-q"
    search_space: ClassVar[Space] = {
        "degree": Range(2, 5, whole=True),
        "window": Range(6, 20, whole=True),
        "ridge": Range(1e-10, 1e-6, log=True),
    }

    window: CountOrZero = 0
    """Steps back from the end for which a Q-function of their own is fitted; 0 for as many as
    change what is preferred."""
    degree: CountOrZero = 0
    """Degree of the polynomial in user and candidate, 1 for their products alone; 0 for the least
    that held-out episodes find as good as any."""
    ridge: NonNegative = 0.0
    """Precision of the prior on the weights, for each row; 0 for the one that held-out episodes
    choose."""

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Fit stage by stage; all rows with a successor serve at every stage."""
        parts = Parts.of(dataset)
        steps = parts.sample
        degree, ridge = chosen_basis(steps, self.degree, self.ridge)
        window = self.window
        curves = Curves()
        if checkpoints is not None and dataset.rows > SAMPLE_ROWS:  # of fewer a stage is nothing
            parts = replace(parts, folder=self.checkpoint(checkpoints, dataset, seed))
        while (stages := fitted_stages(parts, degree, ridge, window, progress, curves)) is None:
            # Rather a coarser polynomial, and at last a nearer horizon, than values that grow
            degree, window = (degree, PATIENCE) if self.degree or degree == 1 else (degree - 1, 0)
            curves = Curves()
        # Where nobody knows how many steps are left, the last stage serves all
        served = stages if steps.transitions.timed else stages[-1:]
        fitted = replace(
            steps.scorer(degree),
            user_size=dataset.spec.user_size,
            window=len(served),
            head=np.stack([stage.weights for stage in served]),
            head_bias=np.zeros(len(served)),
            decays=np.array(parts.decays),
        )
        if parts.folder is not None:
            shutil.rmtree(parts.folder, ignore_errors=True)
        return Trained(fitted, curves)


@dataclass(frozen=True)
class LoggedSteps:
    """Logged steps with their scaled rewards (R,), in a world, and the moments of their features.

    The session memory counts as features of the user. The user responds to the first place. What
    the support leaves out is not chosen where anything else is offered. `timed` says whether all
    sessions, not only these, have the same number of steps.
    """

    rows: Trajectories
    rewards: NDArray[np.float32]
    spec: EnvironmentSpec
    moments: FeatureMoments
    support: Support
    timed: bool

    @cached_property
    def transitions(self) -> Transitions:
        """The steps to which values are fitted, T of them."""
        return Transitions.from_rows(self.rows, self.timed)

    @property
    def _numbers(self) -> int:
        """Of the candidates' features at a step."""
        return self.spec.num_candidates * self.spec.document_size

    @cached_property
    def reward(self) -> Array:
        """(T,) scaled rewards of these steps."""
        return self.rewards[self.transitions.rows].astype(np.float64)

    def only(self, chosen: NDArray[np.bool_]) -> LoggedSteps:
        """Some of the episodes, by a mask (R,) of their rows."""
        return replace(self, rows=self.rows.where(chosen), rewards=self.rewards[chosen])

    def exponents(self, degree: int) -> Powers:
        """(P, F) exponents of the monomials of (user, candidate); 0 for the time."""
        users, documents = self.rows.user.shape[1], self.spec.document_size
        return np.insert(powers(users, documents, degree), users, 0, axis=1)

    def scorer(self, degree: int, weights: Array | None = None) -> Scorer:
        """A scorer that does not know the time; without weights (P,) it likes all equally."""
        exponents = self.exponents(degree)
        return Scorer(
            user_size=self.rows.user.shape[1],
            slate_size=self.spec.slate_size,
            horizon=self.spec.horizon,
            window=1,
            offset=self.moments.offset,
            scale=self.moments.scale,
            powers=exponents,
            head=(np.zeros(len(exponents)) if weights is None else weights)[None],
            head_bias=np.zeros(1),
            support=without_gaps(self.support),
        )

    def design(self, exponents: Powers, block: slice) -> Array:
        """Monomials (B, P) of what was shown first, of a slice of the T steps."""
        chosen = self.transitions.rows[block]
        shown = self.rows.features_at(self.rows.slate[chosen, 0], chosen)
        return monomials(self._standardised(chosen, shown), exponents)

    def _standardised(self, chosen: NDArray[np.intp], candidates: NDArray[np.floating]) -> Array:
        """(…, F) features of these rows (B,) and candidates (B, …, D) of theirs; 1 for the time."""
        known = np.column_stack([self.rows.user[chosen], np.ones(len(chosen))])
        known = known.reshape(len(known), *[1] * (candidates.ndim - 2), -1)
        known = np.broadcast_to(known, (*candidates.shape[:-1], known.shape[-1]))
        x = np.concatenate([known, candidates], axis=-1)
        return np.asarray((x - self.moments.offset) / self.moments.scale)

    def best_next(self, scorer: Scorer) -> Array:
        """(S,) the best score at each of the rows that follow."""
        following, rows = self.transitions.following, self.rows
        scorer, best = replace(scorer, support=None), np.empty(len(following))
        for block in blocks(len(following), self._numbers):
            now = following[block]
            offered = rows.candidate_features(now)
            scores = scorer.scores(rows.user[now], rows.step[now], offered)
            if self._left_out is not None:
                scores[self._left_out[block]] = -np.inf
            best[block] = scores.max(axis=1)
        return best

    @cached_property
    def _left_out(self) -> NDArray[np.bool_] | None:
        """(S, N) candidates of the rows that follow which the logs hardly show; never all."""
        following = self.transitions.following
        if without_gaps(self.support) is None:
            return None
        return left_out(self.support, self.rows)[following]

    @cached_property
    def weights(self) -> Array:
        """(T,) by which the steps count."""
        shown = self.rows.features_at(self.rows.slate[:, 0])[self.transitions.rows]
        return rarity_weights(self.support, shown.astype(np.float64))

    def spread(self, exponents: Powers) -> Array:
        """(P, P) covariance of the monomials among the candidates of a step.

        By it, weights w prefer some candidates to others by a standard deviation of √(w' C w).
        """
        steps = self.transitions.rows
        few = steps[:: -(-len(steps) // SPREAD_ROWS)]
        total = np.zeros((len(exponents), len(exponents)))
        for row in np.array_split(few, -(-len(few) // 100)):
            x = monomials(self._standardised(row, self.rows.candidate_features(row)), exponents)
            x = (x - x.mean(axis=1, keepdims=True)).reshape(-1, len(exponents))
            total += x.T @ x
        return total


@dataclass(frozen=True)
class View:
    """What the rows of every part are seen by, fitted on a sample of them."""

    spec: EnvironmentSpec
    moments: FeatureMoments
    support: Support
    scale: RewardScale
    decays: tuple[float, ...]
    timed: bool

    def steps(self, rows: Trajectories) -> LoggedSteps:
        """The steps of logged rows."""
        known = with_session_memory(rows, self.decays)
        rewards = self.scale.scaled(known, centred=self.timed)
        return LoggedSteps(known, rewards, self.spec, self.moments, self.support, self.timed)


@dataclass(frozen=True)
class Parts:
    """The logged steps of a dataset, a part in memory at a time, and a sample of them.

    Parts that fit into memory together are read once, others at every pass, where there is a Ray
    cluster by its processors. The folder has the stages of a training that was killed.
    """

    map: Callable[[Callable[[LoggedSteps], StageSums]], Iterable[StageSums]]
    sample: LoggedSteps
    decays: tuple[float, ...] = ()
    folder: Path | None = None

    def stage_file(self, degree: int, window: int) -> StageFile:
        """The file of the stages of a polynomial."""
        return StageFile(self.folder and self.folder / f"stages-{degree}-{window}.npz")

    @classmethod
    def in_memory(cls, steps: LoggedSteps) -> Parts:
        """These steps and no others."""
        return cls(lambda function: [function(steps)], steps)

    @classmethod
    def of(cls, dataset: Dataset) -> Parts:
        """Check the rows, and fit on a sample of the parts what all others are seen by."""
        decays = fitting_decays(dataset)
        moments = FeatureMoments.from_dataset(dataset, decays)
        lengths: set[int] = set()

        def look(rows: Trajectories) -> None:
            episode_ends(rows)  # checked
            if not np.isfinite(rows.reward).all():
                raise InputError("reward: expected finite numbers, got NaN or infinity")
            lengths.update(np.unique(rows.lengths).tolist())

        few = sampled(dataset, SAMPLE_ROWS, look)
        sample = with_session_memory(few, decays)
        check_variation(sample)
        view = View(
            spec=dataset.spec,
            moments=moments,
            support=logged_support(sample),
            scale=RewardScale.from_rows(sample),
            decays=decays,
            timed=len(lengths) == 1,
        )
        return cls(_over_parts(dataset, view), view.steps(few), decays)


def _over_parts(
    dataset: Dataset, view: View
) -> Callable[[Callable[[LoggedSteps], StageSums]], Iterable[StageSums]]:
    """Applies functions to the parts: kept in memory, by a cluster, or read again each time."""
    address, keep = cluster_address(), dataset.rows <= SAMPLE_ROWS
    there = replace(dataset, folder=dataset.folder.absolute(), parts=())
    read = repeatable(lambda: map(view.steps, dataset.iter_parts()), keep)

    def in_cluster(function: Callable[[LoggedSteps], StageSums]) -> Iterator[StageSums]:
        assert address is not None
        with connected(address):
            jobs = [(there, part, view, function) for part in dataset.parts]
            yield from map_tasks(_of_part, jobs)

    return in_cluster if address and not keep else lambda function: map(function, read())


def _of_part(
    dataset: Dataset, part: PartFile, view: View, function: Callable[[LoggedSteps], StageSums]
) -> StageSums:
    return function(view.steps(dataset.part(part)))


@dataclass(frozen=True)
class _Part:
    """Logged steps as the stages see them, by a polynomial."""

    steps: LoggedSteps
    degree: int

    @property
    def transitions(self) -> Transitions:
        return self.steps.transitions

    @property
    def reward(self) -> Array:
        return self.steps.reward

    @property
    def weights(self) -> Array:
        return self.steps.weights

    @cached_property
    def _exponents(self) -> Powers:
        return self.steps.exponents(self.degree)

    def design(self, block: slice) -> Array:
        return self.steps.design(self._exponents, block)

    def best_next(self, weights: Array) -> Array:
        return self.steps.best_next(self.steps.scorer(self.degree, weights))


def fitted_stages(
    parts: Parts,
    degree: int,
    ridge: float,
    window: int,
    progress: Progress,
    curves: Curves,
) -> list[Stage] | None:
    """Go back from the end by `window` stages, with 0 until preferences settle.

    The residual of each stage is added to the curves.
    None where they do not settle but grow, because the polynomial extrapolates.
    """
    steps, exponents = parts.sample, parts.sample.exponents(degree)
    most = steps.transitions.most_stages(window or steps.spec.horizon)
    spread = steps.spread(exponents)
    stages: list[Stage] = []

    def map_parts(function: Callable[[Part], StageSums]) -> Iterable[StageSums]:
        return parts.map(partial(_of_degree, function, degree))

    changes: list[float] = []
    file = parts.stage_file(degree, window)
    for stage in backward_stages(map_parts, len(exponents), most, steps.timed, ridge, file):
        stages.append(stage)
        if len(stages) < most:
            progress(len(stages), most)
        curves.add("residual", stage.residual)
        if window or len(stages) < 2:
            continue
        change = stage.weights - stages[-2].weights
        changes.append(float(change @ spread @ change))
        if changes[-1] <= SETTLED**2 * float(stage.weights @ spread @ stage.weights):
            break
        if len(changes) > PATIENCE and changes[-1] > changes[-1 - PATIENCE]:
            return None
    progress(most, most)
    return stages


def _of_degree(function: Callable[[Part], StageSums], degree: int, steps: LoggedSteps) -> StageSums:
    return function(_Part(steps, degree))


def chosen_basis(steps: LoggedSteps, degree: int, ridge: float) -> tuple[int, float]:
    """Degree and ridge; of those that are 0 the ones that held-out episodes choose.

    All regress the same targets: the reward and the next values by the largest degree.

    Raises:
        InputError: The features make too many terms.
    """
    sizes = steps.rows.user.shape[1], steps.spec.document_size
    if term_count(*sizes, degree or 1) > MOST_PRODUCTS:
        raise InputError(
            f"user, candidates: expected features that make at most {MOST_PRODUCTS:,} terms of "
            f"degree {degree or 1}, got {term_count(*sizes, degree or 1):,}; lower the degree or "
            "leave features out"
        )
    small = [d for d in DEGREES if term_count(*sizes, d) <= MOST_TERMS]
    degrees = [degree] if degree else small or [1]
    ridges = [ridge] if ridge else list(RIDGES)
    few = steps.only(steps.rows.sessions % -(-len(steps.rows) // CHOOSING_ROWS) == 0)
    if len(degrees) == len(ridges) == 1 or len(few.rows.starts) < FOLDS:
        return degrees[min(len(degrees), 2) - 1], ridges[0]
    target = few.reward
    if len(few.transitions.following):
        for largest in reversed(degrees):
            stages = fitted_stages(
                Parts.in_memory(few), largest, ridge or 1e-6, 0, unwatched, Curves()
            )
            if stages is not None:
                ahead = few.best_next(few.scorer(largest, stages[-1].weights))
                target = target + few.transitions.values(ahead)
                break
            degrees = degrees[:-1] or degrees
    options = [(degree, ridge) for degree in degrees for ridge in ridges]
    errors = held_out_errors(few, target, options)
    best = [
        min(range(start, start + len(ridges)), key=lambda option: errors[:, option].sum())
        for start in range(0, len(options), len(ridges))
    ]
    return options[simplest({option: errors[:, option] for option in best})]


def held_out_errors(steps: LoggedSteps, target: Array, options: list[tuple[int, float]]) -> Array:
    """(E, O) squared errors of episodes that the regression did not see, for degrees and ridges."""
    largest = max(degree for degree, _ in options)
    exponents = steps.exponents(largest)
    size = len(exponents)
    session = steps.rows.sessions[steps.transitions.rows]
    fold = session % FOLDS
    grams, moments = np.zeros((FOLDS, size, size)), np.zeros((FOLDS, size))
    for block in blocks(len(target)):
        x = steps.design(exponents, block)
        for one in range(FOLDS):
            of_fold = fold[block] == one
            weighted = (x * steps.weights[block, None])[of_fold].T
            grams[one] += weighted @ x[of_fold]
            moments[one] += weighted @ target[block][of_fold]
    weights = np.zeros((FOLDS, size, len(options)))
    for one in range(FOLDS):
        gram, moment = grams.sum(axis=0) - grams[one], moments.sum(axis=0) - moments[one]
        for option, (degree, ridge) in enumerate(options):
            kept = np.flatnonzero(of_degree(exponents, steps.rows.user.shape[1], degree))
            precision = gram[np.ix_(kept, kept)] + ridge * (fold != one).sum() * np.eye(len(kept))
            weights[one, kept, option] = np.linalg.solve(precision, moment[kept])
    errors = np.zeros((len(steps.rows.starts), len(options)))
    for block in blocks(len(target)):
        x = steps.design(exponents, block)
        for one in range(FOLDS):
            of_fold = fold[block] == one
            wrong = target[block][of_fold, None] - x[of_fold] @ weights[one]
            squares = steps.weights[block][of_fold, None] * np.square(wrong)
            np.add.at(errors, session[block][of_fold], squares)
    return errors
