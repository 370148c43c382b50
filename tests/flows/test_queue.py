"""Two runs of one deployment at once on a real `slateflow up`: the second waits for its turn."""

from __future__ import annotations

import pytest

from tests.crash.fault_table import Bench
from tests.up import wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

DEPLOYMENT = "pipeline/nightly-lts-20-2"
WAITING = "AwaitingConcurrencySlot"  # as Prefect calls a run that waits for its turn
SMALL = {"episodes": 2_000, "learners": ["linucb"], "evaluation_episodes": 100}


@pytest.fixture(scope="module")
def bench(up):
    """Clients of both servers, and an `up` for kills."""
    return Bench(up)


class Pair:
    """Two runs started at once."""

    def __init__(self, bench: Bench, seeds: tuple[int, int]) -> None:
        self.prefect = bench.prefect
        self.deployment = self.prefect.read_deployment_by_name(DEPLOYMENT).id
        self.ids = [
            self.prefect.create_flow_run_from_deployment(
                self.deployment,
                parameters={**SMALL, "seed": seed, "data": str(bench.up.folder / "queue")},
            ).id
            for seed in seeds
        ]

    def one_runs_and_one_waits(self) -> bool:
        """True if one runs and the other waits; the ids are then in this order."""
        runs = [self.prefect.read_flow_run(run) for run in self.ids]
        runs.sort(key=lambda run: run.state.name == WAITING)
        self.ids = [run.id for run in runs]
        return [run.state.name for run in runs] == ["Running", WAITING]

    def both_have_ended(self) -> bool:
        return all(self.prefect.read_flow_run(run).state.is_final() for run in self.ids)

    def held(self) -> int:
        """Number of occupied slots of the deployment, which has one."""
        limit = self.prefect.read_deployment(self.deployment).global_concurrency_limit
        taken: int = limit.active_slots
        return taken


def test_the_second_waits_until_the_first_has_ended(bench):
    pair = Pair(bench, (1, 2))
    wait_until(pair.one_runs_and_one_waits, 120, "one running and one waiting")
    most = 0

    def watched_to_the_end() -> bool:
        nonlocal most
        most = max(most, pair.held())
        return pair.both_have_ended()

    wait_until(watched_to_the_end, 240, "the end of both")
    first, second = (bench.prefect.read_flow_run(run) for run in pair.ids)
    assert first.state.is_completed(), first.state
    assert second.state.is_completed(), second.state
    assert second.start_time > first.end_time
    states = [state.name for state in bench.prefect.read_flow_run_states(first.id)]
    assert WAITING not in states
    assert (most, pair.held()) == (1, 0)


@pytest.mark.parametrize("victim", ["flow run", "worker and run"])
def test_a_first_that_is_killed_gives_its_place_to_the_second(bench, victim):
    """Released by the worker, or by the sweep if the worker is dead, too."""
    pair = Pair(bench, (3, 4) if victim == "flow run" else (5, 6))
    wait_until(pair.one_runs_and_one_waits, 120, "one running and one waiting")
    first, second = pair.ids
    bench.strike(victim, bench.prefect.read_flow_run(first))
    wait_until(pair.both_have_ended, 300, "the end of the second")
    assert bench.prefect.read_flow_run(first).state.is_crashed()
    assert bench.prefect.read_flow_run(second).state.is_completed()
    assert pair.held() == 0


def test_what_does_not_fit_the_form_is_refused_before_it_waits(bench):
    from prefect.exceptions import PrefectHTTPStatusError

    deployment = bench.prefect.read_deployment_by_name(DEPLOYMENT).id
    for name, value in (("episodes", 0), ("recipe", "mars"), ("learners", []), ("seed", -1)):
        with pytest.raises(PrefectHTTPStatusError, match=f"field '{name}'"):
            bench.prefect.create_flow_run_from_deployment(deployment, parameters={name: value})
