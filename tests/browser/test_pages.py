"""Prefect's pages under a real `slateflow up`, in a real browser, as operators open them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from tasks.reports.alerts import Alert
from tasks.server.automations import ensure_alerts, raise_alert
from tasks.server.lineage import model_rolled_back
from tests.browser.pages import Browser, browsing, table_rows
from tests.up import Up, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

RECIPE = "lts-10-1"  # of no other test under `up`
DEPLOYMENT = f"pipeline/nightly-{RECIPE}"
SMALL = {"episodes": 60, "learners": ["linucb"], "evaluation_episodes": 100}


@pytest.fixture(scope="module")
def client(up) -> Iterator[SyncPrefectClient]:
    """A client of its Prefect server, which also receives events of this process."""
    with temporary_settings({PREFECT_API_URL: up.api}), SyncPrefectClient(up.api) as client:
        yield client


def ended(client: SyncPrefectClient, **parameters: object) -> FlowRun:
    """A run of the deployment, after its end."""
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    run = client.create_flow_run_from_deployment(deployment, parameters={**SMALL, **parameters}).id
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 400, "the run's end")
    return client.read_flow_run(run)


@pytest.fixture(scope="module")
def promoted(up, client) -> FlowRun:
    """The first night with a winner."""
    run = ended(client, data=f"{up.folder}/pages")
    assert "promoted" in run.tags, run.state
    return run


def newest(client: SyncPrefectClient, key: str) -> str:
    """Address of the newest artifact with the key."""
    written = [one for one in client.read_artifacts() if one.key == key]
    return f"artifacts/artifact/{max(written, key=lambda one: one.created).id}"


def rows(browser: Browser) -> list[list[str]]:
    """The recipe's rows of the tables on the page."""
    return [row for row in table_rows(browser.html) if row[0] == RECIPE]


def test_lists_and_pages_have_the_finished_run_in_both_interfaces(up, client, promoted):
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    tasks = {
        task.name: task
        for task in client.read_task_runs(limit=200)
        if task.flow_run_id == promoted.id
    }
    with browsing(up.folder / "browser") as browser:
        for ui in (up.ui, f"{up.ui}/v2"):
            browser.open(f"{ui}/deployments/deployment/{deployment}", f"{RECIPE}: promoted")
            browser.open(f"{ui}/runs/task-run/{tasks[f'report {RECIPE}'].id}", "Run Count")
            assert f"report {RECIPE}" in browser.text
            # The report leads to its run and to its task by their names
            browser.open(f"{ui}/{newest(client, f'slateflow-{RECIPE}')}", "Optimum")
            browser.wait_for(promoted.name)
            browser.wait_for(f"report {RECIPE}")
            browser.open(f"{ui}/{newest(client, 'slateflow')}", "champion since")
            assert "Slateflow" in browser.text
            # On a second look a page that is redrawn may have none for a moment
            champions, runs = wait_until(
                lambda: len(found := rows(browser)) == 2 and found, 60, "the page's tables"
            )
            assert champions[1] == "v1 linucb"
            assert champions[2].endswith(" promoted")
            assert runs[1] == champions[2].removesuffix(" promoted")
        # The list of tasks, which was blank; and filters on the state find the run
        browser.open(f"{up.ui}/runs/flow-run/{promoted.id}", "Task Runs")
        browser.click("Task Runs", f"check the champion of {RECIPE}")
        browser.open(f"{up.ui}/runs?state=Completed&tags=promoted", promoted.name)


class Receiver(BaseHTTPRequestHandler):
    """A receiver of a notification block's messages."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body)["text"])  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: the test reads the received messages."""


@pytest.fixture
def received(up, client, monkeypatch) -> Iterator[list[str]]:
    """Messages to a webhook on this machine, to which the automations send in the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.received = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        text = {"text": "{{subject}}: {{body}}"}
        block = CustomWebhookNotificationBlock(name="ops", url=url, json_data=text)
        block.save("ops", overwrite=True)
        with monkeypatch.context() as patch:
            patch.setenv("SLATEFLOW_ALERT_BLOCK", "custom-webhook/ops")
            patch.setenv("SLATEFLOW_ALERT_HOURS", "0.003")  # 11 seconds
            assert ensure_alerts(client) == []
            yield server.received  # type: ignore[attr-defined]
        ensure_alerts(client)
        server.shutdown()


def given_verdict(client: SyncPrefectClient) -> dict[str, Any]:
    """The newest verdict on the recipe, from its event."""
    wanted = EventFilter(event=EventNameFilter(name=["slateflow.verdict.given"]))
    found = [one.payload["verdict"] for one in client.read_events(wanted, limit=50).events]
    return next(one for one in found if one["experiment"]["recipe"] == RECIPE)


def test_a_champion_that_fell_on_fresh_logs_is_told(up, client, promoted, received):
    """A verdict without a winner takes the route of fresh logs, with a far worse champion."""
    verdict = given_verdict(client)
    (best,) = verdict["candidates"]
    fallen = {"version": 1, "mean": best["mean"] - 10 * best["sem"], "sem": best["sem"]}
    verdict["champion"], best["verdict"] = fallen, "undecided"
    deployment = client.read_deployment_by_name("register/register-fresh").id
    run = client.create_flow_run_from_deployment(deployment, parameters={"verdict": verdict}).id
    told = f"slateflow: a verdict to look at: {RECIPE}: champion version 1 is worth"
    wait_until(
        lambda: any(one.startswith(told) for one in received), 400, f"a message, got {received}"
    )
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 60, "the run's end")
    assert client.read_flow_run(run).name == f"register {RECIPE}: kept champion"
    with browsing(up.folder / "browser") as browser:
        browser.open(f"{up.ui}/{newest(client, f'slateflow-{RECIPE}')}", "in play; before")
        browser.open(f"{up.ui}/events?events=slateflow.alert.champion-fell", RECIPE)


def test_alerts_reach_a_webhook_and_the_morning_page(up: Up, client, promoted, received):
    failed = ended(client, data="/proc/nowhere")
    assert failed.state is not None
    assert failed.state.is_failed()
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    waiting = client.create_flow_run_from_deployment(deployment, name="waits for ever")
    client.set_flow_run_state(waiting.id, Pending(), force=True)  # which no worker takes up
    raise_alert(RECIPE, Alert("no-winner", f"{RECIPE}: no winner for 14 nights"), str(failed.id))
    model_rolled_back(RECIPE, f"slateflow-{RECIPE}", 1, 2)
    expected = {
        f"slateflow: a run failed: {failed.name}: Failed. Flow run encountered an exception: Inp",
        "slateflow: a run did not finish: waits for ever has not finished 0.003 hours after it",
        f"slateflow: a verdict to look at: {RECIPE}: no winner for 14 nights",
        f"slateflow: a rollback: slateflow-{RECIPE} version 1 is the champion again, by a rollback",
    }
    wait_until(
        lambda: all(any(one.startswith(text) for one in received) for text in expected),
        120,
        f"messages, got {received}",
    )
    client.delete_flow_run(waiting.id)
    # Only the failure has restarted the page
    failure = f"runs/flow-run/{failed.id}"

    def page() -> str:
        written = [one for one in client.read_artifacts() if one.key == "slateflow"]
        return str(max(written, key=lambda one: one.created).data)

    wait_until(lambda: failure in page() and "no winner for 14 nights" in page(), 120, "the page")
    with browsing(up.folder / "browser") as browser:
        browser.open(f"{up.ui}/{newest(client, 'slateflow')}", "Needs attention")
        assert f"{RECIPE}: no winner for 14 nights" in browser.text
        events = f"{up.ui}/events?events=slateflow.alert.no-winner"
        browser.open(events, RECIPE)
        browser.open(f"{up.ui}/events?events=prefect.automation.triggered", "slateflow: a rollback")
