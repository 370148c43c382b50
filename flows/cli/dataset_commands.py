"""The commands that take a dataset as it is. They need no Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows import bounds
from flows.bounded_option import number
from flows.cli.options import (
    AS_IN_RECIPE,
    JSON,
    Data,
    Logs,
    Published,
    answer,
    new_table,
    plain_console,
    print_json,
    short_path,
    show_table,
    split_names,
)
from slateflow.errors import InputError
from tasks.project import RECIPES

if TYPE_CHECKING:
    from slateflow.trajectories import Dataset
    from slateflow.trajectories.description.describe import Description
    from slateflow.trajectories.description.first_look import FirstLook

DatasetName = Annotated[
    str, Parameter(help="Name of a dataset or of its recipe, or its path or URL.")
]


def _open(name: str, data: str | None) -> Dataset:
    """Open a dataset by its name or its recipe's, or by its path where it has a slash."""
    from slateflow.trajectories import MANIFEST
    from slateflow.trajectories.generation.recipe import recipe_names, unknown_recipe
    from slateflow.trajectories.sources.recipe import names_logs
    from tasks.experiment import absolute, dataset_folder, named, open_made

    folder = absolute(name) if "/" in name else dataset_folder(name, data)
    if name in recipe_names(RECIPES) or folder.exists(MANIFEST):
        return open_made(folder, named(name, data=data))
    if "/" in name and not names_logs(name):
        raise InputError(
            f"{folder.url}: expected the folder of a dataset, found no {MANIFEST} in it; give the "
            "path that `slateflow generate` printed, or a name"
        )
    raise unknown_recipe(RECIPES, name, "recipe or dataset")


def estimate_command(
    recipe: Published,
    /,
    *,
    policy: Annotated[
        str,
        Parameter(
            help="random, logged (what the logs earned), or a registered version such as "
            "models:/NAME@champion; of simulated recipes also greedy and opposite."
        ),
    ],
    estimator: Annotated[
        str | None,
        Parameter(help="Estimators, separated by commas. [default: all that fit the logs]"),
    ] = None,
    logs: Logs = AS_IN_RECIPE,
    as_json: JSON = False,
) -> None:
    """Estimate the return of a session under a policy, from a recipe's logs alone.

    Single decisions: `ips`, `snips`, `dm`, `dr`, `dr-os`. Sessions and slates: `ips` and `snips`
    decision by decision, `dm`, `drl`. The trusted one is `dr` or `drl`, or none where the logs
    cannot tell.

    Example: slateflow estimate modified-lts-20-2 --policy greedy
    """
    from flows.cli.progress import progress

    with progress("estimate"):
        from flows.cli.console import show_estimate
        from tasks.estimate import estimate
        from tasks.experiment import find_experiment

        experiment = find_experiment(recipe, logs.episodes, logs.seed, logs.data)
        report = estimate(experiment, policy, split_names(estimator, "--estimator"))
    show_estimate(report, as_json)


def export_command(
    dataset: DatasetName,
    out: Annotated[Path, Parameter(help="Folder to make.")],
    /,
    *,
    to: Annotated[
        Literal["rllib", "minari", "d3rlpy"], Parameter(name="--format", help="Library.")
    ],
    data: Data = None,
    as_json: JSON = False,
) -> None:
    """Write a dataset for another library.

    Example: slateflow export --format minari modified-lts-20-2 exported
    """
    from slateflow.trajectories.exchange.export import export

    opened = _open(dataset, data)
    written = export(opened, to, out)
    document = {"path": str(written.absolute()), "format": to, "digest": opened.digest}
    text = f"{written}: {opened.episodes:,} episodes, {opened.rows:,} steps for {to}"
    answer(as_json, document, text)


def import_command(
    source: Annotated[Path, Parameter(help="File or folder of logs.")],
    name: Annotated[str, Parameter(help="Name of the dataset, and of its experiment and model.")],
    /,
    *,
    environment: Annotated[
        str | None,
        Parameter(help="Preset that the logs are from; `slateflow environments` lists them."),
    ] = None,
    data: Data = None,
    as_json: JSON = False,
) -> None:
    """Check logs from elsewhere and make a dataset of them.

    Parquet files have a row for each step and need these columns:

    - `episode`, `step`: whole numbers; steps count from 0.
    - `user`: list of the U numbers observed; empty where nothing is.
    - `candidates`: list of N·D features, candidate by candidate; or `items`, list of N numbers of
      the catalogue's items, where the world has one.
    - `slate`: list of K distinct positions among the candidates.
    - `propensity`: probability of exactly this slate, in (0, 1].
    - `clicked`: place in the slate, -1 for none.
    - `reward`, and the response columns of the world, such as `watch_time`: numbers.
    - `terminated`, `truncated`: true or false.

    A folder `policy=NAME` names the policy. JSON files are those of RLlib's writer; they need
    `--environment`.

    Example: slateflow import logs/ mine --environment modified-lts-20-2
    """
    from slateflow.trajectories.exchange.importing import import_logs
    from tasks.experiment import data_folder

    if (RECIPES / f"{name}.toml").exists():
        raise InputError(f"name: expected a name without a recipe, got {name}; choose another")
    dataset = import_logs(source, name, data_folder(data), environment)
    document = {"path": dataset.path, "digest": dataset.digest, "rows": dataset.rows}
    text = f"{short_path(dataset.path)}: {dataset.episodes:,} episodes, {dataset.rows:,} rows"
    answer(as_json, document, f"{text}\n{dataset.digest}")


def describe_command(
    dataset: DatasetName,
    /,
    *,
    page: Annotated[Path | None, Parameter(help="HTML file to write the plots to.")] = None,
    data: Data = None,
    as_json: JSON = False,
) -> None:
    """Show figures of a dataset, and write a page with plots.

    Example: slateflow describe modified-lts-20-2 --page logs.html
    """
    from flows.cli.progress import progress

    with progress("describe"):
        from slateflow.evaluation.off_policy.estimates import refusal_of_random
        from slateflow.trajectories.description.describe import describe

        description = describe(_open(dataset, data), refusal_of_random)
    if page is not None:
        from slateflow.trajectories.description.page import page as html

        try:
            page.write_text(html(description), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot write {page}: {error.strerror}; choose another file with --page"
            ) from error
    if as_json:
        print_json(description.to_dict())
        return
    _show(description)
    if page is not None:
        print(f"Look at it   {page}")


def _show(description: Description) -> None:
    """The figures as two tables."""
    from slateflow.digits import with_error

    output = plain_console()
    output.print(f"{short_path(description.path)}: {description.environment}", soft_wrap=True)
    output.print(f"{description.episodes:,} episodes, {description.steps:,} steps")
    output.print(description.digest, soft_wrap=True)
    if not description.policies:
        return
    own = description.first_look is not None  # single items always have a "click" there
    clicks = [] if own else [">clicks"]
    policies = new_table("policy", ">share", ">episodes", ">return", *clicks, ">propensity")
    targets = [one.target for one in description.policies[0].overlap]
    headings = [name for target in targets for name in (f">{target} covered", ">effective")]
    overlap = new_table("logs of", *headings)
    for policy in description.policies:
        policies.add_row(
            policy.policy,
            f"{policy.share:.1%}",
            f"{policy.episodes:,}",
            with_error(policy.mean, policy.sem),
            *([] if own else [f"{policy.clicks:.1%}"]),
            policy.propensity_range,
        )
        figures = [figure for one in policy.overlap for figure in (one.coverage, one.effective)]
        overlap.add_row(policy.policy, *(f"{figure:.2%}" for figure in figures))
    show_table(output, policies)
    show_table(output, overlap)
    if description.first_look is not None:
        _show_first_look(description.first_look)
    note = "covered: mean importance weight; effective: share of the steps, by Kish"
    output.print(note, style="dim")


MOST_SHOWN = 12
"""Columns of the user that are shown; all are in the JSON."""


def _show_first_look(look: FirstLook) -> None:
    """The figures of own logs, and what to expect of them."""
    from flows.cli.console import about

    fewest, most = look.candidates
    low, high = look.propensity
    offered = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    if look.of_lines:
        print(f"source        {look.of_lines}")
    if look.spread:
        anew = "; ids that begin anew in each file would join them" if look.mostly_spread else ""
        print(f"sessions      {look.spread:,} of them have rows in several files{anew}")
    unknown = "not named: each session counts as another's"
    print("visitors      " + (unknown if look.visitors is None else f"{look.visitors:,}"))
    columns = [f"{name}: {read_as}" for name, read_as in look.columns.items()]
    shown, more = columns[:MOST_SHOWN], len(columns) - MOST_SHOWN
    shown += [f"{more:,} more"] * (more > 0)
    print("user          " + ("; ".join(shown) or "no columns"))
    print(f"items         {look.items:,}, of which {offered} are offered at a time")
    if look.of_items:
        print(f"              {look.of_items}")
    print(f"reward        mean {look.reward:.5g}, not 0 in {look.rewarded:.2%} of the rows")
    print("propensity    " + " to ".join(dict.fromkeys((f"{low:.3g}", f"{high:.3g}"))))
    print(
        f"as random     mean weight {look.mean_weight:.3f} ± {look.mean_weight_sem:.3f}, largest "
        f"{look.largest_share:.2%} of all; {about(look.effective_rows)} effective rows, "
        f"{about(look.effective_rewards)} effective rewards"
    )
    if look.agreeing_rows is not None:
        print(
            f"as another    about {about(look.agreeing_rows)} held-out rows show what another "
            f"policy would show, {about(look.agreeing_rewards)} of them with a reward"
        )
    print(f"outlook       {look.outlook}")


def prune_command(
    *,
    days: Annotated[int, number(bounds.Days, "Age from which on things are old.")] = 30,
    remove: Annotated[
        bool, Parameter(name="--yes", negative=(), show_default=False, help="Remove them.")
    ] = False,
    data: Data = None,
    as_json: JSON = False,
) -> None:
    """Show old leftovers that can go: datasets, weights, checkpoints; `--yes` removes them.

    Data from which champions and their predecessors learnt stay, as do the newest dataset of
    each recipe, imported logs, own logs whose files are gone, and all registered versions.

    Example: slateflow prune --days 30
    """
    from tasks.experiment import data_folder
    from tasks.prune import prune

    folder = data_folder(data)
    if not folder.is_there():  # the flow takes it: its folder may come with the first night
        raise InputError(
            f"--data: expected a folder of datasets, found none at {folder.url}; correct it, or "
            "leave it out"
        )
    pruning = prune(days, data, remove=remove)
    if as_json:
        print_json({**pruning.model_dump(), "size": pruning.size})
        return
    table = new_table("kind", "what", ">days", ">MB")
    for one in pruning.found:
        table.add_row(one.kind, one.name, f"{one.days:.0f}", f"{one.size / 1e6:.1f}")
    if pruning.found:
        show_table(plain_console(), table)
    done = "removed" if remove else "can go; --yes removes them"
    print(f"{len(pruning.found)} older than {days} days, {pruning.size / 1e6:.1f} MB, {done}")
