"""What the tests of every room share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples everywhere, and no verdict about the speed of a busy machine.
settings.register_profile(
    "slateflow",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("slateflow")
