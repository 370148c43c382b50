"""The learned slate: a choice model and a value for each item, for users who choose themselves.

Like `scorer.py`, this one file serves twice: policies are evaluated with it, and a registered
model version carries a copy of it as an artifact. It needs nothing but NumPy.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONSTRUCTIONS = ("optimal", "greedy", "top-k")
"""How a slate is made from values and a choice model (Ie et al. 2019, section 4.3)."""


def item_features(user: NDArray[np.floating], documents: NDArray[np.floating]) -> Array:
    """Features (B, M, P) of documents (B, M, D) for users (B, U).

    The document's own, and what it is to the user. Where users are observed in the features of
    the documents, that is the affinity, its square and cube, and the product feature by feature;
    elsewhere all products of a user's feature and a document's.

    Example:
        >>> item_features(np.zeros((1, 0)), np.array([[[0.5, 2.0]]])).tolist()
        [[[0.5, 2.0]]]
    """
    documents = np.asarray(documents, dtype=np.float64)
    user = np.asarray(user, dtype=np.float64)
    if user.shape[1] == documents.shape[2] > 1:
        products = documents * user[:, None]
        affinity = products.sum(axis=2, keepdims=True)
        return np.concatenate([documents, affinity, affinity**2, affinity**3, products], axis=2)
    products = documents[:, :, :, None] * user[:, None, None, :]
    return np.concatenate([documents, products.reshape(*documents.shape[:2], -1)], axis=2)


def user_features(user: NDArray[np.floating]) -> Array:
    """Features (B, S) of users (B, U): a constant, theirs, and their squares."""
    user = np.asarray(user, dtype=np.float64)
    return np.concatenate([np.ones((len(user), 1)), user, user**2], axis=1)


@dataclass(frozen=True)
class ChoiceModel:
    """Conditional logit of latent classes of users (Kamakura and Russell 1989).

    A user of class g clicks item i of slate A with probability
    exp(w_g · x_i) / (exp(c_g) + Σ_{j ∈ A} exp(w_g · x_j)), and nothing with the rest. With one
    class it is McFadden's conditional logit. What a session's clicks say about the class is
    remembered as the logarithm of the likelihood, one number a class.

    Attributes:
        weights: (G, P) of the item's features.
        no_click: (G,) logits of clicking nothing.
        shares: (G,) of the classes among users.
    """

    weights: Array
    no_click: Array
    shares: Array

    def log_probabilities(self, features: Array) -> Array:
        """Logarithms (G, B, K + 1) of the choices from slates (B, K, P), the last is no click."""
        logits = np.einsum("bkp,gp->gbk", features, self.weights)
        none = np.broadcast_to(self.no_click[:, None, None], (*logits.shape[:2], 1))
        logits = np.concatenate([logits, none], axis=2)
        logits -= logits.max(axis=2, keepdims=True)
        log: Array = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        return log

    def posterior(self, memory: Array) -> Array:
        """Probabilities (B, G) of the classes, from log-likelihoods (B, G)."""
        logits = memory + np.log(self.shares)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Array = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def attraction(self, features: Array, memory: Array) -> Array:
        """(B, N) weight of each item beside a weight of 1 for no click, a mean over the classes."""
        logits = np.einsum("bnp,gp->gbn", features, self.weights) - self.no_click[:, None, None]
        attraction: Array = np.einsum("bg,gbn->bn", self.posterior(memory), np.exp(logits))
        return attraction


@dataclass(frozen=True)
class SlateScorer:
    """SlateQ's decomposition: Q(s, A) = Σ_{i ∈ A} P(i | s, A) Q(s, i) + P(none | s, A) Q(s, none).

    (Ie et al. 2019, "SlateQ", equation 17, with the case of no click written out.) The score of
    a candidate is its gain v_i (Q_i − q): how much it adds to a slate of value q, where v_i is
    its attraction. The best slate is that of the K largest gains at its own value q.

    Attributes:
        user_size: U, features of the user.
        document_size: D, features of a candidate.
        slate_size: K, candidates shown.
        construction: One of `CONSTRUCTIONS`.
        choice_weights: (G, P), see `ChoiceModel`.
        choice_no_click: (G,).
        choice_shares: (G,).
        item_values: (P,) weights of Q(s, i) in the item's features.
        click_values: (S,) weights of Q(s, i) in the user's features.
        no_click_values: (S,) weights of Q(s, none) in the user's features.
    """

    user_size: int
    document_size: int
    slate_size: int
    construction: str
    choice_weights: Array
    choice_no_click: Array
    choice_shares: Array
    item_values: Array
    click_values: Array
    no_click_values: Array

    @property
    def choice(self) -> ChoiceModel:
        """The model of what is clicked."""
        return ChoiceModel(self.choice_weights, self.choice_no_click, self.choice_shares)

    @property
    def memory_size(self) -> int:
        """M, numbers remembered of a session: a log-likelihood for each of several classes."""
        classes = len(self.choice_shares)
        return classes if classes > 1 else 0

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N) of `candidates` (B, N, D) for `user` (B, U).

        Without a `memory` (B, M) the sessions are taken to be at their beginning.
        """
        del step  # the values are of a stationary policy
        features = item_features(user, candidates)
        state = user_features(user)
        attraction = self.choice.attraction(features, self._likelihoods(memory, len(features)))
        values = features @ self.item_values + (state @ self.click_values)[:, None]
        none = state @ self.no_click_values
        shown = min(self.slate_size, values.shape[1])
        if self.construction == "top-k":
            return np.asarray(attraction * values)
        if self.construction == "greedy":
            return greedy_gains(attraction, values, none, shown)
        return optimal_gains(attraction, values, none, shown)

    def remember(
        self,
        memory: Array,
        user: NDArray[np.floating],
        shown: NDArray[np.floating],
        clicked: NDArray[np.integer],
        reward: NDArray[np.floating],
    ) -> Array:
        """The memory (B, M) after a step.

        Args:
            memory: (B, M) before it; zeros at the beginning.
            user: (B, U) before it.
            shown: (B, K, D) the slate.
            clicked: (B,) the clicked place, −1 for none.
            reward: (B,).
        """
        del reward
        if not self.memory_size:
            return memory
        log = self.choice.log_probabilities(item_features(user, shown))  # (G, B, K + 1)
        return np.asarray(memory + log[:, np.arange(len(clicked)), clicked].T)

    def _likelihoods(self, memory: Array | None, users: int) -> Array:
        return memory if memory is not None and self.memory_size else np.zeros((users, 1))

    def save(self, path: str | Path) -> None:
        """Write the weights as an `.npz` that loads without pickle."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        for name in ("user_size", "document_size", "slate_size"):
            arrays[name] = int(arrays[name])
        return cls(**{**arrays, "construction": str(arrays["construction"])})


def slate_value(attraction: Array, values: Array, none: Array, slates: NDArray[np.intp]) -> Array:
    """(B,) Q of the slates (B, K): items by their shares of choice, no click by the rest."""
    chosen = np.take_along_axis(attraction, slates, axis=1)
    total = (chosen * np.take_along_axis(values, slates, axis=1)).sum(axis=1) + none
    value: Array = total / (chosen.sum(axis=1) + 1.0)
    return value


def optimal_gains(attraction: Array, values: Array, none: Array, slate_size: int) -> Array:
    """Gains (B, N) whose `slate_size` largest are the slate of greatest value.

    The value is a ratio of sums, which SlateQ's paper maximises as a linear program. Dinkelbach
    (1967) does it with sorting only: the best slate at the price q is that of the largest
    v_i (Q_i − q), its value is the next price, and the prices rise to the optimum.
    """
    price = none
    for _ in range(100):  # it ends after three or four; the numbers are finite
        gains = attraction * (values - price[:, None])
        best = np.argpartition(-gains, slate_size - 1, axis=1)[:, :slate_size]
        value = slate_value(attraction, values, none, best)
        if np.all(value <= price + 1e-12 * np.abs(price)):
            break
        price = np.maximum(price, value)
    return np.asarray(attraction * (values - price[:, None]))


def greedy_gains(attraction: Array, values: Array, none: Array, slate_size: int) -> Array:
    """Scores (B, N) by which the slate is made place by place, each the best beside the earlier.

    (Ie et al. 2019, section 4.3, "greedy".) The picked come first, in their order.
    """
    users = np.arange(len(values))
    total, weight = none.copy(), np.ones(len(values))
    scores = np.zeros(values.shape)
    for place in range(slate_size):
        gain = (total[:, None] + attraction * values) / (weight[:, None] + attraction)
        pick = np.where(scores > 0, -np.inf, gain).argmax(axis=1)
        scores[users, pick] = slate_size - place
        total += attraction[users, pick] * values[users, pick]
        weight += attraction[users, pick]
    return np.where(scores > 0, scores, gain - gain.max(axis=1, keepdims=True))


SCORER = SlateScorer
"""What a registered version loads its weights with."""
