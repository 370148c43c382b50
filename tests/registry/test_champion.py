"""One champion, and the better one: races of real processes, kills, rollback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.main import main
from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from slateflow.trajectories import Folder, generate, read_recipe
from tasks import register
from tasks.evaluate import take_verdict
from tasks.experiment import ModelRef
from tasks.store.champion import aliased, aliases_locked, promote
from tasks.store.tracking import mlflow_client
from tests.registry.published import experiment_on, logged_model

ROOT = Path(__file__).parents[2]
NAME = "modified-lts-10-1"
ROUNDS = 3


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """An MLflow store of its own."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield mlflow_client()


@pytest.fixture(scope="module")
def models(registry, tmp_path_factory):
    """Runs of two learners: the bandit finds the sweetest, fitted-q the optimum."""
    data = Folder(str(tmp_path_factory.mktemp("data")))
    dataset = generate(read_recipe(ROOT / "datasets", NAME).varied(100, 1), data)
    runs = {}
    for learner in ("linucb", "fitted-q"):
        scorer, report = train(dataset, learner_config(learner), seed=1)
        runs[learner] = logged_model(dataset, NAME, scorer, report)
    return runs


class Promoter:
    """A process of `promoter.py`."""

    def __init__(self, model: ModelRef) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.registry.promoter", model.learner, model.run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def order(self, line: str) -> None:
        """Give an order and do not wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        """The answer to the oldest open order."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        """Close its input and wait."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.mark.slow
def test_of_racing_pipelines_the_better_one_is_champion(registry, models):
    # Two of the weaker and one of the better; all have judged before the first registers.
    promoters = [Promoter(models[name]) for name in ("linucb", "fitted-q", "linucb")]
    try:
        assert [promoter.answer() for promoter in promoters] == ["ready"] * 3
        for race in range(ROUNDS):
            name = f"slateflow-race-{race}"
            for promoter in promoters:
                promoter.order(f"judge race-{race}")
            assert [promoter.answer() for promoter in promoters] == [True] * 3
            for place in range(3):
                promoters[(place + race) % 3].order("register")
            versions = [promoter.answer() for promoter in promoters]
            champion = registry.get_model_version_by_alias(name, "champion")
            assert champion.tags["learner"] == "fitted-q"
            assert int(champion.version) == versions[1]
            # A weaker one that came first is `previous`; one that came later registered nothing
            made = [version for version in versions if version is not None]
            assert len(made) == len(registry.search_model_versions(f"name = '{name}'"))
            assert aliased(registry, name, "previous") == (1 if len(made) == 2 else None)
    finally:
        for promoter in promoters:
            promoter.end()


def test_a_verdict_against_a_former_champion_is_taken_again(registry, models):
    experiment = experiment_on(preset(NAME), NAME, 5)
    weak = take_verdict(experiment, [models["linucb"]], 200)
    strong = take_verdict(experiment, [models["fitted-q"]], 200)
    assert weak.champion is None
    assert register.take_over(strong).registered.version == 1
    late = register.take_over(weak)
    assert late.registered is None
    assert late.champion.version == 1
    assert late.winner is None
    assert late.candidates[0].mean == weak.candidates[0].mean  # the same users
    over_champion = late.candidates[0].over_champion
    assert over_champion.uplift == pytest.approx(
        weak.candidates[0].mean - strong.candidates[0].mean
    )
    assert over_champion.ci[1] < 0
    assert aliased(registry, f"slateflow-{NAME}", "champion") == 1


def test_a_changed_world_does_not_compete_under_the_same_name(registry, models):
    changed = experiment_on(preset(NAME, sensitivity=0.2), NAME, 5)
    with pytest.raises(InputError, match=r"version 1 of slateflow-.*got sensitivity 0.2 instead"):
        take_verdict(changed, [models["linucb"]], 20)
    renamed = changed.model_copy(update={"recipe": "more-sensitive"})
    assert take_verdict(renamed, [models["linucb"]], 20).champion is None


def test_an_alias_moves_only_from_the_version_that_is_expected(registry, models):
    name = f"slateflow-{NAME}"
    assert not promote(registry, name, 1, reigning=None)
    assert not promote(registry, name, 1, reigning=7)
    assert aliased(registry, name, "champion") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "_create_version",
        "promote",
        pytest.param("_log_model", marks=pytest.mark.long),
        pytest.param("_explain", marks=pytest.mark.long),
    ],
)
def test_a_killed_registration_is_taken_up_and_registers_once(registry, models, step):
    name = f"killed-{step.strip('_').replace('_', '-')}"
    promoter = Promoter(models["fitted-q"])
    assert promoter.answer() == "ready"
    promoter.order(f"judge {name}")
    assert promoter.answer() is True
    promoter.order(f"die {step}")
    assert promoter.process.wait(timeout=120) == -signal.SIGKILL
    promoter.end()
    model = f"slateflow-{name}"
    assert aliased(registry, model, "champion") is None
    found = registry.search_model_versions(f"name = '{model}'")
    assert len(found) == (step in ("_explain", "promote"))
    verdict = take_verdict(experiment_on(preset(NAME), name, 5), [models["fitted-q"]], 200)
    assert register.take_over(verdict).registered.version == 1
    assert len(registry.search_model_versions(f"name = '{model}'")) == 1
    run = registry.get_run(models["fitted-q"].run_id)
    assert run.info.status == "FINISHED"  # `slateflow register` has to find it


def test_a_killed_process_leaves_no_lock(registry):
    code = (
        "import time\nfrom tasks.store.champion import aliases_locked\n"
        "with aliases_locked('held'):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        waiting = subprocess.Popen([sys.executable, "-c", code.replace("600", "0")], cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=8)
        os.kill(holder.pid, signal.SIGKILL)
        assert waiting.wait(timeout=60) == 0
    with aliases_locked("held"):
        pass


def test_rollback_puts_previous_back(registry, models, capsys):
    name = f"slateflow-{NAME}"
    version = registry.get_model_version(name, "1")
    assert main(["rollback", NAME]) == 2
    assert (
        "expected a version before the champion, found none; version 1" in capsys.readouterr().err
    )
    registry.create_model_version(name, version.source, run_id=version.run_id)
    assert promote(registry, name, 2, reigning=1)
    assert main(["rollback", NAME]) == 0
    assert capsys.readouterr().out == (
        f"{name}: version 1 is the champion again, before it was 2\n"
    )
    assert (aliased(registry, name, "champion"), aliased(registry, name, "previous")) == (1, 2)
    assert main(["rollback", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": name, "champion": 2, "previous": 1}
    assert main(["rollback", "mars"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "got 'slateflow-mars'" in line
    assert name in line


def test_rollback_of_an_unknown_model_of_an_empty_registry(tmp_path, monkeypatch):
    from tasks.store.champion import rollback

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(InputError, match="it is empty"):
        rollback(mlflow_client(), "slateflow-mars")
