"""The arithmetic of RecSim's interest evolution, for any number of users at once.

Pure functions of state and draws, in the order of operations of RecSim 0.2.4 (the utility model
of Ie et al. 2019, "SlateQ: A Tractable Decomposition for Reinforcement Learning with
Recommendation Sets"). Each document belongs to one cluster, so a user's score of a document is the
user's interest in its cluster.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import choice
from slateflow.environments.interest_evolution.spec import InterestEvolutionSpec
from slateflow.environments.slates import at_places

Floats = NDArray[np.float64]

QUALITY_STDDEV = 0.1
"""Standard deviation of the qualities in a cluster; a constant in RecSim's code."""


def initial_interests(uniform: Floats) -> Floats:
    """Interests (B, F) of new users, in [−1, 1), from uniform draws in [0, 1)."""
    return -1.0 + 2.0 * uniform


@lru_cache
def cluster_means(spec: InterestEvolutionSpec) -> Floats:
    """Mean quality (F,) of the clusters: 70% of them trash, the rest nutritious."""
    trash = np.linspace(spec.min_utility, 0, int(spec.num_features * 0.7))
    nutritious = np.linspace(0, spec.max_utility, int(spec.num_features * 0.3))
    means = np.concatenate([trash, nutritious])
    means.flags.writeable = False  # all callers share it
    return means


def catalogue_features(spec: InterestEvolutionSpec) -> NDArray[np.float32]:
    """Features (F, F) of the catalogue: one item for each cluster, one-hot."""
    return np.eye(spec.num_features, dtype=np.float32)


def quality(spec: InterestEvolutionSpec, clusters: NDArray[np.integer], normal: Floats) -> Floats:
    """Qualities of documents from their clusters and standard normal draws, all of one shape."""
    return np.asarray(cluster_means(spec).take(clusters) + QUALITY_STDDEV * normal)


def clicked_place(
    spec: InterestEvolutionSpec,
    interests: Floats,  # (B, F) of the users
    clusters: NDArray[np.integer],  # (B, K) of the shown documents
    uniform: Floats,  # (B,) draws in [0, 1)
) -> NDArray[np.int32]:
    """The clicked place (B,) of each slate, −1 for none."""
    scores = at_places(interests, clusters)
    return choice.multinomial_proportional(scores, spec.no_click_mass, spec.min_normalizer, uniform)


def watch_time(spec: InterestEvolutionSpec, budget: Floats) -> Floats:
    """Minutes (B,) that a click takes: the whole document, or the rest of the session."""
    return np.minimum(budget, spec.video_length)


def next_budget(
    spec: InterestEvolutionSpec,
    budget: Floats,  # (B,) minutes left before the step
    clicked: NDArray[np.bool_],  # (B,) whether anything was clicked
    interest: Floats,  # (B,) in the clicked document's cluster, before the click
    document_quality: Floats,  # (B,) of the clicked document
) -> Floats:
    """Minutes (B,) left of the sessions after a step; a session ends when none are left."""
    watched = watch_time(spec, budget)
    utility = (
        spec.user_quality_factor * (interest - spec.min_normalizer)
        + spec.document_quality_factor * document_quality
    )
    after_click = budget - watched + spec.user_update_alpha * watched * utility
    return np.where(clicked, after_click, budget - spec.step_penalty)


def next_interest(spec: InterestEvolutionSpec, interest: Floats, uniform: Floats) -> Floats:
    """The interest (B,) in the cluster of a clicked document after the click.

    The greater the interest, the more likely it moves towards 1; otherwise it moves away from 1.
    Strong feelings move less.

    Args:
        spec: The world's parameters.
        interest: (B,) before the click.
        uniform: (B,) draws in [0, 1), for the direction.
    """
    share = -spec.alpha_y_intercept / spec.alpha_x_intercept * np.abs(interest)
    update = (share + spec.alpha_y_intercept) * (1.0 - interest)
    towards = uniform < (interest + 1.0) / 2
    return np.clip(np.where(towards, interest + update, interest - update), -1.0, 1.0)
