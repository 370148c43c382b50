"""Exploration by the recommender, against enumeration of all slates."""

from __future__ import annotations

import importlib.util
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from scipy import stats

CODE = Path(__file__).parents[2] / "mlflow" / "recommender.py"


def recommender(slate_size: int):
    """A recommender whose scores are the candidates' only feature."""
    specification = importlib.util.spec_from_file_location("recommender", CODE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    made = module.Recommender()
    made.scorer = SimpleNamespace(
        user_size=0,
        document_size=1,
        memory_size=0,
        slate_size=slate_size,
        scores=lambda users, steps, candidates, memories: candidates[:, :, 0],
    )
    made.least, made.most, made.most_steps = np.array([-np.inf]), np.array([np.inf]), np.inf
    return made


def requests(counts: list[int]) -> pd.DataFrame:
    """Requests with given numbers of candidates, in ascending order of scores."""
    candidates = [[[float(place)] for place in range(count)] for count in counts]
    return pd.DataFrame({"user": [[]] * len(counts), "candidates": candidates})


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
@pytest.mark.parametrize(("candidates", "places"), [(4, 2), (4, 3), (3, 3), (5, 1), (2, 3)])
def test_slates_come_as_often_as_their_propensity_says(candidates, places, epsilon):
    rows, shown = 40_000, min(candidates, places)
    answers = recommender(places).predict(
        None, requests([candidates] * rows), {"epsilon": epsilon, "seed": 7}
    )
    slates = list(permutations(range(candidates), shown))
    best = tuple(range(candidates - 1, candidates - 1 - shown, -1))
    expected = {slate: epsilon / len(slates) + (1 - epsilon) * (slate == best) for slate in slates}
    assert sum(expected.values()) == pytest.approx(1)
    answered = [tuple(slate) for slate in answers["slate"]]
    np.testing.assert_allclose(
        answers["propensity"], [expected[slate] for slate in answered], rtol=1e-12
    )
    found = pd.Series(answered).value_counts().reindex(slates, fill_value=0)
    chances = rows * np.array(list(expected.values()))
    assert stats.chisquare(found, chances * (rows / chances.sum())).pvalue > 0.001


def test_without_epsilon_the_best_is_shown_for_certain():
    for params in (None, {}, {"epsilon": None, "seed": None}, {"epsilon": 0, "seed": 7}):
        answers = recommender(2).predict(None, requests([4, 3, 4]), params)
        assert answers["slate"].tolist() == [[3, 2], [2, 1], [3, 2]]
        assert answers["propensity"].tolist() == [1.0, 1.0, 1.0]


def test_a_row_is_drawn_by_the_seed_and_its_place_alone():
    """Other rows may have different numbers of candidates, or be missing."""
    params, model = {"epsilon": 0.8, "seed": 3}, recommender(2)
    alike = model.predict(None, requests([5] * 300), params)
    mixed = model.predict(None, requests([5, 4, 2] * 100), params)
    first = model.predict(None, requests([5] * 10), params)
    pd.testing.assert_frame_equal(mixed.iloc[::3], alike.iloc[::3])
    pd.testing.assert_frame_equal(first, alike.iloc[:10])
    for rows, count in ((mixed.iloc[1::3], 4), (mixed.iloc[2::3], 2)):
        best = [count - 1, count - 2]
        expected = 0.8 / (count * (count - 1)) + 0.2 * np.array([s == best for s in rows["slate"]])
        np.testing.assert_allclose(rows["propensity"], expected, rtol=1e-12)
    assert (mixed["slate"].map(max) < [5, 4, 2] * 100).all()


def test_the_seed_decides_and_without_one_the_draws_are_new():
    model, asked = recommender(2), requests([20] * 50)

    def drawn(**params) -> list[list[int]]:
        return model.predict(None, asked, {"epsilon": 1.0, **params})["slate"].tolist()

    assert drawn(seed=7) == drawn(seed=np.int64(7)) != drawn(seed=8)
    assert drawn() != drawn()


def test_no_rows_are_no_answers():
    answers = recommender(2).predict(None, requests([]), {"epsilon": 0.5})
    assert list(answers) == ["slate", "scores", "propensity", "outside"]
    assert len(answers) == 0


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"epsilon": 1.5}, "epsilon: expected a number from 0 to 1, got 1.5"),
        ({"epsilon": np.nan}, "epsilon: expected a number from 0 to 1, got nan"),
        ({"epsilon": "0.1"}, "epsilon: expected a number from 0 to 1, got 0.1"),
        ({"epsilon": True}, "epsilon: expected a number from 0 to 1, got True"),
        ({"epsilon": [0.1]}, r"epsilon: expected a number from 0 to 1, got \[0.1\]"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, or none, got -1"),
        ({"seed": 7.0}, "seed: expected a whole number of at least 0, or none, got 7.0"),
        ({"seed": False}, "seed: expected a whole number of at least 0, or none, got False"),
    ],
)
def test_wrong_parameters_are_one_sentence(params, sentence):
    with pytest.raises(MlflowException, match=sentence):
        recommender(2).predict(None, requests([4]), params)
