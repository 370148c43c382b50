"""The logs of the learners' tests."""

from __future__ import annotations

from tests.learners.conftest import logs, make_logs, quiet, small_logs  # noqa: F401
