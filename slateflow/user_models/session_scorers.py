"""Scorers with a session memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slateflow.environments import EnvironmentSpec
from slateflow.policies import Scorer
from slateflow.user_models.session_memory import SessionMemory


def with_session_memory(scorer: Scorer, spec: EnvironmentSpec, memory: SessionMemory) -> Scorer:
    """Give a session memory to a scorer that was trained with the memory among the user's features.

    A scorer's memory has features of items and rewards. Where training used only the rewards, the
    features of items have no effect.

    Args:
        scorer: Scorer of (user, memory, steps left, candidate).
        spec: The world.
        memory: The session memory of the training.
    """
    decays = len(memory.decays)
    if decays and not memory.items:
        rewards = spec.user_size + np.arange(decays)
        items = np.repeat(rewards, spec.document_size)  # those of a decay come before its rewards
        scorer = replace(
            scorer,
            offset=np.insert(scorer.offset, items, 0.0),
            scale=np.insert(scorer.scale, items, 1.0),
            powers=np.insert(scorer.powers, items, 0, axis=1),
            weights=tuple(
                weight if layer else np.insert(weight, items, 0.0, axis=0)
                for layer, weight in enumerate(scorer.weights)
            ),
            knot_feature=scorer.knot_feature
            + len(items) * (scorer.knot_feature >= spec.user_size + decays),
        )
    return replace(
        scorer, user_size=spec.user_size, decays=np.array(memory.decays), counted=decays > 0
    )
