"""Take docs/dashboard.png: start the program on a source, let the page watch it, photograph the page.

python docs/screenshot.py --demo            (needs Chromium, or CHROMIUM=path, and pip install -e .[test])
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from playwright.sync_api import sync_playwright

SETTLED = 3
WAIT_MS = 60_000
WATCHED_MS = 22_000
PICTURE = Path(__file__).with_name("dashboard.png")


def main(source: list[str]) -> None:
    """Wait until some intervals have settled, then take the picture."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        where = ["--port", str(port), "--journal", f"{folder}/journal.sqlite"]
        program = subprocess.Popen([sys.executable, "-m", "stream", *source, *where])
        try:
            photograph(f"http://127.0.0.1:{port}/")
        finally:
            program.terminate()
            program.wait(10)


def photograph(url: str) -> None:
    """Save the page at `url`."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1360, "height": 800})
        for _ in range(60):  # the program takes a moment to listen
            try:
                page.goto(url)
                break
            except Exception:
                page.wait_for_timeout(500)
        page.wait_for_timeout(WATCHED_MS)
        page.locator("li[data-state=settled]").nth(SETTLED - 1).wait_for(timeout=WAIT_MS)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:] or ["--demo"])
