"""Pages as drawn by headless Chromium, controlled through its DevTools."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.up import wait_until

_SECONDS = 60.0  # for a page of a busy server
_TRIES = 3


class Browser:
    """A tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._calls = socket, 0

    def open(self, address: str, expected: str) -> str:
        """Open a page until `expected` is on it, again if necessary; returns its HTML."""
        for _ in range(_TRIES - 1):
            self._call("Page.navigate", url="about:blank")
            self._call("Page.navigate", url=address)
            with suppress(AssertionError):  # the server was busy, or the page was made before
                return self.wait_for(expected, _SECONDS / _TRIES)
        self._call("Page.navigate", url=address)
        return self.wait_for(expected)

    def click(self, text: str, expected: str) -> str:
        """Click the link or button with this name, and wait as `open` does."""
        self._evaluate(
            "[...document.querySelectorAll('a, button, [role=tab], li, span')]"
            f".filter(one => one.innerText.trim() === {json.dumps(text)}).at(-1).click()"
        )
        return self.wait_for(expected)

    def wait_for(self, expected: str, seconds: float = _SECONDS) -> str:
        """Wait until `expected` is on the page; returns its HTML."""
        deadline = time.monotonic() + seconds
        while expected not in self.text:
            assert time.monotonic() < deadline, f"{expected!r} is not on the page: {self.text}"
            time.sleep(0.2)
        return self.html

    @property
    def html(self) -> str:
        """The page's current elements as HTML."""
        return str(self._evaluate("document.documentElement.outerHTML"))

    @property
    def text(self) -> str:
        """The text that a person reads."""
        return str(self._evaluate("document.body?.innerText"))

    def shoot(self, file: Path, width: int, height: int) -> None:
        """A picture of the page in a window of a given size."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        time.sleep(3)  # while it fades in
        picture = self._call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(picture))

    def _evaluate(self, script: str) -> Any:
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": parameters}
        self._socket.send(json.dumps(call))
        while (answer := json.loads(self._socket.recv(timeout=_SECONDS))).get("id") != self._calls:
            pass  # an event
        return answer["result"]


def _pages(tools: str) -> list[dict[str, Any]]:
    """Chromium's current tabs."""
    with urllib.request.urlopen(tools, timeout=_SECONDS) as answer:
        return [one for one in json.load(answer) if one["type"] == "page"]


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser for the block; skips the test without Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("the test reads pages with chromium, which is not installed")
    port = profile / "DevToolsActivePort"
    port.unlink(missing_ok=True)
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    command += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: port.exists() and port.read_text().count("\n"), _SECONDS, "Chromium")
        tools = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/list"
        wait_until(lambda: _pages(tools), _SECONDS, "a tab")
        with connect(_pages(tools)[0]["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)


def open_page(address: str, expected: str, profile: Path) -> str:
    """The page's HTML when its scripts have run and `expected` is on it."""
    with browsing(profile) as browser:
        return browser.open(address, expected)


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
    """The texts of the cells in all rows of tables."""
    parser = _Tables()
    parser.feed(html)
    return [[cell.strip() for cell in row] for row in parser.rows]
