"""Changes of prefect.yaml under a real `slateflow up`: renamed, removed, or paused deployments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from flows.services.deploy import HERE
from flows.services.deploy import deploy as deploy_all
from slateflow.errors import InputError
from tasks.project import PROJECT
from tasks.server import deployments
from tests.up import Up

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def project(up, tmp_path, monkeypatch):
    """A project of the same flows with a changeable prefect.yaml, undone afterwards."""
    for room in ("flows", "tasks", "slateflow", "datasets", "mlflow"):
        (tmp_path / room).symlink_to(PROJECT / room)
    with monkeypatch.context() as patch:
        patch.setattr(deployments, "PROJECT", tmp_path)
        patch.setattr("flows.services.deploy.PROJECT", tmp_path)
        yield tmp_path
    deploy(up)
    up.pause_schedules()


def deploy(up: Up) -> None:
    """Deploy as `slateflow up` does once its servers answer."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(up.api) as client:
        for line in deploy_all(client, HERE, {**os.environ, "PREFECT_API_URL": up.api}):
            print(line)


def write(project: Path, change) -> None:
    """Write a prefect.yaml with changed deployments, by flow and name."""
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    entries = {
        (one["entrypoint"].rpartition(":")[2], one["name"]): one for one in document["deployments"]
    }
    change(entries)
    document["deployments"] = list(entries.values())
    (project / "prefect.yaml").write_text(yaml.safe_dump(document))


def deployed(client) -> dict[str, object]:
    """The project's deployments, as `flow/name`."""
    flows = {flow.id: flow.name for flow in client.read_flows()}
    return {f"{flows[one.flow_id]}/{one.name}": one for one in client.read_deployments()}


def test_what_is_renamed_or_removed_goes_with_its_schedules_and_triggers(
    up, up_client, project, capsys
):
    def change(entries):
        entries["pipeline", "nightly-lts-10-1"]["name"] = "every-night-lts-10-1"
        entries["train", "train-fresh"]["name"] = "renamed"  # with its trigger
        del entries["register", "register-fresh"]

    before = deployed(up_client)
    write(project, change)
    deploy(up)
    after = deployed(up_client)
    gone = {"pipeline/nightly-lts-10-1", "train/train-fresh", "register/register-fresh"}
    assert set(before) - set(after) == gone
    assert set(after) - set(before) == {"pipeline/every-night-lts-10-1", "train/renamed"}
    assert capsys.readouterr().out.count("prefect.yaml no longer has it") == len(gone)
    (schedule,) = after["pipeline/every-night-lts-10-1"].schedules
    assert schedule.schedule.cron == "30 4 * * *"
    # One trigger for each remaining deployment, which starts the new one
    started = {
        automation.name: {action.deployment_id for action in automation.actions}
        for automation in up_client.read_automations()
        if automation.actions[0].type == "run-deployment"
    }
    assert started == {
        "overview after a failure": {after["overview/overview"].id},
        "overview after a rollback": {after["overview/overview"].id},
        "train on fresh logs": {after["train/renamed"].id},
        "evaluate fresh models": {after["evaluate/evaluate-fresh"].id},
    }
    # Nothing remains that would run on the old schedule
    for run in up_client.read_flow_runs():
        assert run.deployment_id not in {before[name].id for name in gone} or not (
            run.state.is_scheduled()
        )


def test_what_somebody_paused_stays_paused(up, up_client, project, capsys):
    write(project, lambda entries: None)
    deploy(up)
    quiet = {"pipeline/nightly-lts-10-1", "pipeline/nightly-lts-20-2"}
    for name, one in deployed(up_client).items():
        for schedule in one.schedules if name in quiet else ():
            up_client.update_deployment_schedule(one.id, schedule.id, active=False)
    up_client.pause_automation(trigger(up_client, "evaluate fresh models").id)
    on = "pipeline/weekly-interest-evolution"
    up.post(f"deployments/{deployed(up_client)[on].id}/resume_deployment", None)
    capsys.readouterr()
    deploy(up)
    found = deployed(up_client)
    active = {name for name, one in found.items() for s in one.schedules if s.active}
    assert active == {name for name, one in found.items() if one.schedules} - quiet
    # All are paused in tests, except the one that continues
    assert [name for name, one in found.items() if not one.paused] == [on]
    paused = trigger(up_client, "evaluate fresh models")
    assert not paused.enabled
    assert trigger(up_client, "train on fresh logs").enabled
    said = {line for line in capsys.readouterr().out.splitlines() if "stays paused" in line}
    assert said == {
        *(f"{one.name} stays paused" for name, one in found.items() if name != on),
        *(f"{name.partition('/')[2]}'s schedule stays paused" for name in quiet),
        "evaluate fresh models stays paused",
    }
    up_client.resume_automation(paused.id)  # the other tests need it


def trigger(client, name: str):
    """The automation with a name."""
    (found,) = [one for one in client.read_automations() if one.name == name]
    return found


def test_a_pool_of_another_type_is_named(up, up_client, monkeypatch):
    from prefect.client.schemas.actions import WorkPoolCreate

    up_client.create_work_pool(WorkPoolCreate(name="other", type="docker"))
    monkeypatch.setattr(deployments, "POOL", "other")
    with pytest.raises(InputError, match="work pool other: expected the type process, got dock"):
        deployments.ensure_pool(up_client)
    up_client.delete_work_pool("other")
