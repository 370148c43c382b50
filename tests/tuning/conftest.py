"""The logs that the learners' tests learn from."""

from __future__ import annotations

from tests.learners.conftest import logs, make_logs, quiet, small_logs  # noqa: F401
