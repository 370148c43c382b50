"""A champion of own logs remains from day to day, with any new users and items."""

from __future__ import annotations

import dataclasses
import json

import pytest

from slateflow.environments import preset
from slateflow.environments.logged import LoggedSpec
from slateflow.errors import InputError
from tasks.store.champion import CHAMPION, SPEC, require_same_world
from tasks.store.tracking import experiment_id, mlflow_client

DAY = LoggedSpec(
    "shop", 5, 1, fewest_candidates=5, user_features=("country=de",),
    item_features=("item=1", "item=2"), item_count=2,
)  # fmt: skip


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A store in which `shop` has a champion from a given day."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow_client()
    client.create_registered_model("slateflow-shop")
    tags = {SPEC: json.dumps(DAY.to_dict())}
    made = client.create_model_version("slateflow-shop", tmp_path.as_uri(), tags=tags)
    client.set_registered_model_alias("slateflow-shop", CHAMPION, made.version)
    return client


def test_other_users_items_and_sessions_are_another_day(client):
    require_same_world(client, "shop", DAY)
    require_same_world(
        client,
        "shop",
        dataclasses.replace(
            DAY,
            num_candidates=9,
            fewest_candidates=2,
            user_features=("country=at", "country=de"),
            item_features=("item=1", "item=2", "item=3"),
            item_count=3,
            most_steps=7,
        ),
    )


def test_slates_of_another_size_and_simulated_worlds_are_refused(client):
    with pytest.raises(InputError, match="got slate_size 2 instead of 1; rename the recipe"):
        require_same_world(client, "shop", dataclasses.replace(DAY, slate_size=2))
    with pytest.raises(InputError, match="world 'long_term_satisfaction' instead of 'logged'"):
        require_same_world(client, "shop", preset("lts-10-1"))


@pytest.mark.parametrize(
    ("features", "lost"),
    [
        (
            ("age", "tab=0", "tab=1", "land=fr", "taste[0]", "taste[1]"),
            "numbers column tab",
        ),
        (("years", "tab", "land=fr", "taste[0]", "taste[1]"), "numbers column age"),
        (("age", "tab", "taste[0]", "taste[1]"), "categories column land"),
        (("age", "tab", "land=fr", "taste[0]"), "lists column taste"),
    ],
)
def test_a_column_that_the_champion_knows_and_the_logs_lack_is_refused(client, features, lost):
    then = dataclasses.replace(
        DAY, user_features=("age", "tab", "land=at", "land=de", "taste[0]", "taste[1]")
    )
    client.set_model_version_tag("slateflow-shop", "1", SPEC, json.dumps(then.to_dict()))
    more = ("age", "new", "tab", "land=fr", "taste[0]", "taste[1]")
    require_same_world(client, "shop", dataclasses.replace(DAY, user_features=more))
    kind, name = lost.split(" column ")
    with pytest.raises(InputError, match=f"got no {kind} of the user's column {name}; rename"):
        require_same_world(client, "shop", dataclasses.replace(DAY, user_features=features))


def test_a_deleted_experiment_is_refused_until_it_is_restored(client):
    deleted = experiment_id(client, "shop")
    client.delete_experiment(deleted)
    with pytest.raises(InputError, match=f"got a deleted one; .* restore -x {deleted}`"):
        require_same_world(client, "shop", DAY)
    client.restore_experiment(deleted)
    require_same_world(client, "shop", DAY)
