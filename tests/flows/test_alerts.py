"""Alerts and receivers: nights without a winner, a champion that fell, runs without an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from slateflow.errors import InputError
from slateflow.evaluation import Comparison
from tasks.reports.alerts import alerts
from tasks.reports.overview import RecipeLine
from tasks.reports.page import fill_in
from tasks.reports.past_runs import (
    NO_VERDICT,
    ROLLED_BACK,
    Best,
    PastRun,
    failed_night,
    past_runs,
)
from tasks.reports.report import Champion
from tasks.server.automations import ensure_alerts
from tasks.server.failures import finishing_hours
from tasks.store.tracking import mlflow_client

BLOCK = "SLATEFLOW_ALERT_BLOCK"


def night(day: int, outcome: str = "Kept champion", reigning=None, hour: int = 3, **fields):
    """A night of November."""
    champion = None if reigning is None else Champion(version=1, mean=reigning, sem=0.5)
    best = Best("linucb", 10.0, 0.5, 1.0, None)
    moment = datetime(2026, 11, day, hour, tzinfo=UTC)
    return PastRun(moment, outcome, best=best, reigning=champion, **fields)


def kinds(*nights: PastRun) -> list[str]:
    return [alert.kind for alert in alerts("shop", list(reversed(nights)))]


def test_nights_without_a_winner_are_told_at_the_number_and_each_time_it_is_full(monkeypatch):
    monkeypatch.setenv("SLATEFLOW_ALERT_NIGHTS", "3")
    promoted = night(1, "Promoted", champion=1)
    failed = PastRun(datetime(2026, 11, 4, tzinfo=UTC), "Crashed")
    nights = [promoted, *(night(day) for day in (2, 3)), failed, *(night(day) for day in (5, 6, 7))]
    found = [kinds(*nights[: number + 1]) for number in range(1, len(nights))]
    assert found == [[], [], [], ["no-winner"], [], []]
    assert kinds(*nights, night(8)) == ["no-winner"]
    assert kinds(*nights[:5], night(5, hour=9)) == []  # a second verdict of that day
    (alert,) = alerts("shop", nights[4::-1])
    assert alert.message == "shop: no winner for 3 nights"
    monkeypatch.setenv("SLATEFLOW_ALERT_NIGHTS", "none")
    with pytest.raises(
        InputError, match="SLATEFLOW_ALERT_NIGHTS: expected a number of nights, such as 14, g"
    ):
        kinds(*nights)


def test_a_champion_that_fell_is_told_on_the_night_it_fell():
    promoted = night(1, "Promoted", champion=1)  # with 10 ± 0.5
    usual = [promoted, night(2, reigning=10.2), night(3, reigning=9.8)]
    # Before: 10 ± 0.5 / √3; 3 standard errors of the difference are 1.73
    assert kinds(*usual, night(4, reigning=8.3)) == []
    assert kinds(*usual, night(4, reigning=8.2)) == ["champion-fell"]
    assert kinds(*usual, night(4, reigning=8.2), night(5, reigning=8.2)) == []
    assert kinds(*usual, night(4, reigning=8.2, evidence="logs")) == []  # of another kind
    assert kinds(night(4, reigning=8.2)) == []  # nothing to compare with
    unsure = [night(day, NO_VERDICT, reigning=2.0) for day in (4, 5)]  # logs without a verdict
    assert kinds(*usual, *unsure) == []
    assert kinds(*usual, *unsure, night(6, reigning=8.2)) == ["champion-fell"]
    assert kinds(*usual, night(4, reigning=8.2), unsure[1]) == []  # reported already
    back = PastRun(datetime(2026, 11, 4, tzinfo=UTC), ROLLED_BACK, champion=1)
    assert kinds(*usual, back, night(5, reigning=8.2)) == ["champion-fell"]
    (alert,) = alerts("shop", [night(4, reigning=8.2), *reversed(usual)])
    expected = "shop: champion version 1 is worth 8.2 ± 0.5 in play; before, it was worth 10,"
    assert alert.message == f"{expected} 3.1 standard errors more"


def test_logs_that_stop_arriving_are_told_after_twice_the_usual_time_and_again():
    def told(*written: tuple[int, int]) -> list[int]:
        """Nights of November with an alert, for files by day and hour."""
        files = [datetime(2026, 11, *file, tzinfo=UTC) for file in written]
        nights = [night(day) for day in range(3, 20)]
        return [
            nights[last].moment.day
            for last in range(len(nights))
            if any(one.kind == "logs-stopped" for one in alerts("shop", nights[last::-1], files))
        ]

    # The newest of the 3rd, 1:00; nights are at 3:00
    assert told((1, 1), (2, 1), (3, 1)) == [5, 7, 9, 11, 13, 15, 17, 19]
    assert told((3, 1), (1, 1)) == [7, 11, 15, 19]  # two days apart, in any order
    assert told((3, 1)) == told() == []  # their usual interval is unknown
    files = [datetime(2026, 11, day, tzinfo=UTC) for day in (1, 4)]
    assert alerts("shop", [night(9)], files) == []
    (alert,) = alerts("shop", [night(10)], files)
    expected = "shop: no new logs since 2026-11-04 00:00; until then a file came at least every "
    assert alert.message == expected + "3 days"


def test_hours_that_are_none_are_refused(monkeypatch):
    assert finishing_hours() == 3
    for wrong in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("SLATEFLOW_ALERT_HOURS", wrong)
        with pytest.raises(
            InputError, match=f"expected a number of hours, such as 3, got '{wrong}'"
        ):
            finishing_hours()


def test_automations_are_made_once_follow_the_block_and_stay_paused(embedded, monkeypatch):
    from prefect.client.orchestration import get_client

    CustomWebhookNotificationBlock(name="ops", url="http://127.0.0.1:9/").save("ops")
    Webhook(url="http://127.0.0.1:9/").save("ops")
    with get_client(sync_client=True) as client:

        def ours():
            return {one.name: one for one in client.read_automations() if "slateflow:" in one.name}

        assert ensure_alerts(client) == []
        first = ours()
        assert len(first) == 4
        assert {one.actions[0].type for one in first.values()} == {"do-nothing"}
        client.pause_automation(first["slateflow: a rollback"].id)
        assert ensure_alerts(client) == []
        # If recreated, they would forget the runs for which the server is waiting
        assert {one.id for one in ours().values()} == {one.id for one in first.values()}
        monkeypatch.setenv(BLOCK, "custom-webhook/ops")
        assert ensure_alerts(client) == []
        second = ours()
        assert {one.actions[0].type for one in second.values()} == {"send-notification"}
        paused = [name for name, one in second.items() if not one.enabled]
        assert paused == ["slateflow: a rollback"]
        for wrong, reason in (
            ("ops", "got 'ops'"),
            ("slack-webhook/nobody", "which the server does not have; make it in Prefect's UI"),
            ("webhook/ops", "which sends no notifications"),
        ):
            monkeypatch.setenv(BLOCK, wrong)
            (line,) = ensure_alerts(client)
            assert line.startswith("SLATEFLOW_ALERT_BLOCK: expected a notification block, such as ")
            assert reason in line
            assert "until then alerts are only in the event feed" in line
        assert {one.actions[0].type for one in ours().values()} == {"do-nothing"}
        for one in ours().values():  # the events of other tests are not for them
            client.delete_automation(one.id)


def test_the_overview_has_as_many_digits_as_clicks_need():
    verdict = PastRun(
        datetime.now(UTC),
        "Kept champion",
        best=Best("linucb", 0.0854, 0.0021, 0.01, None),
        over_champion=Comparison(uplift=0.0034, ci=(-0.0012, 0.008), p_value=0.1),
    )
    line = RecipeLine("shop", None, "v1 lints", None, "", verdict, None, "")
    empty = {"notices": [], "store": "", "home": ""}
    page = fill_in("overview.md", now=datetime.now(UTC), recipes=[line], **empty)
    assert "kept champion | +0.0034 [-0.0012, 0.0080] |" in page


def test_a_long_message_of_a_failure_is_cut_between_words():
    state = Crashed(message="exceeding memory " * 20)
    run = FlowRun(flow_id=uuid4(), state=state, expected_start_time=datetime.now(UTC))
    assert failed_night(run).message.endswith("exceeding memory …")
    assert len(failed_night(run).message) <= 160


def test_the_overview_has_what_failed_what_is_late_and_who_reigns(embedded, tmp_path):
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed, Running, Scheduled

    from flows.cli.main import main
    from flows.overview import overview
    from flows.pipeline import pipeline

    store, name = mlflow_client(), "slateflow-overlooked"
    store.create_registered_model(name)
    for alias in ("previous", "champion"):
        made = store.create_model_version(name, str(tmp_path), tags={"learner": "linucb"})
        store.set_registered_model_alias(name, alias, made.version)
    # A rollback is a night of the trend, too
    assert main(["rollback", "overlooked"]) == 0
    (back,) = past_runs(store, "overlooked")
    assert (back.outcome, back.champion, back.failed) == (ROLLED_BACK, 1, False)
    with get_client(sync_client=True) as prefect:
        parameters = {"recipe": "overlooked"}
        crashed = prefect.create_flow_run(
            pipeline, parameters=parameters, name="fell", state=Running()
        )
        gone = Crashed(message="Process 1 is gone\nfor ever")
        prefect.set_flow_run_state(crashed.id, gone, force=True)
        late = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=4))
        overdue = prefect.create_flow_run(pipeline, parameters=parameters, name="waits", state=late)
        overview()
        written = [one for one in prefect.read_artifacts() if one.key == "slateflow"]
        page = str(max(written, key=lambda one: one.created).data)
        prefect.delete_flow_run(overdue.id)
    assert page.startswith("# Slateflow\n")
    assert f"- [waits](/runs/flow-run/{overdue.id}) has been scheduled since " in page
    assert f"(/runs/flow-run/{crashed.id}): Process 1 is gone\n" in page
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    (champions, runs) = [row for row in rows if len(row) > 3 and row[1] == "overlooked"]
    assert champions[2:5] == ["v1 linucb", "none yet", "–"]
    assert runs[2] == f"{back.moment:%Y-%m-%d %H:%M}"
    assert runs[3].endswith(f"(/runs/flow-run/{crashed.id}) crashed")
    assert runs[4] == "no deployment"
    night = past_runs(store, "overlooked")[0]
    assert (night.failed, night.outcome, night.message) == (True, "Crashed", "Process 1 is gone")
