"""A page of the report in headless Chromium, as wide as a desktop's window or a phone's."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

# The page in a frame, because a browser's window is never as narrow as a phone.
_FRAME = """<body style="margin: 0"><script>
window.addEventListener("message", (event) => {
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = event.data;
  document.body.append(found);
});
</script><iframe src="checked.html" style="width: WIDTHpx; height: 2000px; border: 0"></iframe>"""
_CHECK = """<script>
{
  const errors = [];
  window.addEventListener("error", (event) => errors.push(event.message));
  window.addEventListener("load", () => {
    const found = {};
    BODY
    found.errors = errors;
    parent.postMessage(JSON.stringify(found), "*");
  });
}
</script></head>"""


def found_in_browser(folder: Path, page: str, body: str, width_px: int) -> dict[str, Any]:
    """What the statements of `body` put into `found` when the page is open, and the messages of
    `errors`. folder: for files of the browser. The test is skipped without Chromium."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: the report was not opened in a browser")
    check = _CHECK.replace("BODY", body)
    (folder / "checked.html").write_text(page.replace("</head>", check, 1), encoding="utf-8")
    (folder / "frame.html").write_text(_FRAME.replace("WIDTH", str(width_px)))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    words += [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder}/profile",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    words += ["--window-size=1280,2000", (folder / "frame.html").as_uri()]
    environment = {**os.environ, "HOME": str(folder)}
    run = subprocess.run(
        [browser, *words], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    dumped = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    assert dumped, "the page did not open, or its check failed"
    return dict(json.loads(unescape(dumped[1])))
