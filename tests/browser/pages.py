"""Pages as headless Chromium draws them."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest


def chromium(address: str, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open the page and let its scripts run; what is done then is up to the options.

    Skips the test where there is no Chromium.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("the test reads pages with chromium, which is not installed")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", *options, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def open_page(address: str, expected: str, profile: Path) -> str:
    """The page's HTML when its scripts have run and `expected` is on it."""
    for _ in range(5):  # the budget counts scripts, not how long the server takes
        done = chromium(address, profile, "--dump-dom")
        if expected in done.stdout:
            return done.stdout
    raise AssertionError(f"{address}: {expected!r} is not on the page: {done.stdout[-2000:]}")


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


def table_rows(html: str) -> list[list[str]]:
    """The cells' text of all tables' rows."""
    parser = _Tables()
    parser.feed(html)
    return [[cell.strip() for cell in row] for row in parser.rows]
