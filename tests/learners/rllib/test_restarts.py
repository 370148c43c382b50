"""Among several trainings the one with the best held-out value is kept."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.learners.rllib.quiet import quiet_rllib
from tests.evaluation.held_out import held_out_value

with quiet_rllib():
    from slateflow.learners.rllib.training import algorithm_config


@pytest.mark.slow
def test_the_best_of_the_restarts_is_kept(small_logs):
    config = learner_config("cql", updates=50, batch_size=64, learning_rate=0.001, restarts=3)
    scorer, report = train(small_logs, config, seed=1)
    values = report.curves["held_out_value"]
    assert len(values) == 3
    assert len(set(values)) > 1
    assert held_out_value(small_logs, scorer) == max(values)
    again, _ = train(small_logs, config, seed=1)
    np.testing.assert_array_equal(again.head, scorer.head)


@pytest.mark.slow
def test_held_out_episodes_are_not_trained_from(small_logs, quiet):
    rows = {}
    for restarts in (1, 2):
        config = learner_config("cql", updates=50, batch_size=64, restarts=restarts)
        algorithm = algorithm_config(small_logs, config, seed=0).build_algo()
        (iterator,) = algorithm.offline_data.sample(64, return_iterator=True)
        rows[restarts] = len(iterator.columns["actions"])
        algorithm.stop()
    assert rows == {1: 600, 2: 480}  # 60 episodes of 10 steps, and 12 of them held out
