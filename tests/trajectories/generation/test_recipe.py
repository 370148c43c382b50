"""Recipes: their keys, the shares of policies, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slateflow.environments import preset, presets
from slateflow.errors import InputError
from slateflow.policies import Behaviour
from slateflow.trajectories import Recipe, read_recipe

ROOT = Path(__file__).parents[3]

GOOD = """
environment = "modified-lts-20-2"
episodes = 10
seed = 3

[policies]
random = 0.5
greedy = 0.5

[parameters]
time_budget = 5
"""


def written(folder: Path, text: str) -> Path:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_recipe_is_what_its_file_says(tmp_path):
    recipe = read_recipe(written(tmp_path, GOOD), "mine")
    assert recipe.name == "mine"
    assert recipe.spec == preset("modified-lts-20-2", time_budget=5)
    assert recipe.to_dict() == {
        "environment": "modified-lts-20-2",
        "episodes": 10,
        "seed": 3,
        "policies": {"random": 0.5, "greedy": 0.5},
        "parameters": {"time_budget": 5},
    }


@pytest.mark.parametrize("name", presets())
def test_the_recipes_of_the_house_can_be_read(name):
    assert read_recipe(ROOT / "datasets", name).spec == preset(name)


def test_a_recipe_of_the_house_changes_parameters_and_nothing_else():
    recipe = read_recipe(ROOT / "datasets", "sensitive-users")
    standard, spec = preset("modified-lts-20-2").to_dict(), recipe.spec.to_dict()
    changed = {name: spec[name] for name in spec if spec[name] != standard[name]}
    noises = {"innovation_stddev": 0.2, "choc_stddev": 0.3, "kale_stddev": 0.3}
    assert changed == {"sensitivity": 0.1, **noises}
    assert recipe.policy_episodes() == {"random": 1000, "greedy": 1000}


def test_policies_with_settings_have_tables(tmp_path):
    recipe = read_recipe(ROOT / "datasets", "modified-lts-20-2-mixed")
    names = ["random", "greedy", "epsilon-greedy", "softmax"]
    shares = {name: policy.share for name, policy in recipe.logging_policies.items()}
    assert shares == dict.fromkeys(names, 0.25)
    assert recipe.behaviours == {
        "random": "random",
        "greedy": "greedy",
        "epsilon-greedy": Behaviour(epsilon=0.1),
        "softmax": Behaviour(temperature=0.5),
    }
    assert recipe.policy_episodes() == dict.fromkeys(recipe.policies, 500)
    # Equal settings are the same recipe, whether or not it spells out a default.
    spelled = {"share": 0.25, "scorer": "greedy", "epsilon": 0.1}
    policies = {**recipe.policies, "epsilon-greedy": spelled}
    assert replace(recipe, policies=policies).to_dict() == recipe.to_dict()
    assert recipe.to_dict()["policies"] == recipe.policies
    json.dumps(recipe.to_dict())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("episodes = 10", "episodes = 0", "episodes: expected at least 1, got 0"),
        ("episodes = 10", "episodes = 100_000_001", "episodes: expected at most 100000000, got"),
        ("episodes = 10", "episodes = 1.5", "episodes: expected a whole number, got 1.5"),
        ("episodes = 10", "episodes = true", "episodes: expected a whole number, got True"),
        ("episodes = 10", 'episodes = "9"', "episodes: expected a whole number, got '9'"),
        ("episodes = 10", "", "episodes: expected a value, got none"),
        ("seed = 3", "seed = -1", "seed: expected at least 0, got -1"),
        ("seed = 3", f"seed = {2**64}", f"seed: expected at most {2**63 - 1}, got {2**64}"),
        ("seed = 3", "seed = 10_000\nnights = 10_001", "nights: expected at most 10000, got 10001"),
        (
            "episodes = 10\nseed = 3",
            "episodes = 100_000_000\nseed = 3\nnights = 2",
            "nights: expected at most 100,000,000 episodes in all, got 2 nights of 100,000,000",
        ),
        ("seed = 3", "seed = 0.5", "seed: expected a whole number, got 0.5"),
        ("seed = 3", "", "seed: expected a value, got none"),
        ("seed = 3", "sede = 3", "unknown field 'sede': expected one of environment, episodes"),
        ('"modified-lts-20-2"', '"mars"', "unknown environment 'mars': expected one of modified"),
        ('"modified-lts-20-2"', "7", "environment: expected a text, got 7"),
        (
            '"modified-lts-20-2"',
            '["lts-20-2"]',
            "environment: expected a text, got .'lts-20-2'",
        ),
        (
            "greedy = 0.5",
            "best = 0.5",
            "policies.best: unknown policy 'best': expected one of",
        ),
        ("greedy = 0.5", "", "policies: expected shares that add up to 1, got 0.5"),
        ("greedy = 0.5", "greedy = 0.6", "policies: expected shares that add up to 1, got 1.1"),
        ("greedy = 0.5", "greedy = 0", "policies.greedy: share: expected more than 0, got 0"),
        (
            "greedy = 0.5",
            "greedy = nan",
            "policies.greedy: share: expected a finite number",
        ),
        ("greedy = 0.5", "greedy = 1.5", "policies.greedy: share: expected at most 1, got 1.5"),
        ("greedy = 0.5", "greedy = '1'", "policies.greedy: share: expected a number, got '1'"),
        ("greedy = 0.5", "greedy = true", "policies.greedy: share: expected a number, got True"),
        ("random = 0.5\ngreedy = 0.5", "", r"policies: expected at least 1 entries, got \{\}"),
        ("[policies]", "[police]", "unknown field 'police': expected one of environment"),
        ("time_budget = 5", "budget = 5", "unknown environment parameter 'budget': expected"),
        ("time_budget = 5", "name = 'x'", "unknown environment parameter 'name': expected"),
        ("time_budget = 5", "time_budget = 0", "time_budget: expected at least 1, got 0"),
        ("time_budget = 5", "time_budget = 10_001", "time_budget: expected at most 10000, got"),
        ("time_budget = 5", "num_candidates = 10_001", "num_candidates: expected at most 10000"),
        ("time_budget = 5", "choc_mean = inf", "choc_mean: expected a finite number, got inf"),
        ("time_budget = 5", "num_candidates = 1", "num_candidates: expected at least slate_size"),
        ("seed = 3", "seed = = 3", "expected TOML, got "),
    ],
)
def test_bad_recipes_are_refused_in_one_line(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(InputError, match=rf"^mine\.toml: {message}") as refused:
        read_recipe(written(tmp_path, GOOD.replace(old, new)), "mine")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "[policies.random]\nshare = 0.5\nepsilon = 0.1",
            "policies.random: share: expected a numb",
        ),
        ("[policies.'a/b']\nshare = 0.5\nepsilon = 0.1", "policies.a/b: expected a name of a-z"),
        ("[policies.'..']\nshare = 0.5\nepsilon = 0.1", r"policies.\.\.: expected a name of a-z"),
        ("[policies.Mine]\nshare = 0.5\nepsilon = 0.1", "policies.Mine: expected a name of a-z"),
        ("[policies.mine]\nshare = 0.5", "policies.mine: expected scorer, epsilon or temp"),
        ("[policies.mine]\nshare = 0.5\nepsi = 0.1", "policies.mine: epsi: expected no such field"),
        (
            "[policies.mine]\nshare = 0.5\nself = 1\nepsilon = 0.1",
            "policies.mine: self: expected no such field, got 1; leave it out",
        ),
        ("[policies.mine]\nepsilon = 0.1", "policies.mine: share: expected a number, got None"),
        (
            "[policies.mine]\nshare = 2\nepsilon = 0.1",
            "policies.mine: share: expected at most 1",
        ),
        ("[policies.mine]\nshare = 0.4\nepsilon = 0.1", "policies: expected shares that add up"),
        ("[policies.mine]\nshare = 0.5\nepsilon = 2", "policies.mine: epsilon: expected at most 1"),
        ("[policies.mine]\nshare = 0.5\ntemperature = 0", "policies.mine: temperature: expected"),
        ("[policies.mine]\nshare = 0.5\nscorer = 'best'", "policies.mine: unknown scorer 'best'"),
        ("[policies.mine]\nshare = 0.5\nscorer = 'affinity'", "policies.mine: scorer 'affinity'"),
    ],
)
def test_bad_settings_of_policies_are_refused_in_one_line(tmp_path, table, message):
    text = GOOD.replace("greedy = 0.5", table)
    with pytest.raises(InputError, match=rf"^mine\.toml: {message}") as refused:
        read_recipe(written(tmp_path, text.replace("random = 0.5", "opposite = 0.5")), "mine")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("policies", "random", "policies: expected a table, got 'random'"),
        ("policies", [0.5, 0.5], r"policies: expected a table, got \[0.5, 0.5\]"),
        ("parameters", 5, "parameters: expected a table, got 5"),
    ],
)
def test_tables_have_to_be_tables(field, value, message):
    fields = {
        "environment": "lts-10-1",
        "episodes": 1,
        "seed": 0,
        "policies": {"random": 1},
        "parameters": {},
    }
    with pytest.raises(InputError, match=message):
        Recipe(name="x", **{**fields, field: value})


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mine\.toml: expected TOML, got"):
        read_recipe(tmp_path, "mine")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(InputError, match=r"mine\.toml: expected TOML, got Is a directory"):
        read_recipe(tmp_path, "mine")


@pytest.mark.parametrize("name", ["other", "../mine", "mine.toml", ""])
def test_unknown_recipes_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"unknown recipe .*: expected one of mine; ") as caught:
        read_recipe(written(tmp_path, GOOD), name)
    assert str(caught.value).endswith(f"; recipes are in {tmp_path}")


@pytest.mark.parametrize("name", ["my shop", "größe", "a+b", ".hidden", "_shop"])
def test_a_file_whose_name_cannot_be_a_recipes_is_refused(tmp_path, name):
    (tmp_path / f"{name}.toml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        read_recipe(tmp_path, name)
    assert str(refusal.value) == (
        f"{name}.toml: expected a name of A-Z, a-z, 0-9, '.', '_' and '-', with a "
        "letter or a digit first, for the dataset and the model have it, too; rename the file"
    )


def test_a_folder_without_recipes_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected recipes .*; use a checkout of the project"):
        read_recipe(tmp_path / "none", "mine")


@given(
    st.integers(1, 10_000),
    st.lists(st.integers(1, 50), min_size=1, max_size=3),
)
def test_shares_give_all_episodes_and_miss_none_by_more_than_one(episodes, weights):
    shares = {
        policy: weight / sum(weights)
        for policy, weight in zip(("random", "greedy", "opposite"), weights, strict=False)
    }
    counted = Recipe("r", "lts-10-1", episodes, 0, shares).policy_episodes()
    assert list(counted) == list(shares)
    assert sum(counted.values()) == episodes
    for policy, share in shares.items():
        assert abs(counted[policy] - share * episodes) <= 1


def test_variations_carry_their_difference_in_the_name():
    recipe = Recipe("r", "lts-10-1", 5, 1, {"random": 1})
    assert recipe.varied() == recipe
    assert recipe.varied(episodes=5, seed=1) == recipe
    changed = recipe.varied(episodes=9, seed=0)
    assert (changed.name, changed.episodes, changed.seed) == ("r", 9, 0)
    assert changed.dataset_name == "r.episodes-9.seed-0"
    with pytest.raises(InputError, match="episodes: expected at least 1, got 0"):
        recipe.varied(episodes=0)
