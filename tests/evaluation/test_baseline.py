"""Baselines against published returns and an independent regression."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.evaluation import measure_baselines
from slateflow.evaluation.returns import play_blocks
from slateflow.policies import behaviour_policy

PUBLISHED = {
    "modified-lts-20-2": {"random": 1157.81, "greedy": 1163.66, "opposite": 1084.12},
    "modified-lts-10-1": {"random": 1157.89, "greedy": 1164.36, "opposite": 1092.54},
    "lts-20-2": {"random": 948.5, "greedy": 1136.5, "opposite": 770.8},
    "lts-10-1": {"random": 948.1, "greedy": 1116.5, "opposite": 785.9},
}
PUBLISHED_ERROR = {"modified-lts-20-2": 0.04, "modified-lts-10-1": 0.04}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_returns(name):
    for baseline in measure_baselines(preset(name), episodes=1000, seed=3):
        error = np.hypot(baseline.sem, PUBLISHED_ERROR.get(name, 0.6))
        assert abs(baseline.mean - PUBLISHED[name][baseline.policy]) < 4 * error


def test_the_error_of_the_mean_is_the_published_deviation_over_the_root():
    random = measure_baselines(preset("modified-lts-20-2"), episodes=1000, seed=3)[0]
    assert random.sem == pytest.approx(0.36, abs=0.02)  # as printed in RLlib's tutorial


def test_slopes_are_those_of_a_line_through_each_episode():
    spec, episodes, seed = preset("modified-lts-10-1", time_budget=25), 60, 9
    for baseline in measure_baselines(spec, episodes, seed):
        (steps,) = play_blocks(spec, behaviour_policy(baseline.policy, spec), episodes, seed)
        slopes, returns = [], []
        for user in range(episodes):
            rewards = [float(step.rewards[user]) for step in steps]
            slopes.append(np.polyfit(range(25), rewards, deg=1)[0])
            returns.append(sum(rewards))
        assert baseline.slope == pytest.approx(np.mean(slopes), rel=1e-9)
        assert baseline.slope_sem == pytest.approx(np.std(slopes, ddof=1) / 60**0.5, rel=1e-9)
        assert baseline.mean == pytest.approx(np.mean(returns), rel=1e-12)
        assert baseline.sem == pytest.approx(np.std(returns, ddof=1) / 60**0.5, rel=1e-9)
        assert baseline.episodes == 60


def test_episodes_of_different_lengths_count_until_their_own_end():
    spec = preset("interest-evolution", time_budget=12)
    for baseline in measure_baselines(spec, 1_030, 9):  # two blocks, which differ in length, too
        policy, slopes, returns = behaviour_policy(baseline.policy, spec), [], []
        for steps in play_blocks(spec, policy, 1_030, 9):
            for user in steps[0].lanes:
                rewards = [step.rewards[step.lanes == user] for step in steps]
                rewards = np.concatenate(rewards).tolist()
                slope = np.polyfit(range(len(rewards)), rewards, 1)[0] if len(rewards) > 1 else 0
                slopes.append(slope)
                returns.append(sum(rewards))
        assert baseline.mean == pytest.approx(np.mean(returns), rel=1e-12)
        assert baseline.slope == pytest.approx(np.mean(slopes), rel=1e-9)


def test_the_slope_shows_what_a_diet_does_to_the_user():
    slopes = {b.label: b.slope for b in measure_baselines(preset("modified-lts-10-1"), 500, 0)}
    assert slopes["least clickbait"] > max(slopes["random"], 0.0)
    assert slopes["most clickbait"] < min(slopes["random"], 0.0)


def test_names_and_labels():
    rows = measure_baselines(preset("modified-lts-20-2", time_budget=2), 5, 0)
    assert [(row.policy, row.label) for row in rows] == [
        ("random", "random"),
        ("greedy", "most clickbait"),
        ("opposite", "least clickbait"),
    ]


def test_one_step_has_no_slope_and_one_episode_no_error():
    rows = measure_baselines(preset("modified-lts-20-2", time_budget=1), episodes=1, seed=0)
    assert [(row.slope, row.slope_sem, row.sem) for row in rows] == [(0.0, 0.0, 0.0)] * 3


def test_no_episodes_are_refused():
    with pytest.raises(InputError, match="episodes: expected at least 1, got 0"):
        measure_baselines(preset("lts-10-1"), episodes=0, seed=0)
