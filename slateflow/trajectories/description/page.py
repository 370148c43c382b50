"""The description of a dataset as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader

from slateflow.charts import Histogram, histograms, lines, series_colour
from slateflow.digits import decimals, with_error
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
    rewards = {
        policy.policy: policy.plots.reward
        for policy in policies
        if policy.steps > policy.episodes  # single decisions have one step
    }
    observed = {
        policy.policy: policy.plots.observed
        for policy in policies
        if policy.plots.observed is not None
    }
    return _TEMPLATES.get_template("page.html").render(
        name=description.path.rstrip("/").rsplit("/", 1)[-1],
        described=description,
        policies=policies,
        rewards=rewards,
        observed=observed,
        observed_label=policies[0].plots.observed_label if policies else "",
        returns=_returns(policies) if policies else (),
        propensities=_propensities(policies) if policies else (),
        histograms=histograms,
        lines=lines,
        with_error=with_error,
        colour=series_colour,
    )


def _returns(policies: tuple[PolicySummary, ...]) -> list[Histogram]:
    low, high = min(one.lowest for one in policies), max(one.highest for one in policies)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    return [
        Histogram(
            policy.policy,
            edges,
            np.histogram(policy.plots.returns, edges)[0],
            policy.mean,
            f"{policy.mean:,.{decimals(policy.sem)}f}",
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
