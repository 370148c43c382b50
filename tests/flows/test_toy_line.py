"""The whole pipeline with a world and a learner of another package, including registration."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

import pandas as pd
import pytest

from slateflow.environments import WORLDS
from slateflow.learners import LEARNERS
from slateflow.side_by_side import WorkerDiedError
from slateflow.trajectories import Recipe
from slateflow.validation import validated
from tests.learners.test_toy_learner import TasteConfig


@validated
class DoomedConfig(TasteConfig):
    """A learner whose process is killed, as without memory."""

    learner: ClassVar[str] = "doomed"

    def train(self, dataset, seed, progress, checkpoints):
        os.kill(os.getpid(), signal.SIGKILL)


ENTRY_POINTS = """[slateflow.worlds]
coins = tests.environments.coins:WORLD
[slateflow.learners]
taste = tests.learners.test_toy_learner:TasteConfig
doomed = tests.flows.test_toy_line:DoomedConfig
"""


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """Metadata of a package with both, only for these tests."""
    folder = tmp_path_factory.mktemp("package")
    metadata = folder / "outside-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for records in (WORLDS, LEARNERS):
            patch.setattr(records, "_entries", dict(records._entries))
            patch.setattr(records, "_complete", False)
        yield


@pytest.fixture(scope="module")
def report(installed, embedded, tmp_path_factory):
    from flows.pipeline import pipeline

    recipe = Recipe("two-coins", "coins", 2000, 7, {"random": 0.5, "greedy": 0.5})
    return pipeline(
        recipe=recipe,
        learners=["linucb", "taste"],
        evaluation_episodes=4000,
        data=str(tmp_path_factory.mktemp("coins")),
    )


def test_the_better_coin_wins_and_the_optimum_is_the_worlds_own(report):
    assert report.experiment.recipe == "two-coins"
    assert report.experiment.dataset.rows == 6000
    assert report.optimum.mean == pytest.approx(3 * 0.7)
    for candidate in report.candidates:  # both show the first coin: 0.7 against random's 0.55
        assert candidate.uplift == pytest.approx(3 * 0.15, abs=0.1)
    assert report.registered.name == "slateflow-two-coins"


def test_the_champion_answers_from_the_registry(report):
    import mlflow

    model = mlflow.pyfunc.load_model("models:/slateflow-two-coins@champion")
    request = pd.DataFrame({"user": [[]], "candidates": [[[0.0, 1.0], [1.0, 0.0]]]})
    assert model.predict(request)["slate"][0] == [1]


def test_a_training_that_is_killed_fails_by_name_and_takes_nothing_with_it(report, embedded):
    from flows.train import train
    from tasks.store.tracking import mlflow_client

    with pytest.raises(WorkerDiedError, match=r"^doomed: expected .* got status -9"):
        train(report.experiment, ["doomed"])
    found = mlflow_client().get_experiment_by_name("slateflow-two-coins")
    query = "tags.`slateflow.learner` = 'doomed'"
    (run,) = mlflow_client().search_runs([found.experiment_id], query)
    assert run.info.status == "FAILED"
    assert run.data.tags["slateflow.error"].startswith("WorkerDiedError: doomed: expected")
    (again,) = train(report.experiment, ["taste"])
    assert again.run_id == next(c.run_id for c in report.candidates if c.learner == "taste")
