"""Ray and RLlib without unwanted log lines, warnings and folders."""

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
    """Silence Ray except for errors, and put its result folders into a temporary folder.

    By default every algorithm makes a folder in `~/ray_results`, whatever it logs. Without a
    cluster nothing accesses the network.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as results:
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # RLlib registers its environments again for every algorithm of a process
        warnings.filterwarnings("ignore", ".*Overriding environment rllib-", UserWarning)
        import ray.rllib  # sets the levels of its loggers when it is imported
        import ray.tune.trainable.trainable as trainable

        levels = {name: logging.getLogger(name).level for name in NOISY}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        node_address, results_folder = ray.util.get_node_ip_address, trainable.DEFAULT_STORAGE_PATH
        trainable.DEFAULT_STORAGE_PATH = results
        if not ray.is_initialized() and cluster_address() is None:
            # An algorithm requests its address, for which Ray looks for a route to the internet.
            ray.util.get_node_ip_address = lambda: "127.0.0.1"
        try:
            yield
        finally:
            ray.util.get_node_ip_address = node_address
            trainable.DEFAULT_STORAGE_PATH = results_folder
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
