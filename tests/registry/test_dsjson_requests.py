"""Requests to a version from dsjson logs, with actions and situations in their logged form."""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException

from slateflow.policies import ScoringPolicy
from tests.registry.test_own_logs import publish
from tests.trajectories.sources.shop import log, published

ACTIONS = [
    {"_tag": "x", "i": {"id": name, **hot}, "j": [{"price": price}]}
    for name, hot, price in (("tea", {"é": True}, 2), ("rum", {}, 30.5), ("ale", {"é": False}, 4.0))
]


def decisions(rows: int = 400) -> tuple[list[dict], list[list[dict]], str]:
    """Situations, offers, and the lines of dsjson that log them."""
    rng = np.random.default_rng(5)
    lines, contexts, offers = [], [], []
    for _ in range(rows):
        day, label = str(rng.choice(["monday", "sunday"])), int(rng.integers(1, 4))
        context = {"From": [{"day": day}, {"size": [int(rng.integers(5)), 2]}]}
        if rng.random() < 0.5:  # left out otherwise
            context["visits"] = int(rng.integers(9))
        offer = [ACTIONS[place] for place in rng.permutation(3)]
        liked = (day == "monday") == (offer[label - 1]["i"]["id"] == "tea")
        contexts.append(context)
        offers.append(offer)
        document = {
            "_label_cost": -float(rng.random() < 0.2 + 0.6 * liked),
            "_label_probability": 1 / 3,
            "_label_Action": label,
            "a": [label, *(one for one in (1, 2, 3) if one != label)],
            "p": [1 / 3] * 3,
            "c": {**context, "_multi": offer},
        }
        lines.append(json.dumps(document))
    return contexts, offers, "\n".join(lines)


def test_objects_of_dsjson_are_asked_as_they_were_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    contexts, offers, lines = decisions()
    log(tmp_path, "1.dsjson", lines)
    dataset = published(tmp_path, 'format = "dsjson"\n')
    scorer = publish("personal", dataset, "linucb")
    model = mlflow.pyfunc.load_model("models:/slateflow-personal@champion")
    answers = model.predict(pd.DataFrame({"user": contexts, "items": offers}))
    rows = dataset.read()  # in the order of the file, as every line is a session
    shown, _ = ScoringPolicy(scorer).act(rows.observation(), np.random.default_rng(0))
    assert answers["slate"].tolist() == shown.tolist()
    best = [json.loads(items[0])["i"]["id"] for items in answers["items"]]
    assert best == [
        offer[slate[0]]["i"]["id"] for offer, slate in zip(offers, answers["slate"], strict=True)
    ]
    path = log(tmp_path, "requests.parquet", {"user": contexts, "items": offers})
    stored = pq.read_table(path)  # with keys that others have, and with floats
    for asked in (pd.DataFrame(stored.to_pydict()), stored.to_pandas()):
        pd.testing.assert_frame_equal(model.predict(asked), answers)
    by_id = [[json.dumps(one) for one in offer] for offer in offers[:1]]
    with pytest.raises(MlflowException, match="items, row 0: expected items of the catalogue"):
        model.predict(pd.DataFrame({"user": contexts[:1], "items": by_id}))  # not as JSON has ids
    empty = model.predict(pd.DataFrame({"user": [{}], "items": offers[:1]}))
    assert len(empty["scores"][0]) == 3


@pytest.mark.parametrize("unknown", ["refuse", "zeros"])
def test_new_actions_of_dsjson_are_what_the_recipe_says(tmp_path, monkeypatch, unknown):
    """An action is its features: those known from the logs count, the others are zero."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    contexts, offers, lines = decisions()
    log(tmp_path, "1.dsjson", lines)
    dataset = published(tmp_path, f'format = "dsjson"\nunknown_items = "{unknown}"\n')
    scorer = publish("new", dataset, "linucb")
    model = mlflow.pyfunc.load_model("models:/slateflow-new@champion")
    cola = {"i": {"id": "cola", "é": False, "size": [1]}, "j": [{"price": 7}, {"cold": True}]}
    text = "no JSON at all"
    asked = pd.DataFrame({"user": contexts[:2], "items": [offers[0], [cola, *offers[1], text]]})
    if unknown == "refuse":
        with pytest.raises(MlflowException, match="items, row 1: expected items of the catalogue"):
            model.predict(asked)
        return
    answers = model.predict(asked)
    names = ("i.id=ale", "i.id=rum", "i.id=tea", "i.é=false", "i.é=true", "j.price")
    assert dataset.spec.item_features == names
    known = {"rum": [0, 1, 0, 0, 0, 30.5], "tea": [0, 0, 1, 0, 1, 2], "ale": [1, 0, 0, 1, 0, 4]}
    features = [[0, 0, 0, 1, 0, 7], *(known[one["i"]["id"]] for one in offers[1]), [0] * 6]
    user = dataset.read().observation()["user"][1:2]
    scores = scorer.scores(user, np.zeros(1, int), np.array([features], float))[0]
    np.testing.assert_allclose(answers["scores"][1], scores, rtol=1e-6)
    wrong = [{**cola, "j": {"price": "cheap"}}]
    with pytest.raises(MlflowException, match=r"items, row 0: expected a number as j\.price, got"):
        model.predict(pd.DataFrame({"user": contexts[:1], "items": [wrong]}))
