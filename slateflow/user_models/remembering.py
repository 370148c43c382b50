"""Scorers that remember the session, and what they make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slateflow.environments import EnvironmentSpec
from slateflow.policies import Scorer
from slateflow.policies.learned import SessionScorer
from slateflow.trajectories.alignment import AlignedScorer
from slateflow.user_models.session_memory import NOTHING, SessionMemory


def remembering(scorer: Scorer, spec: EnvironmentSpec, memory: SessionMemory) -> Scorer:
    """The scorer of a world with the session memory, to which a memory was given with the user.

    A scorer remembers features of items and rewards. Where it was given the rewards alone, it
    makes nothing of the items.

    Args:
        scorer: Of (user, memory, steps left, candidate).
        spec: The world.
        memory: By which its training saw the sessions.
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
    return replace(scorer, user_size=spec.user_size, decays=np.array(memory.decays))


def remembered_by(scorer: SessionScorer) -> SessionMemory:
    """The memory of items and rewards on which scores depend."""
    if isinstance(scorer, AlignedScorer):
        return remembered_by(scorer.scorer)
    if not isinstance(scorer, Scorer) or not len(scorer.decays):
        return NOTHING
    used = (scorer.powers != 0).any(axis=0)
    for weight in scorer.weights[:1]:
        used = used | (weight != 0).any(axis=1)
    of_memory = used[scorer.user_size :][: scorer.memory_size].reshape(len(scorer.decays), -1)
    return SessionMemory(tuple(scorer.decays.tolist()), items=bool(of_memory[:, :-1].any()))
