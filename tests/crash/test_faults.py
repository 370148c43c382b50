"""kill -9 in the middle of every stage: the run or the next ends well, nothing is duplicated."""

from __future__ import annotations

import pytest

from tests.crash.fault_table import LOCK, PAIRS, TRAINING, Bench, table

pytestmark = [pytest.mark.services, pytest.mark.slow]

# One of every stage and of every process; `-m services`, or the table's command, runs all of them
QUICK = {
    ("generate", "worker and run"),
    ("train", "flow run"),
    ("evaluate", "Prefect"),
    ("register", "flow run"),
    ("register", "MLflow"),
    ("train", "MLflow's parent"),
    ("generate", "up, in a restart"),
    LOCK,
    TRAINING,
}


@pytest.fixture(scope="module")
def bench(up):
    """The `up` for the kills."""
    return Bench(up)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("stage", "victim"),
    [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long) for pair in PAIRS],
)
def test_nothing_is_lost_and_nothing_doubled(bench, stage, victim):
    outcome = bench.fault(stage, victim)
    print(table([outcome]))
    assert outcome.faults == ()
