"""Who has to go when too many connect: by the pure rules, and with real sockets on a real server."""

import contextlib
import json
import socket
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import event, http, joined, receive, serving
from test_server_hostile import UPGRADE, ended
from websockets.exceptions import InvalidStatus

from stream.server.access import RefusedError
from stream.server.door import Door

TOKEN = "correct horse battery"
BEARER = {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}

STEPS = st.lists(
    st.tuples(st.sampled_from(["knock", "recognise", "enter", "leave"]), st.integers(0, 30), st.sampled_from("abc")),
    max_size=200,
)


@given(STEPS)
def test_no_room_is_ever_overfull_and_a_newcomer_alone_at_its_address_stays(steps):
    door, seen = Door(4, 6, 3), {}
    for step, who, address in steps:
        match step:
            case "knock" if who not in seen:
                alone = address not in {seen.get(other) for other in door._waiting}
                seen[who] = address
                goes = door.knock(who, address)
                assert goes != who or not alone
            case "recognise" if who in seen:
                door.recognise(who, address)
            case "enter" if who in seen:
                with contextlib.suppress(RefusedError):
                    door.enter(who)
            case "leave":
                door.leave(who)
                assert who not in door.connected
        waiting = list(door._waiting.values())
        assert len(door._inside) <= 4
        assert len(waiting) <= 6
        assert all(waiting.count(address) <= 3 for address in "abc")
        assert len(set(door.connected)) == len(door.connected)


def test_the_longest_waiting_of_the_greatest_crowd_goes():
    door = Door(9, 4, 3)
    assert [door.knock(who, "crowd") for who in (1, 2, 3)] == [None] * 3
    assert door.knock(4, "alone") is None
    assert door.knock(5, "third") == 1
    assert door.knock(6, "crowd") == 2


def test_behind_a_proxy_the_share_counts_from_when_the_address_is_known():
    door = Door(9, 8, 2)
    assert [door.knock(who, None) for who in range(5)] == [None] * 5
    assert [door.recognise(who, "client") for who in range(3)] == [None, None, 0]
    assert door.recognise(0, "client") is None  # it had to go: it is not brought back
    with pytest.raises(RefusedError, match="too many clients"):
        door.enter(0)


def knock(server, source, sent=UPGRADE):
    """A socket from that loopback address that shows no token; with its handshake done where it may do one."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(source, 0))
    connection.sendall(sent.encode())
    if sent.endswith("\r\n\r\n"):
        assert b"101 Switching" in connection.recv(4096)
    return connection


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"], ids=["same address", "another address"])
@pytest.mark.parametrize("sent", [UPGRADE, "GET /"], ids=["upgraded", "half a request"])
def test_sockets_without_a_token_lock_nobody_out(tmp_path, source, sent):
    """They are more than there are places, and stay for a minute. Who brings a token gets in, by header or message."""
    limits = {"connections_max": 20, "waiting_max": 16, "waiting_share": 8, "handshake_timeout_s": 60.0}
    with serving(tmp_path, token=TOKEN, **limits) as server, contextlib.ExitStack() as sockets:
        before = sockets.enter_context(joined(server, **BEARER))
        receive(before)
        idle = [sockets.enter_context(knock(server, source, sent)) for _ in range(50)]
        with joined(server, **BEARER) as by_header, joined(server) as by_message:
            by_message.send(json.dumps({"type": "auth", "token": TOKEN}))
            assert [receive(client)[0]["type"] for client in (by_header, by_message)] == ["hello"] * 2
            assert http(server, "/healthz")[0].status == 200
            server.publish(event(1))
            assert [receive(client)[0]["seq"] for client in (before, by_header, by_message)] == [1] * 3
        assert ended(idle[0])  # the oldest had to go, long before its time was up


def test_without_a_token_hundreds_may_come_at_once(tmp_path):
    """All are connected before the first asks for anything, as after a restart; none has to try again."""
    with serving(tmp_path) as server, contextlib.ExitStack() as sockets:
        burst = [sockets.enter_context(knock(server, "127.0.0.1", "")) for _ in range(300)]
        for connection in burst:
            connection.sendall(UPGRADE.encode())
        assert all(b"101 Switching" in connection.recv(4096) for connection in burst)


def test_a_crowd_at_one_address_costs_another_address_nothing(tmp_path):
    """A page that has joined and not yet sent its token keeps its place while another address knocks on and on."""
    with (
        serving(tmp_path, token=TOKEN, waiting_max=16, waiting_share=8, handshake_timeout_s=60.0) as server,
        joined(server) as page,
        contextlib.ExitStack() as sockets,
    ):
        for _ in range(50):
            sockets.enter_context(knock(server, "127.0.0.2"))
        page.send(json.dumps({"type": "auth", "token": TOKEN}))
        assert receive(page)[0]["type"] == "hello"


def test_behind_a_trusted_proxy_the_share_is_that_of_the_client_it_names(tmp_path):
    """Twenty sockets of one client and one of another, all from the proxy: only the crowd loses its oldest."""
    limits = {"waiting_max": 64, "waiting_share": 8, "handshake_timeout_s": 60.0}

    def forwarded(client):
        return UPGRADE.replace("\r\n\r\n", f"\r\nX-Forwarded-For: {client}\r\n\r\n")

    with (
        serving(tmp_path, token=TOKEN, trusted_proxies=(ip_network("127.0.0.1"),), **limits) as server,
        knock(server, "127.0.0.1", forwarded("192.0.2.2")) as alone,
        contextlib.ExitStack() as sockets,
    ):
        crowd = [sockets.enter_context(knock(server, "127.0.0.1", forwarded("192.0.2.1"))) for _ in range(20)]
        assert all(ended(connection) for connection in crowd[:12])
        for kept in (alone, *crowd[12:]):
            kept.setblocking(False)
            with pytest.raises(BlockingIOError):
                kept.recv(1)


def test_when_it_is_full_a_client_hears_so_before_or_after_its_handshake(tmp_path):
    with serving(tmp_path, token=TOKEN, connections_max=1) as server, joined(server, **BEARER) as first:
        receive(first)
        with pytest.raises(InvalidStatus) as refused:
            joined(server, **BEARER)
        assert refused.value.response.status_code == 503
        with joined(server) as late:
            late.send(json.dumps({"type": "auth", "token": TOKEN}))
            assert receive(late)[0]["code"] == "full"
