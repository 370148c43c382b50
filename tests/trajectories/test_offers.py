"""Steps that differ in the number of their candidates: storage, checks, policies, learners."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from slateflow.environments import Observation
from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from slateflow.learners import learner_config, learners_for, train
from slateflow.policies import RandomPolicy, ScoringPolicy, SlateScorer
from slateflow.policies.behaviour import EpsilonMixture
from slateflow.policies.learned import observed_scores
from slateflow.trajectories import Trajectories
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.exchange.export import export
from slateflow.trajectories.schema import from_table, to_table
from slateflow.user_models.support import shown_and_offered
from tests.trajectories.sources.shop import log, published

SPEC = LoggedSpec(
    "shop", 4, 2, fewest_candidates=2, item_features=("a", "b"), item_count=5, most_steps=3
)
FEATURES = np.arange(10, dtype=np.float32).reshape(5, 2)
ITEMS = np.array([[4, 0, 1, -1], [2, 3, -1, -1], [0, 1, 2, 3]], np.int32)


def rows(**changes) -> Trajectories:
    """A session of three steps with 3, 2 and 4 candidates."""
    logged = Trajectories(
        episode=np.zeros(3, np.int64),
        step=np.arange(3, dtype=np.int32),
        user=np.zeros((3, 0), np.float32),
        candidates=ITEMS,
        slate=np.array([[2, 0], [1, 0], [3, 1]], np.int32),
        propensity=np.full(3, 0.5),
        clicked=np.array([0, -1, 1], np.int32),
        reward=np.ones(3, np.float32),
        responses={},
        terminated=np.array([False, False, True]),
        truncated=np.zeros(3, np.bool_),
        catalogue=Catalogue(FEATURES),
    )
    return dataclasses.replace(logged, **changes)


def test_what_is_written_is_read_back():
    table = to_table(rows(), SPEC, {})
    assert table["items"].to_pylist() == [[4, 0, 1], [2, 3], [0, 1, 2, 3]]
    again = from_table(table, SPEC, Catalogue(FEATURES))
    for name, values in rows().columns().items():
        np.testing.assert_array_equal(again.columns()[name], values)
    narrow = dataclasses.replace(SPEC, num_candidates=3)
    with pytest.raises(InputError, match="items: expected at most 3 candidates, got 4"):
        from_table(table, narrow, Catalogue(FEATURES))


def test_features_of_what_is_not_there_are_those_of_the_rows_first_item():
    found = rows().candidate_features()
    for row, items in enumerate(ITEMS.tolist()):
        for place, item in enumerate(items):
            expected = FEATURES[item if item >= 0 else items[0]]
            assert found[row, place].tolist() == expected.tolist()
    assert rows().offered.tolist() == [3, 2, 4]
    observation = rows().observation(slice(0, 2))
    assert observation["offered"].tolist() == [3, 2]
    assert "offered" not in rows().observation(slice(2, 3))  # all four are on offer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slate": np.array([[2, 0], [2, 0], [3, 1]], np.int32)}, "step 1: slate: expected posi"),
        ({"candidates": np.where(ITEMS == 4, 5, ITEMS)}, "step 0: items: expected items of the"),
        ({"candidates": np.where(ITEMS == 0, -1, ITEMS)}, "step 0: items: expected items of the"),
        ({"candidates": np.where(ITEMS < 0, -2, ITEMS)}, "step 0: items: expected items of the"),
    ],
)
def test_the_contract_knows_what_is_on_offer(changes, message):
    assert check_rows(rows(), SPEC, "here")
    with pytest.raises(InputError, match=message):
        check_rows(rows(**changes), SPEC, "here")


def observed(offered) -> Observation:
    count = len(offered)
    return Observation(
        user=np.zeros((count, 0), np.float32),
        candidates=np.zeros((count, 4, 2), np.float32),
        step=np.zeros((count, 1), np.int32),
        offered=np.asarray(offered),
    )


@pytest.mark.parametrize("size", [1, 2])
def test_random_is_uniform_over_what_is_on_offer(size):
    draws, policy = 6000, RandomPolicy(size)
    for offered in (2, 3, 4):
        slates = list(itertools.permutations(range(offered), size))
        observation = observed([offered] * draws)
        drawn, propensities = policy.act(observation, np.random.default_rng(offered))
        assert propensities.tolist() == [1 / len(slates)] * draws
        counts = [np.count_nonzero((drawn == slate).all(axis=1)) for slate in slates]
        assert sum(counts) == draws
        expected = draws / len(slates)
        assert np.abs(np.array(counts) - expected).max() < 5 * expected**0.5
    mixed = EpsilonMixture(policy, policy, 0.5).propensities(observed([2, 4]), drawn[:2] % 2)
    assert mixed.tolist() == [1 / 2, 1 / (4 if size == 1 else 12)]
    places = policy.first_place(observed([2, 4]))
    assert places.tolist() == [[0.5, 0.5, 0, 0], [0.25] * 4]


@pytest.mark.parametrize("construction", ["optimal", "greedy", "top-k"])
def test_slates_are_made_of_what_is_on_offer_as_if_nothing_else_were_there(construction):
    rng = np.random.default_rng(1)
    scorer = SlateScorer(
        user_size=0,
        document_size=2,
        slate_size=2,
        construction=construction,
        choice_weights=rng.normal(size=(1, 2)),
        choice_no_click=np.zeros(1),
        choice_shares=np.ones(1),
        item_values=-np.abs(rng.normal(size=(1, 2))),  # all are worse than no click
        click_values=np.zeros((1, 1)),
        no_click_values=np.ones((1, 1)),
        features_match=False,
    )
    candidates = np.abs(rng.normal(size=(50, 4, 2))).astype(np.float32)
    observation = observed(rng.integers(2, 5, 50)) | {"candidates": candidates}
    slates, _ = ScoringPolicy(scorer).act(observation, None)
    scores = observed_scores(scorer, observation)
    for row, count in enumerate(observation["offered"]):
        alone = observed([count]) | {"candidates": candidates[row : row + 1, :count]}
        del alone["offered"]
        expected, _ = ScoringPolicy(scorer).act(alone, None)
        assert slates[row].tolist() == expected[0].tolist()
        assert np.isneginf(scores[row, count:]).all()


def test_candidates_drawn_beside_the_shown_are_on_offer():
    few = dataclasses.replace(rows(), candidates=np.array([[1, -1, -1, -1]] * 3, np.int32))
    many = few.where(np.zeros(500, np.intp))
    many = dataclasses.replace(many, slate=np.zeros((500, 2), np.int32))
    _, drawn = shown_and_offered(many, user_chooses=True)
    assert (drawn == FEATURES[1]).all()
    wide = dataclasses.replace(many, candidates=np.tile([[1, 2, 3, -1]], (500, 1)))
    _, drawn = shown_and_offered(wide, user_chooses=True)
    share = [(drawn == FEATURES[item]).all(axis=1).mean() for item in (1, 2, 3)]
    np.testing.assert_allclose(share, 1 / 3, atol=0.06)


def tastes(folder, slate_size: int, steps: int, rows: int = 4000):
    """Logs of users who like the items of their country, with 3 to 7 of 9 items on offer."""
    rng = np.random.default_rng(3)
    country = rng.integers(0, 3, rows)
    offered = [rng.permutation(9)[:count] for count in rng.integers(3, 8, rows)]
    shown = [one[:slate_size] for one in offered]  # in any order, as they were drawn
    offered = [np.sort(one) for one in offered]
    liked = np.array([(one % 3 == at) for one, at in zip(shown, country, strict=True)])
    click = rng.random((rows, slate_size)) < np.where(liked, 0.4, 0.04)
    place = np.where(click.any(axis=1), click.argmax(axis=1), -1)
    chances = [
        1 / np.prod([len(one) - place for place in range(slate_size)], dtype=float)
        for one in offered
    ]
    frame = {
        "country": np.array(["at", "de", "fr"])[country].tolist(),
        "item": [one.tolist() for one in shown]
        if slate_size > 1
        else [int(one[0]) for one in shown],
        "offered": [one.tolist() for one in offered],
        "propensity": chances,
        "reward": (place >= 0).astype(float),
        "place": place,
        "session": np.repeat(np.arange(rows // steps), steps),
        "t": np.arange(rows),
    }
    log(folder, "a.parquet", frame)
    more = 'clicked = "place"\n' if slate_size > 1 else ""
    return published(
        folder,
        '[columns]\nuser = ["country"]\ncandidates = "offered"\nepisode = "session"\ntime = "t"\n'
        + more,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("slate_size", "steps", "learners"),
    [
        (1, 1, ["linucb", "lints", "logistic", "fitted-q", "marwil", "cql", "iql"]),
        (1, 4, ["linucb", "fitted-q", "cql", "iql"]),
        (2, 1, ["linucb", "logistic", "slateq"]),
        (2, 4, ["slateq"]),
    ],
)
def test_learners_find_what_people_like_among_what_is_on_offer(
    tmp_path, slate_size, steps, learners
):
    dataset = tastes(tmp_path, slate_size, steps)
    assert set(learners) <= set(learners_for(dataset.spec))
    rows = dataset.read()
    country = rows.user.argmax(axis=1)
    for learner in learners:
        scorer, _ = train(dataset, learner_config(learner))
        slates, _ = ScoringPolicy(scorer).act(rows.observation(), None)
        assert (slates < rows.offered[:, None]).all()
        items = np.take_along_axis(rows.candidates, slates[:, :1], axis=1)[:, 0]
        possible = ((rows.candidates % 3 == country[:, None]) & (rows.candidates >= 0)).any(axis=1)
        assert (items % 3 == country)[possible].mean() > 0.97, learner


@pytest.mark.parametrize("kind", ["rllib", "minari"])
def test_other_libraries_get_logs_with_a_fixed_number_of_candidates_alone(tmp_path, kind):
    dataset = tastes(tmp_path, 1, 1, rows=40)
    with pytest.raises(InputError, match="expected the same number of candidates at every step"):
        export(dataset, kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    log(tmp_path / "b", "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,0\n")
    assert (export(published(tmp_path / "b"), kind, tmp_path / "out") / "slateflow.json").exists()
