"""Slates and beliefs against enumeration and plain loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.environments.interest_evolution.simulator import BatchedInterestEvolution
from slateflow.policies import ScoringPolicy, SlateScorer, load_scorer, slate_scorer, top_slates
from slateflow.policies.slate_choice import (
    LIKENESS,
    Columns,
    Link,
    RandomFeatures,
    item_features,
    user_features,
)
from slateflow.policies.slate_scorer import Offer, greedy_gains, optimal_gains, top_k_gains
from slateflow.user_models.choices import SlateFeatures


def offer(seed: int, classes: int, users: int = 60, items: int = 7) -> Offer:
    rng = np.random.default_rng(seed)
    belief = rng.random((classes, users))
    return Offer(
        belief=belief / belief.sum(axis=0),
        attraction=np.exp(rng.normal(size=(classes, users, items))),
        values=rng.normal(size=(classes, users, items)) + 2,
        none=rng.normal(size=(classes, users)),
    )


def worth_by_hand(offer: Offer, user: int, slate) -> float:
    """Sum over the classes of belief × Σ P(i) Q(i)."""
    total = 0.0
    for g in range(len(offer.belief)):
        weights = [float(offer.attraction[g, user, i]) for i in slate]
        paid = sum(w * float(offer.values[g, user, i]) for w, i in zip(weights, slate, strict=True))
        value = (paid + float(offer.none[g, user])) / (1 + sum(weights))
        total += float(offer.belief[g, user]) * value
    return total


@pytest.mark.parametrize("slate_size", [1, 2, 3, 7])
def test_optimal_is_the_best_of_all_slates(slate_size):
    made = offer(0, classes=1)
    slates = top_slates(optimal_gains(made, slate_size), slate_size)
    for user, slate in enumerate(slates):
        best = max(
            worth_by_hand(made, user, subset)
            for subset in itertools.combinations(range(7), slate_size)
        )
        assert worth_by_hand(made, user, slate) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("items", [4, 10])
def test_with_classes_nothing_worse_is_served_than_where_the_search_begins(items):
    """With extreme attractions and values the last linearisation prefers other slates."""
    rng = np.random.default_rng(0)
    shape = (2, 20_000, items)
    belief = rng.dirichlet([1, 1], 20_000).T
    attraction, values = rng.gamma(0.3, 5, shape), rng.normal(0, 5, shape)
    made = Offer(belief, attraction, values, rng.normal(size=shape[:2]))
    gain = (belief[:, :, None] * attraction * (values - made.none[:, :, None])).sum(axis=0)
    start, served = top_slates(gain, 3), top_slates(optimal_gains(made, 3), 3)
    worth = [(belief * made.worth(one)[0]).sum(axis=0) for one in (start, served)]
    assert (worth[1] >= worth[0] - 1e-9).all()


def test_with_classes_nothing_better_is_found_by_taking_one_item_out():
    made = offer(1, classes=3)
    slates = top_slates(optimal_gains(made, 3), 3)
    losses = []
    for user, slate in enumerate(slates):
        best = max(
            worth_by_hand(made, user, subset) for subset in itertools.combinations(range(7), 3)
        )
        losses.append(best - worth_by_hand(made, user, slate))
    assert np.mean(np.array(losses) < 1e-9) > 0.8  # most are the very best
    assert max(losses) < 0.2  # of values that vary by 1


def test_greedy_places_one_after_the_other():
    made = offer(2, classes=2)
    slates = top_slates(greedy_gains(made, 3), 3)
    for user, slate in enumerate(slates):
        picked: list[int] = []
        for _ in range(3):
            rest = [i for i in range(7) if i not in picked]
            picked.append(max(rest, key=lambda i: worth_by_hand(made, user, [*picked, i])))
        assert slate.tolist() == picked


def test_top_k_ranks_by_attraction_times_value():
    made = offer(3, classes=1)
    expected = np.argsort(-(made.attraction * made.values)[0], axis=1)[:, :3]
    np.testing.assert_array_equal(top_slates(top_k_gains(made, 3), 3), expected)


def scorer(
    classes: int = 2, user_size: int = 2, document_size: int = 2, alike: bool = False
) -> SlateScorer:
    rng = np.random.default_rng(4)
    users, documents = np.zeros((1, user_size)), np.zeros((1, 1, document_size))
    match = user_size == document_size > 1
    items = item_features(users, documents, match).shape[2] + LIKENESS * alike
    states = user_features(users).shape[1]
    return SlateScorer(
        user_size=user_size,
        document_size=document_size,
        slate_size=2,
        construction="optimal",
        choice_weights=rng.normal(size=(classes, items)),
        choice_no_click=rng.normal(size=classes),
        choice_shares=np.full(classes, 1 / classes),
        item_values=rng.normal(size=(classes, items)),
        click_values=rng.normal(size=(classes, states)),
        no_click_values=rng.normal(size=(classes, states)),
        features_match=match,
        alike=alike,
    )


@pytest.mark.parametrize("numbers", [1, 50])
def test_blocks_of_rows_make_no_difference(monkeypatch, numbers):
    rng, model = np.random.default_rng(6), scorer()
    asked = rng.random((9, 2)), np.zeros(9, int), rng.random((9, 5, 2)), rng.normal(size=(9, 2))
    whole = model.scores(*asked)
    monkeypatch.setattr(slate_scorer, "SCORED_NUMBERS", numbers)
    np.testing.assert_allclose(model.scores(*asked), whole, rtol=1e-12)
    nobody = (one[:0] for one in asked)
    assert model.scores(*nobody).shape == (0, 5)


def in_columns() -> SlateScorer:
    """Scorer of users with one column and items with two, whose first columns bend at two knots."""
    rng, hinges = np.random.default_rng(7), 2
    user, item = (
        Columns(
            knot_feature=np.zeros(hinges, np.int64),
            knot_value=np.array([0.1, 0.6]),
            offset=rng.normal(size=size + hinges),
            scale=rng.uniform(0.5, 2, size + hinges),
        )
        for size in (1, 2)
    )
    model = scorer(2, 1 + hinges, 2 + hinges)
    return replace(model, user_size=1, document_size=2, user_columns=user, item_columns=item)


def seen_by_hand(columns: Columns | None, x: np.ndarray) -> np.ndarray:
    """The scaled columns, in plain floats."""
    assert columns is not None
    found = []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        bent = [*row, *(max(row[0] - knot, 0) ** 2 for knot in (0.1, 0.6))]
        moments = zip(bent, columns.offset.tolist(), columns.scale.tolist(), strict=True)
        found.append([(value - mean) / scale for value, mean, scale in moments])
    return np.array(found).reshape(*x.shape[:-1], -1)


def test_columns_are_standardised_and_bent_by_hand():
    model, rng = in_columns(), np.random.default_rng(8)
    user, offered = rng.random((3, 1)), rng.random((3, 4, 2))
    standard = seen_by_hand(model.user_columns, user)
    items = seen_by_hand(model.item_columns, offered)
    plain = scorer(2, 3, 4)
    step, clicked, paid = np.zeros(3, np.int32), np.array([1, -1, 0], np.int32), np.zeros(3)
    memory = model.remember(np.zeros((3, 2)), user, offered[:, :2], clicked, paid)
    expected = plain.remember(np.zeros((3, 2)), standard, items[:, :2], clicked, paid)
    np.testing.assert_allclose(memory, expected)
    np.testing.assert_allclose(
        model.scores(user, step, offered, memory), plain.scores(standard, step, items, memory)
    )


def with_link() -> SlateScorer:
    """Scorer of users with one column and items with two, and bending log-odds."""
    model, rng = scorer(1, 1, 2), np.random.default_rng(11)
    link = Link(*(rng.normal(size=size) for size in (1 + 4, 2, 2)), scale=np.array([0.5, 2.0]))
    weights = rng.normal(size=(1, 1 + 2 + model.choice_weights.shape[1]))
    return replace(model, choice_weights=weights, link=link)


def with_random() -> SlateScorer:
    """Scorer of users with one column, which affects choices, and items with two."""
    model, rng = scorer(1, 1, 2), np.random.default_rng(9)
    weights = rng.normal(size=(1, 1 + 3 + model.choice_weights.shape[1]))
    random = RandomFeatures(rng.normal(size=(3, 3)), rng.normal(size=3))
    return replace(model, choice_weights=weights, random=random)


def test_users_choose_by_random_features_too():
    """A slate of two against all others, in plain floats."""
    model, rng = with_random(), np.random.default_rng(10)
    user, offered = rng.normal(size=(1, 1)), rng.normal(size=(1, 5, 2))
    assert model.random is not None

    def logit(item: np.ndarray) -> float:
        x = [float(user[0, 0]), *item.tolist()]
        sums = zip(model.random.weights.T.tolist(), model.random.biases.tolist(), strict=True)
        bent = [
            max(sum(a * b for a, b in zip(x, weights, strict=True)) + bias, 0.0)
            for weights, bias in sums
        ]
        known = [*x[1:], x[1] * x[0], x[2] * x[0]]
        pairs = zip([x[0], *bent, *known], model.choice_weights[0].tolist(), strict=True)
        return sum(a * b for a, b in pairs)

    def worth(slate: tuple[int, ...]) -> float:
        u, items = float(user[0, 0]), offered[0, list(slate)]
        state = np.array([1.0, u, u * u])
        logits = [*map(logit, items), float(model.choice_no_click[0])]
        total = sum(map(math.exp, logits))
        values = [
            float(np.array([*item, *(item * u)]) @ model.item_values[0])
            + float(state @ model.click_values[0])
            for item in items
        ]
        values.append(float(state @ model.no_click_values[0]))
        pairs = zip(logits, values, strict=True)
        return sum(math.exp(one) * value / total for one, value in pairs)

    (slate,) = top_slates(model.scores(user, np.zeros(1, int), offered), 2)
    assert set(slate) == set(max(itertools.combinations(range(5), 2), key=worth))


def test_users_choose_by_a_link_too():
    """Hinges are of log-odds from the user's column, the item's columns and their products."""
    model, rng = with_link(), np.random.default_rng(12)
    link = model.link
    assert link is not None
    user, shown = rng.normal(size=(1, 1)), rng.normal(size=(1, 1, 2))
    u, (x, y) = float(user[0, 0]), shown[0, 0].tolist()
    known = [u, x, y, x * u, y * u]
    odds = sum(a * b for a, b in zip(known, link.weights.tolist(), strict=True))
    parts = zip(link.knots.tolist(), link.offset.tolist(), link.scale.tolist(), strict=True)
    hinges = [(max(odds - knot, 0.0) ** 2 - offset) / scale for knot, offset, scale in parts]
    pairs = zip([u, *hinges, *known[1:]], model.choice_weights[0].tolist(), strict=True)
    logit = sum(a * b for a, b in pairs)
    of_item = item_features(user, shown, features_match=False)
    (attraction,) = model.choice.attraction(model._chosen_by(user, shown, of_item))
    none = float(model.choice_no_click[0])
    assert float(attraction[0, 0]) == pytest.approx(math.exp(logit - none))


def test_users_observed_in_the_documents_space_choose_by_hinges_of_the_affinity():
    """Hinges come first, without the user's columns, in plays as in logs."""
    rng = np.random.default_rng(14)
    weights = np.array([0.0, 0, 1, 0, 0, 0, 0])  # of two columns, the affinity's powers, products
    link = Link(weights, np.array([-0.5, 0.5]), np.array([0.1, 0.2]), np.array([2.0, 4.0]))
    chosen_by = rng.normal(size=(1, 2 + 7))
    model = replace(scorer(1), choice_weights=chosen_by, link=link)
    user, shown = np.array([[0.5, -1.0]]), np.array([[[2.0, 0.25]]])  # the affinity is 0.75
    hinges = [(1.25**2 - 0.1) / 2, (0.25**2 - 0.2) / 4]
    known = [2.0, 0.25, 0.75, 0.75**2, 0.75**3, 1.0, -0.25]
    pairs = zip([*hinges, *known], chosen_by[0].tolist(), strict=True)
    logit = sum(a * b for a, b in pairs) - float(model.choice_no_click[0])
    played = model._chosen_by(user, shown, item_features(user, shown, features_match=True))
    features = SlateFeatures(features_match=True, link=link)
    for x in (played, features.of(user, shown)):
        (attraction,) = model.choice.attraction(x)
        assert float(attraction[0, 0]) == pytest.approx(math.exp(logit))
    assert features.beside(2) == 2
    # Hinges, with a prior of their own; columns; the affinity's powers, without prior; products
    assert features.groups(2, 2, 1).numbers.tolist() == [12, 12, 1, 1, 0, 0, 0, 4, 4]


@pytest.mark.parametrize("construction", ["optimal", "greedy", "top-k"])
def test_users_far_from_the_logs_have_a_slate(construction):
    """Hinges of their log-odds overflow an exponential."""
    model, rng = replace(with_link(), construction=construction), np.random.default_rng(13)
    user, offered = np.array([[1e6], [-1e6]]), rng.normal(size=(2, 5, 2))
    with np.errstate(all="raise", under="ignore"):
        scores = model.scores(user, np.zeros(2, int), offered)
    assert np.isfinite(scores).all()


def test_features_of_users_in_the_documents_space_by_hand():
    (features,) = item_features(np.array([[0.5, -1.0]]), np.array([[[2.0, 3.0]]]), True)[0]
    affinity = 0.5 * 2 - 1.0 * 3
    expected = [2, 3, affinity, affinity**2, affinity**3, 1.0, -3.0]
    assert features.tolist() == pytest.approx(expected)


def test_belief_is_bayes_rule():
    model, rng = scorer(), np.random.default_rng(5)
    memory = np.zeros((1, model.memory_size))
    belief = [0.5, 0.5]
    for clicked in (0, -1, 1):
        user, shown = rng.normal(size=(1, 2)), rng.normal(size=(1, 2, 2))
        memory = model.remember(memory, user, shown, np.array([clicked]), np.zeros(1))
        for g in range(2):
            x = item_features(user, shown, True)[0]
            logits = [float(x[k] @ model.choice_weights[g]) for k in range(2)]
            logits.append(float(model.choice_no_click[g]))
            belief[g] *= math.exp(logits[clicked]) / sum(map(math.exp, logits))
        belief = [b / sum(belief) for b in belief]
    np.testing.assert_allclose(model.choice.posterior(memory)[0], belief, rtol=1e-12)


def test_one_class_remembers_nothing():
    assert scorer(classes=1).memory_size == 0
    assert scorer(classes=3).memory_size == 3


@pytest.mark.parametrize("construction", ["optimal", "greedy", "top-k"])
def test_fewer_candidates_than_places(construction):
    model = replace(scorer(), construction=construction)
    scores = model.scores(np.zeros((3, 2)), np.zeros(3, dtype=int), np.ones((3, 1, 2)))
    assert scores.shape == (3, 1)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("construction", ["optimal", "greedy", "top-k"])
@pytest.mark.parametrize("model", [scorer(), scorer(classes=2), in_columns()])
def test_of_no_users_nothing_is_scored(model, construction):
    model = replace(model, construction=construction)
    scores = model.scores(
        np.zeros((0, model.user_size)), np.zeros(0, dtype=int), np.zeros((0, 5, 2))
    )
    assert scores.shape == (0, 5)


@pytest.mark.parametrize("model", [scorer(), in_columns(), with_random(), with_link()])
def test_saved_and_loaded_it_scores_the_same(model, tmp_path):
    rng, users = np.random.default_rng(6), model.user_size
    model.save(tmp_path / "scorer.npz")
    loaded = load_scorer(tmp_path / "scorer.npz")
    assert isinstance(loaded, SlateScorer)
    request = (rng.normal(size=(3, users)), np.zeros(3, dtype=int), rng.normal(size=(3, 5, 2)))
    np.testing.assert_array_equal(loaded.scores(*request), model.scores(*request))


@pytest.mark.parametrize(("user_size", "document_size"), [(2, 2), (1, 1), (0, 2)])
def test_files_of_earlier_versions_go_by_the_sizes(tmp_path, user_size, document_size):
    model = scorer(user_size=user_size, document_size=document_size)
    earlier = asdict(model)
    for later in ("features_match", "user_columns", "item_columns", "random", "link"):
        del earlier[later]
    np.savez(tmp_path / "scorer.npz", **earlier)
    assert SlateScorer.load(tmp_path / "scorer.npz").features_match == model.features_match


def test_the_policy_plays_a_world():
    spec = preset("interest-evolution")
    model = scorer(classes=2, user_size=20, document_size=20)
    observation, _ = BatchedInterestEvolution(spec, 4).reset(seed=0)
    slates, propensities = ScoringPolicy(model).act(observation, np.random.default_rng(0))
    assert slates.shape == (4, 2)
    assert propensities.tolist() == [1.0] * 4
    assert slate_scorer.SCORER is SlateScorer
