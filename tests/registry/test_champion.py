"""There is one champion, the better one: races of real processes, kills, rollback."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from mlflow.entities.model_registry import ModelVersion

from flows.cli.main import main
from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from slateflow.trajectories import Folder, generate, read_recipe
from tasks import register
from tasks.evaluate import take_verdict
from tasks.experiment import ModelRef
from tasks.store.alias_lock import aliases_locked
from tasks.store.champion import aliased, promote, rollback, version_policy
from tasks.store.tracking import mlflow_client, run_scorer
from tests.registry.published import experiment_on, logged_model
from tests.servers import mlflow_server
from tests.up import wait_until

ROOT = Path(__file__).parents[2]
NAME = "modified-lts-10-1"
ROUNDS = 3


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A separate MLflow store."""
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
        """Send an order without waiting for the answer."""
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
    # Two of the weaker and one of the better; all have verdicts before the first registers.
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
            # A weaker one that came first is `previous`; one that came after the better one
            # registered nothing, and the same run in between found its version in place
            made = {version for version in versions if version is not None}
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
    assert late.candidates[0].mean == weak.candidates[0].mean  # users are the same
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


def test_a_registration_that_is_repeated_after_the_alias_moved_is_done(registry, models):
    experiment = experiment_on(preset(NAME), "repeated", 7)
    verdict = take_verdict(experiment, [models["fitted-q"]], 100)
    first = register.take_over(verdict)
    assert first.registered.version == 1
    assert register.take_over(verdict) == first


def test_a_version_is_played_without_the_run_behind_it(registry, models):
    experiment = experiment_on(preset(NAME), "runless", 7)
    winner = take_verdict(experiment, [models["linucb"]], 100)
    made = register.take_over(winner).registered
    version = registry.get_model_version(made.name, str(made.version))
    gone = ModelVersion(made.name, str(made.version), 0, run_id="0" * 32)
    played = version_policy(registry, gone, preset(NAME)).scorer
    trained = run_scorer(registry, version.run_id)
    np.testing.assert_equal(dataclasses.asdict(played), dataclasses.asdict(trained))
    shutil.rmtree(Path(urlsplit(registry.get_model_version_download_uri(made.name, "1")).path))
    assert version_policy(registry, version, preset(NAME))
    with pytest.raises(InputError, match="in it or in its run, got Run with id"):
        version_policy(registry, gone, preset(NAME))


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
        pytest.param("version_description", marks=pytest.mark.long),
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
    assert len(found) == (step in ("version_description", "promote"))
    verdict = take_verdict(experiment_on(preset(NAME), name, 5), [models["fitted-q"]], 200)
    assert register.take_over(verdict).registered.version == 1
    assert len(registry.search_model_versions(f"name = '{model}'")) == 1
    run = registry.get_run(models["fitted-q"].run_id)
    assert run.info.status == "FINISHED"  # `slateflow register` has to find it


HOLDER = """
import sys, time
from tasks.store.alias_lock import aliases_locked
from tasks.store.tracking import run_scorer, mlflow_client

with aliases_locked(mlflow_client(), "slateflow-held"):
    print("held", flush=True)
    time.sleep(float(sys.argv[1]))
"""


def holder(seconds: float, **environment: str) -> subprocess.Popen[str]:
    """A process that takes the lock and keeps it for some time."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_one_lock_for_every_address_of_a_registry_and_none_after_a_kill(tmp_path):
    """A server by two names, and its database; with other home and temporary folders."""
    with mlflow_server(tmp_path) as address:
        (tmp_path / "tmp").mkdir()
        elsewhere = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
        others = [
            {"MLFLOW_TRACKING_URI": address.replace("127.0.0.1", "localhost") + "/", **elsewhere},
            {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        ]
        with holder(600, MLFLOW_TRACKING_URI=address) as first:
            assert first.stdout.readline() == "held\n"
            waiting = [holder(0, **environment) for environment in others]
            locks = Path("/proc/locks")
            if locks.exists():  # both are in the queue for the lock, which the first one has
                queued = [rf"-> FLOCK +ADVISORY +WRITE {process.pid} " for process in waiting]
                wait_until(
                    lambda: all(re.search(line, locks.read_text()) for line in queued),
                    60,
                    "two processes that wait",
                )
            assert [process.poll() for process in waiting] == [None, None]
            os.kill(first.pid, signal.SIGKILL)
            for process in waiting:
                with process:
                    assert process.communicate(timeout=60) == ("held\n", None)
                assert process.returncode == 0


@pytest.mark.slow
def test_a_lock_whose_file_is_gone_is_taken_at_the_new_one(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("SLATEFLOW_LOCKS", str(tmp_path / "locks"))
    with aliases_locked(registry, "slateflow-held"):
        (path,) = (tmp_path / "locks").iterdir()
        assert path.stat().st_mode & 0o777 == 0o666
        assert path.parent.stat().st_mode & 0o7777 == 0o1777
        waiting = holder(600)
        wait_until(lambda: waits_for(waiting.pid, path), 60, "a process that waits")
    with waiting:  # the file that it waited for went with the lock
        assert waiting.stdout.readline() == "held\n"
        with path.open("r+") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waiting.kill()
    with aliases_locked(registry, "slateflow-held"):
        pass
    assert list(path.parent.iterdir()) == []
    monkeypatch.setenv("SLATEFLOW_LOCKS", "/proc/nowhere")
    expected = "SLATEFLOW_LOCKS: expected a folder to write in, got /proc/nowhere, got "
    with pytest.raises(InputError, match=expected), aliases_locked(registry, "slateflow-held"):
        pass


COUNTER = """
import sys
from pathlib import Path
from tasks.store.alias_lock import aliases_locked
from tasks.store.tracking import run_scorer, mlflow_client

client, counter = mlflow_client(), Path(sys.argv[1])
for _ in range(40):
    with aliases_locked(client, "slateflow-held"):
        count = int(counter.read_text())
        counter.write_text(str(count + 1))
"""


@pytest.mark.slow
def test_of_many_who_come_and_go_one_at_a_time_holds_the_lock(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("SLATEFLOW_LOCKS", str(tmp_path / "locks"))
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNTER, str(counter)]
    counting = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=120) for process in counting] == [0, 0, 0]
    assert counter.read_text() == "120"


def waits_for(pid: int, path: Path) -> bool:
    """True if the process has opened the file."""
    return str(path) in [file.path for file in psutil.Process(pid).open_files()]


def test_a_move_of_another_machine_at_the_same_time_is_noticed(registry, models, monkeypatch):
    """It has compared before, does not see our lock, and sets its version after ours."""
    recipe, aliases = "two-machines", type(registry).set_registered_model_alias
    name = f"slateflow-{recipe}"
    experiment = experiment_on(preset(NAME), recipe, 5)
    weak = take_verdict(experiment, [models["linucb"]], 200)
    assert register.take_over(weak).registered.version == 1
    late = take_verdict(experiment, [models["fitted-q"]], 200)
    source = registry.get_model_version(name, "1")
    registry.create_model_version(name, source.source, run_id=source.run_id, tags=source.tags)

    def then_the_other(client, name, alias, version):
        aliases(client, name, alias, version)
        if alias == "champion":
            monkeypatch.undo()
            aliases(client, name, alias, "2")

    monkeypatch.setattr(type(registry), "set_registered_model_alias", then_the_other)
    assert register.take_over(late).registered.version == 3  # after a verdict against version 2
    assert [aliased(registry, name, alias) for alias in ("champion", "previous")] == [3, 2]
    monkeypatch.setattr(type(registry), "set_registered_model_alias", then_the_other)
    promote(registry, name, 1, reigning=3)
    monkeypatch.setattr(type(registry), "set_registered_model_alias", then_the_other)
    with pytest.raises(InputError, match="expected version 3 to be the champion again, got 2"):
        rollback(registry, name)


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


def two_versions(registry, models, recipe: str) -> None:
    """Make the better of two learners the champion after the weaker."""
    experiment = experiment_on(preset(NAME), recipe, 5)
    for number, learner in enumerate(("linucb", "fitted-q"), 1):
        verdict = take_verdict(experiment, [models[learner]], 200)
        assert register.take_over(verdict).registered.version == number


def aliases(registry, name: str) -> tuple[int | None, int | None]:
    """The champion, and the version before it."""
    return aliased(registry, name, "champion"), aliased(registry, name, "previous")


def test_a_version_that_was_rolled_back_is_not_registered_again(registry, models):
    name = "slateflow-back"
    two_versions(registry, models, "back")
    assert rollback(registry, name) == (1, 2)
    experiment = experiment_on(preset(NAME), "back", 5)
    again = register.take_over(take_verdict(experiment, [models["fitted-q"]], 200))
    assert (again.registered, again.rolled_back) == (None, 2)
    assert again.summary == "fitted-q wins, not registered: version 2 was rolled back"
    assert again.document()["rolled_back"] == 2
    assert aliases(registry, name) == (1, 2)
    assert rollback(registry, name) == (2, 1)  # undone
    assert aliases(registry, name) == (2, 1)
    again = register.take_over(take_verdict(experiment, [models["fitted-q"]], 200))
    assert again.rolled_back is None
    assert "rolled_back" not in registry.get_model_version(name, "2").tags


@pytest.mark.parametrize("done", [0, 1])
def test_a_rollback_that_was_killed_is_finished_by_the_next(registry, models, monkeypatch, done):
    name, moved = f"slateflow-killed-{done}", []
    two_versions(registry, models, f"killed-{done}")
    move = type(registry).set_registered_model_alias

    def killed(client, *alias: str) -> None:
        if len(moved) == done:
            raise KeyboardInterrupt
        moved.append(alias)
        move(client, *alias)

    with monkeypatch.context() as patch:
        patch.setattr(type(registry), "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            rollback(registry, name)
    assert aliases(registry, name) == ((2, 1), (1, 1))[done]
    assert rollback(registry, name) == (1, 2)
    assert aliases(registry, name) == (1, 2)
    assert rollback(registry, name) == (2, 1)


def test_rollback_of_an_unknown_model_of_an_empty_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(InputError, match="it is empty"):
        rollback(mlflow_client(), "slateflow-mars")
