"""Processes shared by the steps of a flow, which end with the first failing step."""

from __future__ import annotations

import threading
from contextvars import copy_context

import pytest

from slateflow.side_by_side import CallEndedError
from tasks.side_by_side import shared_workers, side_by_side, workers_at_hand
from tests import errands
from tests.up import wait_until


def test_without_them_there_are_none():
    assert workers_at_hand() is None
    with pytest.raises(LookupError, match="expected to be called within side_by_side"):
        shared_workers()


def test_a_block_within_has_the_same_and_leaves_them():
    with side_by_side(["linucb", "lints"]):
        outer = shared_workers()
        with side_by_side(["linucb"]):
            assert shared_workers() is outer
        with outer.free() as worker:
            assert worker.call(errands.share) == 0.5
    assert workers_at_hand() is None


def test_a_block_within_that_fails_ends_the_calls_under_way(tmp_path):
    began, ended = [], []

    def stay():
        try:
            with shared_workers().free() as worker:
                worker.call(errands.stay, str(tmp_path), progress=lambda *now: began.append(now))
        except CallEndedError as error:
            ended.append(error)

    with side_by_side(["linucb"]):
        thread = threading.Thread(target=copy_context().run, args=(stay,))
        thread.start()
        wait_until(lambda: began, 60, "the call")
        with pytest.raises(ZeroDivisionError), side_by_side(["linucb"]):
            raise ZeroDivisionError
        thread.join(20)
        assert len(ended) == 1
    assert not (tmp_path / "working").exists()
