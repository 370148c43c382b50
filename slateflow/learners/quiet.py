"""Ray and RLlib without their notes to themselves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Drop what Ray logs below an error, and its warnings about its own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        import ray.rllib  # noqa: F401 - it sets the levels of its loggers when it is imported

        levels = {name: logging.getLogger(name).level for name in ("ray", "ray.rllib", "ray.tune")}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
