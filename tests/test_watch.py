"""Those who listen: `mestream watch` and the examples, as processes against a real server."""

import http.server
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from serving import as_sent, event, serving
from test_dashboard import browser, needs_browser  # noqa: F401 - a fixture

from stream.types import Phase
from stream.watch import _url_of, main

ROOT = Path(__file__).parent.parent
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "160"}


def started(*command, **environ):
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRON, **environ},
    )


def test_watching_survives_a_restart_and_misses_nothing(tmp_path):
    with serving(tmp_path) as server:
        port = server.port
        server.publish(event(1))
        watcher = started("-m", "stream", "watch", f"127.0.0.1:{port}", "--after", ":0", "--count", "4", "--json")
        lines = [json.loads(watcher.stdout.readline()) for _ in range(2)]
        server.publish(event(2, Phase.START))
        lines.append(json.loads(watcher.stdout.readline()))
        first = server.epoch
    with serving(tmp_path, port=port) as server:
        server.publish(event(3))
        server.publish(event(4))
        out, err = watcher.communicate(timeout=30)
        lines += map(json.loads, out.splitlines())
        assert watcher.returncode == 0
        events = [line for line in lines if line["type"] == "event"]
        assert events == [
            as_sent(event(1), first, 1),
            as_sent(event(2, Phase.START), first, 2),
            as_sent(event(3), server.epoch, 1),
            as_sent(event(4), server.epoch, 2),
        ]
        assert "trying again" in err


def test_people_read_intervals_not_json(tmp_path, capsys):
    with serving(tmp_path) as server:
        server.publish(event(1, Phase.START, apex_s=None, offset_s=None))
        server.publish(event(1, Phase.RETRACT))
        server.publish(event(2))
        assert main([server.url, "--after", "0", "--count", "3"]) == 0
    begun, taken_back, settled = capsys.readouterr().out.splitlines()
    assert "begun" in begun
    assert "taken back" in taken_back
    assert "(blink)" in taken_back
    assert "settled" in settled
    assert "4.000 s – 4.400 s (400 ms)" in settled
    assert "brows" in settled


def test_the_token_comes_from_the_environment_and_a_wrong_one_ends_it(tmp_path):
    with serving(tmp_path, token="correct horse") as server:
        server.publish(event(1))
        command = ["-m", "stream", "watch", server.url, "--after", "0", "--count", "1", "--json"]
        out, _ = started(*command, MESTREAM_TOKEN="correct horse").communicate(timeout=30)
        assert [json.loads(line)["type"] for line in out.splitlines()] == ["hello", "event"]
        wrong = started(*command, MESTREAM_TOKEN="guess")
        out, err = wrong.communicate(timeout=30)
        assert wrong.returncode == 1
        assert err.splitlines() == [
            f"ws://127.0.0.1:{server.port}/events: the token is wrong; give --token-file (or MESTREAM_TOKEN)"
        ]


def test_a_token_file_and_the_address_of_a_page_below_a_prefix_do(tmp_path, capsys):
    """What a browser shows is enough: /events is added behind the last slash."""
    (tmp_path / "token").write_text("correct horse\n")
    with serving(tmp_path, token="correct horse") as server:
        server.publish(event(1))
        asked = ["--after", "0", "--count", "1", "--json", "--token-file", str(tmp_path / "token")]
        assert main([server.url, *asked]) == 0
    assert '"event"' in capsys.readouterr().out
    assert _url_of("https://lab.example/mestream/") == "wss://lab.example/mestream/events"
    assert _url_of("lab.example") == _url_of("http://lab.example/") == "ws://lab.example/events"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ftp://x"], "ftp://x: not an address"),
        (["ws://"], "not an address"),
        (["ws://127.0.0.1:99999"], "not an address"),
        (["ws://h/events?token=x"], "use --token and --after"),
        (["ws://:secret@h"], "use --token and --after"),
        (["--count", "0"], "--count 0: give a number from 1"),
    ],
)
def test_bad_addresses_are_said_in_one_line(capsys, arguments, line):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert "secret" not in err


def test_a_refused_cursor_ends_it(tmp_path, capsys):
    with serving(tmp_path) as server:
        assert main([server.url, "--after", "yesterday"]) == 1
    assert "after must be EPOCH:SEQ" in capsys.readouterr().err


def test_the_python_example_prints_what_settles(tmp_path):
    with serving(tmp_path) as server:
        example = started("examples/subscribe.py", f"ws://127.0.0.1:{server.port}/events?after=0")
        server.publish(event(1, Phase.START))
        server.publish(event(2))
        assert example.stdout.readline() == "face 1: 4.00 s to 4.40 s\n"
        example.kill()
        example.communicate()


@needs_browser
def test_the_browser_example_works_from_an_origin_that_was_let_in(browser, tmp_path):  # noqa: F811
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=ROOT / "examples")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{pages.server_port}"
        with serving(tmp_path, allowed_origins=(origin,)) as server:
            server.publish(event(1))
            page = browser.new_page()
            page.goto(f"{origin}/subscribe.html?url=ws://127.0.0.1:{server.port}/events")
            page.wait_for_selector("li", timeout=15_000)
            assert page.inner_text("li") == "face 1: 2 s to 2.4 s, score 0.87"
            page.close()
        pages.shutdown()
