"""Support of logs: which candidates they show to which users, and which hardly ever.

Values of candidates that were never shown are guesses, and the best of many guesses is too high. So
hardly shown candidates are identified, and not chosen where others are offered (the constraint of
Fujimoto, Meger and Precup 2019, "Off-Policy Deep Reinforcement Learning without Exploration",
section 4, with counts in place of a generative model).

A decision tree distinguishes shown candidates from offered ones. Where logs show all equally often,
it finds no split; where some are avoided, these get leaves of their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.scorer import Support
from slateflow.shared_rows import distinct
from slateflow.trajectories.schema import Trajectories, blocks

Array = NDArray[np.float64]

TREE_ROWS = 100_000
"""Most logged rows on which the tree is grown; whole episodes."""

HARDLY_SEEN_SHARE = 1 / 200
"""Ratio to a random policy's frequency below which a candidate is hardly seen."""

TREE_NUMBERS = 2**26
"""Most features of shown rows: with indicators of thousands of items, fewer rows are used."""

RARE_TIMES = 3.0
"""Factor by which candidates have to be rarer than at random for their rows to count more."""

MOST_WEIGHT = 30.0
"""Largest weight of a row."""

LEAVES = 64
"""Most leaves of the tree."""

LEAF_ROWS = 200
"""Fewest shown and offered candidates in a leaf, which also has at least a hundredth of all."""


def logged_support(rows: Trajectories, user_chooses: bool = False) -> Support:
    """The support of logs in the D features of candidates.

    Args:
        rows: At least one; whole episodes.
        user_chooses: Whether users see the whole slate; otherwise only the first place.
    """
    most = max(1, min(TREE_ROWS, TREE_NUMBERS // max(rows.shown_features(slice(1)).shape[2], 1)))
    few = rows.some_sessions(most)
    return grown_support(*shown_and_offered(few, user_chooses), len(rows) / len(few))


def grown_support(shown: Array, offered: Array, weight: float = 1.0) -> Support:
    """Grow the tree that distinguishes shown candidates from offered ones.

    Args:
        shown: (R, F) features of shown candidates.
        offered: (R, F) features of as many offered candidates, drawn at random.
        weight: Number of logged rows that each of these rows represents.
    """
    from sklearn.tree import DecisionTreeClassifier  # takes a second

    tree = DecisionTreeClassifier(
        criterion="log_loss",
        max_leaf_nodes=LEAVES,
        min_samples_leaf=max(LEAF_ROWS, len(shown) // 50),
        random_state=0,
    )
    x = np.concatenate([shown, offered])
    nodes = tree.fit(x, np.repeat([1, 0], [len(shown), len(offered)])).tree_
    children = np.column_stack([nodes.children_left, nodes.children_right]).astype(np.int64)
    leaf = children[:, 0] < 0
    children[leaf] = np.flatnonzero(leaf)[:, None]
    unknown = np.ones(len(children))
    support = Support(
        feature=np.where(leaf, 0, nodes.feature).astype(np.int64),
        threshold=np.asarray(nodes.threshold, np.float64),
        children=children,
        rows=unknown,
        offered=unknown,
        least=HARDLY_SEEN_SHARE,
        depth=int(nodes.max_depth),
    )

    def ended(features: Array) -> Array:
        ends = np.bincount(support.leaves(features), minlength=len(children))
        return np.asarray(weight * ends)

    return replace(support, rows=ended(shown), offered=ended(offered))


def without_gaps(support: Support) -> Support | None:
    """The support to serve with; None where the logs show all that they offer."""
    return support if support.gaps.any() else None


def left_out(support: Support, rows: Trajectories) -> NDArray[np.bool_]:
    """(R, N) True for candidates that the logs hardly show, unless the row has no others."""
    unseen = _of_candidates(support.gaps, support, rows)
    return unseen & ~unseen.all(axis=1, keepdims=True)


def rarity_weights(support: Support, x: Array) -> Array:
    """Weights (R,) of at least 1 for shown candidates (R, D): rare ones count more.

    A regression is used to choose the best of all offered candidates, so it has to be right about
    all of them (Shimodaira 2000, "Improving Predictive Inference under Covariate Shift by Weighting
    the Log-Likelihood Function"). Items shown far less often than at random count as if they had
    been shown at random. All others keep their weight: weighting them would cost more than it
    gains.
    """
    rarity = _rarity(support)
    weight = np.where(rarity > RARE_TIMES, np.minimum(rarity, MOST_WEIGHT), 1.0)
    return weight[support.leaves(x)] if (weight > 1).any() else np.ones(len(x))


def rarely_shown(support: Support, rows: Trajectories) -> NDArray[np.bool_]:
    """(R, N) candidates whose rows, where they are shown, count more."""
    return _of_candidates(_rarity(support) > RARE_TIMES, support, rows)


def _of_candidates(
    nodes: NDArray[np.bool_], support: Support, rows: Trajectories
) -> NDArray[np.bool_]:
    """(R, N) True for candidates that end at one of these nodes (S,)."""
    found = np.zeros((len(rows), rows.candidates.shape[1]), np.bool_)
    if not nodes.any():
        return found
    if rows.catalogue is not None:
        of_items = nodes[support.leaves(rows.catalogue.features)]
        found[:] = of_items[distinct(rows.filled())]
        return found
    for block in blocks(len(rows), rows.scored_numbers):
        x = rows.candidate_features(block)
        found[block] = nodes[support.leaves(x.reshape(-1, x.shape[-1]))].reshape(x.shape[:-1])
    return found


def _rarity(support: Support) -> Array:
    """(S,) ratio of the frequency at random to that in the logs, for candidates at each node."""
    return np.asarray(support.offered / np.maximum(support.rows, 1.0))


def shown_and_offered(rows: Trajectories, user_chooses: bool) -> tuple[Array, Array]:
    """Features (R, D) of the shown items, and of as many candidates drawn at random.

    Where users choose from the slate, all of its places count as shown, otherwise the first.
    """
    rng = np.random.Generator(np.random.SFC64(0))
    shown = rows.slate if user_chooses else rows.slate[:, :1]
    drawn = rng.integers(rows.offered[:, None], size=shown.shape)
    found = (rows.features_at(places) for places in (shown, drawn))
    first, second = (one.reshape(-1, one.shape[2]).astype(np.float64) for one in found)
    return first, second
