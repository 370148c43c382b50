"""Slates whose items influence each other, against enumeration and plain loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from slateflow.policies import SlateScorer, load_scorer, top_slates
from slateflow.policies.slate_choice import item_features, likeness
from slateflow.policies.slate_scorer import Beside, Offer, greedy_gains, optimal_gains
from tests.policies.test_slate_scorer import scorer as slate_scorer

ITEMS, PLACES = 7, 3


def likeness_by_hand(documents: list[list[float]]) -> list[list[float]]:
    """Likeness of the items of a slate."""
    found = []
    for place, item in enumerate(documents):
        far = [sum((a - b) ** 2 for a, b in zip(item, other, strict=True)) for other in documents]
        found.append([sum(far[:place]), sum(far[place + 1 :])])
    return found


def offer(seed: int, classes: int, users: int = 60) -> Offer:
    rng = np.random.default_rng(seed)
    beside = Beside(
        documents=rng.normal(size=(users, ITEMS, 2)),
        choice=rng.normal(size=(classes, 2)) / 4,
        values=rng.normal(size=(classes, 2)) / 4,
    )
    return Offer(
        belief=rng.dirichlet(np.ones(classes), users).T,
        attraction=np.exp(rng.normal(size=(classes, users, ITEMS))),
        values=rng.normal(size=(classes, users, ITEMS)) + 2,
        none=rng.normal(size=(classes, users)),
        beside=beside,
    )


def worth_by_hand(offer: Offer, user: int, slate: tuple[int, ...]) -> float:
    """Sum over the classes of belief × Σ P(i) Q(i), including the items' likeness."""
    assert offer.beside is not None
    beside = likeness_by_hand([offer.beside.documents[user, i].tolist() for i in slate])
    total = 0.0
    for g in range(len(offer.belief)):
        weights, paid = 1.0, float(offer.none[g, user])
        for i, (before, after) in zip(slate, beside, strict=True):
            choice, values = offer.beside.choice[g].tolist(), offer.beside.values[g].tolist()
            moved = math.exp(choice[0] * before + choice[1] * after)
            weight = float(offer.attraction[g, user, i]) * moved
            value = float(offer.values[g, user, i]) + values[0] * before + values[1] * after
            weights, paid = weights + weight, paid + weight * value
        total += float(offer.belief[g, user]) * paid / weights
    return total


def test_likeness_is_that_of_a_plain_loop():
    documents = np.random.default_rng(0).normal(size=(5, 4, 2))
    expected = [likeness_by_hand(items) for items in documents.tolist()]
    np.testing.assert_allclose(likeness(documents), expected)


@pytest.mark.parametrize("place", range(PLACES))
def test_slates_with_each_candidate_at_a_place(place):
    made, rng = offer(1, classes=2), np.random.default_rng(1)
    others = rng.permuted(np.tile(np.arange(ITEMS), (60, 1)), axis=1)[:, : PLACES - 1]
    found = made.with_each(others, place)
    for user, there in enumerate(others.tolist()):
        for item in range(ITEMS):
            slate = (*there[:place], item, *there[place:])
            expected = -np.inf if item in there else worth_by_hand(made, user, slate)
            assert found[user, item] == pytest.approx(expected, rel=1e-9)


def test_greedy_places_one_after_the_other():
    made = offer(2, classes=2)
    for user, slate in enumerate(top_slates(greedy_gains(made, PLACES), PLACES)):
        picked: tuple[int, ...] = ()
        for _ in range(PLACES):
            rest = [(*picked, i) for i in range(ITEMS) if i not in picked]
            picked = max(rest, key=lambda slate: worth_by_hand(made, user, slate))
        assert tuple(slate.tolist()) == picked


@pytest.mark.parametrize("classes", [1, 3])
def test_optimal_is_near_the_best_of_all_slates(classes):
    made = offer(3, classes)
    losses = []
    for user, slate in enumerate(top_slates(optimal_gains(made, PLACES), PLACES)):
        every = [worth_by_hand(made, user, one) for one in itertools.permutations(range(7), 3)]
        losses.append(max(every) - worth_by_hand(made, user, tuple(slate.tolist())))
    assert np.mean(np.array(losses) < 1e-9) > 0.8  # most are the very best
    assert np.mean(losses) < 0.05  # of values that vary by 1 to 3


def scorer(classes: int = 2) -> SlateScorer:
    return slate_scorer(classes, user_size=1, document_size=2, alike=True)


def test_belief_knows_what_the_items_are_beside_each_other():
    model, rng = scorer(), np.random.default_rng(5)
    user, shown = rng.normal(size=(1, 1)), rng.normal(size=(1, 2, 2))
    memory = model.remember(np.zeros((1, 2)), user, shown, np.array([1]), np.zeros(1))
    (beside,) = [likeness_by_hand(shown[0].tolist())]
    for g in range(2):
        logits = [float(model.choice_no_click[g])]
        for item, others in zip(shown[0].tolist(), beside, strict=True):
            x = [*item, *(float(user[0, 0]) * value for value in item), *others]
            weights = model.choice_weights[g].tolist()
            logits.append(sum(a * b for a, b in zip(x, weights, strict=True)))
        expected = logits[2] - math.log(sum(map(math.exp, logits)))
        assert memory[0, g] == pytest.approx(expected)


def test_scores_are_those_of_the_best_slate_by_its_own_choices():
    """Expected by the probabilities that `remember` uses."""
    model, rng = scorer(classes=1), np.random.default_rng(6)
    user, offered = rng.normal(size=(1, 1)), rng.normal(size=(1, 5, 2))

    def worth(slate: tuple[int, ...]) -> float:
        shown = offered[:, slate]
        x = np.concatenate([item_features(user, shown, False), likeness(shown)], axis=2)
        chances = np.exp(model.choice.log_probabilities(x)[0, 0])
        state = np.array([1.0, user[0, 0], user[0, 0] ** 2])
        values = x[0] @ model.item_values[0] + state @ model.click_values[0]
        return float(chances @ [*values, state @ model.no_click_values[0]])

    (slate,) = top_slates(model.scores(user, np.zeros(1, int), offered), 2)
    assert tuple(slate) == max(itertools.permutations(range(5), 2), key=worth)


def test_saved_and_loaded_it_scores_the_same(tmp_path):
    model, rng = scorer(), np.random.default_rng(7)
    model.save(tmp_path / "scorer.npz")
    loaded = load_scorer(tmp_path / "scorer.npz")
    assert isinstance(loaded, SlateScorer)
    assert loaded.alike
    request = rng.normal(size=(3, 1)), np.zeros(3, dtype=int), rng.normal(size=(3, 5, 2))
    np.testing.assert_array_equal(loaded.scores(*request), model.scores(*request))


def test_files_of_earlier_versions_know_nothing_of_it(tmp_path):
    earlier = asdict(replace(scorer(), alike=False))
    for later in ("alike", "user_columns", "item_columns", "random", "link"):
        del earlier[later]
    np.savez(tmp_path / "scorer.npz", **earlier)
    assert not SlateScorer.load(tmp_path / "scorer.npz").alike


@pytest.mark.parametrize("candidates", [1, 2])
def test_no_more_candidates_than_places(candidates):
    scores = scorer().scores(np.ones((3, 1)), np.zeros(3, int), np.ones((3, candidates, 2)))
    assert np.isfinite(scores).all()
