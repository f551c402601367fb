"""A real browser for tests: Chromium without a window, driven through a pipe.

The DevTools protocol is spoken over two inherited file descriptors (Chromium's
``--remote-debugging-pipe``), so nothing listens on a port and no library is needed:
messages are JSON, each followed by a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
_PATIENCE_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes answers to 4.
_WIRED = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


class Browser:
    """One page of one browser, and what happened on it."""

    def __init__(self, to: int, back: int) -> None:
        """Takes the descriptors that commands go to and answers come back from."""
        self._to, self._back = to, back
        self._buffer, self._last = b"", 0
        self._attached: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._attached = self.call(
            "Target.attachToTarget", targetId=target, flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends one command and waits for its answer; events are kept.

        Raises:
          RuntimeError: the browser refuses the command.
        """
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._attached:
            message["sessionId"] = self._attached
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != self._last:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], _PATIENCE_S)
            chunk = os.read(self._back, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError("the browser has ended, or does not answer")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def show(self, page: Path, width: int, dark: bool) -> None:
        """Opens a file as a screen of that width would, and waits until it is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not self.seen("Page.loadEventFired"):
            self.events.append(self._read())

    def seen(self, method: str) -> list[dict[str, Any]]:
        """Parameters of all events of one kind since the page was opened."""
        return [e["params"] for e in self.events if e.get("method") == method]

    def ask(self, expression: str) -> Any:
        """Value of an expression of JavaScript on the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def picture(self, path: Path) -> None:
        """Writes the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Starts Chromium with a profile of its own, and ends it."""
    assert CHROMIUM
    commands, to = os.pipe()
    back, answers = os.pipe()
    # First out of each other's way.
    kept = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _WIRED, *map(str, kept), *browser],
            pass_fds=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands, answers, *kept):
            os.close(end)
        try:
            yield Browser(to, back)
        finally:
            os.close(to)  # without a reader of its answers the browser ends itself
            os.close(back)
            process.terminate()
            process.wait()
