"""The dashboard's modules without a browser: `node --test` on tests/dashboard, with nothing but node itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "dashboard"
DASHBOARD = Path(__file__).parent.parent / "stream" / "server" / "dashboard"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs node 20 or newer: apt-get install nodejs")
@pytest.mark.parametrize("name", sorted(path.name for path in TESTS.glob("*.test.js")))
def test_a_module_of_the_dashboard_does_what_its_tests_say(tmp_path, name):
    """A copy beside a package.json: node takes a `.js` file for a module only where one says so."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(DASHBOARD, tmp_path / "stream" / "server" / "dashboard")
    test = tmp_path / "tests" / "dashboard" / name
    test.parent.mkdir(parents=True)
    shutil.copy(TESTS / name, test)
    assert NODE is not None
    command = [NODE, "--test", "--test-reporter=tap", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n# pass 0\n" not in done.stdout, "a file in which no test ran"
