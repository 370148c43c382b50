"""SlateQ on a session solved by hand, and on the worlds in which users choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns
from slateflow.learners import learner_config, train
from slateflow.learners.passes import sampled
from slateflow.policies import Behaviour, ScoringPolicy, behaviour_policy
from slateflow.policies.slate_choice import ChoiceModel, item_features
from slateflow.policies.slate_scorer import SlateScorer
from slateflow.trajectories import Dataset, Folder, PartFile, Recipe, generate
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.choices import SlateFeatures
from slateflow.user_models.item_values import DENSE_FEATURES, Members, settling_discount
from slateflow.user_models.sessions import Sessions
from tests.benchmarks.random_worlds import drawn_recipe
from tests.leaving import CLICK, LEAVE, leaving_sessions


@pytest.fixture(scope="module")
def sessions() -> Trajectories:
    """6,000 sessions."""
    return leaving_sessions()


def logged(rows: Trajectories, monkeypatch) -> Dataset:
    """A dataset that consists of these rows."""
    spec = preset("interest-exploration", num_candidates=2, slate_size=1)
    part = PartFile("nowhere.parquet", "random", 0, len(rows.starts), len(rows), "")
    monkeypatch.setattr(Dataset, "iter_parts", lambda self: iter([rows]))
    return Dataset(Folder("nowhere"), spec, {}, (part,))


def values_by_hand() -> tuple[float, float, float]:
    """Q of the first document once clicked, of the second, and of no click: value iteration."""
    q = np.zeros(3)
    for _ in range(2000):
        worth = [CLICK[i] * q[i] + (1 - CLICK[i]) * q[2] for i in (0, 1)]
        q = np.array([1.0, 1.0, 0.0]) + (1 - LEAVE) * max(worth)
    return tuple(q)


def test_values_are_those_of_value_iteration(sessions, monkeypatch):
    assert values_by_hand() == pytest.approx((3.5, 5.5, 4.5))  # and by algebra
    scorer, report = train(logged(sessions, monkeypatch), learner_config("slateq"), seed=0)
    documents = np.array([[0.0, 1, 0], [0, 0, 1]])
    clicked = documents @ scorer.item_values[0] + scorer.click_values[0]
    # In the middle of a session the past is uninformative here, so its weights are near 0
    np.testing.assert_allclose(
        [*clicked, scorer.no_click_values[0, 0]], values_by_hand(), atol=0.35
    )
    scores = scorer.scores(np.zeros((1, 0)), np.zeros(1, dtype=int), documents[None])
    assert scores.argmax() == 1
    assert report.curves["value_change"][-1] < 1e-4


def test_the_choice_model_is_the_frequency_of_clicks(sessions, monkeypatch):
    scorer, _ = train(logged(sessions, monkeypatch), learner_config("slateq"), seed=0)
    attraction = scorer.choice.attraction(np.array([[[0.0, 1, 0], [0, 0, 1]]]))[0, 0]
    np.testing.assert_allclose(attraction / (1 + attraction), CLICK, atol=0.02)


def test_sums_of_the_past_by_hand(sessions):
    made = Sessions.from_rows(sessions, preset("interest-exploration"), SlateFeatures(False))
    clicks = rewards = steps = 0.0
    togo = made.returns_to_go()
    for row in range(200):
        if sessions.step[row] == 0:
            clicks = rewards = steps = 0.0
        # steps, clicks, rewards, qualities; the cluster is a kind and has no sum
        assert made.past[row].tolist() == [steps, clicks, rewards, 0.0]
        steps, clicks = steps + 1, clicks + (sessions.clicked[row] >= 0)
        rewards += float(sessions.reward[row])
        rest = sessions.reward[row:][sessions.episode[row:] == sessions.episode[row]]
        assert togo[row] == pytest.approx(rest.sum())


@pytest.mark.integration
@pytest.mark.parametrize("construction", ["optimal", "greedy"])
def test_evolution_keeps_the_session_going(construction, tmp_path):
    recipe = Recipe("evolution", "interest-evolution", 200, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq", construction=construction), seed=0)
    returns = episode_returns(dataset.spec, ScoringPolicy(scorer), 200, seed=1)
    # Quality ranking, which these logs never saw, has 264; greedy 168, with deviations of 40
    assert returns.mean() > 255


@pytest.mark.slow
def test_what_users_like_is_what_keeps_them(tmp_path):
    """Greedy is nearly optimal; a scorer below it has fitted chance."""
    likes = {"user_quality_factor": 1.0, "document_quality_factor": 0.0}
    recipe = Recipe("liked", "interest-evolution", 300, 7, {"random": 0.5, "greedy": 0.5}, likes)
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq"), seed=0)
    greedy = behaviour_policy("greedy", dataset.spec)
    ours, theirs = (
        episode_returns(dataset.spec, policy, 500, seed=1)
        for policy in (ScoringPolicy(scorer), greedy)
    )
    gain = ours - theirs
    assert gain.mean() > -2 * gain.std() / np.sqrt(len(gain))


@pytest.mark.integration
def test_users_click_in_proportion_to_their_interest(tmp_path):
    """RecSim's odds of an item are (1 + interest) / (1 + no-click mass), with any logs."""
    logged_by = {"random": 0.1, "greedy": 0.45, "opposite": 0.45}
    world = {"num_features": 10, "slate_size": 1, "no_click_mass": 0.5, "time_budget": 100.0}
    recipe = Recipe("proportional", "interest-evolution", 300, 7, logged_by, world)
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq"), seed=0)
    interest = np.linspace(-0.75, 0.75, 7)
    users, items = interest[:, None] * np.ones(10), np.broadcast_to(np.eye(10), (7, 10, 10))
    known = item_features(users, items, features_match=True)
    (odds,) = scorer.choice.attraction(scorer._chosen_by(users, items, known))
    np.testing.assert_allclose(odds.mean(axis=1), (1 + interest) / 1.5, rtol=0.15)
    assert (np.diff(odds.mean(axis=1)) > 0).all()


@pytest.mark.integration
def test_exploration_takes_the_clicks_of_the_session_into_account(tmp_path):
    recipe = Recipe("exploration", "interest-exploration", 100, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq", classes=2), seed=0)
    quality = behaviour_policy("greedy", dataset.spec)
    ours, theirs = (
        episode_returns(dataset.spec, policy, 700, seed=1)
        for policy in (ScoringPolicy(scorer), quality)
    )
    gain = ours - theirs  # on common users; the optimum is 1.5 above quality
    assert gain.mean() > 2 * gain.std() / np.sqrt(len(gain))


def test_the_same_seed_gives_the_same_weights(sessions, monkeypatch):
    dataset = logged(sessions, monkeypatch)
    one, two = (train(dataset, learner_config("slateq", classes=2), seed=5)[0] for _ in range(2))
    np.testing.assert_array_equal(one.item_values, two.item_values)
    np.testing.assert_array_equal(one.choice_weights, two.choice_weights)


def test_what_cannot_be_learnt_from_is_named(sessions, monkeypatch):
    spoilt = replace(sessions, reward=np.full(len(sessions), np.nan, dtype=np.float32))
    with pytest.raises(InputError, match="reward: expected finite numbers"):
        train(logged(spoilt, monkeypatch), learner_config("slateq"))
    with pytest.raises(InputError, match=r"construction.*optimal"):
        learner_config("slateq", construction="best")


def test_slates_whose_first_place_is_taken_are_their_first_places(tmp_path, monkeypatch):
    recipe = Recipe("first", "lts-10-1", 30, 0, {"random": 1.0}, {"slate_size": 3})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq"), seed=0)
    rows = dataset.read()
    alone = replace(rows, slate=rows.slate[:, :1])
    monkeypatch.setattr(Dataset, "iter_parts", lambda self: iter([alone]))
    single = replace(dataset, spec=preset("lts-10-1", slate_size=1))
    expected, _ = train(single, learner_config("slateq"), seed=0)
    np.testing.assert_array_equal(scorer.item_values, expected.item_values)
    observed = rows.user[:50], rows.step[:50], rows.candidates[:50]
    np.testing.assert_array_equal(scorer.scores(*observed), expected.scores(*observed))
    scorer.save(tmp_path / "weights.npz")
    loaded = SlateScorer.load(tmp_path / "weights.npz")
    np.testing.assert_array_equal(loaded.scores(*observed), scorer.scores(*observed))
    # The most clickbait is the optimum of this world
    best = scorer.scores(*observed).argmax(axis=1)
    assert (best == rows.candidates[:50, :, 0].argmax(axis=1)).mean() > 0.9
    assert scorer.slate_size == 3


def test_sessions_of_one_step_are_learnt_by_what_is_clicked(tmp_path):
    recipe = Recipe("one", "interest-exploration", 4000, 3, {"random": 1.0}, {"step_limit": 1})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("slateq"), seed=0)
    # Nothing follows a click, so a document is worth its click rate: quality decides
    candidates = np.array([[[1.0, 0, 1], [3.0, 0, 1], [2.0, 0, 1], [0.5, 0, 1]]])
    scores = scorer.scores(np.zeros((1, 0)), np.zeros(1, dtype=int), candidates)
    assert scores[0].argsort()[::-1][:3].tolist() == [1, 2, 0]


def test_parts_that_are_read_at_every_iteration_give_the_same_values(tmp_path, monkeypatch):
    recipe = Recipe("evolution", "interest-evolution", 200, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    config = learner_config("slateq", iterations=3, classes=1)
    kept, _ = train(dataset, config)
    reads = []
    read = Dataset.part
    monkeypatch.setattr(
        Dataset, "part", lambda *given, **how: reads.append(1) or read(*given, **how)
    )
    monkeypatch.setattr("slateflow.learners.slateq.SAMPLE_ROWS", dataset.rows // 2)
    monkeypatch.setattr("slateflow.learners.slateq.sampled", lambda one, most, look: one.read())
    again, _ = train(dataset, config)
    assert len(dataset.parts) > 1
    passes = 1 + 1 + 3  # all for the choice model, the returns, and the iterations
    assert len(reads) == passes * len(dataset.parts)
    np.testing.assert_array_equal(again.item_values, kept.item_values)


def test_a_sample_is_of_whole_sessions_of_all_parts(tmp_path):
    recipe = Recipe("evolution", "interest-evolution", 40, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    passed = []
    sample = sampled(dataset, -(-dataset.rows // 2), passed.append)
    assert sum(map(len, passed)) == dataset.rows
    rows = dataset.read()
    sessions = list(dict.fromkeys(rows.episode.tolist()))
    expected = [episode for episode in rows.episode.tolist() if episode in set(sessions[::2])]
    assert sample.episode.tolist() == expected
    assert sampled(dataset, dataset.rows, passed.append).episode.tolist() == rows.episode.tolist()


def test_the_discount_is_that_of_all_eigenvalues():
    """Those of a product of thin matrices are those of the small product."""
    rng, many = np.random.default_rng(5), DENSE_FEATURES + 1
    one, other = rng.normal(size=(2, many, 3))
    growth = np.abs(np.linalg.eigvals(other.T @ one)).max()
    found = settling_discount(one @ other.T, 10.0)
    assert found == pytest.approx(0.9 / growth, rel=1e-5)
    assert settling_discount(one @ other.T * (0.99 / growth), 10.0) == 1.0


def test_sessions_of_one_step_have_no_discount():
    for features in (3, DENSE_FEATURES + 1):
        assert settling_discount(np.zeros((features, features)), 1.0) == 1.0


def test_errors_are_of_the_discounted_equation(sessions):
    """By a plain loop over sessions and steps."""
    rows, discount = sessions.some_sessions(200), 0.9
    spec = preset("interest-exploration", num_candidates=2, slate_size=1)
    rng = np.random.default_rng(3)
    seen = Sessions.from_rows(rows, spec, SlateFeatures(spec.features_match))
    every = np.arange(len(rows))
    design, size = seen.chosen(every), seen.features.of(rows.user, rows.shown_features()).shape[2]
    choice = ChoiceModel(rng.normal(size=(1, size)), np.zeros(1), np.ones(1))
    weights, member = rng.normal(size=design.shape[1]), rng.random(len(rows))
    expected = seen.expected(every, rows.slate, choice)
    missed = np.zeros((len(weights), len(weights)))
    for first, length in zip(rows.starts, rows.lengths, strict=True):
        one = np.zeros(len(weights))
        for row in range(first, first + length):
            later = expected[row + 1] @ weights if row + 1 < first + length else 0.0
            error = rows.reward[row] + discount * later - design[row] @ weights
            one += member[row] * error * design[row]
        missed += np.outer(one, one)
    part = Members(seen, member)
    _, found = part.following(lambda s, block: s.rows.slate[block], choice, weights, discount)
    np.testing.assert_allclose(found, missed, rtol=1e-9)


def beside(behaviour: str | Behaviour, recipe: Recipe, scorer: SlateScorer) -> float:
    """Ratio of the mean return to that of a behaviour policy on the same users."""
    policies = ScoringPolicy(scorer), behaviour_policy(behaviour, recipe.spec)
    slateq, other = (episode_returns(recipe.spec, one, 500, seed=9).mean() for one in policies)
    return float(slateq / other)


@pytest.mark.slow
def test_values_that_would_grow_are_not_taken_for_chance(tmp_path):
    """Discounted, with errors of an equation without discount, all items were worth the same."""
    recipe = drawn_recipe("interest evolution", 19, seed=909)
    scorer, _ = train(generate(recipe, Folder(str(tmp_path))), learner_config("slateq"))
    assert beside("greedy", recipe, scorer) > 1.02


@pytest.mark.slow
def test_values_that_would_grow_settle(tmp_path):
    """Logs of greedy and its opposite in a world where nearly all is decided by taste.

    With all features the equation for other slates has no contraction. Its solution ranks
    backwards: 198 minutes a session, random earns 236.
    """
    recipe = drawn_recipe("interest evolution", 0, seed=31)
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, report = train(dataset, learner_config("slateq"))
    assert report.curves["value_change"][-1] < 1e-4  # they settle
    assert beside("greedy", recipe, scorer) > 0.99


@pytest.mark.slow
def test_values_that_would_grow_do_without_products_of_past_and_user(tmp_path):
    """Logs of rules that nobody should follow; only quality pays, and only clicks show it.

    With all features the values of other slates would grow. Discounted, they make slates 1.2% below
    those by the quality itself.
    """
    recipe = drawn_recipe("interest evolution", 16, seed=909)
    scorer, report = train(generate(recipe, Folder(str(tmp_path))), learner_config("slateq"))
    assert report.curves["value_change"][-1] < 1e-4  # they settle
    assert beside(Behaviour(scorer="quality"), recipe, scorer) > 1.003


@pytest.mark.slow
def test_the_likeliest_click_is_best_where_other_values_are_chance(tmp_path):
    """Logs of random where only taste pays; ranked by their values, 0.16% less than greedy."""
    recipe = drawn_recipe("interest evolution", 0, seed=5150)
    scorer, _ = train(generate(recipe, Folder(str(tmp_path))), learner_config("slateq"))
    assert not scorer.item_values.any()
    assert beside("greedy", recipe, scorer) > 0.999
