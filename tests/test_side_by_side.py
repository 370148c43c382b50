"""Calls in other processes: results, errors and ends, and their simultaneous execution."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest

from slateflow import side_by_side
from slateflow.errors import InputError
from slateflow.side_by_side import (
    CallEndedError,
    WorkerDiedError,
    map_calls,
    share_of_machine,
    workers,
)
from tests import errands
from tests.up import wait_until

pytestmark = pytest.mark.integration


def ignore(done, total):
    """Progress that is ignored."""


def call(made, function, *arguments, progress=ignore):
    """One call in the next free worker."""
    with made.free() as worker:
        return worker.call(function, *arguments, progress=progress)


def gone(process):
    return not psutil.pid_exists(process) or psutil.Process(process).status() == "zombie"


def test_results_and_progress_come_back_and_a_worker_serves_again():
    seen = []
    with workers(2) as made:
        total, process = call(made, errands.add, 1, 2, 4, progress=lambda *now: seen.append(now))
        again, same = call(made, errands.add, 3, 5)
    assert (total, again) == (7, 8)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert process == same
    assert gone(process)


def test_errors_are_those_of_the_function_and_the_worker_goes_on():
    with workers(1) as made:
        with pytest.raises(InputError, match=r"^rows: expected some, got none\Z"):
            call(made, errands.fail, "input")
        with pytest.raises(RuntimeError, match="it is of no module"):
            call(made, errands.fail, "local")
        with pytest.raises(TypeError, match="pickle"):
            call(made, errands.give, "lock")
        assert call(made, errands.add, 1)[0] == 1


def test_a_call_that_was_left_answers_no_other():
    def leave(done, total):
        raise RuntimeError("the listener has gone")

    with workers(1) as made:
        with pytest.raises(RuntimeError, match="has gone"):
            call(made, errands.add, 1, 2, 3, progress=leave)
        assert call(made, errands.add, 10, 20)[0] == 30


def test_calls_run_at_the_same_time_each_with_one_thread_of_linear_algebra(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = ["one", "two", "three"]
    with workers(3) as made, ThreadPoolExecutor(3) as threads:
        calls = [
            threads.submit(call, made, errands.meet, str(tmp_path), name, names) for name in names
        ]
        assert [one.result(60) for one in calls] == ["1", "1", "1"]


def test_workers_share_the_machine():
    assert share_of_machine() == 1
    with workers(4) as made, made.free() as worker:
        assert worker.call(errands.share) == 0.25


def test_results_come_in_the_order_of_the_jobs_and_each_has_its_progress():
    seen = []

    def begin(*numbers):
        return lambda done, total: seen.append((numbers, done, total))

    jobs = [(1, 2), (3,), (4, 5, 6)]
    assert [total for total, _ in map_calls(errands.add, jobs, 2, begin)] == [3, 3, 15]
    assert sorted(seen) == [
        (job, done + 1, len(job)) for job in sorted(jobs) for done in range(len(job))
    ]


def test_workers_share_what_was_imported_for_them_once():
    with workers(2, errands.prepare) as made, made.free() as one, made.free() as other:
        (first, a), (second, b) = (
            worker.call(errands.told, progress=ignore) for worker in (one, other)
        )
    assert first == second
    assert len({first, a, b, os.getpid()}) == 4


def test_imports_that_fail_are_left_to_the_calls_that_need_them():
    with workers(1, errands.fail_to_prepare) as made:
        assert call(made, errands.add, 1, 2)[0] == 3


def test_a_nursery_that_is_killed_is_an_error():
    with workers(1) as made:
        made._nursery.process.kill()
        made._nursery.process.wait()
        with pytest.raises(WorkerDiedError, match="from which others start, it has ended"):
            call(made, errands.add, 1)


def test_a_worker_that_is_killed_is_an_error_and_the_next_call_has_another():
    with workers(1) as made:
        with pytest.raises(WorkerDiedError, match="got status -9 in the middle of it"):
            call(made, errands.die)
        assert call(made, errands.add, 2)[0] == 2


def test_leaving_the_block_ends_calls_and_lets_them_clean_up(tmp_path):
    processes, ended = [], []

    def stay():
        try:
            call(made, errands.stay, str(tmp_path), progress=lambda own, _: processes.append(own))
        except CallEndedError as error:
            ended.append(error)

    with workers(1) as made:
        threads = [
            threading.Thread(target=stay) for _ in range(2)
        ]  # the second waits for the first
        for thread in threads:
            thread.start()
        wait_until(lambda: processes, 60, "the call")
    for thread in threads:
        thread.join(60)
    assert len(ended) == 2
    assert not Path(tmp_path, "working").exists()
    assert [gone(process) for process in processes] == [True]


def test_an_order_to_end_may_come_before_all_is_ready(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side.threading, "Thread", interrupted)
    here, there = Pipe()
    with here, there:
        side_by_side._serve(there)
        assert not here.poll()  # it answers nothing, and the order raises no error


def test_a_worker_ends_with_its_parent(tmp_path):
    script = (
        "import sys\nfrom slateflow.side_by_side import workers\nfrom tests import errands\n"
        "with workers(1) as made, made.free() as worker:\n"
        "    worker.call(errands.stay, sys.argv[1], progress=lambda own, _: print(own, flush=True))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: gone(worker), 30, "the worker's end")
    assert not Path(tmp_path, "working").exists()
