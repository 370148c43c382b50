"""Own logs on the command line: reading, description, training; and refusals."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import time
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

import flows.parameters  # noqa: F401 - its forms list the recipes that are there at its import
import tasks.experiment
from flows.cli.main import main

RECIPE = """
source = "logs/*.parquet"
[columns]
user = ["country"]
item = "shown"
"""


@pytest.fixture
def shop(embedded, tmp_path, monkeypatch):
    """A folder of recipes and logs: users from a country like its third of the items."""
    rng = np.random.default_rng(0)
    country, shown = rng.integers(0, 3, 3000), rng.integers(0, 6, 3000)
    frame = pd.DataFrame(
        {
            "country": np.array(["at", "de", "fr"])[country],
            "shown": shown,
            "propensity": 1 / 6,
            "reward": (rng.random(3000) < np.where(shown % 3 == country, 0.3, 0.05)).astype(int),
        }
    )
    folder = tmp_path / "datasets"
    (folder / "logs").mkdir(parents=True)
    frame[:2000].to_parquet(folder / "logs" / "1.parquet")
    frame[2000:].to_parquet(folder / "logs" / "2.parquet")
    (folder / "shop.toml").write_text(RECIPE)
    monkeypatch.setattr(tasks.experiment, "RECIPES", folder)
    return folder


def test_own_logs_are_read_described_and_learnt_from(shop, capsys):
    def run(*arguments: str):
        assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    made = run("generate", "shop")
    assert made["rows"] == 3000
    assert made == run("generate", "shop")
    assert run("describe", "shop")["digest"] == made["digest"]
    (model,) = run("train", "shop", "--learner", "linucb")
    from slateflow.trajectories import Dataset
    from tasks.store.tracking import mlflow_client, run_scorer

    scorer, dataset = run_scorer(mlflow_client(), model["run_id"]), Dataset.open(made["path"])
    user = dataset.encoding.user_features({"country": ["at", "de", "fr"]})
    everything = np.tile(dataset.catalogue.features, (3, 1, 1))
    best = scorer.scores(user, np.zeros(3, int), everything).argmax(axis=1)
    ids = [int(dataset.encoding.items[number]) for number in best]
    assert [one % 3 for one in ids] == [0, 1, 2]
    assert run("train", "shop", "--learner", "linucb", "--seed", "4") != [model]


def test_generate_says_how_many_lines_were_passed_by(shop, capsys, monkeypatch):
    line = {
        "_label_cost": -1, "_label_Action": 1, "a": [1, 2], "p": [0.5, 0.5],
        "c": {"_multi": [{"i": {"id": "a"}}, {"i": {"id": "b"}}]},
    }  # fmt: skip
    lines = [line, line, {**line, "_skipLearn": True}]
    (shop / "decisions.json").write_text("\n".join(map(json.dumps, lines)))
    (shop / "service.toml").write_text('source = "decisions.json"\nformat = "dsjson"\n')
    told, logger = "1 of 3 lines passed by: 1 skipped (_skipLearn)", Mock()
    monkeypatch.setattr("tasks.generate.get_run_logger", lambda: logger)
    for count in (1, 2):  # made, then found
        assert main(["generate", "service"]) == 0
        assert capsys.readouterr().out.endswith(f"\n{told}\n")
        assert [call.args[-1] for call in logger.info.mock_calls].count(told) == count
    assert main(["generate", "shop"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_generate_names_files_without_rows(shop, capsys):
    """A night whose export failed, say."""
    empty = pd.read_parquet(shop / "logs" / "1.parquet")[:0]
    for night in "abcd":
        empty.to_parquet(shop / "logs" / f"{night}.parquet")
    assert main(["generate", "shop"]) == 0
    told = "4 of 6 files without rows of their own: a.parquet, b.parquet, c.parquet and 1 more"
    assert capsys.readouterr().out.splitlines()[2] == told


def test_what_own_logs_do_not_have_is_one_line(shop, capsys):
    for arguments, message in [
        (["generate", "shop", "--episodes", "9"], "expected no number of episodes for own logs"),
        (["train", "shop", "--learner", "linucb"], "slateflow generate shop`"),
        (["baseline", "shop"], "expected a recipe with an environment, got own logs"),
    ]:
        assert main(arguments) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert main(["generate", "shop"]) == 0
    capsys.readouterr()
    assert main(["train", "shop", "--learner", "ppo"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "got own logs; train any learner but ppo" in line
    assert main(["estimate", "shop", "--policy", "best"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--policy: expected random, logged or a version such as models:/slateflow-shop@" in line
    assert main(["train", "shop", "--learner", "linucb"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "shop", "--reference"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "shop: expected a world of RecSim for its reference, got own logs; leave it out" in line


def test_new_files_are_the_next_dataset(shop, capsys):
    paths = []
    for _ in range(2):
        assert main(["generate", "shop", "--json"]) == 0
        paths.append(json.loads(capsys.readouterr().out))
        time.sleep(0.01)
        frame = pd.read_parquet(shop / "logs" / "1.parquet")
        another = frame.sample(frac=1, replace=True, random_state=3)
        another.to_parquet(shop / "logs" / "3.parquet")
    assert [one["rows"] for one in paths] == [3000, 5000]
    assert paths[0]["path"] != paths[1]["path"]


def test_the_verdict_comes_from_logs_and_a_champion_meets_new_items(shop, capsys):
    def run():
        assert main(["run", "shop", "--learner", "linucb", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    from prefect.artifacts import Artifact

    days = 86_400
    for name, age in (("1", 5 * days), ("2", 4 * days)):
        os.utime(shop / "logs" / f"{name}.parquet", times=(time.time() - age,) * 2)
    first = run()
    assert first["evidence"] == "logs"
    assert first["environment"] is None
    assert first["items_differ"] is False
    (winner,) = first["candidates"]
    assert winner["verdict"] == "winner"
    assert first["registered"]["version"] == 1
    low, high = winner["ci"]
    # Users click liked items, a third of six, in 0.3 of the visits, others in 0.05
    assert low < 0.30 - (2 * 0.30 + 4 * 0.05) / 6 < high
    assert winner["overlap"]["mean_weight"] == pytest.approx(1, abs=0.2)
    # The policy shows one of six items, so five of six rows have no weight and one has 6
    counts = winner["overlap"]["weight_counts"]
    assert counts[0] / sum(counts) == pytest.approx(5 / 6, abs=0.03)
    assert counts.index(max(counts[1:])) == 1 + math.floor((math.log10(6) + 2) * 4)
    markdown = str(Artifact.get("slateflow-shop").data)
    (picture,) = re.findall(r"Weights of [^(]*\(data:image/svg\+xml;base64,([^)]*)\)", markdown)
    assert f">{counts[0] / sum(counts):.0%} are 0<" in base64.b64decode(picture).decode()
    assert "**Alert**: shop: no new logs since" in markdown
    estimate = ["estimate", "shop", "--policy", "models:/slateflow-shop@champion", "--json"]
    assert main(estimate) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["sessions"] == first["baseline"]["episodes"]  # those that it has not seen
    by_dr = {one["estimator"]: one for one in alone["estimates"]}[alone["trusted"]]
    assert by_dr["value"] == pytest.approx(winner["mean"])
    # The next day has customers from another country, and an item more
    rng = np.random.default_rng(1)
    country, shown = rng.integers(0, 4, 3000), rng.integers(0, 7, 3000)
    pd.DataFrame(
        {
            "country": np.array(["at", "de", "fr", "se"])[country],
            "shown": shown,
            "propensity": 1 / 7,
            "reward": (rng.random(3000) < np.where(shown % 3 == country, 0.3, 0.05)).astype(int),
        }
    ).to_parquet(shop / "logs" / "3.parquet")
    second = run()
    assert second["champion"]["version"] == 1
    assert second["candidates"][0]["over_champion"] is not None
    assert "Alert" not in str(Artifact.get("slateflow-shop").data)


def test_items_whose_columns_do_not_tell_have_their_ids_or_a_run_advises_it(shop, capsys):
    """Items have only a price, and every third is liked."""
    rng = np.random.default_rng(2)
    for path in (shop / "logs").glob("*.parquet"):
        rows = pd.read_parquet(path)
        liked = np.where(rows["shown"] % 3 == 0, 0.3, 0.05)
        rows.assign(reward=(rng.random(len(rows)) < liked).astype(int)).to_parquet(path)
    frame = pd.DataFrame({"item": range(6), "price": [1.0, 2.0, 3.0, 3.0, 1.0, 2.0]})
    frame.to_csv(shop / "items.csv", index=False)
    items = '[items]\nfile = "items.csv"\nid = "item"\nfeatures = ["price"]\n'

    def run(tell_apart: str) -> str:
        text = f'{RECIPE}{items}tell_apart = "{tell_apart}"\n'
        (shop / f"{tell_apart}.toml").write_text(text)
        assert main(["run", tell_apart, "--learner", "linucb"]) == 0
        return capsys.readouterr().out

    from prefect.artifacts import Artifact

    advice = "items: they earn more, or less, than their columns predict"
    printed = run("never")
    assert advice in printed
    assert "`features` of [items], too" in " ".join(printed.split())
    assert f"Advice on {advice}" in str(Artifact.get("slateflow-never").data)
    printed = run("auto")
    assert advice not in printed
    assert "registered as version 1" in printed


def test_logs_that_cannot_tell_end_without_a_verdict(shop, capsys):
    for path in (shop / "logs").glob("*.parquet"):
        pd.read_parquet(path).assign(propensity=1 / 3).to_parquet(path)
    assert main(["run", "shop", "--learner", "linucb", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["registered"] is None
    assert (
        found["no_verdict"]["reason"]
        == "random: the mean weight of this policy is 0.5, but 1 is expected"
    )
    assert found["candidates"][0]["verdict"] == "no verdict"
