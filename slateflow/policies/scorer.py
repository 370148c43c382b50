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
class Support:
    """How often the logs show candidates like one, as a decision tree with S nodes.

    See `slateflow.user_models.support`.
    """

    feature: NDArray[np.int64]  # (S,) that a node asks for
    threshold: Array  # (S,) up to it a node goes left, above it right
    children: NDArray[np.int64]  # (S, 2) left and right; leaves are their own children
    rows: Array  # (S,) logged rows that end at a node
    offered: Array  # (S,) rows that would end there if all candidates were shown alike
    least: float  # share of the rows offered below which a candidate is hardly seen
    depth: int  # nodes from the root to the deepest leaf

    @property
    def gaps(self) -> NDArray[np.bool_]:
        """(S,) nodes of what is hardly seen."""
        return np.asarray(self.rows < self.least * self.offered)

    def leaves(self, x: NDArray[np.floating]) -> NDArray[np.int64]:
        """(R,) nodes where features (R, F) end."""
        node, row = np.zeros(len(x), np.int64), np.arange(len(x))
        for _ in range(self.depth):
            right = x[row, self.feature[node]] > self.threshold[node]
            node = self.children[node, right.astype(np.int64)]
        return node

    def hardly_seen(self, x: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(…) which features (…, F) the logs hardly show."""
        hardly = self.gaps[self.leaves(x.reshape(-1, x.shape[-1]))]
        return np.asarray(hardly.reshape(x.shape[:-1]))


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
    """

    user_size: int  # U, features of the user
    slate_size: int  # K, candidates shown
    horizon: int  # steps in an episode
    window: int  # steps left are counted exactly only within this many steps of the end
    offset: Array  # (F,) subtracted from the features
    scale: Array  # (F,) by which they are divided then
    powers: NDArray[np.int64]  # (P, F) exponents of the monomials, or (0, F) for a network
    head: Array  # (S, H) weights
    head_bias: Array  # (S,)
    weights: tuple[Array, ...] = field(default=())  # one (inputs, outputs) matrix for each layer
    biases: tuple[Array, ...] = field(default=())  # one (outputs,) vector for each layer
    # (H,) factors of the session memory; empty without one
    decays: Array = field(default_factory=lambda: np.zeros(0))
    # Candidates that the logs hardly show come last; None where they show everything
    support: Support | None = None

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
        scored = np.asarray(scored + self.head_bias[row][:, None])
        if self.support is not None:
            unseen = self.support.hardly_seen(np.asarray(candidates))
            scored -= unseen * (np.ptp(scored, axis=1, keepdims=True) + 1)
        return scored

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
        memory: Array,  # (B, M) before it; zeros at the beginning
        user: NDArray[np.floating],  # (B, U) before it
        shown: NDArray[np.floating],  # (B, K, D) the slate
        clicked: NDArray[np.integer],  # (B,) the clicked place, −1 for none
        reward: NDArray[np.floating],  # (B,)
    ) -> Array:
        """The memory (B, M) after a step."""
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
        if (support := arrays.pop("support")) is not None:
            arrays |= {f"support_{f.name}": getattr(support, f.name) for f in fields(support)}
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
        support = {
            f.name: arrays.pop(f"support_{f.name}")
            for f in fields(Support)
            if f"support_{f.name}" in arrays
        }
        if support:
            least, depth = float(support.pop("least")), int(support.pop("depth"))
            arrays["support"] = Support(**support, least=least, depth=depth)
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
