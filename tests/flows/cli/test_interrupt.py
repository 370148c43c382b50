"""A command that is interrupted while its flow runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.interruption import ended_when_told
from slateflow.trajectories import MANIFEST
from tests.servers import BIN


@pytest.mark.slow
@pytest.mark.parametrize("end", [os.kill, os.killpg])  # Prefect's own server is in the group
def test_told_to_end_in_the_middle_it_says_so_in_one_line(tmp_path, end):
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [str(BIN / "slateflow"), "run", "lts-10-1", "--episodes", "400", "--learners", "bc"]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path / "data")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(Path(tmp_path, "data").rglob(MANIFEST)):
        assert process.poll() is None
        time.sleep(0.02)
    end(process.pid, signal.SIGTERM)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    (line,) = errors.splitlines()
    assert line == "slateflow: interrupted; the same command continues where it stopped"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interruption_that_a_library_takes_for_an_error_is_one(number):
    code = (
        "import os, signal, slateflow.environments\n"
        "from flows.cli.main import main\n"
        "def presets():\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "    raise ImportError('cannot import name')\n"
        "slateflow.environments.presets = presets\n"
        "raise SystemExit(main(['environments']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = "slateflow: interrupted; the same command continues where it stopped\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line)


def test_an_error_that_is_no_interruption_ends_the_watch():
    with pytest.raises(ValueError, match="else"), ended_when_told():
        raise ValueError("something else")
    assert signal.set_wakeup_fd(-1) == -1


def test_interrupted_while_python_still_imports_it_ends_without_a_traceback(tmp_path):
    (tmp_path / "cyclopts.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    )
    found = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found)}
    code = "from flows.cli.main import main; raise SystemExit(main(['learners']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
