"""Logs of the worlds of interests: published, verified, and whole episodes row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slateflow.trajectories import Dataset, Folder, generate
from slateflow.trajectories.generation.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "datasets"
EPISODES = {"interest-evolution": 1_000, "interest-exploration": 500}


@pytest.fixture(scope="module", params=EPISODES)
def dataset(request, tmp_path_factory) -> Dataset:
    """A small dataset by the recipe of a world."""
    recipe = read_recipe(RECIPES, request.param)
    assert recipe.episodes == EPISODES[request.param]
    return generate(recipe.varied(episodes=30), Folder(str(tmp_path_factory.mktemp("data"))))


def test_it_is_published_and_verified(dataset):
    again = Dataset.open(dataset.path).verify()
    assert again.digest == dataset.digest
    assert again.spec == dataset.spec
    assert [(part.policy, part.episodes) for part in again.parts] == [
        ("random", 15),
        ("greedy", 15),
    ]


def test_episodes_have_no_gaps_and_one_end(dataset):
    rows, episodes = dataset.read(), []
    for episode in np.unique(rows.episode):
        of = rows.episode == episode
        length = np.count_nonzero(of)
        assert rows.step[of].tolist() == list(range(length))
        ends = rows.terminated[of] | rows.truncated[of]
        assert ends.tolist() == [False] * (length - 1) + [True]
        assert not (rows.terminated[of] & rows.truncated[of]).any()
        assert length <= dataset.spec.horizon
        episodes.append(int(episode))
    assert episodes == list(range(30))
    assert (np.diff(rows.episode) >= 0).all()


@pytest.mark.integration
def test_a_second_generation_finds_it_made(dataset, tmp_path):
    folder = Folder(str(Path(dataset.path).parent))
    recipe = read_recipe(RECIPES, dataset.spec.name).varied(episodes=30)
    assert generate(recipe, folder).digest == dataset.digest
    assert generate(recipe, Folder(str(tmp_path)), workers=2).digest == dataset.digest
