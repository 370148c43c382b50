"""The description of a dataset as one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from slateflow.charts import Curve, Histogram, histograms, lines, series_colour
from slateflow.trajectories.description.describe import (
    PROPENSITY_EDGES,
    Description,
    PolicySummary,
)

BINS = 48

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(description: Description) -> str:
    """The page."""
    policies = description.policies
    rewards = {policy.policy: policy.plots.reward for policy in policies}
    satisfaction = {
        policy.policy: policy.plots.satisfaction
        for policy in policies
        if policy.plots.satisfaction is not None
    }
    charts = {}
    if policies:
        charts = {
            "returns": histograms(_returns(policies), "Histogram of returns by policy", "return"),
            "rewards": _over_step(rewards, "reward"),
            "satisfaction": _over_step(satisfaction, "satisfaction") if satisfaction else "",
            "propensities": histograms(
                _propensities(policies), "Histogram of propensities by policy", "propensity", True
            ),
        }
    return _TEMPLATES.get_template("page.html").render(
        name=description.path.rstrip("/").rsplit("/", 1)[-1],
        described=description,
        policies=policies,
        rewards=rewards,
        satisfaction=satisfaction,
        charts={name: Markup(chart) for name, chart in charts.items()},
        colour=series_colour,
    )


def _over_step(curves: dict[str, Curve], what: str) -> str:
    return lines(curves, f"Mean {what} by step and policy", "step")


def _returns(policies: tuple[PolicySummary, ...]) -> list[Histogram]:
    low, high = min(one.lowest for one in policies), max(one.highest for one in policies)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    return [
        Histogram(
            policy.policy,
            edges,
            np.histogram(policy.plots.returns, edges)[0],
            policy.mean,
            f"{policy.mean:,.2f}",
        )
        for policy in policies
    ]


def _propensities(policies: tuple[PolicySummary, ...]) -> list[Histogram]:
    shown = np.flatnonzero(sum(policy.plots.propensities for policy in policies))
    first = max(0, min(int(shown[0]) - 1, len(PROPENSITY_EDGES) - 10))
    return [
        Histogram(
            policy.policy,
            PROPENSITY_EDGES[first:],
            policy.plots.propensities[first:],
            note=policy.propensity_range,
        )
        for policy in policies
    ]
