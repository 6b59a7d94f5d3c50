"""The rules of one connection, without a socket: what it gets next, when it is too slow, what it may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.protocol.log import Cursor, Entry
from stream.protocol.messages import MessageError, Subscribe
from stream.server.access import FailureLimiter, Gate, RefusedError
from stream.server.event_log import Tail
from stream.server.session import Inbound, Limits, Outbox

SUBSCRIBE = '{"type":"subscribe","topics":["events","status"]}'
AUTH = '{"type":"auth","token":"%s"}'


def tail_of(count, length=100):
    tail = Tail("E", length)
    for seq in range(1, count + 1):
        tail.append(Entry("E", seq, f"event {seq}"))
    return tail


def inbound(token="secret", authenticated=False, **limits):
    return Inbound(Limits(**limits), Gate(token, FailureLimiter(burst=3)), "::1", authenticated, 0.0)


@given(st.integers(0, 30), st.integers(1, 10), st.integers(0, 35), st.integers(1, 12))
def test_the_tail_gives_exactly_the_newest_events_in_order(count, length, after, limit):
    tail = tail_of(count, length)
    if not tail.reaches(Cursor("E", after)):
        assert after < count - length
    else:
        assert [e.seq for e in tail.after(after, limit)] == list(range(after + 1, min(after + limit, count) + 1))


def test_the_tail_takes_no_event_out_of_order():
    with pytest.raises(ValueError, match="event 3 follows 1"):
        tail_of(1).append(Entry("E", 3, ""))


def test_telemetry_is_dropped_oldest_first_and_only_what_was_asked_for_is_queued():
    outbox = Outbox(Cursor("E", 0), Limits(telemetry_max=2), topics=frozenset({"scores"}))
    assert outbox.offer("preview", "p") is None
    assert [outbox.offer("scores", str(n)) for n in range(4)] == [None, None, "scores", "scores"]
    assert [text for _, text in outbox.telemetry] == ["2", "3"]
    outbox.subscribe(frozenset({"events"}), Cursor("E", 5))
    assert not outbox.telemetry


def test_who_turns_events_back_on_gets_them_from_then_on():
    outbox, tail = Outbox(Cursor("E", 1)), tail_of(5)
    assert outbox.behind(tail)
    outbox.subscribe(frozenset({"scores"}), tail.newest)
    assert not outbox.behind(tail)
    outbox.subscribe(frozenset({"events"}), tail.newest)
    assert outbox.cursor == tail.newest


@pytest.mark.parametrize(
    ("cursor", "caught_up", "sending_since_s", "slow"),
    [
        (Cursor("E", 20), True, None, False),  # nothing to send
        (Cursor("E", 11), True, None, False),  # within bounds
        (Cursor("E", 9), True, None, True),  # further behind than allowed
        (Cursor("E", 0), False, None, False),  # still catching up: its distance is not its fault
        (Cursor("E", 0), False, 90.0, True),  # ... but it must keep reading
        (Cursor("E", 19), True, 90.0, True),  # one send stuck, an event waits
        (Cursor("E", 20), True, 90.0, False),  # only telemetry is stuck: that may be dropped
        (Cursor("D", 3), False, None, False),  # replaying an older epoch
    ],
)
def test_too_slow(cursor, caught_up, sending_since_s, slow):
    outbox = Outbox(
        cursor, Limits(pending_events_max=10, stall_s=5), caught_up=caught_up, sending_since_s=sending_since_s
    )
    assert outbox.too_slow(tail_of(20), now_s=100.0) is slow


def test_the_token_comes_first_and_then_requests_are_obeyed():
    session = inbound()
    assert session.take(AUTH % "secret", 0.0) is None
    assert session.authenticated
    assert session.take(SUBSCRIBE, 0.1) == Subscribe(("events", "status"))


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (AUTH % "wrong", "bad_token"),
        (SUBSCRIBE, "auth_required"),
        ('{"type":"x"}', "auth_required"),
        ("{", "bad_message"),
    ],
)
def test_nothing_else_opens_the_door(first, code):
    session = inbound()
    with pytest.raises(RefusedError) as refusal:
        session.take(first, 0.0)
    assert refusal.value.code == code
    assert not session.authenticated


def test_bad_messages_are_answered_until_there_were_too_many():
    session = inbound(authenticated=True, bad_messages_max=3)
    assert isinstance(session.take("{", 0.0), MessageError)
    assert isinstance(session.take(b"\x00", 0.0), MessageError)
    with pytest.raises(RefusedError, match="not JSON"):
        session.take("{", 0.0)


@given(st.lists(st.floats(0, 0.5), max_size=200))
def test_a_flood_is_refused_exactly_when_it_exceeds_burst_and_rate(pauses_s):
    """Against an independent count: a bucket of 5 that refills at 4 a second."""
    session, level, now_s = inbound(authenticated=True, burst=5, rate_hz=4.0), 5.0, 0.0
    for pause_s in pauses_s:
        now_s += pause_s
        level = min(5.0, level + 4.0 * pause_s) - 1
        if abs(level) < 1e-6:
            return  # the two sums may round to either side
        if level < 0:
            with pytest.raises(RefusedError):
                session.take(SUBSCRIBE, now_s)
            return
        session.take(SUBSCRIBE, now_s)
