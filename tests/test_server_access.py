"""Who gets in: Host, Origin, token, over real sockets and by the pure rules."""

import json
import subprocess
import urllib.parse
from ipaddress import ip_network
from shutil import which
from ssl import SSLCertVerificationError, create_default_context

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import SPOTTER, event, http, joined, receive, serving
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from stream.errors import UserError
from stream.server.access import (
    FailureLimiter,
    bearer_token,
    client_address,
    host_allowed,
    origin_allowed,
    token_matches,
)
from stream.server.listen import ServerConfig
from stream.server.service import EventServer

TOKEN = "correct horse battery"


@pytest.mark.parametrize(
    ("host", "bind", "loopback", "allowed"),
    [
        ("127.0.0.1:8765", "127.0.0.1", True, True),
        ("localhost:8765", "127.0.0.1", True, True),
        ("LOCALHOST", "127.0.0.1", True, True),
        ("[::1]:8765", "127.0.0.1", True, True),
        ("evil.example:8765", "127.0.0.1", True, False),  # a page's own domain, rebound to 127.0.0.1
        ("127.0.0.1.evil.example", "127.0.0.1", True, False),
        ("localhost.evil.example", "127.0.0.1", True, False),
        ("user@127.0.0.1.evil.example", "127.0.0.1", True, False),
        ("192.168.0.7", "127.0.0.1", True, False),
        ("lab.local", "127.0.0.1", True, False),
        ("", "127.0.0.1", True, False),
        (None, "127.0.0.1", True, False),
        ("[::1", "127.0.0.1", True, False),
        ("192.168.0.7:8765", "0.0.0.0", False, True),
        ("lab.local:8765", "0.0.0.0", False, True),
        ("spotter.example", "spotter.example", False, True),
        ("evil.example", "0.0.0.0", False, False),
    ],
)
def test_hosts(host, bind, loopback, allowed):
    assert host_allowed(host, bind, frozenset({"lab", "lab.local"}), loopback) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("spotter.example", True),
        ("Spotter.example:8443", True),
        ("10.0.0.9", True),
        ("127.0.0.1", True),
        ("evil.example", False),
        ("spotter.example.evil.example", False),
    ],
)
def test_hosts_named_by_allow_host(host, allowed):
    assert host_allowed(host, "127.0.0.1", frozenset(), True, ("spotter.example", "10.0.0.9")) is allowed


PROXIES = (ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:127.0.0.1", "198.51.100.7", "198.51.100.7"),  # one socket for both families
        ("127.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),  # the first is what the client itself claims
        ("127.0.0.1", "198.51.100.7, 10.1.1.1", "198.51.100.7"),  # two proxies in a row
        ("127.0.0.1", "10.1.1.1", "10.1.1.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7, unknown", "127.0.0.1"),
        ("198.51.100.9", "127.0.0.1", "198.51.100.9"),  # not a proxy of ours: not believed
        ("fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "1.2.3.4", "2001:db8:1:2::/64"),
        ("?", "1.2.3.4", "?"),
    ],
)
def test_whom_a_request_counts_for(peer, forwarded_for, client):
    assert client_address(peer, forwarded_for, PROXIES) == client


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),  # not a browser
        ("http://127.0.0.1:8765", True),
        ("https://127.0.0.1:8765", True),  # behind a proxy that speaks TLS
        ("http://127.0.0.1", False),
        ("http://127.0.0.1:8000", False),  # another program's page
        ("http://evil.example", False),
        ("http://127.0.0.1:8765.evil.example", False),
        ("null", False),
        ("file://", False),
        ("", False),
        ("http://127.0.0.1:99999", False),
        ("https://lab.example", True),  # given by --allow-origin
    ],
)
def test_origins(origin, allowed):
    assert origin_allowed(origin, "127.0.0.1:8765", ("https://lab.example",)) is allowed


@given(st.text(), st.text())
def test_only_the_same_text_is_the_right_token(given, expected):
    assert token_matches(given, expected) is (given == expected)


@given(st.text() | st.sampled_from(["Bearer x", "bearer  x ", "Basic x", "Bearer"]))
def test_only_bearer_credentials_count(header):
    token = bearer_token(header)
    assert token == (header[6:].strip() if header.lower().startswith("bearer ") else "")
    assert bearer_token(None) is None


@given(st.lists(st.floats(0, 3), max_size=60))
def test_guessing_is_bounded_by_burst_and_rate(pauses_s):
    limiter, now_s, guesses = FailureLimiter(burst=5, refill_s=2.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        if limiter.allowed("a", now_s):
            limiter.failed("a", now_s)
            guesses += 1
    assert guesses <= 5 + now_s / 2.0
    assert limiter.allowed("b", now_s)


def test_the_limiter_forgets_addresses_rather_than_grow():
    limiter = FailureLimiter(remember=10)
    for number in range(1000):
        limiter.failed(str(number), 0.0)
    assert len(limiter._spent) == 10


def test_a_rebound_or_foreign_page_gets_nothing(tmp_path):
    with serving(tmp_path) as server:
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            for target in ("/", "/api/events", "/metrics", "/healthz", "/events"):
                response, body = http(server, target, **headers)
                assert response.status in (403, 421), (headers, target)
                assert server.epoch.encode() not in body
        with pytest.raises(InvalidStatus) as refused:
            joined(server, origin="http://evil.example")
        assert refused.value.response.status_code == 403
        with joined(server, origin=f"http://127.0.0.1:{server.port}") as own:
            assert receive(own)[0]["type"] == "hello"


def test_nothing_is_told_before_the_token_and_all_after(tmp_path):
    with serving(tmp_path, token=TOKEN) as server:
        with (
            joined(server) as waiting,
            joined(server, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as let_in,
        ):
            assert receive(let_in)[0]["type"] == "hello"
            server.publish(event(1))
            assert receive(let_in)[0]["seq"] == 1
            with pytest.raises(TimeoutError):
                waiting.recv(timeout=0.2)
            waiting.send(json.dumps({"type": "auth", "token": TOKEN}))
            assert receive(waiting)[0]["seq_newest"] == 1
        with joined(server) as wrong:
            wrong.send(json.dumps({"type": "auth", "token": "guess"}))
            assert receive(wrong)[0]["code"] == "bad_token"
            with pytest.raises(ConnectionClosedError) as closed:
                wrong.recv(timeout=5)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "bad_token")
        for target in ("/api/events", "/metrics"):
            assert http(server, target)[0].status == 401
            assert http(server, target, Authorization="Bearer guess")[0].status == 401
            assert http(server, target, Authorization=f"Basic {TOKEN}")[0].status == 401
            assert http(server, target, Authorization=f"Bearer {TOKEN}")[0].status == 200
        for open_to_all in ("/", "/healthz", "/asyncapi.yaml"):
            assert http(server, open_to_all)[0].status == 200


def test_who_never_says_the_token_is_sent_away(tmp_path):
    with serving(tmp_path, token=TOKEN, handshake_timeout_s=0.3) as server, joined(server) as silent:
        assert receive(silent)[0]["code"] == "auth_required"


def test_a_token_in_the_url_is_refused_even_if_right(tmp_path):
    with serving(tmp_path, token=TOKEN) as server:
        quoted = urllib.parse.quote(TOKEN)
        for target in (f"/events?token={quoted}", f"/api/events?access_token={quoted}"):
            response, body = http(server, target)
            assert response.status == 400
            assert b"must not be in the URL" in body


def test_guesses_are_slowed_down_and_who_is_in_stays_in(tmp_path):
    with (
        serving(tmp_path, token=TOKEN) as server,
        joined(server, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as honest,
    ):
        receive(honest)
        statuses = [http(server, "/api/events", Authorization=f"Bearer guess{n}")[0].status for n in range(30)]
        assert statuses[:10] == [401] * 10
        assert statuses.count(429) >= 15
        response, _ = http(server, "/api/events", Authorization=f"Bearer {TOKEN}")
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
        server.publish(event(1))
        assert receive(honest)[0]["seq"] == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_off_loopback_needs_a_token(tmp_path, host):
    config = ServerConfig(host=host, port=0, journal_path=tmp_path / "j.sqlite")
    with pytest.raises(UserError, match="other machines could watch, without a token") as refusal:
        EventServer(config, SPOTTER).start()
    assert refusal.value.code == 2
    assert not (tmp_path / "j.sqlite").exists()


def test_off_loopback_a_short_token_is_refused_and_the_one_offered_is_taken(tmp_path):
    config = ServerConfig(host="0.0.0.0", port=0, token="fifteen letters", journal_path=tmp_path / "j.sqlite")
    offered = set()
    for _ in range(2):
        with pytest.raises(UserError, match="less than 16 characters") as refusal:
            EventServer(config, SPOTTER).start()
        offered.add(str(refusal.value).rpartition(" ")[2])
    assert len(offered) == 2  # a new one each time
    with serving(tmp_path, host="0.0.0.0", token=offered.pop()):
        pass
    with serving(tmp_path, token="short"):  # on loopback anything goes
        pass


@pytest.mark.parametrize(
    ("config", "line", "code"),
    [
        ({"port": 70000}, "--port 70000: a port is a number from 0 to 65535", 2),
        ({"host": "no.such.host.invalid"}, "--host no.such.host.invalid: no such host", 2),
        ({"host": "203.0.113.7", "token": TOKEN}, "is not an address of this machine", 1),
        ({"token": " "}, "--token is empty", 2),
        ({"tls_key": "key.pem"}, "--tls-key key.pem needs --tls-cert", 2),
        ({"tls_cert": "/no/such.pem"}, "No such file", 2),
        ({"tls_cert": __file__}, "both must be PEM", 2),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(tmp_path, config, line, code):
    server = EventServer(ServerConfig(**{"port": 0, "journal_path": tmp_path / "j.sqlite", **config}), SPOTTER)
    with pytest.raises(UserError) as refusal:
        server.start()
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.code == code


def test_a_taken_port_is_named_and_leaves_the_journal_free(tmp_path):
    with serving(tmp_path) as server:
        config = ServerConfig(port=server.port, journal_path=tmp_path / "other.sqlite")
        for _ in range(2):
            with pytest.raises(UserError, match=f"port {server.port} is taken on 127.0.0.1"):
                EventServer(config, SPOTTER).start()


@pytest.mark.skipif(which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    with serving(tmp_path, tls_cert=cert, tls_key=key, token=TOKEN) as server:
        assert server.url.startswith("https://")
        url = f"wss://localhost:{server.port}/events"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        sock_options = {"additional_headers": headers}
        with connect(url, ssl=create_default_context(cafile=str(cert)), **sock_options) as client:
            assert receive(client)[0]["type"] == "hello"
        with pytest.raises(SSLCertVerificationError):
            connect(url, **sock_options)
        with pytest.raises((OSError, EOFError, Exception)):  # plain text on a TLS port
            joined(server)
