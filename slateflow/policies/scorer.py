"""The learned scoring function: one candidate in, one number out, weights shared by all.

This one file serves twice. Policies are evaluated with it, and every registered model version
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
    """Scores from (user, steps left, candidate): powers, then ReLU layers, then a linear head.

    The features are x = (user, steps left, candidate), F = U + 1 + D of them, where the steps
    left are counted up to `window` and divided by it. A linear or polynomial scorer has no
    layers; a network has no powers. The head has a row of weights for each number of steps
    left from 1 to S, and the last row serves all that are further away.

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

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
    ) -> Array:
        """Scores (B, N) of `candidates` (B, N, D) for `user` (B, U) at `step` (B,)."""
        left = np.clip(self.horizon - np.asarray(step), 1, None)
        hidden = self._features(np.asarray(user), left, np.asarray(candidates))
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        row = np.minimum(left, len(self.head)) - 1
        scored = np.matmul(hidden, self.head[row][:, :, None])[:, :, 0]
        return np.asarray(scored + self.head_bias[row][:, None])

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
