"""Third-party packages in an isolated environment."""

from __future__ import annotations

import shutil
import subprocess


def isolated_python(*packages: str) -> list[str]:
    """The command that runs Python with only these packages; empty if uv does not have them cached.

    The packages are importable under the same names.
    """
    command = ["uv", "run", "--isolated", "--offline", "--no-project", "--python", "3.11"]
    for package in packages:
        command += ["--with", package]
    if shutil.which("uv") is None:
        return []
    probe = [*command, "python", "-c", f"import {', '.join(packages)}"]
    found = subprocess.run(probe, capture_output=True, check=False)
    return [] if found.returncode else [*command, "python"]
