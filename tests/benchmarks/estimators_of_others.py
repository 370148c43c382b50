"""The Open Bandit Pipeline's estimators on logged guesses; runs in an environment of its own.

`estimators_of_others.py LOGS…` prints a line of JSON for each `.npz` of logs: seconds, and the
value of the target policy by estimator. A log has `context` (R, F), `action` (R,), `reward` (R,),
`pscore` (R,) and the target's probabilities `target` (R, A).
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
from obp import ope
from sklearn.linear_model import LogisticRegression

FOLDS = 5
ESTIMATORS = {
    "ips": ope.InverseProbabilityWeighting,
    "snips": ope.SelfNormalizedInverseProbabilityWeighting,
    "dm": ope.DirectMethod,
    "dr": ope.DoublyRobust,
    "dr-os": lambda estimator_name: ope.DoublyRobustWithShrinkageTuning(
        lambdas=np.geomspace(1, 1e4, 20).tolist(), estimator_name=estimator_name
    ),
}


def estimated(log: dict[str, np.ndarray]) -> dict[str, float]:
    """Values of the target by estimator; the model of the rewards is cross-fitted."""
    actions = log["target"].shape[1]
    chosen = {name: log[name] for name in ("context", "action", "reward")}
    model = ope.RegressionModel(n_actions=actions, base_model=LogisticRegression(max_iter=2000))
    rewards = model.fit_predict(**chosen, pscore=log["pscore"], n_folds=FOLDS, random_state=0)
    feedback = {
        **chosen,
        "pscore": log["pscore"],
        "position": None,
        "n_rounds": len(log["action"]),
        "n_actions": actions,
    }
    judge = ope.OffPolicyEvaluation(
        feedback, [make(estimator_name=name) for name, make in ESTIMATORS.items()]
    )
    return judge.estimate_policy_values(
        action_dist=log["target"][:, :, None], estimated_rewards_by_reg_model=rewards
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for path in sys.argv[1:]:
        with np.load(path) as stored:
            log = dict(stored)
        start = time.perf_counter()
        values = estimated(log)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "values": {k: float(v) for k, v in values.items()}}))
