"""Recipes of one preset side by side: each has its own logs, models and champion."""

from __future__ import annotations

import json
import re
import shutil

import pytest

import flows.parameters  # noqa: F401 - its forms list the recipes that are there at its import
import tasks.experiment
from flows.cli.main import main
from slateflow.environments import preset
from tasks.server.progress import artifact_key

PRESET = "modified-lts-10-1"
RECIPE = f"""
environment = "{PRESET}"
episodes = 60
seed = 5

[policies]
random = 0.5
greedy = 0.5
"""
SMALL = ["--learners", "fitted-q", "--evaluation-episodes", "200"]


@pytest.fixture
def recipes(embedded, tmp_path, monkeypatch):
    """A folder of recipes and datasets instead of the project's."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setattr(tasks.experiment, "RECIPES", folder)
    return folder


@pytest.fixture
def run(capsys):
    """Run a command; returns its JSON document."""

    def run(*arguments: str):
        assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def refuse(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_recipes_of_one_preset_keep_their_own_champions_and_models(recipes, run):
    from prefect.artifacts import Artifact

    from tasks.store.tracking import mlflow_client

    (recipes / "calm.toml").write_text(RECIPE)
    (recipes / "Sensitive_users.toml").write_text(f"{RECIPE}\n[parameters]\nsensitivity = 0.2\n")
    calm = run("run", "calm", *SMALL)
    sensitive = run("run", "Sensitive_users", *SMALL)
    assert calm["environment"] == sensitive["environment"] == PRESET
    assert calm["dataset"]["digest"] != sensitive["dataset"]["digest"]
    client = mlflow_client()
    for name, document in (("calm", calm), ("Sensitive_users", sensitive)):
        model = f"slateflow-{name}"
        assert document["recipe"] == name
        assert document["registered"] == {"name": model, "version": 1, "alias": "champion"}
        version = client.get_model_version_by_alias(model, "champion")
        assert version.run_id == document["candidates"][0]["run_id"]
        run_of_model = client.get_run(version.run_id)
        experiment = client.get_experiment(run_of_model.info.experiment_id)
        assert experiment.name == model
        assert run_of_model.info.run_name == f"fitted-q-{name}"
    tags = client.get_model_version_by_alias("slateflow-Sensitive_users", "champion").tags
    assert json.loads(tags["spec"]) == preset(PRESET, sensitivity=0.2).to_dict()
    assert Artifact.get("slateflow-calm") is not None
    # Again, each is compared with its own champion, which has the same weights
    for name, document in (("calm", calm), ("Sensitive_users", sensitive)):
        again = run("run", name, *SMALL)
        assert again["registered"] is None
        (candidate,) = again["candidates"]
        assert candidate["run_id"] == document["candidates"][0]["run_id"]
        assert again["champion"]["mean"] == candidate["mean"]
        assert candidate["over_champion"] == {"uplift": 0.0, "ci": [0.0, 0.0], "p_value": 1.0}
        assert candidate["verdict"] == "better"


def test_keys_of_artifacts_keep_recipes_apart():
    names = ["shop", "Shop", "shop.a", "shop-a", "shop_a"]
    keys = [artifact_key("slateflow", name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)
    assert keys[3] == "slateflow-shop-a"


def test_changed_parameters_under_one_name_are_refused(recipes, run, capsys):
    recipe = recipes / "changing.toml"
    recipe.write_text(RECIPE)
    run("run", "changing", *SMALL)
    recipe.write_text(f"{RECIPE}\n[parameters]\nsensitivity = 0.2\n")
    changed = "got sensitivity 0.2 instead of 0.058; rename the recipe"
    # Whether the champion or the dataset was made under other settings
    assert changed in refuse(capsys, "run", "changing", *SMALL)
    for command in ("train", "evaluate", "register"):
        assert "with other settings" in refuse(capsys, command, "changing", *SMALL[:2])
    assert "other parameters" in refuse(capsys, "generate", "changing")
    shutil.rmtree(recipes / "changing")
    assert changed in refuse(capsys, "run", "changing", *SMALL)
    assert not (recipes / "changing").exists()  # refused before the work began


@pytest.mark.slow
def test_an_imported_dataset_has_its_own_champion(recipes, run, capsys):
    from tasks.store.tracking import mlflow_client

    (recipes / "source.toml").write_text(RECIPE)
    own = run("run", "source", *SMALL)
    run("import", own["dataset"]["path"], "theirs")
    for command in ("run", "generate"):
        line = refuse(capsys, command, "theirs")
        assert "theirs: expected a recipe, got an imported dataset" in line
        assert "`slateflow train`" in line
    (model,) = run("train", "theirs", *SMALL[:2])
    document = run("register", "theirs", *SMALL)
    assert document["recipe"] == "theirs"
    assert document["champion"] is None
    assert document["registered"] == {
        "name": "slateflow-theirs", "version": 1, "alias": "champion",
    }  # fmt: skip
    client = mlflow_client()
    champions = [
        client.get_model_version_by_alias(f"slateflow-{name}", "champion").run_id
        for name in ("source", "theirs")
    ]
    assert champions == [own["candidates"][0]["run_id"], model["run_id"]]
    assert champions[0] != champions[1]
