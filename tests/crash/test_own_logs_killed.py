"""kill -9 at every call that changes the disk while own logs are read: nothing is half there."""

from __future__ import annotations

import os
import signal

import pytest

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, generate
from slateflow.trajectories.sources import publish
from tests.crash.kill_points import visited
from tests.trajectories.sources.shop import log, recipe

COLUMNS = '[columns]\nepisode = "session"\ntime = "t"\n'
ROWS = "\n".join(f"s{n % 4},{20 - n},{n % 3},0.5,{n}" for n in range(20))


def seen(folder) -> str:
    try:
        Dataset.open(folder.url).verify()
    except InputError as error:
        return "none" if f"{MANIFEST}, found none" in str(error) else "partial"
    return "whole"


def killed_at(make, point: int) -> bool:
    """Run in a process that dies before the point's call; whether it got that far."""
    child = os.fork()
    if child == 0:
        passed = 0

        def visit(name, half) -> None:
            nonlocal passed
            if passed == point:
                if name == "write":
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1

        try:
            with visited(visit):
                make()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_kill_leaves_no_dataset_or_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 6)
    log(tmp_path, "a.csv", f"session,t,item,propensity,reward\n{ROWS}")
    found = recipe(tmp_path, COLUMNS)
    whole = generate(found, Folder(str(tmp_path / "whole")))
    assert len(whole.parts) > 2
    point = 0
    while True:
        data = Folder(str(tmp_path / f"{point}"))
        far = killed_at(lambda data=data: generate(found, data), point)
        assert seen(data / found.dataset_name) in ("none", "whole")
        again = generate(found, data).verify()
        assert again.digest == whole.digest
        assert again.folder.files() == whole.folder.files()
        if not far:
            break
        point += 1
    assert point > 30
