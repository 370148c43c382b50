"""A process that decides on a run and tries to make it champion; for races.

Arguments: learner, run id, training seconds. Every line of standard input is one order:
`judge NAME` takes the verdict for the model of that name, `register` takes over with it. Each is
answered with one line. `die STEP` takes over, too, up to the call of that function of
`tasks/register.py`; there the process kills itself with `kill -9`.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from slateflow.environments import preset
from tasks import register
from tasks.evaluate import take_verdict
from tasks.experiment import ModelRef
from tasks.register import take_over
from tests.registry.published import experiment_on

EPISODES, SEED = 200, 5


def main() -> None:
    """Answer until the input ends."""
    learner, run_id = sys.argv[1:]
    model = ModelRef(learner=learner, run_id=run_id, train_seconds=0.0)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order, *name = line.split()
        if order == "judge":
            experiment = experiment_on(preset("modified-lts-10-1"), name[0], SEED)
            verdict = take_verdict(experiment, [model], EPISODES)
            print(json.dumps(verdict.winner is not None), flush=True)
        elif order == "die":
            assert hasattr(register, name[0]), name[0]
            setattr(register, name[0], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            take_over(verdict)
        else:
            registered = take_over(verdict).registered
            print(json.dumps(registered and registered.version), flush=True)


if __name__ == "__main__":
    main()
