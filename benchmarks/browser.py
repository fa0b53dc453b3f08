"""A page in headless Chromium, which is controlled by the DevTools protocol over a pipe.

with Browser() as browser:
    browser.open(path)
    browser.value("document.title")
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

# Nothing of the browser's own may use the network or the processor during a measurement.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """One tab. width_px, height_px: of its window; phone: touch, and two pixels for each."""

    def __init__(self, width_px: int = 1280, height_px: int = 900, *, phone: bool = False) -> None:
        program = shutil.which("chromium")
        if program is None:
            raise SystemExit("chromium is not installed")
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._writing = os.pipe()
        self._reading, from_browser = os.pipe()
        # the protocol uses the file descriptors 3 and 4
        joined = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        words = [program, *_FLAGS, f"--user-data-dir={self._home.name}/profile"]
        self._process = subprocess.Popen(
            ["bash", "-c", joined, *words],
            pass_fds=(to_browser, from_browser),
            env={**os.environ, "HOME": self._home.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session = ""
        self.errors: list[str] = []  # of the page's script
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        self.send("Runtime.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("method") == "Runtime.exceptionThrown":
                details = answer["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", details).get("description", ""))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._reading, 1 << 20)
            if not data:
                raise RuntimeError("chromium ended")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def dark(self) -> None:
        """Ask for the dark colours."""
        feature = {"name": "prefers-color-scheme", "value": "dark"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def open(self, page: Path) -> float:
        """Open a page, and wait until it is drawn. Returns the seconds that this took."""
        before = time.perf_counter()
        self.send("Page.navigate", url=page.absolute().as_uri())
        while self.value("document.readyState") != "complete":
            time.sleep(0.01)
        self.value(AFTER_DRAWING)
        return time.perf_counter() - before

    def value(self, script: str) -> Any:
        """The value of an expression, or of the promise that it gives. Raises RuntimeError with the
        message of an exception."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if details := answer.get("exceptionDetails"):
            raise RuntimeError(details.get("exception", details).get("description", "exception"))
        return answer["result"].get("value")

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))


# Two frames: the first is drawn from what the script did until now.
AFTER_DRAWING = (
    "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
)
