"""kill -9 of every process of `slateflow up` in the middle of every stage, and the outcome.

    uv run python -m tests.crash.fault_table [STAGE] [VICTIM]

prints the table, and ends with 1 if anything was lost, registered twice or left running, or if a
run failed to continue by itself where it should.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import AwaitingRetry

from slateflow.trajectories import MANIFEST, Dataset, Folder, generate
from tasks.experiment import find_recipe
from tests.up import Up, command_line, kill, running_up, wait_until

ENVIRONMENT = "modified-lts-10-1"
ATTEMPTS = 5
"""Most runs that are started for one fault: the time between version and alias is short."""
MODEL = f"slateflow-{ENVIRONMENT}"
DEPLOYMENT = f"pipeline/nightly-{ENVIRONMENT}"

# Each stage is long enough to be hit in its middle
STAGES: dict[str, dict[str, Any]] = {
    "generate": {"episodes": 40_000, "learners": ["linucb"], "evaluation_episodes": 200},
    "train": {"episodes": 1_000, "learners": ["linucb", "bc"], "evaluation_episodes": 200},
    "evaluate": {"episodes": 60, "learners": ["linucb"], "evaluation_episodes": 40_000},
    "register": {"episodes": 60, "learners": ["linucb"], "evaluation_episodes": 200},
}
VICTIMS = (
    *("flow run", "worker", "worker and run", "Prefect"),
    *("MLflow", "MLflow, 60 s", "MLflow's parent", "up, in a restart"),
)
LOCK = ("register", "holder of the lock")
"""A kill outside of the other stages: that of a process with the lock of the aliases."""
TRAINING = ("train", "a training's process")
"""A kill within the run, as without memory: the run itself continues, and fails."""
ORDERED_AGAIN = ("flow run", "worker and run", "up, in a restart", TRAINING[1])
"""Killed processes after which a run does not continue by itself."""
PAIRS = (*itertools.product(STAGES, VICTIMS), LOCK, TRAINING)

FOR_EVER = 45.0
"""Seconds within which runs without a process have to end: three sweeps of `up`."""


@dataclass(frozen=True)
class Outcome:
    """One kill.

    Attributes:
        stage: Stage in the middle of which the kill happened.
        victim: Name of the killed process.
        state: Final state of the affected run, with its message.
        again: Final state of the next run; empty if none was necessary.
        seconds: Time from the kill to the end of the last run.
        faults: Remaining faults; empty if there are none.
    """

    stage: str
    victim: str
    state: str
    again: str
    seconds: float
    faults: tuple[str, ...]


class Bench:
    """An `up` whose processes are killed, with clients of both servers."""

    def __init__(self, up: Up) -> None:
        import mlflow

        self.up = up
        self.data = up.folder / "faults"
        self.prefect = SyncPrefectClient(up.api)
        self.registry = mlflow.MlflowClient(up.mlflow)
        self.seeds = itertools.count(1)
        self.holder: subprocess.Popen[str] | None = None

    def start(self, parameters: dict[str, Any]) -> FlowRun:
        """A run of the pipeline's deployment."""
        deployment = self.prefect.read_deployment_by_name(DEPLOYMENT).id
        return self.prefect.create_flow_run_from_deployment(deployment, parameters=parameters)

    def runs(self) -> list[FlowRun]:
        """All runs that have begun but not ended."""
        started = FlowRunFilterStateType(
            any_=[StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
        )
        return self.prefect.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=started))
        )

    def going_on(self) -> list[str]:
        """Names of the runs of this environment that have not ended."""
        # Another deployment's schedule may have come due
        return [run.name for run in self.runs() if ENVIRONMENT in run.name]

    def state(self, run: FlowRun) -> Any:
        """State of a run; None where the server is down."""
        try:
            found = self.prefect.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
            )
        except httpx.HTTPError:
            return None
        return found[0].state

    def wait(self, run: FlowRun) -> str:
        """Wait for the end of a run; returns its outcome and the state's message."""
        wait_until(lambda: (s := self.state(run)) and s.is_final(), 300, f"end of {run.name}")
        found = self.prefect.read_flow_run(run.id)
        state, outcome = found.state, found.name.partition(": ")[2].capitalize()
        assert state is not None
        name = outcome if state.is_completed() and outcome else state.name
        return f"{name}: {(state.message or '').split('. ')[0]}"

    def versions(self) -> list[Any]:
        """Registered versions of the model."""
        return list(self.registry.search_model_versions(f"name = '{MODEL}'"))

    def champion(self) -> str | None:
        """The version with the alias."""
        from tasks.store.champion import aliased

        version = aliased(self.registry, MODEL, "champion")
        return None if version is None else str(version)

    def in_the_middle(self, stage: str, folder: Path, victim: str) -> bool:
        """True if the stage has begun and is not over."""
        if stage == "generate":
            return any(folder.rglob("*.parquet")) and not (folder / MANIFEST).exists()
        if stage == "train":
            key = ArtifactFilterKey(any_=[f"progress-train-bc-{ENVIRONMENT}"])
            done = [
                artifact.data
                for artifact in self.prefect.read_artifacts(artifact_filter=ArtifactFilter(key=key))
                if artifact.flow_run_id in {run.id for run in self.runs()}
            ]
            return any(0 < float(share) < 90 for share in done)
        if stage == "register" and victim in ("flow run", "worker", "worker and run"):
            return bool(self.versions()) and self.champion() is None  # the alias comes last
        return any(run.name.split()[0] == stage for run in self.runs())

    def caught(self, run: FlowRun, stage: str, folder: Path, victim: str) -> bool:
        """Wait for the middle of the stage; False if the run passed it before the first look."""
        caught = False

        def caught_or_over() -> bool:
            nonlocal caught
            caught = self.in_the_middle(stage, folder, victim)
            return caught or self.state(run).is_final()

        wait_until(caught_or_over, 240, f"the middle of {stage}")
        return caught

    def strike(self, victim: str, run: FlowRun) -> None:
        """Send SIGKILL to the victim's processes."""
        if victim == "flow run":
            process = self.prefect.read_flow_run(run.id).infrastructure_pid
            assert process is not None
            kill([int(process.rpartition(":")[2])])
        elif victim == TRAINING[1]:
            runs = self.up.family("worker")
            kill([pid for pid in runs if "slateflow.side_by_side" in command_line(pid)])
        elif victim == "worker":
            kill(self.up.family("worker")[:1])
        elif victim == "worker and run":
            kill(self.up.family("worker"))
        elif victim == "Prefect":
            kill(self.up.family("prefect"))
        elif victim == "MLflow's parent":
            parent, *children = self.up.family("mlflow")
            assert children
            kill([parent])
        elif victim == "up, in a restart":
            before = self.up.family("mlflow")
            kill(before)
            wait_until(lambda: set(self.up.family("mlflow")) - {*before}, 60, "another MLflow")
            self.up.kill()
            self.up.start()
        elif victim == LOCK[1]:
            assert self.holder is not None
            assert not self.versions()  # it waits
            self.holder.kill()
            self.holder.wait()
        else:
            end = time.monotonic() + (60 if "60" in victim else 0)
            while True:
                kill(self.up.family("mlflow"))
                if time.monotonic() >= end:
                    break
                time.sleep(0.5)

    def hold_lock(self) -> None:
        """Take the lock in a process with the database's address; the runs use the server's."""
        code = (
            "import time\nfrom tasks.store.alias_lock import aliases_locked\n"
            "from tasks.store.tracking import mlflow_client\n"
            f"with aliases_locked(mlflow_client(), {MODEL!r}):\n"
            "    print('held', flush=True)\n    time.sleep(600)\n"
        )
        store = f"sqlite:///{self.up.folder}/mlflow.db"
        self.holder = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": store},
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "held\n"
        self.holder.stdout.close()

    def fault(self, stage: str, victim: str) -> Outcome:
        """Kill in the middle of a stage, and run again unless the run has ended well."""
        for _ in range(ATTEMPTS):
            if self.versions():
                self.registry.delete_registered_model(MODEL)
            parameters = {**STAGES[stage], "seed": next(self.seeds), "data": str(self.data)}
            recipe = find_recipe(ENVIRONMENT, parameters["episodes"], parameters["seed"])
            if victim == LOCK[1]:
                self.hold_lock()
            folder, run = self.data / recipe.dataset_name, self.start(parameters)
            if self.caught(run, stage, folder, victim):
                break
            shutil.rmtree(folder, ignore_errors=True)
        else:
            raise AssertionError(f"the middle of {stage}: not seen in {ATTEMPTS} runs")
        self.strike(victim, run)
        struck = time.monotonic()
        state = self.wait(run)
        # Setting the alias is the commit point, and a run that outlives Prefect may have got there
        committed = stage == "register" and "MLflow" not in victim and self.champion() is not None
        again = ""
        if not state.startswith("Promoted"):
            again = self.again(victim, run, parameters)
        seconds = time.monotonic() - struck
        ended = again or state
        well = ("Promoted", "Kept champion") if committed else ("Promoted",)
        faults = [*self.faults(recipe, parameters["learners"], ended, well)]
        if again and victim not in ORDERED_AGAIN:
            faults.append("did not continue by itself")
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(stage, victim, state, again, seconds, tuple(faults))

    def again(self, victim: str, run: FlowRun, parameters: dict[str, Any]) -> str:
        """Repeat the request: as a new run, or with the Retry button of the old one."""
        if victim in ("worker and run", "up, in a restart"):
            self.prefect.set_flow_run_state(run.id, AwaitingRetry())
            return f"Retry: {self.wait(run)}"
        return f"next run: {self.wait(self.start(parameters))}"

    def faults(
        self, recipe: Any, learners: list[str], ended: str, well: tuple[str, ...]
    ) -> Iterator[str]:
        """Differences from a run without the kill, which ends in one of the states of `well`."""
        if not any(state in ended for state in well):
            yield f"not promoted: {ended}"
            return
        dataset = Dataset.open(str(self.data / recipe.dataset_name)).verify()
        with tempfile.TemporaryDirectory() as undisturbed:
            if dataset.digest != generate(recipe, Folder(undisturbed)).digest:
                yield f"other data: {dataset.digest}"
        experiment = self.registry.get_experiment_by_name(MODEL)
        digest = f"tags.`slateflow.dataset_digest` = '{dataset.digest}'"
        trained = self.registry.search_runs([experiment.experiment_id], digest)
        finished = sorted(
            one.data.tags["slateflow.learner"] for one in trained if one.info.status == "FINISHED"
        )
        if finished != sorted(learners):
            yield f"trained {finished}"
        if any(one.info.status == "RUNNING" for one in trained):
            yield "a run of MLflow goes on for ever"
        versions = self.versions()
        if len(versions) != 1 or self.champion() != str(versions[0].version):
            yield f"{len(versions)} versions, champion {self.champion()}"
        try:
            wait_until(lambda: not self.going_on(), FOR_EVER, "the sweep")
        except AssertionError:
            yield from (f"{name} goes on for ever" for name in self.going_on())


def table(outcomes: list[Outcome]) -> str:
    """A line per kill."""
    lines = [f"{'in the middle of':<18}{'kill -9 of':<16}{'seconds':>8}  what came of it"]
    for one in outcomes:
        came = one.state if not one.again else f"{one.state} → {one.again}"
        lines.append(f"{one.stage:<18}{one.victim:<16}{one.seconds:>8.0f}  {came}")
        lines += [f"{'':<44}FAULT {fault}" for fault in one.faults]
    good = sum(not one.faults for one in outcomes)
    lines.append(f"{len(outcomes)} kills, {good} ended well")
    return "\n".join(lines)


def main(stage: str | None = None, victim: str | None = None) -> int:
    """Print the table; returns 0 if all ended well."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, running_up(Path(folder)) as up:
        bench = Bench(up)
        for chosen in PAIRS:
            if (stage or chosen[0], victim or chosen[1]) == chosen:
                outcomes.append(bench.fault(*chosen))
                print(*table(outcomes[-1:]).splitlines()[1:-1], sep="\n", flush=True)
    print(table(outcomes))
    return 0 if all(not one.faults for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
