"""The arithmetic of RecSim's interest exploration, for any number of users at once.

Pure functions of state and draws, in the order of operations of RecSim 0.2.4. A user is a vector
of affinities to topics, which depend on a hidden type and never change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import choice
from slateflow.environments.interest_exploration.spec import InterestExplorationSpec
from slateflow.environments.slates import at_places

Floats = NDArray[np.float64]
Topics = NDArray[np.intp]


def user_affinities(spec: InterestExplorationSpec, uniform: Floats, normal: Floats) -> Floats:
    """Affinities (B, T) of new users to the topics.

    Args:
        spec: The world's parameters.
        uniform: (B,) draws in [0, 1), for the type.
        normal: (B, T) standard normal draws.
    """
    types = choice.categorical(np.array(spec.user_type_distribution), uniform)
    mean = np.array(spec.user_document_mean_affinity_matrix)[types]
    stddev = np.array(spec.user_document_stddev_affinity_matrix)[types]
    return np.asarray(np.exp(mean + stddev * normal))


def documents(
    spec: InterestExplorationSpec, uniform: Floats, normal: Floats
) -> tuple[Topics, Floats]:
    """Topics and qualities of new documents, one for each draw."""
    topics = choice.categorical(np.array(spec.topic_distribution), uniform)
    mean = np.array(spec.topic_quality_mean).take(topics)
    stddev = np.array(spec.topic_quality_stddev).take(topics)
    return topics, np.exp(mean + stddev * normal)


def clicked_place(
    spec: InterestExplorationSpec,
    affinities: Floats,  # (B, T) of the users
    topics: Topics,  # (B, K) of the shown documents
    quality: Floats,  # (B, K) of the shown documents
    uniform: Floats,  # (B,) draws in [0, 1)
) -> NDArray[np.int32]:
    """The clicked place (B,) of each slate, −1 for none."""
    scores = at_places(affinities, topics) + quality
    return choice.multinomial_logit(scores, spec.no_click_mass, uniform)
