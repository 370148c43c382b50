"""The memory of a session against a plain loop, and against the scorer that serves it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slateflow.environments import optimal_return
from slateflow.evaluation import episode_returns
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, Scorer, ScoringPolicy
from slateflow.trajectories import Dataset, Folder, Recipe, Trajectories, generate
from slateflow.user_models.session_memory import (
    NOTHING,
    SessionMemory,
    SessionState,
    faded,
    fitting_memory,
)
from tests.evaluation.off_policy.fading_shop import FadingShop

DECAYS = (0.0, 0.6)


@pytest.fixture(scope="module", params=["modified-lts-10-1", "interest-evolution"])
def rows(request, tmp_path_factory):
    """Sessions of one length, and of several with steps without a click."""
    recipe = Recipe("r", request.param, 6, 3, {"random": 1.0})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("rows")))).read()


def test_it_fades_as_a_plain_loop_says(rows):
    memory = SessionMemory(DECAYS).before(rows)
    size = rows.candidate_features(slice(1)).shape[2] + 1
    for row in range(len(rows)):
        if rows.step[row] == 0:
            sums = [[0.0] * size for _ in DECAYS]
        counts = [sum(decay**ago for ago in range(rows.step[row])) for decay in DECAYS]
        expected = np.concatenate([*sums, counts])
        np.testing.assert_allclose(memory[row], expected, rtol=1e-12, atol=1e-12)
        event = [0.0] * (size - 1)
        if rows.clicked[row] >= 0:
            event = rows.clicked_features(np.array([row]))[0].tolist()
        event = [*event, float(np.arcsinh(rows.reward[row]))]
        for index, decay in enumerate(DECAYS):
            sums[index] = [decay * old + new for old, new in zip(sums[index], event, strict=True)]


def test_sessions_of_all_lengths_fade_alike(rows):
    lengths, rng = [1, 40, 2, 3, 1, 17, 4], np.random.default_rng(0)
    episode = np.repeat(np.arange(7), lengths)
    rows = dataclasses.replace(rows.where(slice(68)), episode=episode)
    events = rng.normal(size=(sum(lengths), 3))
    found = faded(events, rows, DECAYS)
    for row in range(len(events)):
        before = np.arange(rows.starts[rows.sessions[row]], row)
        for at, decay in enumerate(DECAYS):
            fading = (decay ** (row - 1 - before))[:, None] * events[before]
            np.testing.assert_allclose(found[row, 3 * at :][:3], fading.sum(axis=0), atol=1e-12)


def test_the_scorer_remembers_the_same(rows):
    user_size, document_size = rows.user.shape[1], rows.candidate_features(slice(1)).shape[2]
    features = user_size + len(DECAYS) * (document_size + 2) + 1 + document_size
    scorer = Scorer(
        user_size=user_size, slate_size=rows.slate.shape[1], horizon=400, window=1,
        offset=np.zeros(features), scale=np.ones(features),
        powers=np.zeros((0, features), dtype=np.int64),
        head=np.zeros((1, features)), head_bias=np.zeros(1), decays=np.array(DECAYS),
        counted=True,
    )  # fmt: skip
    assert (scorer.document_size, scorer.memory_size) == (document_size, 2 * (document_size + 2))
    expected = SessionMemory(DECAYS).before(rows)
    memory = np.zeros((1, scorer.memory_size))
    for row in range(min(len(rows), 150)):
        if rows.step[row] == 0:
            memory = np.zeros((1, scorer.memory_size))
        np.testing.assert_allclose(memory[0], expected[row], rtol=1e-6, atol=1e-6)
        shown = rows.shown_features(np.array([row]))
        memory = scorer.remember(
            memory, rows.user[[row]], shown, rows.clicked[[row]], rows.reward[[row]]
        )


def test_nothing_is_added_without_decays(rows):
    assert NOTHING.beside_users(rows) is rows
    assert SessionMemory((0.5,)).beside_users(rows).user.shape[1] == (
        rows.user.shape[1] + rows.candidate_features(slice(1)).shape[2] + 2
    )


def test_rewards_alone_are_a_part_of_all_that_is_remembered(rows):
    every = SessionMemory(DECAYS).before(rows)
    rewards = SessionMemory(DECAYS, items=False)
    size, decays = rows.candidate_features(slice(1)).shape[2] + 1, len(DECAYS)
    sums, counts = every[:, : decays * size], every[:, decays * size :]
    expected = np.concatenate([sums[:, size - 1 :: size], counts], axis=1)
    np.testing.assert_array_equal(rewards.before(rows), expected)
    assert rewards.size(size - 1) == 2 * decays
    beside = rewards.beside_users(rows).user
    assert beside.shape[1] == rows.user.shape[1] + 2 * decays


def test_the_decay_is_that_of_the_hidden_state(tmp_path):
    for discount in (0.3, 0.9):
        recipe = Recipe(
            f"d{discount}", "modified-lts-20-2-hidden", 300, 1, {"random": 1.0},
            {"memory_discount": discount},
        )  # fmt: skip
        memory = fitting_memory(generate(recipe, Folder(str(tmp_path))))
        assert memory.decays == (pytest.approx(discount, abs=0.12),)
        assert memory.items  # rewards are noisier than what was shown


@pytest.mark.parametrize("policies", [{"random": 1.0}, {"random": 0.5, "greedy": 0.5}])
def test_the_beginning_of_sessions_does_not_bias_the_decay(tmp_path, policies):
    """Sums of few steps are small whatever was clicked; without counts the decay is below 0.84."""
    recipe = Recipe(
        "slow", "modified-lts-20-2-hidden", 1_000, 1, policies,
        {"memory_discount": 0.86, "sensitivity": 0.06, "choc_stddev": 0.5, "kale_stddev": 0.5},
    )  # fmt: skip
    memory = fitting_memory(generate(recipe, Folder(str(tmp_path))))
    assert memory.items
    assert memory.decays == (pytest.approx(0.86, abs=0.01),)


def test_the_order_of_the_policies_does_not_decide_the_decay(tmp_path, monkeypatch):
    """Parts are ordered by policy; the sample of rows comes from all of them."""
    monkeypatch.setattr("slateflow.user_models.session_memory.FITTING_ROWS", 20_000)
    found = []
    for policies in ({"opposite": 0.5, "random": 0.5}, {"random": 0.5, "opposite": 0.5}):
        recipe = Recipe("r", "modified-lts-20-2-hidden", 600, 3, policies)
        dataset = generate(recipe, Folder(str(tmp_path / next(iter(policies)))))
        found += fitting_memory(dataset).decays
    assert found[0] == pytest.approx(found[1], abs=0.05)


@pytest.mark.parametrize("episodes", [4, 300])
def test_an_observed_user_needs_no_memory(tmp_path, episodes):
    recipe = Recipe("seen", "modified-lts-20-2", episodes, 1, {"random": 1.0})
    assert fitting_memory(generate(recipe, Folder(str(tmp_path)))) == NOTHING


@pytest.mark.parametrize("hidden", [True, False])
def test_a_column_that_says_nothing_hides_nothing(tmp_path, monkeypatch, hidden):
    """With an irrelevant age a memory is found, unless satisfaction is observed."""
    world = "modified-lts-20-2-hidden" if hidden else "modified-lts-20-2"
    dataset = generate(Recipe("aged", world, 300, 1, {"random": 1.0}), Folder(str(tmp_path)))

    def aged(rows: Trajectories) -> Trajectories:
        age = np.random.default_rng(0).random(len(rows.starts))[rows.sessions]
        return dataclasses.replace(rows, user=np.column_stack([rows.user, age]))

    parts = [aged(part) for part in dataset.iter_parts()]
    monkeypatch.setattr(Dataset, "iter_parts", lambda self: iter(parts))
    expected = (pytest.approx(0.7, abs=0.12),) if hidden else ()
    assert fitting_memory(dataset).decays == expected


def test_learners_have_no_memory_that_costs_more_than_it_tells(tmp_path, monkeypatch):
    """Chance may find one if several are tried."""
    monkeypatch.setattr(
        "slateflow.user_models.session_memory.session_state",
        lambda dataset: SessionState((0.9,)),
    )
    forgetful = FadingShop(longer=False).logs(tmp_path / "shop", 2_000, 0)
    hidden = Recipe("h", "modified-lts-20-2-hidden", 100, 1, {"random": 1.0})
    assert fitting_memory(forgetful) == NOTHING
    assert fitting_memory(generate(hidden, Folder(str(tmp_path)))) == SessionMemory((0.9,))


@pytest.mark.slow
def test_hidden_satisfaction_is_learnt_from_the_session(tmp_path):
    recipe = Recipe("h", "modified-lts-20-2-hidden", 600, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("fitted-q"), seed=0)
    spec, optimum = dataset.spec, optimal_return(dataset.spec)
    assert optimum is not None
    random, ours = (
        episode_returns(spec, policy, 1000, seed=1)
        for policy in (RandomPolicy(2), ScoringPolicy(scorer))
    )
    # The optimum knows the satisfaction; a policy without memory reaches only 0.15
    assert (ours - random).mean() / (optimum - random.mean()) > 0.95


@pytest.mark.integration
def test_default_worlds_keep_to_the_sweetest(tmp_path):
    recipe = Recipe("d", "lts-10-1", 600, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("fitted-q"), seed=0)
    candidates = np.random.default_rng(0).random((50, 10, 1))
    few = dataset.read().where(np.arange(dataset.rows) < 50)
    memory = SessionMemory(tuple(scorer.decays)).beside_users(few).user
    for step in (0, 30, 59):
        scores = scorer.scores(np.zeros((50, 0)), np.full(50, step), candidates, memory)
        sweetest = candidates[:, :, 0].argmax(axis=1)
        assert np.mean(scores.argmax(axis=1) == sweetest) > 0.9
