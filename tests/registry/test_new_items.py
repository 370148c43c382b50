"""A champion is evaluated on other days by its answers, although items have changed since."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from slateflow.errors import InputError
from tasks.store.champion import version_policy
from tasks.store.tracking import mlflow_client
from tests.registry.test_own_logs import ITEMS, RECIPE, publish, requests, table
from tests.trajectories.sources.shop import log, published

LATER = """
id,price,brand
12,9.0,acme
7,4.0,bolt
8,3.0,acme
9,0.5,zenith
10,0.5,newcomer
11,4.5,zenith
"""
"""Item 12 is new, 7 has another price and brand, 9 another price, and 10 a new brand."""


def with_new(frame: pd.DataFrame) -> pd.DataFrame:
    """Add item 12 to the offers of every second row, after the others."""
    offered = [[*one, 12] if row % 2 else one for row, one in enumerate(frame["offered"])]
    counts = np.array([len(one) for one in offered])
    slates = isinstance(frame["shown"].iloc[0], list)
    propensity = 1 / (counts * (counts - 1)) if slates else 1 / counts
    return frame.assign(offered=offered, propensity=propensity)


@pytest.mark.parametrize("unknown", ["refuse", "zeros"])
@pytest.mark.parametrize("slate", [1, 2])
def test_a_champion_is_judged_by_what_it_answers(tmp_path, monkeypatch, slate, unknown):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe = RECIPE.format(unknown=unknown, clicked='clicked="clicked"' if slate > 1 else "")
    log(tmp_path, "1.parquet", table(slate))
    (tmp_path / "items.csv").write_text(ITEMS.strip() + "\n")
    publish("shop", published(tmp_path, recipe), "linucb")
    model = mlflow.pyfunc.load_model("models:/slateflow-shop@champion")

    later = with_new(table(slate).sample(frac=1, random_state=5))
    log(tmp_path, "2.parquet", later)
    (tmp_path / "items.csv").write_text(LATER.strip() + "\n")
    dataset = published(tmp_path, recipe)
    client = mlflow_client()
    version = client.get_model_version_by_alias("slateflow-shop", "champion")
    policy = version_policy(client, version, dataset.spec, dataset)

    rows = dataset.read()
    second = rows.where(np.arange(len(rows)) >= len(rows) - len(later))
    slates, _ = policy.act(second.observation(), np.random.default_rng(0))
    ids = np.array(dataset.encoding.items)
    shown = ids[np.take_along_axis(second.candidates, slates, axis=1)]

    asked = requests(later)
    if unknown == "refuse":
        asked["items"] = [[one for one in items if one != 12] for items in asked["items"]]
    answered = np.array(model.predict(asked)["items"].tolist())
    np.testing.assert_array_equal(shown, answered)
    assert len(np.unique(shown[:, 0])) > 1


def test_a_champion_that_refuses_all_items_of_the_logs_is_named(tmp_path, monkeypatch):
    """It used to be evaluated as if it always showed the first, and remained without a verdict."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe = '[columns]\nuser = ["age"]\nitem = "shown"\n'
    frame = table(1)
    log(tmp_path, "1.parquet", frame)
    publish("shop", published(tmp_path, recipe), "linucb")
    log(tmp_path, "1.parquet", frame.assign(shown="sku-" + frame["shown"].astype(str)))
    dataset, client = published(tmp_path, recipe), mlflow_client()
    version = client.get_model_version_by_alias("slateflow-shop", "champion")
    with pytest.raises(InputError, match=r"slateflow-shop/1: expected items that it knows, got 5"):
        version_policy(client, version, dataset.spec, dataset)


@pytest.mark.parametrize("lost", ["scorer.npz", "catalogue.npz"])
def test_a_store_that_fails_is_not_taken_for_a_version_without_items(tmp_path, monkeypatch, lost):
    """It would be evaluated with today's items, or with weights that it does not serve."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    log(tmp_path, "1.parquet", table(1))
    (tmp_path / "items.csv").write_text(ITEMS.strip() + "\n")
    dataset = published(tmp_path, RECIPE.format(unknown="zeros", clicked=""))
    publish("shop", dataset, "linucb")
    client = mlflow_client()
    version = client.get_model_version_by_alias("slateflow-shop", "champion")
    folder = mlflow.artifacts.download_artifacts("models:/slateflow-shop@champion")
    (file,) = Path(folder).rglob(lost)
    file.unlink()
    file.symlink_to(tmp_path / "away")  # it is listed, and cannot be read
    with pytest.raises(OSError, match=lost):
        version_policy(client, version, dataset.spec, dataset)
