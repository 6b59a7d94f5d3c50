"""Behind a real nginx and a real Caddy, set up as docs/proxy.md says: what clients rely on holds."""

import os
import re
import socket
import subprocess
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from shutil import which

import pytest
from serving import event, receive, serving
from test_dashboard import CHROMIUM, FLAGS, WAIT_MS, needs_browser
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from stream.config import parse

DOCS = (Path(__file__).parent.parent / "docs" / "proxy.md").read_text()
TOKEN = "correct horse battery"


def recipe(name):
    return re.search(rf"```{name}\n(.*?)```", DOCS, re.DOTALL).group(1)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def nginx(folder, port, upstream):
    site = recipe("nginx").replace("listen 80;", f"listen 127.0.0.1:{port};").replace("127.0.0.1:8765", upstream)
    places = "".join(
        f"{what}_temp_path {folder}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {places}\n{site} }}"
    )
    return ["nginx", "-c", config, "-p", folder, "-e", "stderr"]


def caddy(folder, port, upstream):
    site = recipe("caddy").replace("lab.example {", f"http://lab.example:{port} {{").replace("127.0.0.1:8765", upstream)
    config = folder / "Caddyfile"
    config.write_text(f"{{ \nadmin off\nauto_https off\n}}\n{site}")
    return ["caddy", "run", "--config", config, "--adapter", "caddyfile"]


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def behind(request, tmp_path):
    """Starts the server as docs/proxy.md says and the proxy in front of it; gives the server and the proxy's port."""
    name = request.param.__name__
    if which(name) is None:
        pytest.skip(f"needs {name}: apt-get install {name}")

    @contextmanager
    def start(**more):
        flags = re.search(r"--allow-host \S+ --trusted-proxy \S+", DOCS).group(0).split()
        config, port = parse(["--demo", *flags], {}), free_port()
        proxies = {"allowed_hosts": config.allow_host, "trusted_proxies": config.trusted_proxy}
        with serving(tmp_path, **proxies, **more) as server:
            command = request.param(tmp_path, port, f"127.0.0.1:{server.port}")
            with (tmp_path / "proxy.log").open("w") as log:
                proxy = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(tmp_path)})
            try:
                while not answers(port):
                    assert proxy.poll() is None, (tmp_path / "proxy.log").read_text()
                    time.sleep(0.02)
                yield server, port
            finally:
                proxy.terminate()
                proxy.wait(10)

    return start


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def get(port, target, source="127.0.0.1", host="lab.example", **headers):
    """One request to the proxy from the given loopback address: status and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
    connection.request("GET", target, headers={"Host": f"{host}:{port}", **headers})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_every_path_answers_below_a_prefix(behind):
    """Without --allow-host all of it, /healthz included, is 421."""
    with behind() as (_, port):
        assert b"<!doctype html>" in get(port, "/mestream/")[1]
        for target in ("app.js", "style.css", "healthz", "metrics", "asyncapi.yaml", "api/events?after=0"):
            assert get(port, f"/mestream/{target}")[0] == 200, target


def connected(port, origin):
    """A WebSocket through the proxy under its name, which needs no entry in any hosts file."""
    sock = socket.create_connection(("127.0.0.1", port))
    return connect(f"ws://lab.example:{port}/mestream/events?after=0", origin=origin, sock=sock, compression=None)


def test_events_come_through_and_foreign_pages_do_not(behind):
    with behind() as (server, port):
        server.publish(event(1))
        with connected(port, f"http://lab.example:{port}") as client:
            assert [message["type"] for message in receive(client, 2)] == ["hello", "event"]
        with pytest.raises(InvalidStatus):
            connected(port, "http://evil.example")


def test_clients_behind_one_proxy_do_not_share_wrong_tokens(behind):
    """127.0.0.2 guesses until it is refused unheard; 127.0.0.3 comes through the same proxy and gets in."""
    right, wrong = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, "guess"))
    with behind(token=TOKEN) as (_, port):
        guesses = [get(port, "/mestream/api/events", "127.0.0.2", **wrong)[0] for _ in range(15)]
        assert guesses[:10] == [401] * 10
        assert 429 in guesses
        assert get(port, "/mestream/api/events", "127.0.0.2", **right)[0] == 429
        assert get(port, "/mestream/api/events", "127.0.0.3", **right)[0] == 200
        # who claims to be somebody else is still counted for what the proxy saw
        assert get(port, "/mestream/api/events", "127.0.0.2", **right, **{"X-Forwarded-For": "127.0.0.3"})[0] == 429


@needs_browser
def test_the_dashboard_lives_below_a_prefix(behind):
    """A person opens the proxy's address, types the token, and sees an event arrive."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[test]")
    with behind(token=TOKEN) as (server, port), api.sync_playwright() as playwright:
        flags = [*FLAGS, "--host-resolver-rules=MAP lab.example 127.0.0.1"]
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=flags).new_page()
        page.goto(f"http://lab.example:{port}/mestream")  # without its slash: the proxy adds it
        page.wait_for_selector("#token[open]", timeout=WAIT_MS)
        page.fill("#token-text", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#link[data-state=connected]", timeout=WAIT_MS)
        server.publish(event(1))
        page.wait_for_selector("li[data-state=settled]", timeout=WAIT_MS)
