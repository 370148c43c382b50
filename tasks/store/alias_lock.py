"""The lock of a registered model's aliases, one for all processes of a machine.

MLflow sets an alias whatever it was before, so a promotion reads, compares and sets under this
lock. The system takes a lock back from a process that dies (`fcntl.flock`).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from slateflow.errors import refused
from tasks.store.tracking import experiment_id, model_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def lock_folder() -> Path:
    """Folder of the locks: `SLATEFLOW_LOCKS`, or one for all users of the machine.

    The folder is fixed, because folders of temporary files and homes may differ from shell to
    shell.
    """
    return Path(os.environ.get("SLATEFLOW_LOCKS") or "/tmp/slateflow-locks")


@contextmanager
def aliases_locked(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold the lock of a model's aliases.

    Machines and containers have locks of their own, unless `SLATEFLOW_LOCKS` is on a file system
    that they share and that supports `flock`, as NFSv4 does. `promote` describes what can happen
    without a shared lock.
    """
    path = lock_folder() / _lock_name(client, name)
    while True:
        with _shared_file(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):  # nobody has removed it while we waited
                try:
                    yield
                finally:
                    with suppress(OSError):  # another user's file, or somebody has tidied up
                        path.unlink()
                return


def _lock_name(client: MlflowClient, name: str) -> str:
    """Name of the lock: the model's, with the identity of its registry.

    The identity is the number and creation time of the model's experiment. Every client reads the
    same values, through a server by any address, or in the database.
    """
    recipe = name.removeprefix(model_name(""))
    experiment = client.get_experiment(experiment_id(client, recipe))
    return f"{name}.{experiment.experiment_id}-{experiment.creation_time}.lock"


@contextmanager
def _shared_file(path: Path) -> Iterator[int]:
    """Open a file that every user may lock; it is made where it is missing."""
    with refused(
        f"SLATEFLOW_LOCKS: expected a folder to write in, got {path.parent}",
        OSError,
        remedy="choose another",
    ):
        while True:
            with suppress(FileNotFoundError):  # it was not made yet, or it is gone again
                # Linux lets nobody open another's file in a folder like /tmp with O_CREAT
                file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                break
            _make_shared_file(path)
    try:
        yield file
    finally:
        os.close(file)


def _make_shared_file(path: Path) -> None:
    """Make the file, and its folder; it appears with its permissions, for all to open."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o1777)  # like /tmp: everybody may add, nobody remove another's
    with tempfile.NamedTemporaryFile(dir=path.parent) as made:
        os.fchmod(made.fileno(), 0o666)
        with suppress(FileExistsError):
            os.link(made.name, path)


def _is_at(file: int, path: Path) -> bool:
    """Whether the path leads to the open file."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False
