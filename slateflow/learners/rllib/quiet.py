"""Ray and RLlib without their notes to themselves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from slateflow.ray_cluster import cluster_address

NOISY = ("ray", "ray.data", "ray.rllib", "ray.tune")
"""Loggers with levels of their own."""


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Drop what Ray logs below an error and its own deprecations; without a cluster, no network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # RLlib registers its environments anew for every algorithm of a process
        warnings.filterwarnings("ignore", ".*Overriding environment rllib-", UserWarning)
        import ray.rllib  # sets the levels of its loggers when it is imported

        levels = {name: logging.getLogger(name).level for name in NOISY}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        node_address = ray.util.get_node_ip_address
        if not ray.is_initialized() and cluster_address() is None:
            # An algorithm asks for its address, and Ray looks for a way to the internet then.
            ray.util.get_node_ip_address = lambda: "127.0.0.1"
        try:
            yield
        finally:
            ray.util.get_node_ip_address = node_address
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
