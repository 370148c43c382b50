"""Settings of benchmarks on random shops: numbers of the shops, and learners.

`SLATEFLOW_BENCHMARK_SEED` draws other shops, `SLATEFLOW_BENCHMARK_SHOPS` has numbers of shops, as
in `3,21`, or how many, as in `60`, and `SLATEFLOW_BENCHMARK_LEARNERS` has other learners.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

SEED = int(os.environ.get("SLATEFLOW_BENCHMARK_SEED", "2026"))
SHOPS = os.environ.get("SLATEFLOW_BENCHMARK_SHOPS", "100")
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "")
OF_ITEMS, OF_SLATES = "linucb,logistic,fitted-q", "linucb,logistic,slateq"


def shop_numbers() -> Sequence[int]:
    """Numbers of the requested shops."""
    named = [int(one) for one in SHOPS.split(",")]
    return named if len(named) > 1 else range(named[0])


def learners_of(slates: bool) -> list[str]:
    """Learners by name, of slates or of single items."""
    return (LEARNERS or (OF_SLATES if slates else OF_ITEMS)).split(",")
