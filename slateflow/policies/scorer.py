"""The learned scoring function: one candidate in, one number out, weights shared by all.

This file serves twice: policies are evaluated with it, and a registered model version carries a
copy of it as an artifact. So it needs nothing but NumPy.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CACHED_NUMBERS = 2**16
"""Numbers of a layer that are in memory at once: as many as stay near the processor."""


@dataclass(frozen=True)
class Scorer:
    """Scores from (user, memory, steps left, candidate): powers or ReLU layers, then a head.

    The features are x = (user, memory, steps left, candidate), F = U + M + 1 + D of them, where
    the steps left are counted up to `window` and divided by it. A linear or polynomial scorer has
    powers, a network has layers. The head has a row of weights for each number of steps
    left from 1 to S, and the last row serves all that are further away.

    The session memory stands in for a hidden user state: for each of the `decays`, a sum of the
    clicked candidates' features and of the rewards, (D + 1) numbers, in which a step weighs less
    by that factor than the step after it.

    Attributes:
        user_size: U, features of the user.
        slate_size: K, candidates shown.
        horizon: Steps in an episode.
        window: Steps left are counted exactly only within this many steps of the end.
        offset: (F,) subtracted from the features.
        scale: (F,) by which they are divided then.
        powers: (P, F) exponents of the monomials, or (0, F) for a network.
        head: (S, H) weights.
        head_bias: (S,).
        weights: One (inputs, outputs) matrix for each layer.
        biases: One (outputs,) vector for each layer.
        decays: (H,) factors of the session memory; empty without one.
    """

    user_size: int
    slate_size: int
    horizon: int
    window: int
    offset: Array
    scale: Array
    powers: NDArray[np.int64]
    head: Array
    head_bias: Array
    weights: tuple[Array, ...] = field(default=())
    biases: tuple[Array, ...] = field(default=())
    decays: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def document_size(self) -> int:
        """D, features of a candidate."""
        decays = len(self.decays)
        return (len(self.offset) - self.user_size - 1 - decays) // (decays + 1)

    @property
    def memory_size(self) -> int:
        """M, numbers in the session memory."""
        return len(self.decays) * (self.document_size + 1)

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N) of `candidates` (B, N, D) for `user` (B, U) at `step` (B,).

        Without a `memory` (B, M) all sessions are at their beginning.
        """
        if memory is None:
            memory = np.zeros((len(candidates), self.memory_size))
        left = np.clip(self.horizon - np.asarray(step), 1, None)
        row = np.minimum(left, len(self.head)) - 1
        known = np.column_stack([user, memory, np.minimum(left, self.window) / self.window])
        shared = known.shape[1]  # the features that all candidates of a row have in common
        known = (known - self.offset[:shared]) / self.scale[:shared]
        documents = (np.asarray(candidates) - self.offset[shared:]) / self.scale[shared:]
        if len(self.powers):
            weights = monomials(known, self.powers[:, :shared]) * self.head[row]
            scored = self._polynomial(weights, documents, self.powers[:, shared:])
        else:
            scored = self._network(known, documents, self.head[row])
        return np.asarray(scored + self.head_bias[row][:, None])

    def _polynomial(self, weights: Array, documents: Array, powers: NDArray[np.int64]) -> Array:
        """Sum of the candidates' monomials, by weights (B, P) that are the row's own.

        Monomials with the same powers of the candidate are one, with the sum of their weights.
        """
        distinct, group = np.unique(powers, axis=0, return_inverse=True)
        weights = weights @ (group.reshape(-1, 1) == np.arange(len(distinct)))  # (B, C)
        return np.asarray(np.matmul(monomials(documents, distinct), weights[:, :, None])[:, :, 0])

    def _network(self, known: Array, documents: Array, head: Array) -> Array:
        """The layers and their head (B, H); the first layer meets what is shared only once."""
        batch, count, size = documents.shape
        shared, first = np.split(self.weights[0], [known.shape[1]])
        known = known @ shared + self.biases[0]
        scored = np.empty((batch, count))
        rows = max(1, CACHED_NUMBERS // (count * max(map(len, self.biases))))
        for block in (slice(start, start + rows) for start in range(0, batch, rows)):
            hidden = (documents[block].reshape(-1, size) @ first).reshape(-1, count, len(first.T))
            hidden += known[block, None]
            np.maximum(hidden, 0.0, out=hidden)
            for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
                hidden = np.maximum(hidden @ weight + bias, 0.0)
            scored[block] = np.matmul(hidden, head[block, :, None])[:, :, 0]
        return scored

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
        del user
        place = np.maximum(clicked, 0)[:, None, None]
        chosen = np.take_along_axis(shown, place, axis=1)[:, 0] * (clicked >= 0)[:, None]
        event = np.concatenate([chosen, np.arcsinh(reward)[:, None]], axis=1)  # (B, D + 1)
        past = memory.reshape(len(memory), len(self.decays), -1)
        kept: Array = past * self.decays[:, None] + event[:, None]
        return kept.reshape(memory.shape)

    def save(self, path: str | Path) -> None:
        """Write the weights as an `.npz` that loads without pickle."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("weights", "biases"):
            for layer, array in enumerate(arrays.pop(name)):
                arrays[f"{name}_{layer}"] = array
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        layers = sum(name.startswith("weights_") for name in arrays)
        for name in ("weights", "biases"):
            arrays[name] = tuple(arrays.pop(f"{name}_{layer}") for layer in range(layers))
        for name in ("user_size", "slate_size", "horizon", "window"):
            arrays[name] = int(arrays[name])
        return cls(**arrays)


def monomials(x: Array, powers: NDArray[np.int64]) -> Array:
    """(…, P) products of the features (…, F) to the powers (P, F)."""
    monomials = np.ones((*x.shape[:-1], len(powers)))
    for feature, exponents in enumerate(powers.T):
        table = [np.ones(x.shape[:-1])]
        for _ in range(exponents.max(initial=0)):
            table.append(table[-1] * x[..., feature])
        if len(table) > 1:
            has: slice | NDArray[np.intp] = np.flatnonzero(exponents)
            if 2 * np.count_nonzero(exponents) > len(powers):
                has = slice(None)  # picking columns out would cost more than it saves
            monomials[..., has] *= np.stack(table, axis=-1)[..., exponents[has]]
    return monomials


SCORER = Scorer
"""The class with which a registered version loads its weights."""
