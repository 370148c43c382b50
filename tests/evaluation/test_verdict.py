"""The verdict against SciPy, plain loops, examples worked by hand, and many simulated nights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slateflow.errors import InputError
from slateflow.evaluation import Comparison, Contender, compare, decide, played_verdict
from slateflow.evaluation.verdict import holm, score

EPISODES = 200


def returns(mean: float, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """Returns around the mean that `users` would earn."""
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


def test_the_interval_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, and t(2 degrees, 97.5%) = 4.302653."""
    compared = compare(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    half = 4.302653 / 3**0.5
    assert compared.ci == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_the_interval_covers_the_truth_nineteen_times_of_twenty():
    rng, covered = np.random.default_rng(5), 0
    for _ in range(1000):
        low, high = compare(rng.normal(0.3, 1.0, 12), np.zeros(12)).ci
        covered += low < 0.3 < high
    assert 920 <= covered <= 975  # 950 expected, 6.9 its deviation


def test_policies_that_do_the_same_are_equal_for_certain():
    same = returns(0.0)
    assert compare(same, same) == Comparison(0.0, (0.0, 0.0), 1.0)


def test_a_constant_difference_is_certain():
    one = np.arange(10.0)
    assert compare(one + 2, one) == Comparison(2.0, (2.0, 2.0), 0.0)


def test_a_difference_that_is_constant_but_for_rounding():
    one = returns(1157.81)
    compared = compare(one + 0.1, one)
    assert compared.ci == pytest.approx((0.1, 0.1), rel=1e-9)
    assert compared.p_value < 1e-9


def test_one_episode_proves_nothing():
    with pytest.raises(InputError, match="episodes: expected at least 2 to compare, got 1"):
        compare(np.array([3.0]), np.array([1.0]))


def test_returns_of_other_users_are_refused():
    with pytest.raises(InputError, match="returns: expected those of the same users, got 3 and 4"):
        compare(np.zeros(3), np.zeros(4))


def test_holm_by_hand():
    """Four tests: the smallest p × 4, the next × 3, then × 2, then × 1, and never decreasing."""
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
    verdict = played_verdict(
        returns(0.0, 1),
        {"worse": returns(-2.0, 2), "good": returns(2.0, 3), "best": returns(4.0, 4)},
    )
    assert [candidate.learner for candidate in verdict.candidates] == ["best", "good", "worse"]
    assert [one.verdict for one in verdict.candidates] == ["winner", "better", "worse"]
    assert verdict.winner is verdict.candidates[0]


def test_the_highest_mean_does_not_win_if_it_is_not_certain():
    verdict = played_verdict(
        returns(0.0, 1), {"wild": returns(3.0, 2, spread=100.0), "steady": returns(1.0, 3)}
    )
    wild = next(c for c in verdict.candidates if c.learner == "wild")
    steady = next(c for c in verdict.candidates if c.learner == "steady")
    assert wild.mean > steady.mean
    assert wild.over_baseline.ci[0] < 0
    assert wild.verdict == "undecided"
    assert verdict.winner is steady


@pytest.mark.parametrize("mean", [-2.0, -0.01, 0.0])
def test_nobody_wins_who_is_not_better_than_random(mean):
    verdict = played_verdict(
        returns(0.0, 1), {"one": returns(mean, 2), "two": returns(mean - 1, 3)}
    )
    assert verdict.winner is None


def test_no_candidates_no_winner():
    verdict = played_verdict(returns(0.0), {})
    assert (verdict.candidates, verdict.winner) == ((), None)


def test_the_champion_must_be_beaten_too():
    baseline, champion = returns(0.0, 1), returns(3.0, 2)
    candidates = {"below": returns(2.0, 3), "above": returns(3.6, 4), "over": returns(3.5, 5)}
    verdict = played_verdict(baseline, candidates, champion=champion)
    assert verdict.winner is not None
    assert verdict.winner.learner == "above"
    assert [one.verdict for one in verdict.candidates] == ["winner", "better", "better"]
    assert (
        played_verdict(baseline, {"below": candidates["below"]}, champion=champion).winner is None
    )


def test_the_champion_itself_does_not_win_again():
    again = returns(5.0, 2)
    verdict = played_verdict(returns(0.0, 1), {"same": again}, champion=again)
    assert verdict.winner is None
    assert verdict.candidates[0].over_champion == Comparison(0.0, (0.0, 0.0), 1.0)


def test_a_champion_below_random_does_not_lower_the_bar():
    verdict = played_verdict(returns(0.0, 1), {"bad": returns(-1.0, 2)}, champion=returns(-5.0, 3))
    (bad,) = verdict.candidates
    assert bad.over_champion is not None
    assert bad.over_champion.ci[0] > 0
    assert bad.verdict == "worse"


def test_of_equals_the_first_one_wins_alone():
    twin = returns(2.0, 2)
    verdict = played_verdict(returns(0.0, 1), {"first": twin, "second": twin.copy()})
    assert [(one.learner, one.verdict) for one in verdict.candidates] == [
        ("first", "winner"),
        ("second", "better"),
    ]


def test_without_a_champion_nobody_is_compared_with_one():
    verdict = played_verdict(returns(0.0), {"one": returns(1.0, 2)})
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
    verdict = played_verdict(baseline, candidates)
    corrected = {c.learner: c.over_baseline.p_value for c in verdict.candidates}
    assert corrected == pytest.approx(expected, rel=1e-9)
    assert len(set(raw.values())) == 3
    # Against a champion as good as random the correction is the same
    against = played_verdict(baseline - 9, candidates, champion=baseline).candidates
    assert {c.learner: c.over_champion.p_value for c in against} == pytest.approx(expected)


def test_the_normalised_score_is_the_way_from_random_to_the_optimum():
    baseline, learnt, best = returns(1157.81, 1), returns(1163.66, 2), returns(1195.8, 3)
    verdict = played_verdict(baseline, {"one": learnt}, best, logged={"log": learnt})
    expected = (np.mean(learnt) - np.mean(baseline)) / (np.mean(best) - np.mean(baseline))
    assert verdict.candidates[0].score.value == pytest.approx(expected)
    assert verdict.logged[0].score == verdict.candidates[0].score
    assert verdict.optimum.mean == pytest.approx(np.mean(best))
    assert played_verdict(baseline, {"one": learnt}).candidates[0].score is None
    # The anchors: random 0, the optimum 1, both for certain
    assert verdict.baseline.score.value == verdict.baseline.score.ci[0] == 0
    assert verdict.optimum.score.value == 1
    assert verdict.optimum.score.ci == pytest.approx((1, 1))


def test_the_interval_of_a_score_holds_what_its_t_test_does_not_refute():
    """At both ends the paired t-test of G − s R has p = 0.05, as Fieller's interval is defined."""
    baseline, learnt, best = returns(0.0, 1), returns(0.4, 2), returns(0.6, 3)
    found = score(learnt, baseline, best)
    assert found.ci[0] < found.value < found.ci[1]
    for end in found.ci:
        test = stats.ttest_1samp((learnt - baseline) - end * (best - baseline), 0.0)
        assert test.pvalue == pytest.approx(0.05, rel=1e-6)


def test_there_is_no_score_where_the_optimum_may_be_no_better_than_random():
    baseline = returns(0.0, 1)
    assert score(returns(0.3, 2), baseline, returns(0.01, 3)) is None
    assert score(returns(0.3, 2), baseline, returns(-5.0, 3)) is None
    assert score(baseline, baseline, baseline) is None


def test_the_baseline_is_described():
    baseline = returns(3.0)
    described = played_verdict(baseline, {}, baseline_policy="greedy").baseline
    assert described.policy == "greedy"
    assert described.mean == pytest.approx(float(np.mean(baseline)))
    assert described.sem == pytest.approx(stats.sem(baseline))
    assert described.episodes == EPISODES


def test_the_winner_is_not_worse_than_what_already_runs():
    """Both candidates beat random; one is below the better of two logging policies."""
    baseline, candidates = returns(0.0, 1), {"good": returns(3.0, 2), "bad": returns(1.0, 3)}
    logged = {"old": returns(0.5, 4), "now": returns(2.0, 5)}
    verdict = played_verdict(baseline, {"bad": candidates["bad"]}, logged=logged)
    assert verdict.candidates[0].verdict == "better"
    assert verdict.candidates[0].over_logged == compare(candidates["bad"], logged["now"])
    assert verdict.winner is None
    assert [policy.policy for policy in verdict.logged] == ["now", "old"]
    assert played_verdict(baseline, candidates, logged=logged).winner.learner == "good"
    # As good as what runs is good enough
    assert played_verdict(baseline, {"now": logged["now"]}, logged=logged).winner is not None


def contender(learner: str, over_random: float, over_champion: float | None) -> Contender:
    """An artificial contender with these p-values and positive differences."""
    against = None if over_champion is None else Comparison(1.0, (0.5, 1.5), over_champion)
    return Contender(learner, 10.0, 1.0, Comparison(1.0, (0.5, 1.5), over_random), against)


def test_what_decides_is_the_larger_p_value_corrected_by_hand():
    """Larger of each pair: .04, .03, .001; Holm: .001 × 3, .03 × 2, and .04 at least that."""
    made = [contender("a", 0.001, 0.04), contender("b", 0.03, 0.001), contender("c", 1e-9, 0.001)]
    found = decide(made)
    assert [one.learner for one in found] == ["a", "b", "c"]
    assert [one.p_value for one in found] == pytest.approx([0.06, 0.06, 0.003])
    assert [one.over_champion.p_value for one in found] == pytest.approx([0.04, 0.003, 0.003])
    assert [one.verdict for one in found] == ["better", "better", "winner"]
    alone = decide([contender("a", 0.001, None), contender("b", 0.03, None)])
    assert [one.p_value for one in alone] == pytest.approx([0.002, 0.03])
    assert [one.verdict for one in alone] == ["winner", "better"]


NIGHTS, USERS = 4000, 200


def nights(candidates: int, seed: int) -> np.ndarray:
    """Returns of a champion and candidates as good, (nights, 1 + candidates, users).

    Half of a return's variance is the user's.
    """
    rng = np.random.default_rng(seed)
    users = rng.normal(size=(NIGHTS, 1, USERS))
    return users + rng.normal(size=(NIGHTS, 1 + candidates, USERS))


def promotions(played: np.ndarray) -> tuple[float, float]:
    """Shares of nights with a new champion, and with an interval over the champion above 0.

    All are far above random, so the champion decides.
    """
    differences = played[:, 1:] - played[:, :1]
    test, uplifts = stats.ttest_1samp(differences, 0.0, axis=2), differences.mean(axis=2)
    lows, highs = test.confidence_interval(0.95)
    over_random, promoted = Comparison(9.0, (8.9, 9.1), 1e-99), 0
    for night in zip(uplifts, lows, highs, test.pvalue, strict=True):
        found = decide(
            Contender("one", uplift, 1.0, over_random, Comparison(uplift, (low, high), p_value))
            for uplift, low, high, p_value in zip(*night, strict=True)
        )
        promoted += any(one.verdict == "winner" for one in found)
    return promoted / NIGHTS, float((lows > 0).any(axis=1).mean())


@pytest.mark.parametrize("candidates", [1, 7])
def test_candidates_as_good_as_the_champion_are_rarely_promoted(candidates):
    promoted, pointwise = promotions(nights(candidates, 11))
    assert promoted <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / NIGHTS)
    if candidates == 7:  # single intervals promoted one in four times as many nights
        assert promoted <= 0.025
        assert pointwise > 0.07


def test_a_better_candidate_is_promoted():
    """Four standard errors above the champion, among six candidates as good as it.

    The power is at least that of Bonferroni's test: p < .05 / 7, two-sided.
    """
    played = nights(7, 12)
    played[:, 1] += 4 * np.sqrt(2 / USERS)
    promoted, _ = promotions(played)
    power = stats.norm.sf(stats.norm.isf(0.025 / 7) - 4)
    assert power > 0.9
    assert promoted >= power - 3 * np.sqrt(power * (1 - power) / NIGHTS)


@pytest.mark.parametrize("skewed", [False, True])
def test_every_printed_interval_covers_the_truth(skewed):
    """Over random, over the champion, and of scores; for 1,000 normal or log-normal returns."""
    rng, covered, repeats = np.random.default_rng(13), np.zeros(3), 1200
    random, champion, learnt, best = 0.0, 0.3, 0.5, 1.0
    for _ in range(repeats):
        noise = rng.normal(size=(5, 1000))
        drawn = noise[0] + noise[1:] * 0.7  # (4, users), with the users in common
        drawn = np.exp(drawn) if skewed else drawn
        returns_of = np.array([random, champion, learnt, best])[:, None] + drawn
        verdict = played_verdict(
            returns_of[0], {"one": returns_of[2]}, returns_of[3], champion=returns_of[1]
        )
        (one,) = verdict.candidates
        truths = (learnt - random, learnt - champion, (learnt - random) / (best - random))
        intervals = (one.over_baseline.ci, one.over_champion.ci, one.score.ci)
        covered += [
            low < truth < high for truth, (low, high) in zip(truths, intervals, strict=True)
        ]
    assert ((covered / repeats > 0.93) & (covered / repeats < 0.97)).all(), covered / repeats
