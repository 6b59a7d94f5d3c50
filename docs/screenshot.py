"""Take the pictures of the page, docs/dashboard.png and docs/movement.png, from the running program.

python docs/screenshot.py            (needs Chromium, or CHROMIUM=path, and pip install -e .[test])
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from playwright.sync_api import Page, sync_playwright

ENDED = 3
WAIT_MS = 60_000
WATCHED_MS = 22_000
BLINK_MS = 1_500
HERE = Path(__file__).parent


def main() -> None:
    """Watch the demo clip, and photograph what the page shows."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        where = ["--port", str(port), "--journal", f"{folder}/journal.sqlite"]
        program = subprocess.Popen(
            [sys.executable, "-m", "stream", "--demo", *where], stderr=subprocess.PIPE, text=True
        )
        assert program.stderr is not None
        try:
            while "dashboard on" not in program.stderr.readline():
                assert program.poll() is None
            with sync_playwright() as playwright:
                chromium = os.environ.get("CHROMIUM") or which("chromium")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-GB")
                page.goto(f"http://127.0.0.1:{port}/")
                photograph(page)
                browser.close()
        finally:
            program.terminate()
            program.wait(10)


def photograph(page: Page) -> None:
    """Save the page once some movements have ended, then the newest of them up close."""
    page.wait_for_timeout(WATCHED_MS)
    page.locator("li[data-state=settled]").nth(ENDED - 1).wait_for(timeout=WAIT_MS)
    page.locator("#degraded:empty").wait_for(state="attached", timeout=WAIT_MS)
    page.screenshot(path=HERE / "dashboard.png")
    page.click("li[data-state=settled] button")
    page.wait_for_timeout(BLINK_MS)
    page.screenshot(path=HERE / "movement.png")


if __name__ == "__main__":
    main()
