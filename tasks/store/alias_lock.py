"""The lock of a registered model's aliases, one for all processes of a machine.

MLflow sets an alias whatever it was before, so that a promotion reads, compares and sets under this
lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.store.file_lock import locked
from tasks.store.tracking import experiment_id, model_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@contextmanager
def aliases_locked(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold the lock of a model's aliases.

    Machines and containers have locks of their own, unless `SLATEFLOW_LOCKS` is on a file system
    that they share and that passes `flock` on, as NFSv4 does. `promote` says what remains.
    """
    with locked(_lock_name(client, name)):
        yield


def _lock_name(client: MlflowClient, name: str) -> str:
    """Name of the lock: the model's, with the identity of its registry.

    That is number and creation time of the model's experiment. Every client reads them alike,
    through a server, whatever its address, and in the database.
    """
    recipe = name.removeprefix(model_name(""))
    experiment = client.get_experiment(experiment_id(client, recipe))
    return f"{name}.{experiment.experiment_id}-{experiment.creation_time}.lock"
