"""Prune: remove, after a while, all that nights leave behind."""

from __future__ import annotations

from prefect import flow

from flows.bounds import Days
from flows.parameters import DataURL
from tasks.prune import Pruning, prune_old
from tasks.server.orphans import record_process


@flow(name="prune", flow_run_name="prune after {days} days", on_running=[record_process])
def prune(days: Days = 30, data: DataURL = None) -> Pruning:
    """Remove old datasets that can be made again, old trainings and checkpoints.

    Args:
        days: Age from which on they go, 1 or more. Data that the champions and their predecessors
            were learnt from stay, and so do imported logs and all registered versions.
        data: Folder of the datasets, or a URL of pyarrow.fs; default `datasets`.
    """
    return prune_old(days, data)
