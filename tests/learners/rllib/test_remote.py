"""Learners and samplers in processes of Ray: they train, export, and leave nothing behind."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.learners import learner_config, train, train_live


def trains_quietly(run, capfd) -> None:
    """Nothing on the terminal, no cluster afterwards."""
    import ray

    scorer, report = run()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert not ray.is_initialized()
    assert np.isfinite(scorer.head).all()
    assert all(np.isfinite(curve).all() for curve in report.curves.values())
    assert report.curves


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # sockets and files that Ray leaves open
@pytest.mark.parametrize(("name", "learners"), [("cql", 1), ("marwil", 2)])
def test_learners_of_their_own(small_logs, name, learners, capfd):
    config = learner_config(name, num_learners=learners, updates=100, batch_size=64, width=8)
    trains_quietly(lambda: train(small_logs, config), capfd)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sampler_of_its_own(capfd):
    spec = preset("modified-lts-10-1", num_candidates=4, time_budget=5)
    config = learner_config(
        "ppo", num_env_runners=1, survey_episodes=10, users=16, steps=20, live_steps=1400, width=8
    )
    trains_quietly(lambda: train_live(spec, config), capfd)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_choice_that_is_plain_is_learnt_by_two(make_logs):
    """Two documents shown equally often, one pays: the advantages are ±1, the odds e² for β = 1."""
    rng = np.random.default_rng(0)
    action = rng.permutation(np.repeat([0, 1], 300))[:, None]
    candidates = np.tile([0.0, 1.0], (600, 1, 1))
    dataset = make_logs(np.full((600, 1), 0.5), candidates, action, 5.0 + action)
    config = learner_config("marwil", num_learners=2, batch_size=600, updates=200)
    scores = train(dataset, config)[0].scores(
        np.array([[0.5]]), np.array([0]), candidates[:1, 0, :, None]
    )
    assert scores[0, 1] - scores[0, 0] == pytest.approx(2.0, abs=0.2)
