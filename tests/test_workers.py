"""Channels are bounded and wake whoever waits; a worker never dies silently."""

import threading
from collections.abc import Callable

import pytest

from stream.errors import UserError
from stream.workers import Channel, Worker

WAIT_S = 5.0


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_items_come_in_order_and_the_end_is_none():
    channel: Channel[int] = Channel(3)
    assert all(channel.put(item) for item in (1, 2, 3))
    channel.close()
    assert [channel.get() for _ in range(4)] == [1, 2, 3, None]


def test_a_full_channel_makes_the_giver_wait_and_refuses_an_offer():
    channel: Channel[int] = Channel(1)
    assert channel.offer(1)
    assert not channel.offer(2)
    put = threading.Event()
    in_thread(lambda: put.set() if channel.put(3) else None)
    assert not put.wait(0.05)
    assert channel.get() == 1
    assert put.wait(WAIT_S)
    assert channel.get() == 3


@pytest.mark.parametrize("role", ["giver", "taker"])
def test_closing_wakes_whoever_waits(role):
    """The other end has died: nobody may hang."""
    channel: Channel[int] = Channel(1)
    answers: list[object] = []
    if role == "giver":
        channel.put(1)
        waiting = in_thread(lambda: answers.append(channel.put(2)))
    else:
        waiting = in_thread(lambda: answers.append(channel.get()))
    waiting.join(0.05)
    assert waiting.is_alive()
    channel.close()
    waiting.join(WAIT_S)
    assert answers == ([False] if role == "giver" else [None])
    assert not channel.put(3)
    assert not channel.offer(3)


def test_many_givers_and_takers_lose_nothing():
    channel: Channel[int] = Channel(2)
    taken: list[int] = []

    def take() -> None:
        while (item := channel.get()) is not None:
            taken.append(item)

    takers = [in_thread(take) for _ in range(3)]
    givers = [in_thread(lambda k=k: [channel.put(k * 200 + i) for i in range(200)] and None) for k in range(3)]
    for giver in givers:
        giver.join(WAIT_S)
    channel.close()
    for taker in takers:
        taker.join(WAIT_S)
    assert sorted(taken) == list(range(600))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UserError("camera 0: gone"), "camera 0: gone"),
        (ZeroDivisionError("by\nzero"), "the face thread failed: ZeroDivisionError: by zero"),
        (SystemExit(3), "the face thread failed: SystemExit: 3"),
    ],
)
def test_the_error_that_ended_a_worker_is_told_in_one_line(error, says):
    def fail() -> None:
        raise error

    ended = threading.Event()
    worker = Worker("face", fail, ended.set)
    worker.start()
    assert ended.wait(WAIT_S)
    worker.join(WAIT_S)
    with pytest.raises(UserError) as caught:
        worker.check()
    assert str(caught.value) == says


def test_a_worker_that_is_done_has_nothing_to_say():
    ended = threading.Event()
    worker = Worker("face", lambda: None, ended.set)
    worker.start()
    assert ended.wait(WAIT_S)
    worker.check()
