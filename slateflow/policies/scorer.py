"""The learned scoring function: one candidate in, one number out, weights shared by all.

This one file serves twice. Policies are evaluated with it, and a registered model version
carries a copy of it as an artifact, which is why it needs nothing but NumPy.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scorer:
    """Scores from (user, memory, steps left, candidate): powers, then ReLU layers, then a head.

    The features are x = (user, memory, steps left, candidate), F = U + M + 1 + D of them, where
    the steps left are counted up to `window` and divided by it. A linear or polynomial scorer has
    no layers; a network has no powers. The head has a row of weights for each number of steps
    left from 1 to S, and the last row serves all that are further away.

    The memory is what stays of the session where the user's state is hidden: for each of the
    `decays`, the sum of the clicked candidates' features and of the rewards, (D + 1) numbers, in
    which a step weighs that factor less than the one after it.

    Attributes:
        user_size: U, features of the user.
        slate_size: K, candidates shown.
        horizon: Steps in an episode.
        window: Steps before the end from which on the number of steps left matters.
        offset: (F,) subtracted from the features.
        scale: (F,) by which they are divided then.
        powers: (P, F) exponents of the monomials, or (0, F) for the features as they are.
        head: (S, H) weights.
        head_bias: (S,).
        weights: One (inputs, outputs) matrix a layer.
        biases: One (outputs,) vector a layer.
        decays: (H,) factors of the memory; none where nothing is remembered.
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
        """M, numbers that are remembered of a session."""
        return len(self.decays) * (self.document_size + 1)

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N) of `candidates` (B, N, D) for `user` (B, U) at `step` (B,).

        Without a `memory` (B, M) the sessions are taken to be at their beginning.
        """
        if memory is None:
            memory = np.zeros((len(candidates), self.memory_size))
        left = np.clip(self.horizon - np.asarray(step), 1, None)
        known = np.concatenate([user, memory], axis=1)
        hidden = self._features(known, left, np.asarray(candidates))
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        row = np.minimum(left, len(self.head)) - 1
        scored = np.matmul(hidden, self.head[row][:, :, None])[:, :, 0]
        return np.asarray(scored + self.head_bias[row][:, None])

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
        event = np.concatenate([chosen, reward[:, None]], axis=1)  # (B, D + 1)
        past = memory.reshape(len(memory), len(self.decays), -1)
        kept: Array = past * self.decays[:, None] + event[:, None]
        return kept.reshape(memory.shape)

    def _features(
        self,
        user: NDArray[np.floating],
        left: NDArray[np.integer],
        candidates: NDArray[np.floating],
    ) -> Array:
        batch, count, _ = candidates.shape
        known = np.column_stack([user, np.minimum(left, self.window) / self.window])
        known = np.broadcast_to(known[:, None, :], (batch, count, known.shape[1]))
        x = (np.concatenate([known, candidates], axis=2) - self.offset) / self.scale
        if not len(self.powers):
            return np.asarray(x)
        monomials = np.ones((batch, count, len(self.powers)))
        for feature, exponents in enumerate(self.powers.T):
            if exponents.any():
                power = x[:, :, feature, None] ** np.arange(exponents.max() + 1)
                monomials *= power[:, :, exponents]
        return monomials

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


SCORER = Scorer
"""What a registered version loads its weights with."""
