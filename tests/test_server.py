"""The service as its users see it: real sockets, a real journal, every message held against its schema."""

import json
import socket
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import to_builtins
from msgspec.structs import replace
from serving import SPOTTER, STATUS, as_sent, event, http, joined, receive, schemas, seqs, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream.protocol.messages import SERVER_MESSAGES, FaceStatus, Scores
from stream.protocol.schema import message_name
from stream.server.listen import ServerConfig
from stream.server.retention import Retention
from stream.server.service import EventServer
from stream.types import Phase

STRICT = schemas(strict=True)
VERSION_1 = schemas(json.loads((Path(__file__).parent / "asyncapi-v1.json").read_text()))
"""What the first release of version 1 published: clients were built against it."""


def subscribe(client, *topics):
    client.send(json.dumps({"type": "subscribe", "topics": topics}))


def wait_until(condition, timeout_s=10):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)


def test_every_message_of_a_session_fits_its_published_schema(tmp_path):
    with serving(tmp_path) as server:
        for number in range(4):
            server.publish(event(number, list(Phase)[number % 4]))
        with joined(server, after="00000000000000000000000000:3") as client:
            messages = receive(client, 6)  # hello, gap (an unknown epoch), four events
            subscribe(client, "events", "status", "scores", "preview")
            server.publish_status(STATUS)
            messages += receive(client)
            wait_until(lambda: server.wants("preview"))
            server.publish_scores(Scores(1, 12.3, 0.41, 0.5))
            server.publish_preview(1, b"\xff\xd8jpeg", 12.3)
            client.send("{")
            messages += receive(client, 3)
    assert {message["type"] for message in messages} == {message_name(message) for message in SERVER_MESSAGES}
    for message in messages:
        STRICT[message["type"]].validate(message)
        VERSION_1[message["type"]].validate(message)
    assert messages[0]["type"] == "hello"


def test_hello_says_what_is_analysed_and_what_can_be_replayed(tmp_path):
    with serving(tmp_path, heartbeat_s=3.0) as server:
        with joined(server) as client:
            (hello,) = receive(client)
        numbers = {"epoch": server.epoch, "seq_oldest": 1, "seq_newest": 0}
        assert hello == {"type": "hello", "v": 1, **numbers, **to_builtins(SPOTTER), "heartbeat_s": 3.0}
        server.publish(event(1))
        server.update_hello(runtime="cuda")
        wait_until(lambda: json.loads(http(server, "/api/events")[1])["events"])
        with joined(server) as client:
            (hello,) = receive(client)
        assert (hello["seq_oldest"], hello["seq_newest"], hello["runtime"]) == (1, 1, "cuda")


def test_events_are_what_was_published_in_order(tmp_path):
    with serving(tmp_path) as server, joined(server) as client:
        receive(client)
        published = [event(n, phase, interval=1) for n, phase in enumerate([Phase.START, Phase.UPDATE, Phase.END])]
        for happened in published:
            server.publish(happened)
        assert receive(client, 3) == [as_sent(happened, server.epoch, n + 1) for n, happened in enumerate(published)]


def test_a_restart_serves_the_old_epoch_then_goes_on_without_loss_or_double(tmp_path):
    with serving(tmp_path) as server:
        for n in range(5):
            server.publish(event(n))
        with joined(server, after=":0") as client:
            assert seqs(receive(client, 6)[1:]) == [1, 2, 3, 4, 5]
        old = server.epoch
    with serving(tmp_path) as server:
        server.publish(event(9))
        with joined(server, after=f"{old}:3") as client:
            assert receive(client)[0]["epoch"] == server.epoch != old
            assert [(m["epoch"], m["seq"]) for m in receive(client, 3)] == [(old, 4), (old, 5), (server.epoch, 1)]
            server.publish(event(10))
            assert [(m["epoch"], m["seq"]) for m in receive(client)] == [(server.epoch, 2)]


def test_resuming_while_events_are_published_gives_each_exactly_once(tmp_path):
    """Replay meets live: clients leave and resume all along a running publication, past a tail too short to help."""
    total = 800
    with serving(tmp_path, tail_events=16) as server:

        def publish():
            for n in range(total):
                server.publish(event(n))
                if n % 25 == 0:
                    time.sleep(0.002)

        results = {}

        def follow(visit):
            """Resume again and again, each time for `visit` events or what is left."""
            got = []
            while len(got) < total:
                # it leaves with events unread, so there is no goodbye to wait for
                with joined(server, after=f":{got[-1] if got else 0}", close_timeout=0.01) as client:
                    receive(client)
                    got += seqs(receive(client, min(visit, total - len(got)), timeout_s=30))
            results[visit] = got

        threads = [threading.Thread(target=publish)]
        threads += [threading.Thread(target=follow, args=(visit,)) for visit in (23, 71, 260, total)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == {visit: list(range(1, total + 1)) for visit in (23, 71, 260, total)}


def test_a_gap_is_said_where_the_journal_was_pruned(tmp_path):
    with serving(tmp_path) as server:
        for n in range(5):
            server.publish(event(n))
        old = server.epoch
    with serving(tmp_path, retention=Retention(age_s=-1)) as server, joined(server, after=f"{old}:2") as client:
        assert receive(client, 2)[1] == {"type": "gap", "epoch": old, "from": 3, "to": 5}


def pages(server, after, limit=3):
    """All that /api/events has behind a cursor: (epoch, seq) of events, and gaps."""
    events, gaps, more = [], [], True
    while more:
        answer = json.loads(http(server, f"/api/events?after={after}&limit={limit}")[1])
        events += [(event["epoch"], event["seq"]) for event in answer["events"]]
        gaps += answer["gaps"]
        after, more = answer["next"], answer["more"]
    return events, gaps


def published(server, count):
    """Publish so many events, and wait until they are stored."""
    for number in range(count):
        server.publish(event(number))
    wait_until(lambda: not server.degraded and len(pages(server, ":0")[0]) == count)
    return [(server.epoch, number) for number in range(1, count + 1)]


def test_a_start_with_the_clock_a_day_ahead_hides_nothing_from_then_on(tmp_path, monkeypatch):
    """And one whose journal was away when it began. Over both ways of reading, from every cursor given out."""
    clock_s = time.time()
    stored = []
    for days in (1, 0, -400):
        monkeypatch.setattr(time, "time", lambda days=days: clock_s + 86400 * days)
        monkeypatch.setattr(time, "time_ns", lambda days=days: int((clock_s + 86400 * days) * 1e9))
        folder = tmp_path / "state"
        if days == 0:
            folder.rename(tmp_path / "away")
            folder.write_text("")
        with serving(folder) as server:
            if days == 0:
                assert server.degraded
                folder.unlink()
                (tmp_path / "away").rename(folder)
            stored += published(server, 7)
            for at, (epoch, seq) in enumerate(stored):
                behind = stored[at + 1 :]
                assert pages(server, f"{epoch}:{seq}") == (behind, [])
                with joined(server, after=f"{epoch}:{seq}", close_timeout=0.01) as client:
                    receive(client)
                    assert [(m["epoch"], m["seq"]) for m in receive(client, len(behind))] == behind
            assert pages(server, "0") == (stored, [])
    epochs = list(dict.fromkeys(epoch for epoch, _ in stored))
    assert epochs != sorted(epochs)


def test_rows_that_nobody_wrote_are_a_gap_and_the_rest_is_served(tmp_path):
    with serving(tmp_path) as server:
        stored = published(server, 5)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute("UPDATE events SET body = 5 WHERE place & 255 = 2")
        db.execute("UPDATE events SET body = '{' WHERE place & 255 = 4")
        db.commit()
    with serving(tmp_path) as server:
        gaps = [{"type": "gap", "epoch": stored[0][0], "from": seq, "to": seq} for seq in (2, 4)]
        assert pages(server, f"{stored[0][0]}:0", limit=1) == (stored[::2], gaps)
        with joined(server, after=f"{stored[0][0]}:1") as client:
            got = receive(client, 5)[1:]
            assert [m["type"] for m in got] == ["gap", "event", "gap", "event"]


def test_an_epoch_that_nobody_knows_is_a_gap_and_then_everything_comes(tmp_path):
    """The name of an epoch says nothing about its place: one that sorts behind all others hides nothing either."""
    with serving(tmp_path) as server:
        stored = published(server, 3)
        for foreign in ("0" * 26, "7" + "Z" * 25):
            gap = {"type": "gap", "epoch": foreign, "from": 6, "to": None}
            assert pages(server, f"{foreign}:5") == (stored, [gap])


def test_a_damaged_journal_is_told_to_who_looks_at_the_status(tmp_path):
    with serving(tmp_path) as server:
        published(server, 3)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute("UPDATE epochs SET epoch = 'zzzz'")
        db.commit()
    with serving(tmp_path) as server:
        (said,) = json.loads(http(server, "/healthz")[1])["degraded"]
        assert "3 events were rescued, the damaged file is kept as" in said
        assert len(pages(server, "0")[0]) == 3


def test_a_cursor_beyond_the_newest_event_waits_for_the_next_one(tmp_path):
    with serving(tmp_path) as server, joined(server, after=":999") as client:
        receive(client)
        server.publish(event(1))
        assert seqs(receive(client)) == [1]


@pytest.mark.parametrize(
    "after", ["x", "1", ":", ":-1", ":1.5", "0:0", "01J:4", ":9999999999999999", "%F0%28", "%00", ":1%00", "zzzz:1"]
)
def test_a_cursor_that_makes_no_sense_is_refused_before_the_upgrade(tmp_path, after):
    with serving(tmp_path) as server:
        with pytest.raises(InvalidStatus) as refused:
            joined(server, after=after)
        assert refused.value.response.status_code == 400
        assert http(server, f"/api/events?after={after}")[0].status == 400


def test_telemetry_goes_to_those_who_asked_alone(tmp_path):
    with serving(tmp_path) as server, joined(server) as plain, joined(server) as curious:
        receive(plain), receive(curious)
        assert not server.wants("scores")
        subscribe(curious, "scores", "nonsense")
        wait_until(lambda: server.wants("scores"))
        assert not server.wants("preview")
        server.publish_scores(Scores(2, 1.0, 0.1, 0.5))
        server.publish(event(1))
        assert receive(curious)[0]["type"] == "scores"
        assert seqs(receive(plain)) == [1]
        subscribe(curious, "events")
        wait_until(lambda: not server.wants("scores"))
        server.publish(event(2))
        assert seqs(receive(curious)) == [2]  # not the one it had switched off
    wait_until(lambda: not server.wants("events"))


def test_the_newest_status_comes_at_once_and_again_every_heartbeat(tmp_path):
    with serving(tmp_path, heartbeat_s=0.4) as server:
        server.publish_status(STATUS)
        with joined(server) as client:
            receive(client)
            subscribe(client, "status")
            assert receive(client, 3) == [to_builtins(STATUS)] * 3


def test_a_sick_journal_is_told_and_events_go_on(tmp_path):
    (tmp_path / "file").write_text("")
    with serving(tmp_path, journal_path=tmp_path / "file" / "journal.sqlite") as server, joined(server) as client:
        assert "not being stored" in server.degraded[0]
        receive(client)
        server.publish(event(1))
        assert seqs(receive(client)) == [1]
        with joined(server, after=":0") as late:  # from memory, as long as it is there
            assert seqs(receive(late, 2)[1:]) == [1]
        subscribe(client, "status")
        server.publish_status(replace(STATUS, degraded=["runtime: fell back to onnx"]))
        assert receive(client)[0]["degraded"] == ["runtime: fell back to onnx", *server.degraded]
        assert json.loads(http(server, "/healthz")[1])["status"] == "degraded"


def test_http_pages(tmp_path):
    with serving(tmp_path) as server:
        server.publish(event(1))
        response, body = http(server, "/")
        assert response.status == 200
        assert b"<!doctype html>" in body
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert http(server, "/", If_None_Match=response.headers["ETag"])[0].status == 304
        assert http(server, "/", method="HEAD")[1] == b""
        assert http(server, "/", method="POST")[0].status == 405
        assert json.loads(http(server, "/healthz")[1]) == {"status": "ok", "degraded": []}
        assert json.loads(http(server, "/asyncapi.yaml")[1])["asyncapi"] == "3.0.0"
        assert http(server, "/readyz")[0].status == 503
        server.ready(frames=True)
        assert http(server, "/readyz")[0].status == 503
        server.ready(model=True)
        assert json.loads(http(server, "/readyz")[1]) == {"ready": True, "frames": True, "model": True}
        server.ready(frames=False)
        assert http(server, "/readyz")[0].status == 503
        assert http(server, "/events")[0].status == 426


def test_metrics_name_units_and_no_faces(tmp_path):
    with serving(tmp_path) as server, joined(server) as client:
        receive(client)
        server.publish(event(1, face=987654321))
        server.publish_status(replace(STATUS, faces=[FaceStatus(987654321, "calibrating", None)]))
        receive(client)
        text = http(server, "/metrics")[1].decode()
    assert 'mestream_events_total{phase="end"} 1.0' in text
    assert "mestream_subscribers 1.0" in text
    assert 'mestream_score_latency_seconds{quantile="0.99"} 0.052' in text
    assert "mestream_source_frames_per_second 29.8" in text
    assert "mestream_journal_write_seconds_count 1.0" in text
    assert 'mestream_faces{state="calibrating"} 1.0' in text
    assert "987654321" not in text
    assert "interview" not in text


def test_events_that_the_journal_could_not_take_are_counted(tmp_path):
    """More is published than a queue of 10,000 and the disk can take: status and /metrics name the same number."""
    with serving(tmp_path) as server:
        published = 0
        while not server.degraded and published < 1_000_000:
            server.publish(event(1))
            published += 1
        (words,) = server.degraded
        lost = int(words.removeprefix("journal: the disk stalled, ").removesuffix(" events were lost"))
        assert 0 < lost < published
        assert f"mestream_events_lost_total {float(lost)}" in http(server, "/metrics")[1].decode()


def test_the_event_log_over_http_pages_through_everything(tmp_path):
    with serving(tmp_path) as server:
        for n in range(7):
            server.publish(event(n))
        wait_until(lambda: len(json.loads(http(server, "/api/events")[1])["events"]) == 7)
        after, found, more = "0", [], True
        while more:
            page = json.loads(http(server, f"/api/events?after={after}&limit=3")[1])
            assert len(page["events"]) <= 3
            found += seqs(page["events"])
            after, more = page["next"], page["more"]
        assert found == list(range(1, 8))
        assert json.loads(http(server, f"/api/events?after={after}")[1])["events"] == []
        for bad in ("0", "501", "x", "-1", ""):
            assert http(server, f"/api/events?limit={bad}")[0].status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/dashboard/../server.py", "//etc/passwd",
        "/index.html/..", "/.%00./server.py", "/index.html%00.js", "\\..\\server.py", "/..;/server.py", "/server.py",
    ],
)  # fmt: skip
def test_only_the_dashboards_own_files_are_served(tmp_path, target):
    with serving(tmp_path) as server:
        assert http(server, target)[0].status == 404


def test_stopping_takes_less_than_a_second_and_delivers_what_was_published(tmp_path):
    """Also with a client that does not read, and one that has not finished its handshake."""
    with serving(tmp_path) as server, joined(server) as client, joined(server, max_queue=1) as _asleep:
        stalled = socket.create_connection(("127.0.0.1", server.port))
        receive(client)
        for n in range(20):
            server.publish(event(n))
        began_s = time.monotonic()
        server.stop()
        assert time.monotonic() - began_s < 1.0
        assert seqs(receive(client, 20)) == list(range(1, 21))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=2)
        assert closed.value.rcvd.code == 1001
        stalled.close()
        server.stop()  # a second time does nothing


def test_a_dead_thread_is_told_to_whoever_runs_the_service(tmp_path):
    with serving(tmp_path) as server:
        assert server.failure is None
        server.publish(event(1, score=object()))  # a fault of the program, not of the disk
        wait_until(lambda: server.failure is not None)
        assert isinstance(server.failure, AttributeError)


def test_two_servers_live_in_one_process(tmp_path):
    (tmp_path / "b").mkdir()
    with serving(tmp_path) as one, serving(tmp_path / "b") as two, joined(one) as client:
        receive(client)
        two.publish(event(1))
        one.publish(event(2))
        assert receive(client)[0]["onset_s"] == 4.0


def test_the_journal_lies_in_the_users_state_directory_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    server = EventServer(ServerConfig(port=0), SPOTTER)
    server.start()
    server.stop()
    assert list(tmp_path.rglob("journal.sqlite"))
