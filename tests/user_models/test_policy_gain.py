"""The gain of a policy of slates on sessions whose values are known by algebra."""

from __future__ import annotations

import numpy as np

from slateflow.environments import preset
from slateflow.user_models.choice_model import fit_choice_model
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.item_values import Members
from slateflow.user_models.policy_gain import gain
from slateflow.user_models.sessions import Sessions
from tests.leaving import CLICK, LEAVE, leaving_sessions


def session_return(item: int) -> float:
    """Return V of sessions in which this item is always shown.

    It is that of the algebra: V = c (1 + (1 - l) V) + (1 - c) (1 - b) V, where users click with
    probability c, and leave with probability l after a click and b after none.
    """
    click, leave, bored = CLICK[item], LEAVE[item], LEAVE[2]
    return float(click / (1 - click * (1 - leave) - (1 - click) * (1 - bored)))


def test_the_gain_and_its_error_are_those_of_the_algebra():
    """In 40 logs of 300 sessions, they are as far from the truth as their errors say."""
    spec = preset("interest-exploration", num_candidates=2, slate_size=1)
    features = SlateFeatures(spec.features_match)
    many = leaving_sessions(30_000, seed=99)
    choice = fit_choice_model(Choices.from_rows(many, features), 1, np.full(4, 1e-3))
    truth = session_return(1) - session_return(0)
    off = []
    for seed in range(40):
        sessions = Sessions.from_rows(leaving_sessions(300, seed), spec, features)
        rows, prior = len(sessions.rows), np.full(sessions.design.shape[1], 1e-3)
        shown = [np.full((rows, 1), item, np.int32) for item in (1, 0)]
        gains = gain(Members(sessions, np.ones(rows)), choice, *shown, prior)
        assert len(gains) == 300
        off.append((gains.mean() - truth) / (gains.std(ddof=1) / np.sqrt(300)))
    assert abs(np.mean(off)) < 3 / np.sqrt(40)
    assert 0.7 < np.std(off) < 1.3
