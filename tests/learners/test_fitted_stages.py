"""How many stages there are: values that accumulate are bounded, those of a bad fit are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.learners.config import Curves
from slateflow.learners.fitted_q import chosen_terms
from slateflow.learners.fitted_stages import fitted_stages
from slateflow.learners.logged_steps import Parts
from slateflow.progress import unwatched
from slateflow.trajectories import Dataset

STEPS, DELAYS = 20, 10
"""Number of steps of a session, and of those after its own at which an item still pays."""

NOW, LATER = 5.6, 1 + 0.001 * np.arange(1, DELAYS + 1)
"""Reward of what pays at once, and of what pays slowly at each of the steps after its own."""

ITEMS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
"""Whether an item pays at once, and whether it pays slowly."""


def slow_payments(make_sessions) -> Dataset:
    """Two of the items are offered at random; the user's columns are the last slow payments."""
    rng, sessions = np.random.default_rng(0), 400
    offered = np.argsort(rng.random((sessions, STEPS, 4)), axis=2)[..., :2]
    action = rng.integers(0, 2, (sessions, STEPS))
    now, slow = ITEMS[np.take_along_axis(offered, action[..., None], axis=2)[..., 0]].T
    before = np.pad(slow.T, ((0, 0), (DELAYS, 0)))
    user = np.stack([before[:, DELAYS - j : DELAYS - j + STEPS] for j in range(1, DELAYS + 1)], -1)
    reward = NOW * now.T + slow.T + user @ LATER + 0.01 * rng.standard_normal(action.shape)
    return make_sessions(ITEMS[offered], action, reward, user)


def test_values_that_accumulate_have_all_their_stages(make_sessions):
    """By the first five stages it seems better to be paid at once."""
    assert 1 + LATER[:4].sum() < NOW < 1 + LATER.sum()
    scorer, report = train(slow_payments(make_sessions), learner_config("fitted-q"))
    assert len(report.curves["residual"]) >= 1 + DELAYS
    scores = scorer.scores(np.zeros((1, DELAYS)), np.zeros(1, int), ITEMS[None])[0]
    nothing, slow, now, both = scores
    assert (slow - nothing) / (now - nothing) == pytest.approx((1 + LATER.sum()) / NOW, rel=0.05)
    assert both - now == pytest.approx(slow - nothing, rel=0.05)


def test_values_that_grow_by_a_factor_have_no_bound(make_sessions):
    """The user's column grows by a fifth at every step, and so do values and their differences."""
    rng, sessions = np.random.default_rng(0), 200
    user = 1.2 ** np.arange(STEPS) * rng.uniform(-1, 1, (sessions, 1))
    user, reward = user[..., None], np.zeros((sessions, STEPS))
    action, items = rng.integers(0, 2, (sessions, STEPS)), np.array([-1.0, 1.0])
    for step in range(STEPS):
        reward[:, step] = user[:, step, 0] * items[action[:, step]]
        if step + 1 < STEPS:
            user[:, step + 1, 0] = user[:, step, 0] * np.where(action[:, step] == 1, 1.4, 1.0)
    candidates = np.broadcast_to(items[:, None], (sessions, STEPS, 2, 1))
    steps = Parts.of(make_sessions(candidates, action, reward, user)).sample
    found = fitted_stages(Parts.in_memory(steps), steps.basis(2), 1e-9, 0, unwatched, Curves())
    assert found is None


def test_degrees_are_low_where_users_have_a_memory(make_sessions):
    """Rewards are of degree 4. The same column counts as a memory, or as the user's own."""
    rng = np.random.default_rng(0)
    candidates, action = rng.uniform(-1, 1, (300, 5, 4, 1)), rng.integers(0, 4, (300, 5))
    shown = np.take_along_axis(candidates[..., 0], action[..., None], axis=2)[..., 0]
    user = rng.uniform(-1, 1, (300, 5, 1))
    reward = (user[..., 0] * shown) ** 2 + shown
    steps = Parts.of(make_sessions(candidates, action, reward, user)).sample
    steps = replace(steps, rewards=reward.reshape(-1))  # the model of rewards has degree 3 at most
    assert chosen_terms(steps, 0, 0.0).basis.degree == 4
    alone = make_sessions(candidates, action, reward).spec
    assert (alone.user_size, steps.spec.user_size) == (0, 1)
    remembered = replace(steps, spec=alone)
    assert chosen_terms(remembered, 0, 0.0).basis.degree <= 3
