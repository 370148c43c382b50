"""Overview: every recipe's champion, last verdict, last failure and next run on one page."""

from __future__ import annotations

from prefect import flow

from tasks.reports.overview import publish_overview
from tasks.server.orphans import record_process


@flow(name="overview", flow_run_name="overview", on_running=[record_process])
def overview() -> None:
    """Write the page `slateflow` of Prefect's artifacts anew."""
    publish_overview()
