"""A real cluster of two nodes on this machine with a raylet each, one of which is killed."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.learners import learner_config, train, train_live
from slateflow.ray_cluster import ClusterCalls, cluster_calls, connected, map_tasks, processors
from slateflow.side_by_side import CallEndedError
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.held_out import training_logs
from slateflow.tuning.study import StudyDesign, run_trials
from slateflow.tuning.trial import Trial
from slateflow.user_models.bilinear import dataset_statistics
from tasks.side_by_side import shared_workers, side_by_side, workers_at_hand
from tests import errands
from tests.evaluation.held_out import held_out_value
from tests.ray_nodes import ray_nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # sockets and files that Ray leaves open
]

LOGS = Recipe("logs", "modified-lts-10-1", 4100, 5, {"random": 0.5, "greedy": 0.5})

# How soon a dead node is missed; by default after half a minute.
ATTENTIVE = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a processor each, and RAY_ADDRESS set."""
    with ray_nodes(2, _system_config=ATTENTIVE) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The logs as made by this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        return generate(LOGS, Folder(str(tmp_path_factory.mktemp("local"))))


@pytest.fixture(scope="module")
def small_logs(tmp_path_factory):
    """60 episodes of 10 steps, generated in this process."""
    parameters = {"num_candidates": 4, "time_budget": 10}
    recipe = Recipe("small", "modified-lts-10-1", 60, 3, {"random": 0.5, "greedy": 0.5}, parameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        return generate(recipe, Folder(str(tmp_path_factory.mktemp("small"))))


def node(number: int) -> tuple[int, str]:
    """The node on which a task runs; slow enough that one node does not run all."""
    import time

    import ray

    time.sleep(0.5)
    return number, ray.get_runtime_context().get_node_id()


def refuse(number: int) -> int:
    """A task that finds bad input."""
    raise InputError(f"row {number}: expected better")


def test_tasks_keep_their_order_on_both_nodes_and_say_what_is_wrong(cluster):
    with connected(cluster.address):
        assert processors() == 2
        where = list(map_tasks(node, [(number,) for number in range(8)]))
        assert [number for number, _ in where] == list(range(8))
        assert len({name for _, name in where}) == 2
        with pytest.raises(InputError, match=r"^row 3: expected better$"):
            list(map_tasks(refuse, [(3,)]))


def test_calls_report_are_tried_again_and_say_what_is_wrong(cluster, tmp_path):
    with cluster_calls(cluster.address) as calls, calls.free() as worker:
        said = []
        total, _ = worker.call(errands.add, 1, 2, 3, progress=lambda *one: said.append(one))
        assert (total, said[-1]) == (6, (3, 3))
        tried = worker.call(errands.die_once, str(tmp_path), progress=lambda *one: None)
        assert tried == "done"
        with pytest.raises(InputError, match=r"^rows: expected some, got none$"):
            worker.call(errands.fail, "input", progress=lambda *one: None)
        assert worker.call(errands.share) == 1.0  # a node has one processor


def test_trainings_of_a_flow_are_calls_of_the_cluster(cluster):
    with side_by_side(["linucb", "bc"]), shared_workers().free() as worker:
        assert isinstance(worker, ClusterCalls)
        assert workers_at_hand() is None  # of this machine
        assert worker.call(errands.share) == 1.0


def test_calls_end_with_their_block(cluster, tmp_path):
    def call(calls):
        with calls.free() as worker:
            worker.call(errands.stay, str(tmp_path), progress=lambda *one: None)

    with ThreadPoolExecutor(1) as threads:
        with cluster_calls(cluster.address) as calls:
            under_way = threads.submit(call, calls)
            while not (tmp_path / "working").exists():
                assert not under_way.done()
        with pytest.raises(CallEndedError):
            under_way.result(30)
    deadline = time.monotonic() + 30
    while (tmp_path / "working").exists():
        assert time.monotonic() < deadline
    with pytest.raises(CallEndedError), calls.free():
        pass


@pytest.mark.parametrize(
    ("learner", "settings"),
    [("fitted-q", {}), ("marwil", {"updates": 50, "batch_size": 64, "width": 8})],
)
def test_a_training_has_the_weights_of_one_machine(cluster, small_logs, learner, settings):
    config = learner_config(learner, **settings)
    with cluster_calls(cluster.address) as calls, calls.free() as worker:
        there, _ = worker.call(train, small_logs, config, 5, progress=lambda *one: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        here, _ = train(small_logs, config, 5)
    np.testing.assert_allclose(there.head, here.head, rtol=1e-6)


def test_the_cluster_passes_over_the_parts_of_a_large_log(local, cluster, monkeypatch):
    monkeypatch.setattr("slateflow.learners.logged_steps.SAMPLE_ROWS", 100_000)
    config = learner_config("fitted-q", degree=3, window=4, ridge=1e-6)
    assert len(local.parts) > 2
    there, _ = train(local, config)
    with cluster_calls(cluster.address) as calls, calls.free() as worker:
        twice, _ = worker.call(train, local, learner_config("linucb"))  # a task that has tasks
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        here, _ = train(local, config)
        once, _ = train(local, learner_config("linucb"))
    np.testing.assert_array_equal(there.head, here.head)
    np.testing.assert_allclose(twice.weights, once.weights, rtol=1e-9)


def test_the_cluster_passes_over_sessions_whose_users_choose(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("slateflow.learners.slateq.SAMPLE_ROWS", 20_000)
    recipe = Recipe("choices", "interest-evolution", 1100, 0, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    assert len(dataset.parts) > 2
    there, _ = train(dataset, learner_config("slateq", iterations=2, classes=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        here, _ = train(dataset, learner_config("slateq", iterations=2, classes=1))
    np.testing.assert_allclose(there.item_values, here.item_values, rtol=1e-5)


def test_logs_and_statistics_are_those_of_one_machine(local, cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = generate(LOGS, Folder("data"))  # a relative folder, which workers would take for another
    assert made.digest == local.digest
    assert made.verify().rows == 4100 * 120
    rows = local.read()
    chosen = rows.candidates[np.arange(len(rows)), rows.slate[:, 0]].astype(np.float64)
    user = rows.user.astype(np.float64)
    x = np.column_stack([np.ones(len(rows)), chosen, user, user * chosen])
    statistics = dataset_statistics(made)
    assert statistics.rows == len(rows)
    np.testing.assert_allclose(statistics.gram, x.T @ x, rtol=1e-9)
    np.testing.assert_allclose(statistics.moment, x.T @ rows.reward.astype(float), rtol=1e-9)


def test_learners_and_samplers_run_on_the_cluster(cluster, small_logs):
    config = learner_config("marwil", num_learners=2, updates=50, batch_size=64, width=8)
    scorer, report = train(small_logs, config)
    assert np.isfinite(scorer.head).all()
    assert len(report.curves["total_loss"]) == 1
    spec = preset("modified-lts-10-1", num_candidates=4, time_budget=5)
    settings = {"survey_episodes": 10, "users": 16, "steps": 20, "live_steps": 1400}
    config = learner_config("ppo", num_env_runners=2, width=8, **settings)
    scorer, report = train_live(spec, config)
    assert np.isfinite(scorer.head).all()
    assert 0 < report.live_steps <= 1400


def test_trials_run_on_the_cluster(cluster, small_logs, tmp_path):
    trials: list[Trial] = []
    training = training_logs(small_logs, Folder(str(tmp_path)))
    design = StudyDesign(small_logs, training, "linucb", seed=0)
    run_trials(design, {0: {}, 1: {"ridge": 5.0}}, finished=trials.append)
    assert sorted(trial.number for trial in trials) == [0, 1]
    posterior, _ = train(training, learner_config("linucb"))
    assert trials[0].value == pytest.approx(held_out_value(small_logs, posterior), rel=1e-9)


def test_a_node_killed_in_the_middle_costs_time_and_no_data(local, cluster, tmp_path):
    victim = next(iter(cluster.worker_nodes))
    raylet = victim.all_processes["raylet"][0].process
    progress = []

    def kill_in_the_middle(done: int, total: int) -> None:
        progress.append((done, raylet.poll() is None))
        if done == 2:
            os.kill(raylet.pid, signal.SIGKILL)
            raylet.wait()

    made = generate(LOGS, Folder(str(tmp_path)), progress=kill_in_the_middle)
    assert (2, True) in progress
    assert progress[-1] == (len(local.parts), False)
    assert made.digest == local.digest
    assert made.verify().rows == local.rows


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:9"])
def test_an_address_without_a_cluster_is_one_line(address):
    with (
        pytest.raises(InputError, match=f"RAY_ADDRESS: expected a Ray cluster at {address}, got"),
        connected(address),
    ):
        pass
