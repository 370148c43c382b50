"""Learners of values where the taste for each item peaks at a different age."""

from __future__ import annotations

import pytest

from slateflow.learners import learner_config, train
from slateflow.learners.fitted_q import chosen_terms
from slateflow.learners.logged_steps import Parts
from tests.evaluation.off_policy.bent_shop import BentShop


@pytest.mark.parametrize("explores", [1.0, 0.3])
def test_fitted_q_finds_whose_taste_is_what(tmp_path, explores):
    """Score by quadrature over the ages: 0 is random, 1 the best. A cubic reaches .95 and .79."""
    shop = BentShop(10.0)
    dataset = shop.logs(tmp_path, 4_000, 1, explores)
    scorer, _ = train(dataset, learner_config("fitted-q"))
    assert shop.score(scorer, dataset) > 0.955


@pytest.mark.parametrize("seed", range(3))
def test_tastes_that_rise_in_a_line_do_not_bend(tmp_path, seed):
    chosen = chosen_terms(Parts.of(BentShop(0.0).logs(tmp_path, 2_000, seed)).sample, 0, 0.0)
    assert not len(chosen.basis.knots.feature)
