"""Requests in the middle of a session: the recommender remembers what the policy remembers."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from slateflow.environments import batched_environment
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.policies.play import play
from slateflow.trajectories import Folder, Recipe, generate

CASES = {
    "interest-exploration": learner_config("slateq", classes=2, iterations=2),
    "modified-lts-20-2-hidden": learner_config("fitted-q"),
}


@pytest.fixture(scope="module", params=CASES)
def served(request, tmp_path_factory):
    """A world, a trained scorer, and the recommender with its weights."""
    folder = tmp_path_factory.mktemp("served")
    recipe = Recipe("r", request.param, 20, 3, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(folder)))
    scorer, _ = train(dataset, CASES[request.param], seed=0)
    scorer.save(folder / "scorer.npz")
    path = Path(__file__).parents[2] / "mlflow" / "recommender.py"
    found = importlib.util.spec_from_file_location("recommender_under_test", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    recommender = module.Recommender()
    features = dataset.spec.user_size + dataset.spec.document_size
    np.savez(folder / "ranges.npz", low=np.zeros(features), high=np.ones(features))
    artifacts = {
        "weights": str(folder / "scorer.npz"),
        "scorer": inspect.getfile(type(scorer)),
        "ranges": str(folder / "ranges.npz"),
    }
    recommender.load_context(SimpleNamespace(artifacts=artifacts))
    return dataset.spec, scorer, recommender


def requests_of(steps, users: int) -> pd.DataFrame:
    """A request for each user at the last of the steps, with the earlier ones as history."""
    rows = []
    for user in range(users):
        history = []
        for step in steps[:-1]:
            candidates = step.observation["candidates"][user]
            shown = candidates[step.slates[user]].ravel().tolist()
            event = [int(step.responses["clicked"][user]), float(step.rewards[user])]
            history.append([*step.observation["user"][user].tolist(), *shown, *event])
        now = steps[-1].observation
        rows.append(
            {
                "user": now["user"][user].tolist(),
                "candidates": now["candidates"][user].tolist(),
                "step": int(now["step"][user, 0]),
                "history": history,
            }
        )
    return pd.DataFrame(rows)


def test_slates_are_those_of_the_session(served):
    spec, scorer, recommender = served
    steps = []
    for step in play(batched_environment(spec, 20), ScoringPolicy(scorer), seed=4):
        steps.append(step)
        if len(steps) == 25:
            break
    for length in (1, 2, 25):
        requests = requests_of(steps[:length], 20)
        answer = recommender.predict(None, requests)
        assert answer["slate"].tolist() == steps[length - 1].slates.tolist()
    # Sessions that have lasted differently long are answered in one request
    mixed = pd.concat([requests_of(steps[:n], 20)[:5] for n in (1, 25, 7)], ignore_index=True)
    expected = [slate for n in (1, 25, 7) for slate in steps[n - 1].slates[:5].tolist()]
    assert recommender.predict(None, mixed)["slate"].tolist() == expected
    forgotten = recommender.predict(None, requests_of(steps, 20).drop(columns="history"))
    assert forgotten["scores"].tolist() != answer["scores"].tolist()


def test_a_wrong_history_is_refused_with_a_sentence(served):
    spec, _, recommender = served
    observation, _ = batched_environment(spec, 1).reset(seed=0)
    size = spec.user_size + spec.slate_size * spec.document_size + 2
    row = {
        "user": [observation["user"][0].tolist()],
        "candidates": [observation["candidates"][0].tolist()],
    }
    for history, message in (
        (
            [[0.0] * (size - 1)],
            f"expected lists of {size} numbers each, got lists of {size - 1} numbers",
        ),
        ([[0.0] * (size - 2) + [9.0, 1.0]], "expected a clicked place from 0 to"),
        ("none", f"history, row 0: expected lists of {size} numbers each, got none"),
    ):
        with pytest.raises(MlflowException, match=message):
            recommender.predict(None, pd.DataFrame({**row, "history": [history]}))
