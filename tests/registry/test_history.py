"""Requests in the middle of a session: the recommender has the policy's memory."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from slateflow.environments import batched_environment
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy, scorer_code
from slateflow.policies.play import play
from slateflow.trajectories import Folder, Recipe, generate

CASES = {
    "interest-exploration": learner_config("slateq", classes=2, iterations=2),
    "modified-lts-20-2-hidden": learner_config("fitted-q"),
}


def carried(name: str):
    """The module of that name in versions."""
    path = Path(__file__).parents[2] / "mlflow" / f"{name}.py"
    found = importlib.util.spec_from_file_location(f"{name}_under_test", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=CASES)
def served(request, tmp_path_factory):
    """A world, a trained scorer, and the recommender with its weights."""
    folder = tmp_path_factory.mktemp("served")
    recipe = Recipe("r", request.param, 20, 3, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(folder)))
    scorer, _ = train(dataset, CASES[request.param], seed=0)
    scorer.save(folder / "scorer.npz")
    recommender = carried("recommender").Recommender()
    features = dataset.spec.user_size + dataset.spec.document_size
    np.savez(folder / "ranges.npz", low=np.zeros(features), high=np.ones(features), last_step=9)
    artifacts = {"weights": str(folder / "scorer.npz"), "ranges": str(folder / "ranges.npz")}
    for key, path in scorer_code(scorer).items():  # where nothing else of ours is
        artifacts[key] = shutil.copy(path, folder)
    recommender.load_context(SimpleNamespace(artifacts=artifacts))
    return dataset.spec, scorer, recommender


def requests_of(steps, users: int) -> pd.DataFrame:
    """A request for each user at the last step, with the earlier steps as history."""
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


def test_code_of_two_versions_does_not_mix(tmp_path):
    module, before = carried("recommender"), set(sys.modules)
    loaded = []
    for version in ("1", "2"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "numbers_of_it.py").write_text(f"NUMBER = {version}\n", encoding="utf-8")
        code = "from .numbers_of_it import NUMBER\n\n\ndef number():\n    return NUMBER\n"
        (folder / "code_of_it.py").write_text(code, encoding="utf-8")
        loaded.append(module._module(folder / "code_of_it.py"))
    assert [one.number() for one in loaded] == [1, 2]
    assert set(sys.modules) == before


def test_no_requests_have_no_answers(served):
    _, _, recommender = served
    columns = ["user", "candidates", "step", "history"]
    for names in (columns[:2], columns):
        answers = recommender.predict(None, pd.DataFrame({name: [] for name in names}))
        kinds = [object, object, np.float64, np.int64]
        assert answers.dtypes.tolist() == kinds
        assert (len(answers), answers.columns[0]) == (0, "slate")


def test_a_wrong_history_is_refused_with_a_sentence(served):
    spec, _, recommender = served
    observation, _ = batched_environment(spec, 1).reset(seed=0)
    size = spec.user_size + spec.slate_size * spec.document_size + 2
    places = spec.slate_size - 1
    row = {
        "user": [observation["user"][0].tolist()],
        "candidates": [observation["candidates"][0].tolist()],
    }
    for history, message in (
        (
            [[0.0] * (size - 1)],
            f"expected lists of {size} numbers each, got lists of {size - 1} numbers",
        ),
        (
            [[0.0] * size, [0.0] * (size - 2) + [9.0, 1.0]],
            f"history, row 0: expected a clicked place from 0 to {places}, .* got 9 in step 1",
        ),
        ("none", f"history, row 0: expected lists of {size} numbers each, got none"),
    ):
        with pytest.raises(MlflowException, match=message):
            recommender.predict(None, pd.DataFrame({**row, "history": [history]}))


@pytest.fixture
def encoder(tmp_path):
    """The encoder of logs with two columns of the user and three items with two features."""

    def made(**changes):
        document = {
            "user": [
                {"name": "age", "kind": "number", "vocabulary": [], "size": 1},
                {"name": "country", "kind": "categories", "vocabulary": ["at", "de"], "size": 1},
            ],
            "items": ["7", "8", "9"],
            "unknown_items": "refuse",
            "format": "table",
        }
        (tmp_path / "encoding.json").write_text(json.dumps(document | changes))
        np.savez(tmp_path / "catalogue.npz", features=np.array([[1, 2], [3, 4], [5, 6]], "f4"))
        return carried("encoder").Encoder(tmp_path / "encoding.json", tmp_path / "catalogue.npz")

    return made


@pytest.mark.parametrize("sessions", [[[]], [None], [[], None, []], []])
def test_sessions_of_own_logs_begin_without_steps(encoder, sessions):
    frame = pd.DataFrame({"user": [[30, "at"]] * len(sessions), "history": sessions})
    found = encoder().history(frame, 2)
    width = 1 + 2 + 2 * 2 + 2  # age, country, two shown items, click and reward
    assert [steps.shape for steps in found] == [(0, width)] * len(sessions)


def test_steps_of_own_logs_in_numbers(encoder):
    steps = [
        {"items": [9, "7"], "clicked": -1, "reward": 0.5},
        {"items": ["8", "9"], "clicked": 1, "reward": 2, "user": [31, "de"]},
    ]
    frame = pd.DataFrame({"user": [[30, "at"]] * 3, "history": [None, steps, steps[:1]]})
    first, second = [30, 1, 0, 5, 6, 1, 2, -1, 0.5], [31, 0, 1, 3, 4, 5, 6, 1, 2]
    found = [rows.tolist() for rows in encoder().history(frame, 2)]
    assert found == [[], [first, second], [first]]


@pytest.mark.parametrize("event", [{"reward": "much"}, {"reward": 10**400}, {"clicked": [0]}])
def test_events_that_are_not_numbers_are_refused(encoder, event):
    step = {"items": ["7", "8"], "clicked": 0, "reward": 1.0} | event
    frame = pd.DataFrame({"user": [[30, "at"]], "history": [[step]]})
    with pytest.raises(MlflowException, match="history, row 0: expected a number as"):
        encoder().history(frame, 2)


def test_infinity_is_an_unknown_id_and_an_unknown_category(encoder):
    infinite = float("inf")
    frame = pd.DataFrame({"user": [[30, infinite], [30, 2.5]], "items": [["7"], ["7", infinite]]})
    assert encoder().users(frame).tolist() == [[30, 0, 0]] * 2
    with pytest.raises(MlflowException, match=r"items, row 1: expected items of .* got inf"):
        encoder().requests(frame)


def test_leaves_under_an_empty_key_of_dsjson(encoder):
    columns = [
        {"name": name, "kind": "number", "vocabulary": [], "size": 1} for name in ("", "[1]", "x")
    ]
    asked = [{"": 5}, {"": [0, 7]}, {"": {"x": 3}}]
    found = encoder(format="dsjson", user=columns).users(pd.DataFrame({"user": asked}))
    assert found.tolist() == [[5, 0, 0], [0, 7, 0], [0, 0, 3]]
