"""Deployments whose runs clone their code, on a machine without the deployer's files."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from flows.services.deploy import HERE, Source, deploy_from_shell, prefect_document
from slateflow.errors import InputError
from tests.servers import BIN, mlflow_server, prefect_server
from tests.up import wait_until

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "flows" / "services" / "Dockerfile"
NAME = "nightly-modified-lts-10-1"
STEPS = "prefect.deployments.steps"
SMALL = {"episodes": 60, "learners": ["linucb"], "evaluation_episodes": 100}


def test_the_steps_by_which_a_run_gets_its_code(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    plain = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    here = prefect_document(HERE)
    assert here.pop("pull") == [{f"{STEPS}.set_working_directory": {"directory": str(ROOT)}}]
    assert here == plain
    source = Source(repository="https://git.example/s.git", branch="v1", data="s3://data")
    there = prefect_document(source)
    clone, install = there["pull"]
    assert clone[f"{STEPS}.git_clone"]["branch"] == "v1"
    assert install[f"{STEPS}.run_shell_script"]["directory"] == "{{ clone.directory }}"
    deployments = {f"{one['entrypoint']}/{one['name']}": one for one in there["deployments"]}
    assert str(ROOT) not in yaml.safe_dump(there)
    nightly = deployments[f"flows/pipeline.py:pipeline/{NAME}"]
    assert nightly["parameters"]["data"] == "s3://data"
    variables = nightly["work_pool"]["job_variables"]["env"]
    assert variables["MLFLOW_TRACKING_URI"] == "http://mlflow.example:5000"
    for deployment in deployments.values():  # others take the dataset's address from an event
        module, _, name = deployment["entrypoint"].partition(".py:")
        flow = getattr(importlib.import_module(module.replace("/", ".")), name)
        looks = "data" in flow.parameters.properties
        assert looks == ("data" in deployment.get("parameters", {})), deployment["name"]


@pytest.mark.parametrize(
    ("variables", "source", "expected"),
    [
        ({}, HERE, "PREFECT_API_URL: expected the address of a Prefect server, got none"),
        (
            {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
            HERE,
            "PREFECT_API_URL: expected a Prefect server at http://127.0.0.1:9/api, got ",
        ),
        (
            {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
            Source(repository="https://me:secret@git.example/s.git"),
            r"--repository: .* without a password.* got https://me:\*\*\*@git.example/s.git;",
        ),
        (
            {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
            Source(repository="https://git.example/s.git"),
            "--data: expected a URL for the datasets of all machines, got none",
        ),
        (
            {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
            Source(repository="https://git.example/s.git", data="s3://data"),
            "MLFLOW_TRACKING_URI: expected a server that all machines reach, got none",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused(monkeypatch, variables, source, expected):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with (
        temporary_settings({PREFECT_API_URL: variables.get("PREFECT_API_URL")}),
        pytest.raises(InputError, match=expected),
    ):
        deploy_from_shell(source)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nfoo: [\n", "prefect.yaml, line 3: expected YAML, got: expected the node content"),
        ("a: \x01", "prefect.yaml: expected YAML, got: unacceptable character"),
        ("", "prefect.yaml: expected a list of deployments, got none"),
        ("deployments:\n", "prefect.yaml: expected a list of deployments, got none"),
        (
            "deployments: [{name: a, entrypoint: flows/pipeline.py:pipeline, parameters: "
            "{recipe: shop, learnes: [linucb]}}]",
            "prefect.yaml: a: unknown parameter 'learnes': expected one of recipe, ",
        ),
        (
            "deployments: [{name: a, entrypoint: flows/pipeline.py:pipeline, parameters: "
            "{recipe: modified-lts}}]",
            "prefect.yaml: a: recipe: expected another value, got: 'modified-lts' is not one of ",
        ),
        (
            "deployments: [{name: a, entrypoint: flows/pipeline.py:pipeline, parameters: "
            "{recipe: '{{ prefect.variables.shop }}', workers: 0}}]",
            "prefect.yaml: a: workers: expected another value, got: 0 is less than the minimum",
        ),
    ],
)
def test_a_document_that_cannot_be_read_is_refused(tmp_path, monkeypatch, text, expected):
    monkeypatch.setattr("tasks.server.deployments.PROJECT", tmp_path)
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(InputError, match=expected):
        prefect_document(HERE)


def git(folder: Path, *command: str) -> str:
    """The output of a git command."""
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *who, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """A bare repository and a working clone of it: the current project as tag v1."""
    work = folder / "work"
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, work / name)
    git(folder, "init", "--quiet", "--initial-branch", "main", str(work))
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "The project")
    git(work, "tag", "v1")
    git(folder, "clone", "--quiet", "--bare", str(work), "slateflow.git")
    git(work, "remote", "add", "origin", str(folder / "slateflow.git"))
    return folder / "slateflow.git"


def machine(home: Path, **environment: str) -> dict[str, str]:
    """Environment of a shell on another machine; packages come from this one's cache."""
    home.mkdir()
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    kept = {"PATH": os.environ["PATH"].replace(f"{BIN}:", ""), "HOME": str(home)}
    index = {key: value for key, value in os.environ.items() if key.startswith(("UV_", "SSL_"))}
    return {**kept, **index, "UV_CACHE_DIR": cache.stdout.strip(), **environment}


@contextmanager
def worker(checkout: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A worker as a team starts it; returns its log."""
    log = checkout.parent / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["uv", "run", "--no-dev", "prefect", "worker", "start", "--pool", "slateflow"],
            cwd=checkout,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_elsewhere_runs_a_tag_and_then_a_branch_without_the_deployers_folder(tmp_path):
    from prefect.client.orchestration import SyncPrefectClient

    bare = repository(tmp_path)
    with prefect_server(tmp_path / "prefect") as api, mlflow_server(tmp_path / "mlflow") as store:
        addresses = {"PREFECT_API_URL": api, "MLFLOW_TRACKING_URI": store}

        def deploy(branch: str) -> None:
            """Deploy from a temporary folder."""
            git(tmp_path, "clone", "--quiet", str(bare), "deployer")
            command = ["-m", "flows.cli.main", "deploy", "--repository", str(bare)]
            done = subprocess.run(
                [sys.executable, *command, "--branch", branch, "--data", f"{tmp_path}/data"],
                cwd=tmp_path / "deployer",
                env={**os.environ, "PREFECT_HOME": str(tmp_path / "shell"), **addresses},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert f"deployments run {branch} of {bare}" in done.stdout
            shutil.rmtree(tmp_path / "deployer")

        def night(seed: int) -> str:
            """A run's commit, from its champion's version."""
            parameters = {**SMALL, "seed": seed}
            with SyncPrefectClient(api) as client:
                found = client.read_deployment_by_name(f"pipeline/{NAME}")
                run = client.create_flow_run_from_deployment(found.id, parameters=parameters)
                wait_until(
                    lambda: client.read_flow_run(run.id).state.is_final(), 240, "the run's end"
                )
                ended = client.read_flow_run(run.id)
                logs = [log.message for log in client.read_logs(limit=200)]
            assert ended.state.is_completed(), (ended.state, logs, log.read_text())
            assert ended.parameters["data"] == f"{tmp_path}/data"
            dataset = tmp_path / "data" / f"modified-lts-10-1.episodes-60.seed-{seed}"
            assert (dataset / "_manifest.json").is_file()
            registry = mlflow.MlflowClient(store)
            experiment = registry.get_experiment_by_name("slateflow-modified-lts-10-1")
            newest, *_ = registry.search_runs([experiment.experiment_id], max_results=1)
            return str(newest.data.tags["slateflow.code_commit"])

        import mlflow

        deploy("v1")
        checkout = tmp_path / "there" / "checkout"
        environment = machine(tmp_path / "there", MLFLOW_TRACKING_URI=store, PREFECT_API_URL=api)
        git(tmp_path, "clone", "--quiet", str(bare), str(checkout))
        with worker(checkout, environment) as log:
            assert night(1) == git(bare, "rev-parse", "v1")
            work = tmp_path / "work"
            git(work, "commit", "--quiet", "--allow-empty", "--message", "The next version")
            git(work, "push", "--quiet", "origin", "main")
            deploy("main")
            assert night(2) == git(bare, "rev-parse", "main") != git(bare, "rev-parse", "v1")


def test_the_linter_has_nothing_to_say_of_the_dockerfile():
    command = [str(BIN / "hadolint"), "--no-color", str(DOCKERFILE)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


# This machine's programs in $BOX/root; memory holds changes
OVERLAY = """
mount -t tmpfs none $BOX
mkdir $BOX/upper $BOX/work $BOX/cache $BOX/cache-work $BOX/root
mount -t overlay none -o lowerdir=/,upperdir=$BOX/upper,workdir=$BOX/work $BOX/root
"""
# Without the $HIDDEN folders, but $PYTHON, $UV and a cache that every user may write to
FOLDERS = """
for folder in $HIDDEN; do mount -t tmpfs -o mode=755 none $BOX/root/$folder; done
chmod 1777 $BOX/root/tmp
for folder in $PYTHON $UV; do
    mkdir -p $BOX/root/$folder
    mount --bind -o ro $folder $BOX/root/$folder
done
mkdir -p $BOX/root/$UV_CACHE_DIR
mount -t overlay none -o lowerdir=$UV_CACHE_DIR,upperdir=$BOX/cache,workdir=$BOX/cache-work \\
    $BOX/root/$UV_CACHE_DIR
find $BOX/root/$UV_CACHE_DIR '(' -path '*/archive-v*/*' -o -path '*/builds-v*/*' ')' -prune \\
    -o -exec chmod a+rwX {} +
mount --bind $DISK $BOX/root/opt
mount --rbind /proc $BOX/root/proc
mount --rbind /dev $BOX/root/dev
"""


def in_namespace(script: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script whose mounts vanish with it; returns its end and output."""
    return subprocess.run(
        ["env", "unshare", "--mount", "sh", "-euc", script],  # fails where no unshare is
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long  # copies gigabytes
@pytest.mark.timeout(900)
def test_the_commands_of_the_dockerfile_make_an_environment_in_which_a_clone_runs(tmp_path):
    """All except apt's and pip's, in a chroot, in the folder and as the user of the file."""
    box, disk = tmp_path / "box", tmp_path / "disk"
    box.mkdir()
    disk.mkdir()
    cache = machine(tmp_path / "home")
    uv = Path(os.environ.get("UV", shutil.which("uv"))).resolve().parent
    hidden = {"home", "opt", "root", "srv", "tmp", ROOT.parts[1], tmp_path.parts[1]}
    variables = {
        "BOX": str(box),
        "DISK": str(disk),
        "HIDDEN": " ".join(sorted(hidden)),
        "PYTHON": sys.base_prefix,
        "UV": str(uv),
        "UV_CACHE_DIR": cache["UV_CACHE_DIR"],
    }
    tried = in_namespace(OVERLAY, variables)
    if tried.returncode:
        pytest.skip(f"needs root that may mount in a namespace of its own: {tried.stderr}")

    user, folder = "0", "/"
    programs = f"{sys.base_prefix}/bin:{uv}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {**cache, "PATH": programs, "UV_LINK_MODE": "copy"}
    del environment["HOME"]  # the user's own, as Docker sets it

    def inside(command: str) -> str:
        """The shell line that runs a command in the file's current folder."""
        settings = [f"{name}={value}" for name, value in environment.items()]
        home = 'export HOME="$(getent passwd "$(id -u)" | cut -d: -f6)"'
        shell = ["env", "-i", *settings, "sh", "-euc", f"{home}; cd {folder}; {command}"]
        return shlex.join(["chroot", f"--userspec={user}", f"{box}/root", *shell])

    script = [OVERLAY, FOLDERS, inside(f"test ! -e {ROOT}")]
    ran = []
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "COPY":
            *files, target = rest.split()
            script.append(shlex.join(["cp", *files, f"{box}/root{folder}/{target}"]))
        elif word == "RUN" and not rest.startswith(("apt-get ", "pip ")):
            script.append(inside(rest.replace(" --no-cache", "")))  # packages from the cache
            ran.append(rest.split()[0])
        elif word == "WORKDIR":
            folder = rest
            script.append(f"mkdir -p {box}/root{folder}")
        elif word == "ENV":
            for setting in rest.split():
                name, _, value = setting.partition("=")
                environment[name] = value.replace("$PATH", environment["PATH"])
        elif word == "USER":
            user = rest
        else:
            assert word in ("", "#", "FROM", "RUN"), line
    assert ran == ["uv", "useradd"]
    assert user != "0"
    (version,) = re.findall(r"^FROM python:(\S+)-slim$", text, re.MULTILINE)
    assert f'requires-python = ">={version},' in (ROOT / "pyproject.toml").read_text()

    document = prefect_document(Source(repository="x"))
    install = document["pull"][1][f"{STEPS}.run_shell_script"]["script"]
    script += [
        f"cp -r {repository(tmp_path)} {box}/root/srv/slateflow.git",
        f"chown -R {user} {box}/root/srv/slateflow.git",
        inside("git clone --quiet /srv/slateflow.git clone"),
        inside("sed -i 's/^dependencies = .$/& \"codespell\",/' clone/pyproject.toml"),
        inside(f"cd clone; {install}"),
        inside("test ! -e clone/.venv; codespell --version"),  # into the image's environment
        inside("cd clone; python -m flows.cli.main environments --json"),
    ]
    try:
        done = in_namespace("\n".join(script), variables)
    finally:
        shutil.rmtree(disk)  # gigabytes
    assert done.returncode == 0, done.stderr
    assert "modified-lts-20-2" in done.stdout
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
