"""The verdict against SciPy, plain loops and examples worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slateflow.errors import InputError
from slateflow.evaluation import Comparison, compare, decide_winner
from slateflow.evaluation.verdict import holm

EPISODES = 200


def returns(mean: float, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """Returns that lie around the mean of what `users` would earn."""
    users = np.random.default_rng(1).normal(0, 10, EPISODES)  # common to all policies
    return users + np.random.default_rng(seed + 2).normal(mean, spread, EPISODES)


@pytest.mark.parametrize("uplift", [-3.0, -0.1, 0.0, 0.1, 3.0])
@pytest.mark.parametrize("episodes", [2, 3, EPISODES])
def test_a_comparison_is_the_paired_t_test(uplift, episodes):
    ours, theirs = returns(uplift, 1)[:episodes], returns(0.0, 2)[:episodes]
    compared, test = compare(ours, theirs), stats.ttest_rel(ours, theirs)
    assert compared.p_value == pytest.approx(test.pvalue, rel=1e-9)
    interval = test.confidence_interval(0.95)
    assert compared.ci == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert compared.uplift == pytest.approx(sum(ours) / episodes - sum(theirs) / episodes)
    assert compared.better == (interval.low > 0)


def test_the_interval_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, and t(2 degrees, 97.5%) = 4.302653."""
    compared = compare(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    half = 4.302653 / 3**0.5
    assert compared.ci == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert not compared.better


def test_the_interval_covers_the_truth_nineteen_times_of_twenty():
    rng, covered = np.random.default_rng(5), 0
    for _ in range(1000):
        low, high = compare(rng.normal(0.3, 1.0, 12), np.zeros(12)).ci
        covered += low < 0.3 < high
    assert 920 <= covered <= 975  # 950 expected, 6.9 its deviation


def test_policies_that_do_the_same_are_equal_for_certain():
    same = returns(0.0)
    assert compare(same, same) == Comparison(0.0, (0.0, 0.0), 1.0)
    assert not compare(same, same).better


def test_a_constant_difference_is_certain():
    one = np.arange(10.0)
    assert compare(one + 2, one) == Comparison(2.0, (2.0, 2.0), 0.0)


def test_a_difference_that_is_constant_but_for_rounding():
    one = returns(1157.81)
    compared = compare(one + 0.1, one)
    assert compared.better
    assert compared.ci == pytest.approx((0.1, 0.1), rel=1e-9)
    assert compared.p_value < 1e-9


def test_one_episode_proves_nothing():
    with pytest.raises(InputError, match="episodes: expected at least 2 to compare, got 1"):
        compare(np.array([3.0]), np.array([1.0]))


def test_returns_of_other_users_are_refused():
    with pytest.raises(InputError, match="returns: expected those of the same users, got 3 and 4"):
        compare(np.zeros(3), np.zeros(4))


def test_holm_by_hand():
    """Four tests: the least p × 4, the next × 3, then × 2, then × 1, and never falling."""
    assert holm([0.04, 0.005, 0.03, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_that_of_a_plain_loop(p_values):
    expected = []
    for p in p_values:
        # The largest over all p' up to this one of p' × (how many are not below it in the order).
        bound = 0.0
        for rank, other in enumerate(sorted(p_values)):
            if other <= p:
                bound = max(bound, other * (len(p_values) - rank))
        expected.append(min(bound, 1.0))
    corrected = holm(p_values)
    assert corrected == pytest.approx(expected, rel=1e-12)
    assert all(after >= before for after, before in zip(corrected, p_values, strict=True))


def test_the_best_of_those_above_random_wins():
    verdict = decide_winner(
        returns(0.0, 1),
        {"worse": returns(-2.0, 2), "good": returns(2.0, 3), "best": returns(4.0, 4)},
    )
    assert [candidate.learner for candidate in verdict.candidates] == ["best", "good", "worse"]
    assert [candidate.winner for candidate in verdict.candidates] == [True, False, False]
    assert verdict.winner is verdict.candidates[0]


def test_the_highest_mean_does_not_win_if_it_is_not_certain():
    verdict = decide_winner(
        returns(0.0, 1), {"wild": returns(3.0, 2, spread=100.0), "steady": returns(1.0, 3)}
    )
    wild = next(c for c in verdict.candidates if c.learner == "wild")
    steady = next(c for c in verdict.candidates if c.learner == "steady")
    assert wild.mean > steady.mean
    assert wild.over_baseline.ci[0] < 0
    assert verdict.winner is steady


@pytest.mark.parametrize("mean", [-2.0, -0.01, 0.0])
def test_nobody_wins_who_is_not_better_than_random(mean):
    verdict = decide_winner(returns(0.0, 1), {"one": returns(mean, 2), "two": returns(mean - 1, 3)})
    assert verdict.winner is None
    assert [candidate.winner for candidate in verdict.candidates] == [False, False]


def test_no_candidates_no_winner():
    verdict = decide_winner(returns(0.0), {})
    assert (verdict.candidates, verdict.winner) == ((), None)


def test_the_champion_must_be_beaten_too():
    baseline, champion = returns(0.0, 1), returns(3.0, 2)
    candidates = {"below": returns(2.0, 3), "above": returns(3.6, 4), "over": returns(3.5, 5)}
    verdict = decide_winner(baseline, candidates, champion=champion)
    assert verdict.winner is not None
    assert verdict.winner.learner == "above"
    below = verdict.candidates[-1]
    assert below.over_baseline.better
    assert below.over_champion is not None
    assert not below.over_champion.better
    test = stats.ttest_rel(candidates["below"], champion)
    assert below.over_champion.p_value == pytest.approx(test.pvalue, rel=1e-9)
    assert decide_winner(baseline, {"below": candidates["below"]}, champion=champion).winner is None


def test_the_champion_itself_does_not_win_again():
    again = returns(5.0, 2)
    verdict = decide_winner(returns(0.0, 1), {"same": again}, champion=again)
    assert verdict.winner is None
    assert verdict.candidates[0].over_champion == Comparison(0.0, (0.0, 0.0), 1.0)


def test_a_champion_below_random_does_not_lower_the_bar():
    verdict = decide_winner(returns(0.0, 1), {"bad": returns(-1.0, 2)}, champion=returns(-5.0, 3))
    assert verdict.candidates[0].over_champion is not None
    assert verdict.candidates[0].over_champion.better
    assert verdict.winner is None


def test_of_equals_the_first_one_wins_alone():
    twin = returns(2.0, 2)
    verdict = decide_winner(returns(0.0, 1), {"first": twin, "second": twin.copy()})
    assert [(c.learner, c.winner) for c in verdict.candidates] == [
        ("first", True),
        ("second", False),
    ]


def test_without_a_champion_nobody_is_compared_with_one():
    verdict = decide_winner(returns(0.0), {"one": returns(1.0, 2)})
    assert verdict.candidates[0].over_champion is None


def test_p_values_are_corrected_for_the_number_of_candidates():
    baseline = returns(0.0, 1)
    candidates = {f"c{i}": returns(0.2, 10 + i) for i in range(3)}
    raw = {name: stats.ttest_rel(r, baseline).pvalue for name, r in candidates.items()}
    ordered = sorted(raw, key=raw.__getitem__)
    first = 3 * raw[ordered[0]]
    second = max(first, 2 * raw[ordered[1]])
    third = max(second, raw[ordered[2]])
    expected = {name: min(p, 1.0) for name, p in zip(ordered, (first, second, third), strict=True)}
    verdict = decide_winner(baseline, candidates)
    corrected = {c.learner: c.over_baseline.p_value for c in verdict.candidates}
    assert corrected == pytest.approx(expected, rel=1e-9)
    assert len(set(raw.values())) == 3


def test_the_normalised_score_is_the_way_from_random_to_the_optimum():
    baseline, learnt = returns(1157.81, 1), returns(1163.66, 2)
    verdict = decide_winner(baseline, {"one": learnt}, optimum=1195.80)
    expected = (np.mean(learnt) - np.mean(baseline)) / (1195.80 - np.mean(baseline))
    assert verdict.candidates[0].score == pytest.approx(expected)
    assert verdict.optimum == 1195.80
    assert decide_winner(baseline, {"one": learnt}).candidates[0].score is None
    # The three published anchors: random 0, the optimum 1.
    exact = decide_winner(baseline, {"random": baseline, "best": np.full(EPISODES, 1195.8)}, 1195.8)
    assert [c.score for c in exact.candidates] == pytest.approx([1.0, 0.0])


def test_the_baseline_is_described():
    baseline = returns(3.0)
    described = decide_winner(baseline, {}, baseline_policy="greedy").baseline
    assert described.policy == "greedy"
    assert described.mean == pytest.approx(float(np.mean(baseline)))
    assert described.sem == pytest.approx(stats.sem(baseline))
    assert described.episodes == EPISODES


def test_the_winner_is_not_worse_than_what_already_runs():
    """Both candidates beat random; one of them is below the better of two logging policies."""
    baseline, candidates = returns(0.0, 1), {"good": returns(3.0, 2), "bad": returns(1.0, 3)}
    logged = {"old": returns(0.5, 4), "now": returns(2.0, 5)}
    verdict = decide_winner(baseline, {"bad": candidates["bad"]}, logged=logged)
    assert verdict.candidates[0].over_baseline.better
    assert verdict.candidates[0].over_logged == compare(candidates["bad"], logged["now"])
    assert verdict.winner is None
    assert [policy.policy for policy in verdict.logged] == ["now", "old"]
    assert decide_winner(baseline, candidates, logged=logged).winner.learner == "good"
    # As good as what runs is good enough
    assert decide_winner(baseline, {"now": logged["now"]}, logged=logged).winner is not None
