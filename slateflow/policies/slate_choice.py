"""Choices from slates: the features by which users choose, and the conditional logit.

Learners and verdicts fit the choice model, and `slate_scorer.py` makes slates for it. A registered
model version carries a copy of both files, so this file, too, needs nothing but NumPy.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def item_features(
    user: NDArray[np.floating], documents: NDArray[np.floating], features_match: bool
) -> Array:
    """Features (B, M, P) of documents (B, M, D) for users (B, U).

    The document's own features come first, then those of the pair. Where users are observed in the
    features of the documents (`features_match`), these are the affinity, its square and cube, and
    the products feature by feature; elsewhere all products of a user's feature and a document's.

    Example:
        >>> item_features(np.zeros((1, 0)), np.array([[[0.5, 2.0]]]), False).tolist()
        [[[0.5, 2.0]]]
    """
    user = np.asarray(user, dtype=np.float64)
    if features_match:
        size = documents.shape[2]
        found = np.empty((*documents.shape[:2], 2 * size + 3))
        found[:, :, :size] = documents
        products = np.multiply(found[:, :, :size], user[:, None], out=found[:, :, size + 3 :])
        affinity = products.sum(axis=2)
        for power in range(1, 4):
            found[:, :, size + power - 1] = affinity**power
        return found
    documents = np.asarray(documents, dtype=np.float64)
    products = documents[:, :, :, None] * user[:, None, None, :]
    products = products.reshape(*documents.shape[:2], documents.shape[2] * user.shape[1])
    return np.concatenate([documents, products], axis=2)


def user_features(user: NDArray[np.floating]) -> Array:
    """Features (B, S) of users (B, U): a constant, their own features, and the squares of these."""
    user = np.asarray(user, dtype=np.float64)
    return np.concatenate([np.ones((len(user), 1)), user, user**2], axis=1)


def choice_features(
    user: NDArray[np.floating],
    documents: NDArray[np.floating],
    known: Array,
    features_match: bool,
    random: "RandomFeatures | None" = None,
    link: "Link | None" = None,
) -> Array:
    """Features (B, M, U + W + H + P) by which users (B, U) choose among documents (B, M, D).

    Some users click more than others, whatever is shown, so the user's features come first, unless
    they match the documents'; then random features, the link, and the features `known` (B, M, P) of
    the documents.

    Example:
        >>> one, two = np.array([[3.0]]), np.array([[[0.5], [2.0]]])
        >>> choice_features(one, two, item_features(one, two, False), False).tolist()
        [[[3.0, 0.5, 1.5], [3.0, 2.0, 6.0]]]
    """
    own = user[:, :0] if features_match else user
    users = np.broadcast_to(own[:, None], (*documents.shape[:2], own.shape[1]))
    beside = [] if random is None else [random.of(users, documents)]
    if link is not None:
        beside.append(link.of(users, known))
    return np.concatenate([users, *beside, known], axis=2)


MOST_LOGIT = 300.0
"""Upper limit of an item's logit relative to no click: sums of larger weights overflow."""

LIKENESS = 2
"""Number of an item's features that measure its likeness to the rest of the slate."""


def likeness(documents: NDArray[np.floating]) -> Array:
    """(B, K, 2) summed squared distances of shown items (B, K, D) to those before and after them.

    Example:
        >>> likeness(np.array([[[0.0], [1.0], [3.0]]])).tolist()
        [[[0.0, 10.0], [1.0, 4.0], [13.0, 0.0]]]
    """
    documents = np.asarray(documents, dtype=np.float64)
    found = np.zeros((*documents.shape[:2], LIKENESS))
    for one in range(documents.shape[1]):  # few
        for later in range(one + 1, documents.shape[1]):
            distance = np.square(documents[:, one] - documents[:, later]).sum(axis=1)
            found[:, one, 1] += distance
            found[:, later, 0] += distance
    return found


@dataclass(frozen=True)
class Columns:
    """Standardisation of the columns of users, or of items, for regressions on slates.

    Columns are centred and in units of their standard deviation, so that a prior does not depend on
    their unit; those of two values become indicators. Where clicks bend with a column, hinges
    (x − knot)₊² follow the columns.
    """

    knot_feature: NDArray[np.int64]  # (H,) numbers of the columns that bend, ascending
    knot_value: Array  # (H,) their knots
    offset: Array  # (F + H,) subtracted from columns and hinges
    scale: Array  # (F + H,) by which columns and hinges are then divided

    def seen(self, x: NDArray[np.floating]) -> Array:
        """(…, F + H) standardised columns and hinges of columns (…, F)."""
        x = np.asarray(x, dtype=np.float64)
        if len(self.knot_feature):
            bent = np.square(np.maximum(x[..., self.knot_feature] - self.knot_value, 0.0))
            x = np.concatenate([x, bent], axis=-1)
        return np.asarray((x - self.offset) / self.scale)


@dataclass(frozen=True)
class RandomFeatures:
    """Rectified sums, with weights drawn at random, of the features of users and items."""

    weights: Array  # (F, W)
    biases: Array  # (W,)

    def __len__(self) -> int:
        return len(self.biases)

    def of(self, *x: NDArray[np.floating]) -> Array:
        """(…, W) random features of features (…, F), which may come in several arrays.

        Example:
            >>> RandomFeatures(np.array([[1.0, -1.0]]), np.array([0.5, 0.0])).of(np.ones((1, 1)))
            array([[1.5, 0. ]])
        """
        return np.maximum(np.concatenate(x, axis=-1) @ self.weights + self.biases, 0.0)


@dataclass(frozen=True)
class Link:
    """Hinges (v − knot)₊² of an item's log-odds v, a linear function of columns and their products.

    Where users are observed in the features of the documents, v is the affinity, without columns of
    the user. Hinges are centred and in units of their standard deviation. Odds that are
    proportional to a taste, and not to its exponential, bend in this way.
    """

    weights: Array  # (U + I,) of v in the user's columns and in `item_features`
    knots: Array  # (H,)
    offset: Array  # (H,) subtracted from the hinges
    scale: Array  # (H,) by which the hinges are then divided

    def __len__(self) -> int:
        return len(self.knots)

    def of(self, user: NDArray[np.floating], known: Array) -> Array:
        """(…, H) hinges for users (…, U) and items with features (…, P), I `item_features` first.

        Example:
            >>> link = Link(np.array([1.0, 2.0]), np.array([0.0, 4.0]), np.zeros(2), np.ones(2))
            >>> link.of(np.array([[1.0], [-3.0]]), np.array([[2.0], [1.0]])).tolist()
            [[25.0, 1.0], [0.0, 0.0]]
        """
        beyond = self.odds(user, known)[..., None] - self.knots
        return np.asarray((np.square(np.maximum(beyond, 0.0)) - self.offset) / self.scale)

    def odds(self, user: NDArray[np.floating], known: Array) -> Array:
        """(…,) log-odds v; the arguments are those of `of`."""
        of_user, of_item = np.split(self.weights, [user.shape[-1]])
        return np.asarray(user @ of_user + known[..., : len(of_item)] @ of_item)


@dataclass(frozen=True)
class ChoiceModel:
    """Conditional logit of latent classes of users (Kamakura and Russell 1989).

    A user of class g clicks item i of slate A with probability
    exp(w_g · x_i) / (exp(c_g) + Σ_{j ∈ A} exp(w_g · x_j)), and otherwise nothing. With one class it
    is McFadden's conditional logit. The session memory is the log-likelihood of the clicks so far,
    one number for each class.
    """

    weights: Array  # (G, P) of the item's features
    no_click: Array  # (G,) logits of clicking nothing
    shares: Array  # (G,) of the classes among users

    def log_probabilities(self, features: Array) -> Array:
        """Log-probabilities (G, B, K + 1) of the choices from slates (B, K, P), no click last."""
        logits = np.einsum("bkp,gp->gbk", features, self.weights)
        none = np.broadcast_to(self.no_click[:, None, None], (*logits.shape[:2], 1))
        logits = np.concatenate([logits, none], axis=2)
        logits -= logits.max(axis=2, keepdims=True)
        log: Array = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        return log

    def slope(self, probabilities: Array, worth: Array) -> Array:
        """Slope (B, K + 1) of the expected worth in the logits of the items and of no click.

        Args:
            probabilities: (B, K + 1) of the choices, of one class.
            worth: (B, K + 1) of each choice.
        """
        expected = (probabilities * worth).sum(axis=1, keepdims=True)
        return np.asarray(probabilities * (worth - expected))

    def of_class(self, index: int) -> Self:
        """The model of one class."""
        one = slice(index, index + 1)
        return type(self)(self.weights[one], self.no_click[one], np.ones(1))

    def posterior(self, memory: Array) -> Array:
        """Probabilities (B, G) of the classes, from log-likelihoods (B, G)."""
        logits = memory + np.log(self.shares)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Array = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def attraction(self, features: Array) -> Array:
        """(G, B, N) weight of each item relative to 1 for no click; e³⁰⁰ at most."""
        logits = np.einsum("bnp,gp->gbn", features, self.weights)
        return np.asarray(np.exp(np.minimum(logits - self.no_click[:, None, None], MOST_LOGIT)))
