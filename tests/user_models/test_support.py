"""Support of logs, against shares computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.policies import Scorer
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.user_models.support import (
    grown_support,
    left_out,
    logged_support,
    rarity_weights,
    without_gaps,
)


def uniform(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.SFC64(seed)).random((count, 1))


def test_uniform_logs_have_no_gaps_and_even_weights():
    support = grown_support(uniform(50_000, 1), uniform(50_000, 2))
    assert without_gaps(support) is None
    assert rarity_weights(support, uniform(1000, 3)) == pytest.approx(1.0, abs=0.3)


def test_what_is_never_shown_is_a_gap():
    """Only candidates above 0.5 are shown."""
    support = grown_support(0.5 + uniform(20_000, 1) / 2, uniform(20_000, 2))
    x = np.array([[0.1], [0.4], [0.6], [0.9]])
    assert support.hardly_seen(x).tolist() == [True, True, False, False]
    assert without_gaps(support) is support


@pytest.mark.parametrize(("share", "gap"), [(0.0, True), (0.001, True), (0.02, False)])
def test_a_little_exploration_closes_the_gap(share, gap):
    """Most rows show candidates above 0.5; a share of them shows any."""
    count = 100_000
    shown = 0.5 + uniform(count, 1) / 2
    explored = round(share * count)
    shown[:explored] = uniform(explored, 5)
    support = grown_support(shown, uniform(count, 2))
    assert support.hardly_seen(np.array([[0.2]])).tolist() == [gap]


def test_rare_candidates_count_as_if_shown_at_random():
    """Shown density 2c, offered 1: the weight of c is 1 / 2c if that is above 3, otherwise 1."""
    shown = np.sqrt(uniform(100_000, 1))
    support = grown_support(shown, uniform(100_000, 2))
    rare, seldom, many = rarity_weights(support, np.array([[0.1], [0.25], [0.8]]))
    assert rare == pytest.approx(5.0, rel=0.25)
    assert seldom == many == 1.0
    # The weighted density is 1 below 1/6, and 2c above
    moment, mass = 1 / 72 + (1 - 1 / 216) * 2 / 3, 1 / 6 + 1 - 1 / 36
    weights = rarity_weights(support, shown)
    assert np.average(shown[:, 0], weights=weights) == pytest.approx(moment / mass, abs=0.01)


def scorer(support=None) -> Scorer:
    """Likes small candidates."""
    return Scorer(
        user_size=0, slate_size=1, horizon=5, window=1, offset=np.zeros(2), scale=np.ones(2),
        powers=np.array([[0, 1]]), head=np.array([[-1.0]]), head_bias=np.zeros(1), support=support,
    )  # fmt: skip


def test_a_scorer_leaves_gaps_alone_where_anything_else_is_offered(tmp_path):
    support = grown_support(0.5 + uniform(20_000, 1) / 2, uniform(20_000, 2))
    path = tmp_path / "scorer.npz"
    scorer(support).save(path)
    offered = np.array([[[0.1], [0.7], [0.9]], [[0.3], [0.2], [0.4]]])
    for one in (scorer(support), Scorer.load(path)):
        scores = one.scores(np.zeros((2, 0)), np.zeros(2, int), offered)
        assert (-scores).argsort(axis=1).tolist() == [[1, 2, 0], [1, 0, 2]]
    assert Scorer.load(path).support is not None
    scorer().save(path)
    assert Scorer.load(path).support is None


@pytest.mark.parametrize(("policies", "gaps"), [
    ({"random": 0.5, "greedy": 0.5}, False),
    ({"greedy": 1.0}, True),
])  # fmt: skip
def test_logs_of_greedy_alone_have_gaps(tmp_path, policies, gaps):
    recipe = Recipe("s", "modified-lts-10-1", 300, 1, policies)
    support = logged_support(generate(recipe, Folder(str(tmp_path))).read())
    assert (without_gaps(support) is not None) == gaps
    if gaps:  # of ten uniform candidates the greatest is below 0.3 in 6 of a million rows
        assert support.hardly_seen(np.array([[0.1], [0.95]])).tolist() == [True, False]


def test_what_is_left_out_is_that_of_a_plain_loop_and_never_all(tmp_path):
    recipe = Recipe("s", "modified-lts-10-1", 10, 1, {"random": 1.0})
    rows = generate(recipe, Folder(str(tmp_path))).read()
    support = grown_support(0.9 + uniform(20_000, 1) / 10, uniform(20_000, 2))
    found, whole = left_out(support, rows), 0
    for row, offered in enumerate(rows.candidates):
        hardly = support.hardly_seen(offered).tolist()
        whole += all(hardly)
        assert found[row].tolist() == [one and not all(hardly) for one in hardly]
    assert 0 < whole < len(rows)
    everything = grown_support(uniform(20_000, 1), uniform(20_000, 2))
    assert not left_out(everything, rows).any()
