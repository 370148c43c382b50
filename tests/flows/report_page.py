"""Checks of the page of a report."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree


def check_trend(key: str, reports) -> None:
    """The newest report has a row for every run, the newest first, and a chart of them."""
    from prefect.artifacts import Artifact
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as prefect:
        runs = {str(run.id): run for run in prefect.read_flow_runs()}
    whole = str(Artifact.get(key).data)
    check_tables(whole)
    page = whole.partition("## This run and earlier ones")[2]
    page = page.partition("\n## ")[0]
    lines = [line for line in page.splitlines() if "](/runs/" in line]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(rows) == len(reports)
    for row, found in zip(rows, reports, strict=True):
        moment, run_id = re.fullmatch(r"\[(.*)\]\(/runs/flow-run/(.*)\)", row[0]).groups()
        assert runs[run_id].name == f"pipeline {found.experiment.recipe}: promoted"
        assert moment == f"{runs[run_id].expected_start_time:%Y-%m-%d %H:%M}"
        best = found.candidates[0]
        over = best.over_champion
        assert row[1:3] == [f"promoted v{found.registered.version}", best.learner]
        assert row[3] == (
            "–" if over is None else f"{over.uplift:+.2f} [{over.ci[0]:.2f}, {over.ci[1]:.2f}]"
        )
        assert row[4:] == [f"{best.mean:.2f} ± {best.sem:.2f}", f"{best.score:.3f}"]
    labels = texts(first_chart(page))
    assert [label for label in labels if re.fullmatch("v[0-9]+", label)] == [
        f"v{found.registered.version}" for found in reversed(reports)
    ]


def check_tables(markdown: str) -> None:
    """Tables fit into a window of 1280 pixels, and their cells are not empty."""
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) <= 6, row
        assert all(cells), row


def first_chart(markdown: str) -> ElementTree.Element:
    """The first chart of a page."""
    encoded = re.search(r"data:image/svg\+xml;base64,([^)]+)\)", markdown)
    assert encoded is not None
    return ElementTree.fromstring(base64.b64decode(encoded.group(1)))


def texts(chart: ElementTree.Element) -> list[str]:
    """The texts on a chart."""
    return [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text") if text.text]
