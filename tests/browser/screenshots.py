"""The README's screenshots: two nights of a pipeline under `slateflow up`, and their pages.

uv run python -m tests.browser.screenshots
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from tests.browser.pages import chromium, open_page
from tests.up import running_up, wait_until

RECIPE = "modified-lts-20-2"
DOCS = Path(__file__).parents[2] / "docs"


def shoot(address: str, expected: str, profile: Path, name: str, width: int, height: int) -> None:
    """A picture of a page on which `expected` is."""
    open_page(address, expected, profile)
    chromium(
        address, profile, f"--screenshot={DOCS / name}", f"--window-size={width},{height}",
        "--hide-scrollbars",
    )  # fmt: skip


def night(client: SyncPrefectClient, date: int, data: str) -> UUID:
    """Run the nightly deployment to its end, as of that date; the run."""
    deployment = client.read_deployment_by_name(f"pipeline/nightly-{RECIPE}").id
    parameters = {"seed": date, "data": data}
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters).id
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 600, "the run's end")
    return run


def main() -> None:
    """Run, and open what a person would."""
    with tempfile.TemporaryDirectory() as folder, running_up(Path(folder)) as up:
        with SyncPrefectClient(up.api) as client:
            first, second = (night(client, 20261100 + day, f"{folder}/data") for day in (23, 24))
            (report,) = (one for one in client.read_artifacts() if one.flow_run_id == second)
        profile = Path(folder, "browser")
        shoot(f"{up.ui}/runs/flow-run/{first}", "Promoted", profile, "run.png", 1280, 800)
        shoot(
            f"{up.ui}/artifacts/artifact/{report.id}",
            "Optimum: ",
            profile,
            "report.png",
            1280,
            1250,
        )
        version = f"{up.mlflow}/#/models/slateflow-{RECIPE}/versions/1"
        shoot(version, "Description", profile, "version.png", 1700, 1250)


if __name__ == "__main__":
    main()
