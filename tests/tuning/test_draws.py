"""Settings from which trials are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.learners import LEARNERS, learner_config
from slateflow.learners.search_space import OneOf, Range
from slateflow.tuning.trial import draw_settings, tunable_learners


@pytest.mark.parametrize("learner", tunable_learners())
def test_everything_drawn_is_a_setting_of_the_learner(learner):
    drawn = [draw_settings(learner, number, seed=2) for number in range(40)]
    assert drawn[0] == {}
    for settings in drawn[1:]:
        assert set(settings) == set(LEARNERS[learner].search_space)
        config = learner_config(learner, **settings).parameters()
        assert {name: config[name] for name in settings} == settings


def test_a_trial_does_not_depend_on_the_others():
    assert draw_settings("cql", 7, seed=1) == draw_settings("cql", 7, seed=1)
    drawn = [str(draw_settings("cql", number, seed)) for number in (6, 7) for seed in (1, 2)]
    assert len(set(drawn)) == 4


def draws(domain, count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([domain.draw(rng) for _ in range(count)])


def test_ranges_are_drawn_uniformly_between_their_ends():
    even = draws(Range(2.0, 6.0))
    assert even.min() >= 2
    assert even.max() <= 6
    assert np.quantile(even, [0.25, 0.5]) == pytest.approx([3, 4], abs=0.15)
    logarithmic = draws(Range(1e-4, 1.0, log=True))
    assert np.median(logarithmic) == pytest.approx(1e-2, rel=0.25)
    values, counts = np.unique(draws(Range(2, 5, whole=True)), return_counts=True)
    assert values.tolist() == [2, 3, 4, 5]
    assert counts == pytest.approx(1000, abs=120)
    assert set(draws(OneOf((16, 64))).tolist()) == {16, 64}


def test_a_drawn_number_can_be_typed_again():
    assert all(float(f"{value:.3g}") == value for value in draws(Range(1e-9, 1e3, log=True), 200))


@pytest.mark.parametrize("learner", sorted(set(LEARNERS) - set(tunable_learners())))
def test_what_held_out_logs_cannot_judge_is_refused(learner):
    with pytest.raises(InputError, match=f"held-out logs can judge, got {learner}; choose one of"):
        draw_settings(learner, 0, seed=0)


def test_an_unknown_learner_is_refused():
    with pytest.raises(InputError, match="unknown learner 'magic'"):
        draw_settings("magic", 0, seed=0)
