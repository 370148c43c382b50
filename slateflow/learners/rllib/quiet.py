"""Ray and RLlib without log lines, warnings and folders that nobody asked for."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from slateflow.ray_cluster import cluster_address

NOISY = ("ray", "ray.data", "ray.rllib", "ray.tune")
"""Loggers with levels of their own."""


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Silence Ray below an error, and give its result folders a place that goes away.

    Every algorithm makes a folder in `~/ray_results`, whatever it logs. Without a cluster nothing
    asks for the network.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as results:
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # RLlib registers its environments anew for every algorithm of a process
        warnings.filterwarnings("ignore", ".*Overriding environment rllib-", UserWarning)
        import ray.rllib  # sets the levels of its loggers when it is imported
        import ray.tune.trainable.trainable as trainable

        levels = {name: logging.getLogger(name).level for name in NOISY}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        node_address, results_folder = ray.util.get_node_ip_address, trainable.DEFAULT_STORAGE_PATH
        trainable.DEFAULT_STORAGE_PATH = results
        if not ray.is_initialized() and cluster_address() is None:
            # An algorithm asks for its address, and Ray looks for a way to the internet then.
            ray.util.get_node_ip_address = lambda: "127.0.0.1"
        try:
            yield
        finally:
            ray.util.get_node_ip_address = node_address
            trainable.DEFAULT_STORAGE_PATH = results_folder
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
