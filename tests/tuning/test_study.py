"""Trials on Ray Tune: equal to a training by hand, evaluated on held-out logs."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.held_out import training_logs
from slateflow.tuning import ray_trials
from slateflow.tuning.study import StudyDesign, run_trials
from slateflow.tuning.trial import Trial, best_trial
from tests.evaluation.held_out import held_out_value

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # sockets and files that Ray leaves open
]


@pytest.fixture(scope="module", autouse=True)
def ray():
    """One cluster for all studies here."""
    with quiet_rllib(), cluster(1):
        yield


def study(dataset, folder, learner, wanted) -> list[Trial]:
    trials: list[Trial] = []
    training = training_logs(dataset, Folder(str(folder / "training")))
    run_trials(StudyDesign(dataset, training, learner, seed=5), wanted, 2, trials.append)
    return sorted(trials, key=lambda trial: trial.number)


NEURAL = {"updates": 50, "batch_size": 64, "width": 8}


@pytest.mark.parametrize(
    ("learner", "wanted"),
    [
        ("fitted-q", {0: {}, 3: {"degree": 2, "window": 4}}),
        ("marwil", {1: NEURAL}),
    ],
)
def test_a_trial_is_worth_what_the_same_training_by_hand_is(
    small_logs, tmp_path, capfd, learner, wanted
):
    trials = study(small_logs, tmp_path, learner, wanted)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [trial.number for trial in trials] == list(wanted)
    training = training_logs(small_logs, Folder(str(tmp_path / "training")))
    for trial in trials:
        scorer, _ = train(training, learner_config(learner, **wanted[trial.number]), seed=5)
        assert trial.settings == wanted[trial.number]
        assert trial.value == pytest.approx(held_out_value(small_logs, scorer), rel=1e-9)


@pytest.mark.parametrize(
    ("learner", "wanted"),
    [("slateq", {0: {"classes": 1}, 2: {"classes": 2, "iterations": 1}}), ("lints", {0: {}})],
)
def test_trials_where_users_choose(tmp_path, learner, wanted):
    recipe = Recipe("e", "interest-exploration", 40, 3, {"random": 1.0}, {"step_limit": 40})
    dataset = generate(recipe, Folder(str(tmp_path / "data")))
    trials = study(dataset, tmp_path, learner, wanted)
    training = training_logs(dataset, Folder(str(tmp_path / "training")))
    for trial in trials:
        scorer, _ = train(training, learner_config(learner, **wanted[trial.number]), seed=5)
        assert trial.error == ""
        assert trial.value == pytest.approx(held_out_value(dataset, scorer), rel=1e-9)


def test_a_training_that_is_refused_is_a_trial_without_a_value(make_logs, tmp_path):
    shape = (20, 6)
    user, candidates = np.full(shape, 0.5), np.tile([0.0, 1.0], (*shape, 1))
    rng = np.random.default_rng(1)
    action = rng.integers(2, size=shape)
    dataset = make_logs(user, candidates, action, 5.0 + action)
    refused, trained = study(dataset, tmp_path, "fitted-q", {0: {"degree": 100}, 1: {}})
    assert refused.value is None
    assert "lower the degree" in refused.error
    assert best_trial([refused, trained]) is trained
    with pytest.raises(InputError, match="lower the degree"):
        best_trial([refused])


def test_a_training_whose_numbers_fail_is_a_trial_without_a_value(small_logs, monkeypatch):
    def fail(*_, **__):
        raise np.linalg.LinAlgError("36-th leading minor of the array is not positive definite")

    monkeypatch.setattr(ray_trials, "train", fail)
    folder = small_logs.folder.url
    asked = {"dataset": folder, "training": folder, "learner": "linucb", "seed": 0}
    drawn = {"number": 4, "settings": {"ridge": 0.5}}
    found = Trial(**ray_trials.run_trial({**asked, "checkpoints": None, "trial": drawn})["trial"])
    reason = (
        "{'ridge': 0.5}: LinAlgError: 36-th leading minor of the array is not positive definite"
    )
    assert found == Trial(4, {"ridge": 0.5}, None, 0.0, reason)


def test_a_trial_that_fails_leaves_its_own_error_and_no_traces(small_logs, tmp_path, capfd):
    with pytest.raises(TypeError, match=r"^[^\x1b]*keywords must be strings$"):
        study(small_logs, tmp_path, "linucb", {0: {5: 3.0}})
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_of_equal_trials_the_first_is_best():
    trials = [Trial(number, {}, value, 0.0) for number, value in enumerate([1.0, 3.0, 2.0, 3.0])]
    assert best_trial(trials).number == 1
    assert best_trial(trials[::-1]).number == 1
