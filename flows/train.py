"""Train: offline RL and bandit models from a dataset's logs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.parameters import Learners, PublishedExperiment, Settings
from slateflow.errors import unknown
from slateflow.learners import learner_config, learners_for
from slateflow.ray_cluster import cluster_address
from slateflow.side_by_side import PROCESSORS
from tasks.experiment import ModelRef
from tasks.generate import verify_dataset
from tasks.register import check_champion
from tasks.server.lineage import training_finished
from tasks.server.orphans import record_process
from tasks.side_by_side import side_by_side
from tasks.train import train_learner

MOST_ON_CLUSTER = 64
"""Trainings that wait for a processor of a cluster, or have one, at the same time."""

_SIDE_BY_SIDE: Any = ThreadPoolTaskRunner(MOST_ON_CLUSTER if cluster_address() else PROCESSORS)


@flow(
    name="train",
    flow_run_name="train on {experiment.dataset.name}",
    task_runner=_SIDE_BY_SIDE,
    on_running=[record_process],
)
def train(
    experiment: PublishedExperiment, learners: Learners = None, settings: Settings = None
) -> list[ModelRef]:
    """Verify the dataset, then train each learner that has not been trained on it yet.

    As many train at a time as there are processors, here or in the cluster at `RAY_ADDRESS`.

    Args:
        experiment: Name of a recipe whose dataset is published; or the experiment of an event.
        learners: Learners to train; default those that are made for the world.
        settings: Settings by learner, for those that differ from the defaults.
    """
    chosen = settings or {}
    names = learners or learners_for(experiment.spec)
    for name in chosen:
        if name not in names:
            raise unknown("learner in settings", name, names)
    check_champion(experiment.recipe, experiment.spec)
    verify_dataset(experiment)
    with side_by_side(names):
        trained = {
            name: train_learner.submit(experiment, name, chosen.get(name))
            for name in longest_first(names, chosen)
        }
        for one in as_completed(list(trained.values())):
            one.result()  # the first that fails ends the others
    models = [trained[name].result() for name in names]
    training_finished(models, experiment)
    return models


def longest_first(names: list[str], settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Learners by their updates, those in closed form last, so that no long training is left alone.

    Example:
        >>> longest_first(["linucb", "bc", "cql", "fitted-q"], {"bc": {"updates": 5000}})
        ['bc', 'cql', 'fitted-q', 'linucb']
    """

    def updates(name: str) -> int:
        config = learner_config(name, **settings.get(name, {}))
        return int(config.parameters().get("updates", 0))

    return sorted(names, key=lambda name: (updates(name), names.index(name)), reverse=True)
