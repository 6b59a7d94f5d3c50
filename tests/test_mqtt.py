"""MQTT against the real mosquitto: whatever happens to the broker or to the program, every event arrives, in order."""

import json
import logging
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from brokers import MOSQUITTO, Mosquitto, reading, wait_until
from clips import face_in_camera
from jinja2 import Template
from live_program import live
from program import start
from servers import MjpegCamera
from serving import STATUS, event

from engine.spec import ModelSpec
from stream.config import Config
from stream.errors import UserError
from stream.protocol.log import EVERYTHING, Cursor, Entry
from stream.server.journal import Journal
from stream.server.retention import Retention
from stream.sinks import Run
from stream.sinks.mqtt import broker_of, open_mqtt, topic_name
from stream.sinks.outbox import Bookmark
from stream.sources.info import SourceInfo
from stream.types import Event, Phase

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto: apt-get install mosquitto"),
]

SOURCE = "video:interview.mp4"
TOPIC = "lab/room3/video_interview_mp4"
PASSWORD = "correct-horse"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Mosquitto(folder)
    made.start()
    yield made
    made.kill()


class Program:
    """What the live program does for the output: it stores each event and hands it on."""

    def __init__(self, journal: Journal, url: str, **settings: Any) -> None:
        self.journal = journal
        info = SourceInfo(SOURCE, False, 640, 480, 30.0, "test", 0.01)
        run = Run(info, journal.epoch, True, ModelSpec(), "ab" * 32, "onnx", 2, 0.47, 9.2, journal)
        output = open_mqtt(Config(mqtt=url, **settings), run)
        assert output is not None
        self.output = output

    def publish(self, *numbers: int) -> None:
        for number in numbers:
            self.put(event(number, source=SOURCE))

    def put(self, item: Event) -> None:
        self.journal.append([item])
        self.output.put(item)

    def wait_for_trouble(self, words: str) -> str:
        wait_until(lambda: words in (self.output.trouble or ""))
        return str(self.output.trouble)

    def close(self) -> None:
        self.output.close()
        self.journal.close()


@contextmanager
def running(
    folder: Path, broker: Mosquitto | int, who: str = "", scheme: str = "mqtt", **more: Any
) -> Iterator[Program]:
    """The output of one run, with its journal in `folder`."""
    port = broker if isinstance(broker, int) else broker.port
    host = "localhost" if scheme == "mqtts" else "127.0.0.1"
    url = f"{scheme}://{who}{host}:{port}/lab/room3"
    program = Program(Journal(folder / "journal.sqlite"), url, **more)
    try:
        yield program
    finally:
        program.close()


def stored(journal: Journal) -> list[dict[str, Any]]:
    return [json.loads(item.body) for item in journal.read_after(EVERYTHING, 10**6)[0] if isinstance(item, Entry)]


def test_every_event_arrives_as_it_is_journalled(tmp_path, broker):
    """The messages of protocol v1, on the source's own topic, and none of them is retained."""
    with reading(broker) as reader, running(tmp_path, broker) as program:
        program.publish(*range(250))
        reader.wait_for_events(250)
        assert reader.events() == stored(program.journal)
    assert {topic for topic, message, _ in reader.messages if message and "onset_s" in message} == {f"{TOPIC}/event"}
    with reading(broker) as late:
        late.wait_for(lambda messages: any(topic.endswith("/availability") for topic, _, _ in messages))
        assert not [topic for topic, _, retained in late.messages if retained and topic.endswith("/event")]


def test_a_broker_that_is_killed_and_comes_back_has_missed_nothing(tmp_path, broker):
    """kill -9 with events under way, more meanwhile, restart: each event once, in order; the trouble clears itself."""
    with reading(broker) as reader:
        broker.save()
        with running(tmp_path, broker) as program:
            program.publish(*range(50))
            reader.wait_for_events(20)
            broker.signal(signal.SIGSTOP)
            program.publish(*range(50, 100))
            program.wait_for_trouble("it does not answer")  # so the broker dies with what it has not read yet
            broker.kill()
            assert "events wait in the journal" in program.wait_for_trouble("broker unreachable since 20")
            broker.start()
            program.publish(*range(100, 150))
            reader.wait_for_events(150)
            assert reader.events() == stored(program.journal)
            wait_until(lambda: program.output.trouble is None)


def test_what_a_run_could_not_send_is_sent_by_the_next_one(tmp_path, broker):
    """The program is restarted twice while the broker is away; nothing is lost, and nothing is sent a second time."""
    with reading(broker) as reader:
        broker.save()
        with running(tmp_path, broker) as program:
            program.publish(0, 1, 2)
            reader.wait_for_events(3)
        broker.kill()
        for first in (3, 6):
            with running(tmp_path, broker) as program:
                program.publish(first, first + 1, first + 2)
                program.wait_for_trouble("unreachable")
        broker.start()
        with running(tmp_path, broker) as program:
            program.publish(9)
            reader.wait_for_events(10)
            assert reader.events() == stored(program.journal)
        assert len([topic for topic, _, _ in reader.messages if topic.endswith("/event")]) == 10


def test_a_first_run_sends_nothing_of_the_past(tmp_path, broker):
    """Who turns MQTT on does not get last week's events; also not after a first run without any event."""
    past = Journal(tmp_path / "journal.sqlite")
    past.append([event(1), event(2)])
    past.close()
    for _ in range(2):
        with running(tmp_path, broker):
            pass
    with reading(broker) as reader, running(tmp_path, broker) as program:
        program.publish(3)
        reader.wait_for_events(1)
        assert reader.events() == stored(program.journal)[2:]


def test_the_last_events_of_a_run_are_sent_before_it_ends(tmp_path, broker, monkeypatch):
    """`close` returns once the broker has everything, not only after the longest that it may take."""
    monkeypatch.setattr("stream.sinks.mqtt.CLOSE_S", 1000.0)
    with reading(broker) as reader:
        with running(tmp_path, broker) as program:
            wait_until(lambda: reader.newest(f"{TOPIC}/availability") == "online")
            program.publish(*range(30))
            program.output.close()
            bookmark = next(tmp_path.glob("*.mqtt-*")).read_text()
            assert bookmark == f"{program.journal.epoch}:30\n"
        reader.wait_for_events(30)
        reader.wait_for(lambda _: reader.newest(f"{TOPIC}/availability") == "offline")


def test_a_broker_that_hangs_holds_nobody_up(tmp_path, broker):
    """SIGSTOP: 3,000 events are taken and stored meanwhile; once it goes on, it gets them all in order."""
    with reading(broker) as reader, running(tmp_path, broker) as program:
        program.publish(0)
        reader.wait_for_events(1)
        broker.signal(signal.SIGSTOP)
        program.journal.append([event(number, source=SOURCE) for number in range(1, 2900)])
        program.publish(*range(2900, 3000))
        assert "it does not answer" in program.wait_for_trouble("broker unreachable since")
        broker.signal(signal.SIGCONT)
        reader.wait_for_events(3000)
        assert reader.events() == stored(program.journal)
        wait_until(lambda: program.output.trouble is None)


def password_file(folder: Path, password: str) -> Path:
    """As mosquitto_passwd makes it; where that is missing the test can't be made."""
    if (tool := which("mosquitto_passwd")) is None:
        pytest.skip("needs mosquitto_passwd")
    path = folder / "passwords"
    subprocess.run([tool, "-c", "-b", str(path), "me", password], check=True, capture_output=True)
    return path


def test_a_wrong_password_is_one_clear_line_without_the_password(tmp_path, broker, caplog):
    """Refused, said, tried again; with the right password everything arrives. No log at any level shows a password."""
    caplog.set_level(logging.DEBUG)
    broker.kill()
    passwords = password_file(tmp_path, "another")
    broker.settings(tmp_path / "broker", f"password_file {passwords}")
    broker.start()
    with running(tmp_path, broker, who=f"me:{PASSWORD}@") as program:
        program.publish(1)
        trouble = program.wait_for_trouble("the broker refuses the connection since")
        assert "check user and password" in trouble
        assert "\n" not in trouble
        password_file(tmp_path, PASSWORD)
        broker.signal(signal.SIGHUP)
        wait_until(lambda: program.output.trouble is None)
        with reading(broker, user="me", password=PASSWORD) as reader:
            program.publish(2)
            reader.wait_for_events(1)
        assert PASSWORD not in trouble + caplog.text + repr(program.output._broker)
    assert PASSWORD not in caplog.text
    assert "refuses the connection" in caplog.text


def test_events_that_the_broker_does_not_allow_wait(tmp_path, broker):
    """A user that may not write to the event topic: the trouble names it, nothing counts as sent, and later it is."""
    acl = tmp_path / "acl"
    allowed = ("availability", "state", "status")
    acl.write_text("topic read #\n" + "".join(f"topic write +/+/+/{name}\n" for name in allowed))
    broker.kill()
    broker.settings(tmp_path / "broker", "allow_anonymous true", f"acl_file {acl}")
    broker.start()
    with reading(broker) as reader, running(tmp_path, broker) as program:
        program.publish(1, 2)
        assert "Not authorized" in program.wait_for_trouble(f"the broker refuses {TOPIC}/event since")
        assert next(tmp_path.glob("*.mqtt-*")).read_text() == f"{program.journal.epoch}:0\n"
        acl.write_text("topic readwrite #\n")
        broker.signal(signal.SIGHUP)
        reader.wait_for_events(2)
        assert reader.events() == stored(program.journal)


@pytest.mark.skipif(which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls(tmp_path, broker):
    """With the CA events arrive encrypted; a broker that the system does not trust gets none."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *curve, *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    broker.kill()
    broker.settings(tmp_path / "broker", "allow_anonymous true", f"certfile {cert}", f"keyfile {key}")
    broker.start()
    with reading(broker, ca=cert) as reader:
        with running(tmp_path, broker, scheme="mqtts") as program:
            program.publish(1)
            program.wait_for_trouble("the broker's certificate is not trusted since")
            assert not reader.events()
        with running(tmp_path, broker, scheme="mqtts", mqtt_ca=cert) as program:
            program.publish(*range(2, 200))
            reader.wait_for_events(199)
            assert reader.events() == stored(program.journal)


def test_home_assistant_sees_who_moves_and_what_is_wrong(tmp_path, broker):
    """Its discovery message leads to topics that exist; its templates, rendered, follow a start, an end, a retract."""
    with reading(broker) as reader, running(tmp_path, broker) as program:
        reader.wait_for(lambda messages: any(topic.startswith("homeassistant/") for topic, _, _ in messages))
        (config,) = (message for topic, message, _ in reader.messages if topic.startswith("homeassistant/"))
        assert reader.newest(config["availability_topic"]) == "online"
        assert len({entity["unique_id"] for entity in config["components"].values()}) == 4

        def shown(name: str) -> str | None:
            entity = config["components"][name]
            payload = reader.newest(entity["state_topic"])
            return payload and Template(entity["value_template"]).render(value_json=payload)

        def wait_for(**wanted: str) -> None:
            reader.wait_for(lambda _: {name: shown(name) for name in wanted} == wanted)

        wait_for(movement="OFF", events="0", retracted="0")
        program.put(event(1, Phase.START, interval=1))
        program.put(event(1, Phase.START, interval=2, face=2))
        wait_for(movement="ON")
        program.put(event(2, Phase.END, interval=1))
        wait_for(movement="ON", events="1")
        program.put(event(3, Phase.RETRACT, interval=2, face=2))
        wait_for(movement="OFF", events="1", retracted="1")
        program.output.put(STATUS)
        wait_for(problem="OFF")
        assert reader.newest(f"{TOPIC}/status")["fps"] == STATUS.fps
    with reading(broker) as late:
        late.wait_for(lambda _: all(late.newest(f"{TOPIC}/{name}") for name in ("status", "state", "availability")))
        assert late.newest(f"{TOPIC}/availability") == "offline", "the run has ended"


def test_the_program_that_is_killed_is_offline(tmp_path, broker):
    """The whole program, as its user starts it: online while it runs, with a status; after kill -9 the will says so."""
    url = f"mqtt://127.0.0.1:{broker.port}/lab"
    with reading(broker) as reader:
        program = start(tmp_path, "--demo", "--port", "0", "--mqtt", url)
        try:
            reader.wait_for(lambda messages: any(topic.endswith("/status") for topic, _, _ in messages))
            (topic,) = {topic for topic, _, _ in reader.messages if topic.endswith("/availability")}
            assert reader.newest(topic) == "online"
        finally:
            program.kill()
            program.communicate()
        reader.wait_for(lambda _: reader.newest(topic) == "offline")


def test_a_live_run_that_found_no_broker_is_made_up_for(tmp_path, broker, eager_model):
    """Camera, spotter, journal and all: what the first run spotted while the broker was away comes with the second."""
    url = f"mqtt://127.0.0.1:{broker.port}/lab"
    with reading(broker) as reader, MjpegCamera() as camera:
        camera.next_image = face_in_camera
        broker.save()
        broker.kill()
        with live(tmp_path, eager_model, camera.url(), mqtt=url) as first:
            first.wait_for(lambda m: m["type"] == "event" and m["phase"] == "end")
            first.wait_for(lambda m: m["type"] == "status" and any("unreachable" in why for why in m["degraded"]))
        broker.start()
        with live(tmp_path, eager_model, camera.url(), mqtt=url) as second:
            second.wait_for(lambda m: m["type"] == "event" and m["phase"] == "end")
            epoch = second.pipeline.server.epoch
            reader.wait_for(lambda _: any(m["epoch"] == epoch and m["phase"] == "end" for m in reader.events()))
    journal = Journal(tmp_path / "journal.sqlite")
    events = reader.events()
    assert events == stored(journal)[: len(events)]
    assert {m["epoch"] for m in events} == {first.pipeline.server.epoch, epoch}
    journal.close()


def test_events_that_the_journal_let_go_of_are_named(tmp_path, broker):
    """A broker that was away for longer than the journal keeps events hears which ones it will never get."""
    with reading(broker) as reader:
        broker.save()
        broker.kill()
        with running(tmp_path, broker) as program:
            program.publish(1, 2, 3)
        Journal(tmp_path / "journal.sqlite", Retention(age_s=-1.0)).close()
        broker.start()
        with running(tmp_path, broker) as later:
            later.publish(4)
            reader.wait_for(lambda _: any("onset_s" in m for m in reader.events()))
        assert reader.events()[0] == {"type": "gap", "epoch": program.journal.epoch, "from": 1, "to": 3}


def test_a_bookmark_keeps_its_place_and_a_damaged_one_loses_nothing(tmp_path):
    path, start, later = tmp_path / "b", Cursor("0" * 26, 0), Cursor("0" * 26, 7)
    Bookmark(path, start).move(later)
    assert Bookmark(path, start).cursor == later
    assert path.stat().st_mode & 0o777 == 0o600
    for damage in (b"", b"\xff", b"0000:7", b"rubbish"):
        path.write_bytes(damage)
        assert Bookmark(path, start).cursor == EVERYTHING
    path.unlink()
    path.mkdir()
    bookmark = Bookmark(path, start)
    bookmark.move(later)
    assert (bookmark.cursor, "can't be written" in str(bookmark.trouble)) == (later, True)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mqtt://host/lab", ("host", 1883, "lab", None, None)),
        ("mqtts://host/lab/room3/", ("host", 8883, "lab/room3", None, None)),
        ("mqtt://me:p%40s%2Fs@[::1]:18/a", ("::1", 18, "a", "me", "p@s/s")),
        ("mqtt://me@host/a", ("host", 1883, "a", "me", "from elsewhere")),
    ],
)
def test_a_url_names_a_broker(url, found):
    password = "from elsewhere" if found[-1] == "from elsewhere" else None
    broker = broker_of(Config(mqtt=url, mqtt_password=password))
    assert (broker.host, broker.port, broker.prefix, broker.user, broker.password) == found
    assert (broker.tls is not None) == url.startswith("mqtts")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("host/lab", "is not mqtt"),
        ("http://me:hunter2@host/lab", "is not mqtt"),
        ("mqtt://me:hunter2@host", "the prefix is no topic"),
        ("mqtt://me:hunter2@host/lab/%23", "the prefix is no topic"),
        ("mqtt://me:hunter2@host/%24SYS", "the prefix is no topic"),
        ("mqtt://me:hunter2#@host/lab", "as % codes|with % codes"),
        ("mqtt://me:12/hunter2@host/lab", "as % codes"),
        ("mqtt://me:hunter2@host:99999/lab", "is malformed"),
        ("mqtt://:hunter2@host/lab", "a password without a user"),
    ],
)
def test_a_bad_url_is_refused_without_showing_the_password(url, why):
    with pytest.raises(UserError, match=why) as caught:
        broker_of(Config(mqtt=url))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_ca_file_that_is_none_is_refused(tmp_path, content):
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_bytes(content)
    with pytest.raises(UserError, match=f"--mqtt-ca {ca}: "):
        broker_of(Config(mqtt="mqtts://host/lab", mqtt_ca=ca))
    with pytest.raises(UserError, match="give mqtts://"):
        broker_of(Config(mqtt="mqtt://host/lab", mqtt_ca=ca))


def test_a_sources_name_is_one_safe_level_of_a_topic():
    names = {
        "camera:0": "camera_0",
        "rtsp://***@cam/a+b#c": "rtsp_cam_a_b_c",
        "дом/1.mp4": "дом_1_mp4",
        "###": "source",
    }
    assert {name: topic_name(name) for name in names} == names
    assert len(topic_name("x" * 500)) == 64


def test_without_a_journal_on_disk_it_is_one_line():
    with pytest.raises(UserError, match="add --journal FILE"):
        Program(Journal(None), "mqtt://host/lab")


def test_without_paho_it_is_one_line(monkeypatch, tmp_path, broker):
    monkeypatch.setitem(__import__("sys").modules, "paho.mqtt.client", None)
    monkeypatch.setitem(__import__("sys").modules, "paho.mqtt", None)
    with pytest.raises(UserError, match="install the extra mqtt"), running(tmp_path, broker):
        pass
