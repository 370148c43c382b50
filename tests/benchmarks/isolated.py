"""Packages of others, in an environment of their own."""

from __future__ import annotations

import shutil
import subprocess


def isolated_python(*packages: str) -> list[str]:
    """How Python is run with these packages, and without ours; empty where uv has them not cached.

    Their modules have their names.
    """
    command = ["uv", "run", "--isolated", "--offline", "--no-project", "--python", "3.11"]
    for package in packages:
        command += ["--with", package]
    if shutil.which("uv") is None:
        return []
    probe = [*command, "python", "-c", f"import {', '.join(packages)}"]
    found = subprocess.run(probe, capture_output=True, check=False)
    return [] if found.returncode else [*command, "python"]
