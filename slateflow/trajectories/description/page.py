"""The description of a dataset as one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape

import numpy as np

from slateflow.charts import (
    SERIES,
    Histogram,
    Line,
    histograms,
    lines,
    slope_text,
)
from slateflow.trajectories.description.describe import (
    PROPENSITY_EDGES,
    Curve,
    Description,
    PolicySummary,
)

BINS = 48

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1b2330; --dim: #5c6675;
  --line: #dde2e9; --mark: #1b2330; --series-0: #2563eb; --series-1: #c2560c; --series-2: #0f8a5f;
  --series-3: #8b3fd9; --series-4: #c02650; --series-5: #0b7f99; }
@media (prefers-color-scheme: dark) { :root { --page: #11151c; --card: #191f29; --text: #e6eaf0;
  --dim: #9aa6b6; --line: #2c3543; --mark: #f4f6f9; --series-0: #6ea2ff; --series-1: #f59c52;
  --series-2: #3ecf96; --series-3: #bd8cff; --series-4: #ff7d9c; --series-5: #45c6e0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0 0 12px; color: var(--dim); }
code { font: 12.5px ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 22px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-top: 20px; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px; color: var(--dim); }
.tiles b { display: block; color: var(--text); font-size: 22px; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--dim); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { border-bottom: 0; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--dim);
  margin: 0 0 6px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--dim); font-size: 12px; }
svg text.name { fill: var(--text); font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--dim); stroke-width: 1; opacity: 0.6; }
svg .mark { stroke: var(--mark); stroke-width: 2; }
"""


def page(description: Description) -> str:
    """The page."""
    name = description.path.rstrip("/").rsplit("/", 1)[-1]
    body = [
        f"<h1>{escape(name)}</h1>",
        f"<p>{escape(description.environment)} · <code>{escape(description.digest)}</code></p>",
        _tiles(description),
    ]
    if description.policies:
        body += [_policies(description), _overlap(description), *_charts(description)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} · Slateflow</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _tiles(description: Description) -> str:
    policies = description.policies
    tiles = {
        "episodes": f"{description.episodes:,}",
        "steps": f"{description.steps:,}",
        "behaviour policies": f"{len(policies)}",
    }
    if policies:
        low = min(policy.propensity[0] for policy in policies)
        high = max(policy.propensity[1] for policy in policies)
        tiles["propensities"] = f"{low:.2g} – {high:.2g}"
    inner = "".join(f"<div><b>{value}</b>{label}</div>" for label, value in tiles.items())
    return f'<div class="tiles">{inner}</div>'


def _key(number: int) -> str:
    return f'<span class="key" style="background:var(--series-{number % SERIES})"></span>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    header = "".join(f"<th>{cell}</th>" for cell in head)
    lines_ = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{header}</tr>{lines_}</table></div>'


def _policies(description: Description) -> str:
    rows = [
        [
            _key(number) + escape(policy.policy),
            f"{policy.share:.1%}",
            f"{policy.episodes:,}",
            f"{policy.steps:,}",
            f"{policy.mean:,.2f} ± {policy.sem:.2f}",
            f"{policy.clicks:.1%}",
            propensity_range(policy),
        ]
        for number, policy in enumerate(description.policies)
    ]
    head = ["policy", "share", "episodes", "steps", "return", "clicks", "propensity"]
    return f"<section><h2>Behaviour policies</h2>{_table(head, rows)}</section>"


def propensity_range(policy: PolicySummary) -> str:
    """Smallest to largest, or the only one."""
    low, high = policy.propensity
    return f"{low:.3g}" if low == high else f"{low:.2g} – {high:.2g}"


def _overlap(description: Description) -> str:
    rows = [
        [
            _key(number) + escape(policy.policy),
            *(
                f"{figure:.2%}"
                for one in policy.overlap
                for figure in (one.coverage, one.effective)
            ),
        ]
        for number, policy in enumerate(description.policies)
    ]
    head = ["logs of"] + [
        f"{one.target}: {figure}"
        for one in description.policies[0].overlap
        for figure in ("covered", "effective steps")
    ]
    text = (
        "How well the steps of a policy stand for those of another. Covered: mean importance "
        "weight, the share of the other’s slates that this policy ever shows (with noise around "
        "100%). Effective steps: Kish’s sample size of the weights times the covered share, as a "
        "share of the steps."
    )
    return f"<section><h2>Overlap</h2><p>{text}</p>{_table(head, rows)}</section>"


def _charts(description: Description) -> list[str]:
    policies, plots = description.policies, description.plots
    charts = [
        _section(
            "Return by policy",
            "Returns of the episodes; the line is the mean. Each row has its own height.",
            histograms(_returns(description), "Histogram of returns by policy", "return"),
        ),
        _section(
            "Reward over the step",
            "Mean reward at each step, and its trend by least squares.",
            _legend(policies, [plot.reward for plot in plots])
            + _over_step(policies, [plot.reward for plot in plots], "reward"),
        ),
    ]
    satisfaction = [plot.satisfaction for plot in plots if plot.satisfaction is not None]
    if satisfaction:
        charts.append(
            _section(
                "Satisfaction over the step",
                "What is observed of the user before the slate is shown.",
                _legend(policies, satisfaction)
                + _over_step(policies, satisfaction, "satisfaction"),
            )
        )
    charts.append(
        _section(
            "Propensities",
            "Steps by the probability of their slate, on a scale of powers of ten.",
            histograms(
                _propensities(description),
                "Histogram of propensities by policy",
                "propensity",
                powers=True,
            ),
        )
    )
    return charts


def _section(title: str, text: str, chart: str) -> str:
    return f"<section><h2>{title}</h2><p>{text}</p>{chart}</section>"


def _returns(description: Description) -> list[Histogram]:
    returns = [plot.returns for plot in description.plots]
    low, high = min(map(np.min, returns)), max(map(np.max, returns))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    return [
        Histogram(
            policy.policy, edges, np.histogram(values, edges)[0], policy.mean, f"{policy.mean:,.2f}"
        )
        for policy, values in zip(description.policies, returns, strict=True)
    ]


def _propensities(description: Description) -> list[Histogram]:
    counts = np.array([plot.propensities for plot in description.plots])
    first = int(np.flatnonzero(counts.any(axis=0))[0])
    first = max(0, min(first - 1, len(PROPENSITY_EDGES) - 10))
    return [
        Histogram(
            policy.policy, PROPENSITY_EDGES[first:], row[first:], None, propensity_range(policy)
        )
        for policy, row in zip(description.policies, counts, strict=True)
    ]


def _over_step(policies: tuple[PolicySummary, ...], curves: list[Curve], what: str) -> str:
    series = [
        Line(policy.policy, curve.steps, curve.means, curve.trend.slope, curve.trend.intercept)
        for policy, curve in zip(policies, curves, strict=True)
    ]
    return lines(series, f"Mean {what} by step and policy", "step")


def _legend(policies: tuple[PolicySummary, ...], curves: list[Curve]) -> str:
    entries = "".join(
        f"<span>{_key(number)}{escape(policy.policy)} {slope_text(curve.trend.slope)}</span>"
        for number, (policy, curve) in enumerate(zip(policies, curves, strict=True))
    )
    return f'<div class="legend">{entries}</div>'
