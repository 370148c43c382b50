"""Choices from slates as input of user models: features of the shown items, and clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from slateflow.user_models.prior import LINK, RANDOM, USER, WeightGroups

Array = NDArray[np.float64]


def of_places(places: int) -> Array:
    """(K, K − 1) indicators of the places of a slate after the first.

    Example:
        >>> of_places(3).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return np.eye(places)[:, 1:]


@dataclass(frozen=True)
class SlateFeatures:
    """Features of a slate's items for models of users.

    Attributes:
        features_match: Whether users are observed in the features of the documents. Otherwise
            choices depend on the user's features, too: some click more than others, whatever is
            shown.
        places: Whether an item's place is one of its features.
        alike: Whether its `likeness` to the rest of the slate is one, too.
        random: W random features by which users choose; None for none.
        link: H hinges of the log-odds by the other features, or of the affinity; None for none.
        alone: Number of last columns of a document that have no products with the user's columns.
    """

    features_match: bool
    places: bool = False
    alike: bool = False
    random: RandomFeatures | None = None
    link: Link | None = None
    alone: int = 0

    def of_items(self, user: NDArray[np.floating], documents: NDArray[np.floating]) -> Array:
        """(R, K, I) features of documents (R, K, D) for users (R, U); see `item_features`."""
        multiplied = documents[:, :, : documents.shape[2] - self.alone]
        found = item_features(user, multiplied, self.features_match)
        if not self.alone:
            return found
        return np.concatenate([documents, found[:, :, multiplied.shape[2] :]], axis=2)

    def of(self, user: NDArray[np.floating], documents: NDArray[np.floating]) -> Array:
        """(R, K, E + P) features by which users (R, U) choose among documents (R, K, D).

        The first E are not used for the value of a document once it is chosen.
        """
        found = [self.of_items(user, documents)]
        if self.places:
            of_place = of_places(documents.shape[1])
            found.append(np.broadcast_to(of_place, (*documents.shape[:2], of_place.shape[1])))
        if self.alike:
            found.append(likeness(documents))
        known = np.concatenate(found, axis=2) if found[1:] else found[0]
        return choice_features(user, documents, known, self.features_match, self.random, self.link)

    def beside(self, users: int) -> int:
        """E, for users with this many features."""
        own = 0 if self.features_match else users
        return own + len(self.random or ()) + len(self.link or ())

    def groups(self, users: int, documents: int, places: int) -> WeightGroups:
        """Groups of the weights (E + P,), for these numbers of features and places."""
        own = WeightGroups.of_items(users, documents, self.features_match, self.alone)
        after = (places - 1) * self.places + LIKENESS * self.alike
        of_user = 0 if self.features_match else users
        counts = of_user, len(self.random or ()), len(self.link or ())
        return own.padded(0, after).after(np.repeat([USER, RANDOM, LINK], counts))


@dataclass(frozen=True)
class Choices:
    """Shown items and clicks, grouped by episode, each of which has a single user.

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
        """(E,) whether an episode has a click."""
        return np.logical_or.reduceat(self.clicked >= 0, self.starts)

    def only(self, episodes: NDArray[np.bool_]) -> Choices:
        """The choices of some of the episodes (E,)."""
        rows = np.repeat(episodes, self.lengths)
        starts = np.cumsum(np.append(0, self.lengths[episodes]))[:-1]
        return Choices(self.shown[rows], self.clicked[rows], starts)

    def log_likelihoods(self, model: ChoiceModel) -> Array:
        """(R, G) log-probability of each choice, by class."""
        log = model.log_probabilities(self.shown)
        return np.asarray(log[:, np.arange(len(self.clicked)), self.clicked].T)

    def members(self, model: ChoiceModel) -> Array:
        """(R, G) probabilities of the classes, given all choices of the row's session."""
        totals = np.add.reduceat(self.log_likelihoods(model), self.starts)
        return np.asarray(np.repeat(model.posterior(totals), self.lengths, axis=0))

    def session_log_likelihoods(self, model: ChoiceModel) -> Array:
        """(E,) log-probability of each session's choices."""
        joint = np.add.reduceat(self.log_likelihoods(model), self.starts) + np.log(model.shares)
        return np.asarray(np.logaddexp.reduce(joint, axis=1))
