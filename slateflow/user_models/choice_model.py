"""Fits the choice model to logged clicks: conditional logit, of latent classes where it pays.

The classes are fitted by expectation and maximisation (Dempster et al. 1977; for the logit, Train
2008, "EM algorithms for nonparametric estimation of mixing distributions"), each maximisation
by one Newton step on the weighted, concave likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.policies.slate_choice import (
    LIKENESS,
    ChoiceModel,
    Link,
    RandomFeatures,
    choice_features,
    item_features,
    likeness,
)
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.bilinear import LinearStatistics
from slateflow.user_models.evidence import LINK, RANDOM, USER, WeightGroups, chosen_prior

Array = NDArray[np.float64]

Prior = float | Array | WeightGroups
"""Precision on all weights, or on each, or the groups for each of which the evidence chooses one.
The weight of no click is the last."""

PRIOR_STEPS = 4
"""Steps at which the evidence chooses; by then the regression hardly changes."""

ITERATIONS, TOLERANCE = 60, 1e-5
"""Steps at most, and the gain of mean log-likelihood of a row below which they end."""

HELD_OUT = 5
"""Every fifth episode is held out when the number of classes is chosen."""


def of_places(places: int) -> Array:
    """(K, K − 1) features of the places of a slate, beside the first.

    Example:
        >>> of_places(3).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return np.eye(places)[:, 1:]


@dataclass(frozen=True)
class SlateFeatures:
    """Features that models have of the items of a slate.

    Attributes:
        features_match: Whether users are observed in the features of the documents. Elsewhere the
            choice has the user's features, too: some click more than others, whatever is shown.
        places: Whether an item's place is one of its features.
        alike: Whether its `likeness` to the others of the slate is, too.
        random: W random features by which users choose; None for none.
        link: H hinges of the log-odds that the others tell; None for none.
        alone: How many columns of a document, the last, have no products with the user's.
    """

    features_match: bool
    places: bool = False
    alike: bool = False
    random: RandomFeatures | None = None
    link: Link | None = None
    alone: int = 0

    def of_items(self, user: NDArray[np.floating], documents: NDArray[np.floating]) -> Array:
        """(R, K, I) of documents (R, K, D) to users (R, U); see `item_features`."""
        multiplied = documents[:, :, : documents.shape[2] - self.alone]
        found = item_features(user, multiplied, self.features_match)
        if not self.alone:
            return found
        return np.concatenate([documents, found[:, :, multiplied.shape[2] :]], axis=2)

    def of(self, user: NDArray[np.floating], documents: NDArray[np.floating]) -> Array:
        """(R, K, E + P) by which users (R, U) choose among documents (R, K, D).

        The first E tell nothing of what a document is worth once it is chosen.
        """
        found = [self.of_items(user, documents)]
        if self.places:
            of_place = of_places(documents.shape[1])
            found.append(np.broadcast_to(of_place, (*documents.shape[:2], of_place.shape[1])))
        if self.alike:
            found.append(likeness(documents))
        known = np.concatenate(found, axis=2) if found[1:] else found[0]
        if self.features_match:
            return known
        return choice_features(user, documents, known, self.random, self.link)

    def beside(self, users: int) -> int:
        """E, where users have so many features."""
        if self.features_match:
            return 0
        return users + len(self.random or ()) + len(self.link or ())

    def groups(self, users: int, documents: int, places: int) -> WeightGroups:
        """Groups of the weights (E + P,), where slates have so many places."""
        own = WeightGroups.of_items(users, documents, self.features_match, self.alone)
        after = (places - 1) * self.places + LIKENESS * self.alike
        if self.features_match:
            return own.padded(0, after)
        counts = users, len(self.random or ()), len(self.link or ())
        return own.padded(0, after).after(np.repeat([USER, RANDOM, LINK], counts))


@dataclass(frozen=True)
class Choices:
    """Shown items and clicks, grouped by episode: a session has a single user.

    Attributes:
        shown: (R, K, P) features of the shown items.
        clicked: (R,) the clicked place, −1 for none.
        starts: (E,) first row of each episode.
    """

    shown: Array
    clicked: NDArray[np.int32]
    starts: NDArray[np.intp]

    @classmethod
    def from_rows(cls, rows: Trajectories, features: SlateFeatures) -> Choices:
        """Take logged steps, sorted by episode, then step."""
        return cls(features.of(rows.user, rows.shown_features()), rows.clicked, rows.starts)

    @property
    def lengths(self) -> NDArray[np.intp]:
        """(E,) rows of each episode."""
        return np.diff(np.append(self.starts, len(self.clicked)))

    @property
    def has_click(self) -> NDArray[np.bool_]:
        """(E,) whether an episode has one."""
        return np.logical_or.reduceat(self.clicked >= 0, self.starts)

    def only(self, episodes: NDArray[np.bool_]) -> Choices:
        """The choices of some of the episodes (E,)."""
        rows = np.repeat(episodes, self.lengths)
        starts = np.cumsum(np.append(0, self.lengths[episodes]))[:-1]
        return Choices(self.shown[rows], self.clicked[rows], starts)

    def log_likelihoods(self, model: ChoiceModel) -> Array:
        """(R, G) logarithm of the probability of each choice, by class."""
        log = model.log_probabilities(self.shown)
        return np.asarray(log[:, np.arange(len(self.clicked)), self.clicked].T)

    def members(self, model: ChoiceModel) -> Array:
        """(R, G) probabilities of the classes, from all choices of the row's session."""
        totals = np.add.reduceat(self.log_likelihoods(model), self.starts)
        return np.asarray(np.repeat(model.posterior(totals), self.lengths, axis=0))

    def evidence(self, model: ChoiceModel) -> Array:
        """(E,) logarithm of the probability of each session's choices."""
        joint = np.add.reduceat(self.log_likelihoods(model), self.starts) + np.log(model.shares)
        return np.asarray(np.logaddexp.reduce(joint, axis=1))


def fit_choice_model(
    choices: Choices, classes: int, prior: Prior, rng: np.random.Generator
) -> ChoiceModel:
    """The model of that many classes; with 0 as many as predict held-out episodes best.

    Args:
        choices: The logged ones.
        classes: G, or 0. Then the number is doubled from 1 for as long as the held-out episodes
            become more likely by more than two standard errors.
        prior: Precision on the weights (P + 1,), or the items' groups (P,), whose precision the
            evidence chooses.
        rng: For the classes' first weights.

    Raises:
        InputError: No clicks, or no finite features.
    """
    if not (choices.clicked >= 0).any():
        raise InputError("dataset: expected rows with a click, got none")
    if not np.isfinite(choices.shown).all():
        raise InputError("user, candidates: expected finite numbers, got NaN or infinity")
    if classes:
        return _expectation_maximisation(choices, classes, prior, rng)
    held_out = np.arange(len(choices.starts)) % HELD_OUT == HELD_OUT - 1
    classes = 1
    if held_out.any():
        fitted, unseen = choices.only(~held_out), choices.only(held_out)
        evidence = unseen.evidence(_expectation_maximisation(fitted, 1, prior, rng))
        while True:
            finer = _expectation_maximisation(fitted, 2 * classes, prior, rng)
            gain = unseen.evidence(finer) - evidence
            if gain.mean() <= 2 * gain.std() / np.sqrt(len(gain)):
                break
            classes, evidence = 2 * classes, evidence + gain
    return _expectation_maximisation(choices, classes, prior, rng)


def _expectation_maximisation(
    choices: Choices,
    classes: int,
    prior: Prior,
    rng: np.random.Generator,
) -> ChoiceModel:
    """Until the mean log-likelihood of a row rises by less than `TOLERANCE`.

    A step of Newton's that goes too far is halved.
    """
    size = choices.shown.shape[2] + 1  # the last weight is that of no click
    weights = np.zeros((1, size))
    if classes > 1:
        one = _expectation_maximisation(choices, 1, prior, rng)
        common = np.append(one.weights[0], one.no_click)
        weights = common + 0.3 * rng.standard_normal((classes, size))
    shares, last, before = np.full(classes, 1 / classes), -np.inf, weights
    precision = np.zeros((classes, size, size))
    for step in range(ITERATIONS):
        model = ChoiceModel(weights[:, :-1], weights[:, -1], shares)
        evidence = choices.evidence(model)
        mean = evidence.sum() / len(choices.clicked)
        if mean < last - TOLERANCE:
            weights = (before + weights) / 2
            continue
        if mean - last < TOLERANCE:
            break
        last, before = mean, weights.copy()
        totals = np.add.reduceat(choices.log_likelihoods(model), choices.starts)
        posterior = model.posterior(totals)  # (E, G)
        shares = np.maximum(posterior.mean(axis=0), 1e-12)
        member = np.repeat(posterior, choices.lengths, axis=0)  # (R, G)
        probabilities = np.exp(model.log_probabilities(choices.shown))
        for g, old in enumerate(before):
            found = _information_and_score(choices, probabilities[g], member[:, g])
            if step < PRIOR_STEPS:
                precision[g] = _precision(*found, old, prior, choices)
            information, score = found[0] + precision[g], found[1] - precision[g] @ old
            weights[g] = old + np.linalg.solve(information, score)
    return ChoiceModel(weights[:, :-1], weights[:, -1], shares)


def _precision(
    information: Array, score: Array, weights: Array, prior: Prior, choices: Choices
) -> Array:
    """Precision (P + 1, P + 1) of the prior; of groups, by the evidence of the working regression.

    (Breslow and Clayton 1993, "Approximate Inference in Generalized Linear Mixed Models".)
    """
    if not isinstance(prior, WeightGroups):
        return prior_precision(prior, len(weights))
    squares, sizes = np.square(choices.shown).sum(axis=(0, 1)), np.abs(choices.shown).sum((0, 1))
    usual = np.divide(squares, sizes, out=np.ones_like(squares), where=sizes > 0)
    working = LinearStatistics(
        gram=information,
        moment=information @ weights + score,
        reward_squares=0.0,
        rows=len(choices.clicked),
        magnitude=np.diag(information) / np.append(usual, 1.0),
    )
    return chosen_prior(working, prior.padded(0, 1), noise=1.0)


def prior_precision(prior: float | Array, weights: int) -> Array:
    """(P, P) of so many weights."""
    return np.diag(np.broadcast_to(prior, weights))


def influences(choices: Choices, model: ChoiceModel, member: Array, prior: float | Array) -> Array:
    """How far each session moves the fitted weights of a class.

    (White 1982, "Maximum Likelihood Estimation of Misspecified Models", theorem 3.2.)

    Args:
        choices: Choices that the model was fitted to.
        model: Of the class alone.
        member: (E,) how likely each session is of the class.
        prior: Precision on the weights.

    Returns:
        (E, P + 1), of the items' features and of no click.
    """
    of_rows = np.repeat(member, choices.lengths)
    probabilities = np.exp(model.log_probabilities(choices.shown)[0])
    information, _ = _information_and_score(choices, probabilities, of_rows)
    scores = _surprises(choices, probabilities) * of_rows[:, None]
    scores = np.add.reduceat(scores, choices.starts)
    information += prior_precision(prior, len(information))
    return np.asarray(np.linalg.solve(information, scores.T).T)


def _surprises(choices: Choices, probabilities: Array) -> Array:
    """(R, P + 1) features of the chosen, less the expected ones."""
    shown, clicked = choices.shown, choices.clicked
    expected = np.einsum("rk,rkp->rp", probabilities[:, :-1], shown)
    place = np.maximum(clicked, 0)[:, None, None]
    chosen = np.take_along_axis(shown, place, axis=1)[:, 0] * (clicked >= 0)[:, None]
    return np.column_stack([chosen - expected, (clicked < 0) - probabilities[:, -1]])


def _information_and_score(
    choices: Choices, probabilities: Array, member: Array
) -> tuple[Array, Array]:
    """Information (P + 1, P + 1) and score (P + 1,) of the logit of one class."""
    shown, clicked = choices.shown, choices.clicked
    places, size = shown.shape[1:]
    of_items = probabilities[:, :-1]
    expected = np.einsum("rk,rkp->rp", of_items, shown)
    surprise = member[:, None] * (
        np.where(clicked < 0, places, clicked)[:, None] == np.arange(places + 1)
    )
    surprise -= member[:, None] * probabilities
    of_shown = surprise[:, :-1].ravel() @ shown.reshape(-1, size)
    score = np.append(of_shown, surprise[:, -1].sum())
    # The information is that of the features, no click's own among them, around their mean.
    spread = (shown * np.sqrt(of_items * member[:, None])[:, :, None]).reshape(-1, size)
    mean = np.column_stack([expected, probabilities[:, -1]]) * np.sqrt(member)[:, None]
    information = -mean.T @ mean
    information[:size, :size] += spread.T @ spread
    information[size, size] += member @ probabilities[:, -1]
    return information, score
