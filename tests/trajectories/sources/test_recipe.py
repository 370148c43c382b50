"""Recipes with a source: their keys, their names, and refusals."""

from __future__ import annotations

import itertools
import os

import pytest

from slateflow.errors import InputError
from slateflow.trajectories import read_recipe
from tests.trajectories.sources.shop import log, recipe

ONE = "item,propensity,reward\na,0.5,1\n"


def test_defaults_are_left_out_of_what_is_kept(tmp_path):
    log(tmp_path, "a.csv", ONE)
    (tmp_path / "items.csv").write_text("item\na\n")
    found = recipe(tmp_path, '[columns]\nuser = ["age"]\n[items]\nfile = "items.csv"\n')
    assert found.to_dict() == {
        "source": "logs",
        "format": "table",
        "days": None,
        "held_out": "sessions",
        "unknown_items": "refuse",
        "columns": {"user": ["age"]},
        "items": {"file": "items.csv"},
        "files": found.files.fingerprint,
    }
    assert found.spec is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("episodes = 5\n", "unknown field 'episodes': expected one of source, format, days"),
        ("[columns]\nusers = []\n", "unknown field 'columns.users': expected one of columns.ep"),
        ("columns = 3\n", "columns: expected a table, got 3"),
        ("[columns]\nitem = 3\n", "columns.item: expected a text, got 3"),
        ('[columns]\nuser = ["a", "a"]\n', "columns.user: expected each column once, got a twice"),
        (
            "[columns]\nuser = ['tab']\ncategories = ['tab', 'tab']\n",
            "columns.categories: expected each column once, got tab twice; name it once",
        ),
        (
            "[items]\nfile = 'items.csv'\nfeatures = ['price', 'brand', 'price']\n",
            "items.features: expected each column once, got price twice; name it once",
        ),
        ("[columns]\nuser = 'age'\n", "columns.user: expected a list, got 'age'"),
        (
            "[columns]\nuser = ['age', 'click']\nreward = 'click'\n",
            "columns.user: expected what is known before the decision, got click, the reward",
        ),
        ("[columns]\nuser = ['item']\n", "columns.user: expected what is known before the"),
        ("[items]\nid = 'x'\n", "items.file: expected a value, got none"),
        ("[items]\nfile = ''\n", "items.file: expected the file of the catalogue, got ''; name"),
        ("days = 0\n", "days: expected at least 1, got 0"),
        ("held_out = 'some'\n", "held_out: expected 'sessions' or 'last', got 'some'"),
        ("held_out = 'last'\n", "held_out: expected [columns] time for 'last', got none"),
        ("format = 'rllib'\n[columns]\nuser = ['age']\n", "columns: expected none for rllib"),
        ("format = 'rllib'\nheld_out = 'last'\n", "held_out: expected 'sessions' for rllib"),
        ("format = 'dsjson'\n[columns]\nitem = 'x'\n", "columns, items: expected none for dsjson"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        recipe(tmp_path, text)
    assert str(caught.value).startswith(f"shop.toml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[columns]\nitem = 'x'\n", "source: expected a value, got none"),
        (
            "source = ' '\n",
            "source: expected a file, a folder, files by *, ? and **, or a URL, got ' '; name it",
        ),
        (
            "sources = 'logs'\n[columns]\n",
            "unknown field 'sources': expected one of source, format",
        ),
    ],
)
def test_a_recipe_with_columns_is_one_of_own_logs(tmp_path, text, message):
    (tmp_path / "shop.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(tmp_path, "shop")
    assert str(caught.value).startswith(f"shop.toml: {message}")


ROLES = ("episode", "time", "item", "propensity", "reward", "clicked", "policy", "visitor")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(ROLES, 2)))
def test_a_column_of_the_decision_has_no_second_role(tmp_path, one, other):
    """An hour may be a time and a visitor; a reward is nothing else, nor is what was shown."""
    text = f"[columns]\n{one} = 'x'\n{other} = 'x'\n"
    if not {one, other} & {"item", "propensity", "reward", "clicked"}:
        assert recipe(tmp_path, text).columns.episode in (None, "x")
        return
    with pytest.raises(InputError) as caught:
        recipe(tmp_path, text)
    message = str(caught.value)
    assert ": expected a column of its own, got x, which is the " in message
    assert message.endswith(", too; name another")
    assert one in message
    assert other in message
    assert [path.name for path in tmp_path.iterdir()] == ["shop.toml"]


def test_a_column_that_has_a_role_by_default_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        recipe(tmp_path, "[columns]\nvisitor = 'reward'\n")
    assert str(caught.value) == (
        "shop.toml: columns.visitor: expected a column of its own, got reward, which is the "
        "reward, too; name another"
    )


def test_slates_may_show_all_that_was_offered(tmp_path):
    text = "[columns]\nitem = 'ranking'\ncandidates = 'ranking'\n"
    assert recipe(tmp_path, text).columns.candidates == "ranking"


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "shop.toml").write_bytes(b"\xef\xbb\xbfsource = 'logs'\n")
    assert read_recipe(tmp_path, "shop").source == "logs"


def test_episodes_are_refused_and_the_seed_is_for_trainings(tmp_path):
    log(tmp_path, "a.csv", ONE)
    found = recipe(tmp_path)
    with pytest.raises(InputError, match="expected no number of episodes for own logs, got 5"):
        found.varied(episodes=5)
    varied = found.varied(seed=3)
    assert (found.seed, varied.seed) == (0, 3)
    assert varied.to_dict() == found.to_dict()
    assert varied.dataset_name == found.dataset_name


def test_a_path_a_folder_and_a_glob_name_the_same_files(tmp_path):
    for name in ("2026/a.csv", "2026/b.csv", "old/c.csv", ".hidden/x.csv", "_x.csv"):
        log(tmp_path, name, ONE)

    def names(source: str) -> list[str]:
        files = recipe(tmp_path, source=source).files
        return [files.path(file).removeprefix(f"{tmp_path}/") for file in files.files]

    everything = ["logs/2026/a.csv", "logs/2026/b.csv", "logs/old/c.csv"]
    assert names("logs") == names("logs/**/*.csv") == names(f"{tmp_path}/logs") == everything
    assert names(f"file://{tmp_path}/logs/*/?.csv")[1].endswith("logs/2026/b.csv")
    assert names("logs/2026/*.csv") == names("logs/2026/") == everything[:2]
    assert names("logs/old/c.csv") == everything[2:]
    with pytest.raises(InputError, match=r"source .*logs/n.*: expected files .* found none"):
        names("logs/n*")


def test_files_that_come_are_another_dataset_of_the_same_recipe(tmp_path):
    log(tmp_path, "a.csv", ONE)
    first = recipe(tmp_path).dataset_name
    assert recipe(tmp_path).dataset_name == first
    os.utime(log(tmp_path, "b.csv", ONE), ns=(0, 10**18))
    both = recipe(tmp_path).dataset_name
    assert first != both
    assert first.split(".")[0] == both.split(".")[0] == "shop"
    assert recipe(tmp_path, "days = 1").dataset_name == first  # `a.csv` is the newer one


def test_the_file_of_the_items_is_no_log(tmp_path):
    log(tmp_path, "a.csv", ONE)
    log(tmp_path, "items.csv", "item,price\na,1\n")
    assert len(recipe(tmp_path).files.files) == 2
    assert len(recipe(tmp_path, '[items]\nfile = "logs/items.csv"\n').files.files) == 1


def test_a_recipe_is_of_one_kind(tmp_path):
    (tmp_path / "both.toml").write_text('source = "logs"\nenvironment = "lts-10-1"\n')
    with pytest.raises(InputError, match=r"both\.toml: unknown field 'environment'"):
        read_recipe(tmp_path, "both")
