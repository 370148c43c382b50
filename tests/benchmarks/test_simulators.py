"""The simulators and their datasets: right, fast and small. Every test prints a table.

Speeds are medians of rounds in which all sides run in turn, on one core, in seconds of this
process's processor time; times by the clock are shown, too, and include waiting for the disk and
for other processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slateflow.environments import preset, presets, recsim_environment
from slateflow.environments.recsim_import import drawing_from
from slateflow.evaluation import measure_baselines
from slateflow.policies import Behaviour
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.files.part_files import LAYOUT
from slateflow.trajectories.generation.plan import plan
from slateflow.trajectories.generation.simulate import simulate
from slateflow.trajectories.schema import column_digest, to_table
from tests.benchmarks.cores import one_core
from tests.reference import RETURNS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

HALVES = {"random": 0.5, "greedy": 0.5}
ROUNDS = 5
LARGEST = int(os.environ.get("SLATEFLOW_BENCHMARK_STEPS", 10_000_000))
"""Steps of the largest dataset; the figure of the issue is 100,000,000, which needs 10 GB of disk.
"""


@pytest.fixture
def show(capsys) -> Callable[..., None]:
    """Print past pytest's capture."""

    def lines(*text: str) -> None:
        with capsys.disabled():
            print("", *text, sep="\n")

    return lines


def medians(
    sides: dict[str, Callable[[], int]], tidy_up: Callable[[], None] = lambda: None
) -> dict[str, tuple[float, float]]:
    """Nanoseconds per step of each side, by processor and by clock; sides return their steps.

    After each side `tidy_up` is called, whose time does not count.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    with one_core():
        for measured in range(-1, ROUNDS):  # the first round pays for what is loaded once
            for name, side in sides.items():
                cpu, clock = time.process_time(), time.perf_counter()
                steps = side()
                cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
                tidy_up()
                if measured >= 0:
                    taken[name].append((cpu / steps * 1e9, clock / steps * 1e9))
    return {
        name: (statistics.median(c for c, _ in rows), statistics.median(w for _, w in rows))
        for name, rows in taken.items()
    }


def test_returns(show):
    """Every preset under every policy, compared with the reference."""
    rows = [f"{'preset, policy':<36}{'ours':>18}{'reference':>18}{'sems apart':>12}"]
    for name in presets():
        spec = preset(name)
        others = {"quality": Behaviour(scorer="quality")} if name == "interest-evolution" else {}
        for one in measure_baselines(spec, episodes=10_000, seed=1, others=others):
            ours, theirs, apart = f"{one.mean:.2f} ± {one.sem:.2f}", "", ""
            key = name.removesuffix("-hidden"), one.policy  # slates change no dynamics
            if key in RETURNS:
                mean, sem = RETURNS[key]
                theirs = f"{mean} ± {sem}"
                apart = f"{(one.mean - mean) / np.hypot(sem, one.sem):+.1f}"
            rows.append(f"{name + ', ' + one.policy:<36}{ours:>18}{theirs:>18}{apart:>12}")
    show(*rows)


def test_parity_counts(show):
    """Number of steps that the replays compare."""
    from tests.environments.interest_evolution import test_parity_evolution as evolution
    from tests.environments.interest_exploration import test_parity_exploration as exploration
    from tests.environments.long_term_satisfaction import test_parity as lts

    rows = ["replays of RecSim's draws: kernels, batched simulator; sets of parameters"]
    for module in (lts, evolution, exploration):
        sets = [one.values[0] for one in module.WORLDS]
        counts = [
            sum(replay(one) for one in sets) for replay in (module.replay, module.replay_batched)
        ]
        assert min(counts) >= 5_000
        rows.append(f"{module.__name__}: {counts[0]:,} steps, {counts[1]:,} steps; {len(sets)}")
    show(*rows)


def recsim_loop(name: str, steps: int = 3_000) -> int:
    """RecSim's own loop, without Gymnasium, on slates drawn in advance."""
    env = recsim_environment(preset(name), seed=1)
    spec, world, rng = env.environment_spec, env._world, np.random.RandomState(1)
    slates = np.argsort(rng.random_sample((steps, spec.num_candidates)), axis=1)
    slates = slates[:, : spec.slate_size].tolist()
    played = 0
    with drawing_from(rng):
        while played < steps:
            world.reset()
            for step in range(spec.horizon):
                *_, over = world.step(slates[played])
                played += 1
                if over or played == steps:
                    break
                assert step < spec.horizon
    return played


def from_recipe(folder: Path, name: str, episodes: int) -> int:
    """From recipe to published dataset."""
    number = sum(1 for _ in folder.iterdir())
    recipe = Recipe(f"d{number}", name, episodes, number, HALVES)
    return generate(recipe, Folder(str(folder))).rows


def draws(steps: int = 600_000) -> int:
    """The numbers that a step of LTS 20/2 needs: 20 uniforms and 2 normals, float32, by SFC64."""
    rng = np.random.Generator(np.random.SFC64(1))
    uniform, normal = (np.empty((10_000, count), np.float32) for count in (20, 2))
    for _ in range(steps // 10_000):
        rng.random(out=uniform, dtype=np.float32)
        rng.standard_normal(out=normal, dtype=np.float32)
    return steps


def two_workers(name: str, folder: Path) -> float:
    """Nanoseconds per step by the clock, without the start of the processes; three runs."""
    taken = []
    for number in range(3):
        steps = {"interest-evolution": 60}.get(name, 120)
        for episodes in (1_000, 5_000_000 // steps):  # the first has as much start-up as the second
            recipe = Recipe(f"t{number}-{episodes}", name, episodes, 0, HALVES)
            start = time.perf_counter()
            dataset = generate(recipe, Folder(str(folder / "two")), workers=2)
            taken.append((time.perf_counter() - start, dataset.rows))
            for written in (folder / "two").rglob("*.parquet"):
                written.unlink()
    pairs = zip(taken[::2], taken[1::2], strict=True)
    return statistics.median(
        (long - short) / (rows - fewer) * 1e9 for (short, fewer), (long, rows) in pairs
    )


@pytest.mark.parametrize(
    ("name", "episodes"),
    [
        ("modified-lts-20-2", 24_000),
        ("interest-evolution", 24_000),
        ("interest-exploration", 2_000),
    ],
)
def test_generation_against_recsim_and_the_floor(name, episodes, tmp_path, show):
    recipe = Recipe("floor", name, 1_000, 0, HALVES)
    tables = [
        to_table(rows, recipe.spec, {})
        for part in plan(recipe)
        for rows in simulate(recipe.spec, [part], 0)
    ]

    def write(kind: str) -> int:
        for number, table in enumerate(tables):
            pq.write_table(table, tmp_path / f"{kind}-{number}.parquet", **LAYOUT)
        return sum(table.num_rows for table in tables)

    folder = tmp_path / "data"
    folder.mkdir()
    sides: dict[str, Callable[[], int]] = {
        "RecSim's own loop": partial(recsim_loop, name),
        "from recipe to dataset": partial(from_recipe, folder, name, episodes),
        "pyarrow writes the columns": partial(write, "floor"),
    }
    if name == "modified-lts-20-2":
        sides["drawing the numbers"] = draws

    def tidy_up() -> None:  # new files every time, for both
        for written in tmp_path.rglob("*.parquet"):
            written.unlink()

    took = medians(sides, tidy_up)
    rows = [f"{name + ', one core':<40}{'steps/s':>14}{'by the clock':>14}"]
    rows += [f"{side:<40}{1e9 / c:>14,.0f}{1e9 / w:>14,.0f}" for side, (c, w) in took.items()]
    ours, theirs = took["from recipe to dataset"], took["RecSim's own loop"]
    rows.append(f"times RecSim's loop: {theirs[0] / ours[0]:.0f} ({theirs[1] / ours[1]:.0f})")
    rows.append(f"with two workers on two cores: {theirs[1] / two_workers(name, tmp_path):.0f}")
    if name == "modified-lts-20-2":
        floor = [
            took["drawing the numbers"][i] + took["pyarrow writes the columns"][i] for i in (0, 1)
        ]
        rows.append(f"of the floor: {floor[0] / ours[0]:.2f} ({floor[1] / ours[1]:.2f})")
    show(*rows)


@pytest.mark.parametrize("name", ["modified-lts-20-2", "interest-evolution"])
def test_compressions_and_encodings(name, show):
    """The cost of compression and encoding end to end: simulation, digest, file, and reading it."""
    recipe = Recipe("c", name, 500, 0, {"random": 1})
    spec, parts = recipe.spec, plan(recipe)
    lists = [f"{name}.list.element" for name in ("user", "candidates", "items")]
    layouts = {one: {"compression": one} for one in ("none", "lz4", "snappy", "zstd")}
    layouts["lz4, dictionaries"] = {"use_dictionary": True}
    layouts["zstd, BYTE_STREAM_SPLIT"] = {"use_byte_stream_split": True, "compression": "zstd"}
    layouts["lz4, dictionaries of lists"] = {"use_dictionary": lists}
    files: dict[str, bytes] = {}

    def end_to_end(kind: str) -> int:
        (rows,) = simulate(spec, parts, 0)
        column_digest(rows)
        sink = pa.BufferOutputStream()
        pq.write_table(to_table(rows, spec, {}), sink, **{**LAYOUT, **layouts[kind]})
        files[kind] = sink.getvalue().to_pybytes()
        return len(rows)

    def read(kind: str) -> int:
        return pq.read_table(pa.BufferReader(files[kind]), use_threads=False).num_rows

    made = medians({kind: partial(end_to_end, kind) for kind in layouts})
    back = medians({kind: partial(read, kind) for kind in layouts})
    steps = len(next(simulate(spec, parts, 0)))
    head = f"{name + ', one core':<36}{'bytes/step':>12}{'made, ns/step':>16}{'read, ns/step':>16}"
    show(
        head,
        *(
            f"{kind:<36}{len(files[kind]) / steps:>12.1f}{made[kind][0]:>16.0f}"
            f"{back[kind][0]:>16.0f}"
            for kind in layouts
        ),
    )


STAGES = {
    "generate": """
from slateflow.trajectories import Folder, Recipe
from slateflow.trajectories import generate
recipe = Recipe("big", "modified-lts-20-2", steps // 120, 7, {"random": 0.5, "greedy": 0.5})
dataset = generate(recipe, Folder(folder), workers)
found = {"digest": dataset.digest, "rows": dataset.rows}
""",
    "read": """
from slateflow.trajectories import Dataset
rows = total = 0
for part in Dataset.open(folder + "/big").iter_parts():
    rows, total = rows + len(part), total + float(part.reward.sum(dtype=float))
found = {"rows": rows, "mean": total / (rows / 120)}
""",
    "train linucb and lints": """
from slateflow.learners import learner_config
from slateflow.learners.training import train
from slateflow.trajectories import Dataset
dataset = Dataset.open(folder + "/big")
found = {"rows": sum(train(dataset, learner_config(one))[1].rows for one in ("linucb", "lints"))}
""",
}


def measured(stage: str, folder: Path, steps: int, workers: int = 1) -> dict:
    """Run a stage in its own process, on as many cores as workers.

    Returns the seconds, and the peak memory of the process or a child.
    """
    code = f"""
import json, os, resource, time
if __name__ == "__main__":
    folder, steps, workers = {str(folder)!r}, {steps}, {workers}
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-workers:])
    start = time.perf_counter()
    {STAGES[stage].strip().replace(chr(10), chr(10) + "    ")}
    seconds = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # Its own highest; that of getrusage begins with what the process that started it had
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    highest = int(status["VmHWM"].split()[0])
    print(json.dumps({{
        "seconds": seconds, "cpu": sum(one.ru_utime + one.ru_stime for one in usage),
        "mib": max(highest, usage[1].ru_maxrss) / 1024, **found,
    }}))
"""
    script = folder.with_suffix(".py")  # a file, so that spawned workers find their way
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_and_time_grow_as_they_should(tmp_path, show):
    """1, 10 and, if the environment variable is so set, 100 million steps."""
    rows = [f"{'steps':>12}  {'stage':<24}{'seconds':>9}{'cpu s':>8}{'MiB':>7}"]
    for million in (1, 10, 100):
        steps = million * 1_000_000
        if steps > LARGEST:
            break
        folder = tmp_path / f"{million}m"
        for stage in STAGES:
            found = measured(stage, folder, steps)
            rows.append(
                f"{found['rows']:>12,}  {stage:<24}{found['seconds']:>9.1f}{found['cpu']:>8.1f}"
                f"{found['mib']:>7.0f}  {found.get('digest', '')}"
            )
        for file in sorted((folder / "big").rglob("*.parquet")):
            file.unlink()
    show(*rows)


def test_two_cores(tmp_path, show):
    """Two processes on two cores against one on one, including start-up.

    The ratio by the clock is valid only if both cores are free. The ratio by the processor is to be
    expected in that case: the seconds of one process against half of those of two.
    """
    steps, found = 20_000_000, {}
    for workers in (1, 2):
        folder = tmp_path / f"workers-{workers}"
        found[workers] = measured("generate", folder, steps, workers)
        for file in sorted((folder / "big").rglob("*.parquet")):
            file.unlink()
    clock, cpu = ([found[workers][what] for workers in (1, 2)] for what in ("seconds", "cpu"))
    assert found[1]["digest"] == found[2]["digest"]
    show(
        f"{steps:,} steps of modified-lts-20-2, load of the machine {os.getloadavg()[0]:.1f}",
        f"by the clock: one process {clock[0]:.1f} s, two {clock[1]:.1f} s, "
        f"ratio {clock[0] / clock[1]:.2f}",
        f"by the processor: one {cpu[0]:.1f} s, two {cpu[1]:.1f} s together, "
        f"ratio {cpu[0] / (cpu[1] / 2):.2f}",
    )
