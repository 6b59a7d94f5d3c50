"""`stream review`: sessions over a real port, and the loop of review and coding in a real Chromium."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from serving import SPOTTER, http
from session_maker import RAISES_S, STARTS_S, make_session
from test_dashboard import CHROMIUM, FLAGS, WAIT_MS, needs_browser, until
from websockets.sync.client import connect

from stream.__main__ import main
from stream.server.listen import ServerConfig
from stream.server.reviews import CHUNK_BYTES, Reviews
from stream.server.service import EventServer
from stream.server.session import Limits
from stream.server.tickets import HELD_S, Tickets
from stream.sessions.coding import load_coding
from stream.sessions.resolutions import fitting, resolutions_of
from stream.sessions.session import TRACE
from stream.sessions.shelf import Shelf

NAME = "20261128T100000Z-AAAAAA"
FIRST = f"01J{1:023d}"


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    return make_session(tmp_path_factory.mktemp("master") / NAME)


@pytest.fixture
def folder(master, tmp_path) -> Path:
    """A folder that holds one session, fresh for each test."""
    target = tmp_path / "sessions" / NAME
    target.mkdir(parents=True)
    for file in master.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target.parent


@contextmanager
def reviewing(folder: Path, **config) -> Iterator[EventServer]:
    settings = {
        "port": 0,
        "journal_path": folder.parent / "journal.sqlite",
        "limits": Limits(message_bytes_max=1 << 20),
    }
    server = EventServer(ServerConfig(**{**settings, **config}), SPOTTER, Reviews(Shelf(folder), alone=True))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def asked(server, path, **headers):
    response, body = http(server, f"/api/sessions{path}", **headers)
    return response.status, json.loads(body) if "json" in response.headers["Content-Type"] else body.decode()


def put(server, *codings, first=()):
    """What the server answers to each coding that is sent."""
    with connect(f"ws://127.0.0.1:{server.port}/codings", compression=None) as socket:
        for message in (*first, *codings):
            socket.send(json.dumps(message))
        return [json.loads(socket.recv(timeout=10)) for _ in codings]


def coding(coder="Anna", revision=0, marks=(), **more):
    return {
        **{"version": 1, "coder": coder, "session": NAME, "blind": False, "done": False},
        **{"revision": revision, "marks": list(marks), **more},
    }


def mark(identity, onset_s=101.2, **more):
    ends = {"face": 1, "onset_s": onset_s, "apex_s": None, "offset_s": onset_s + 0.4, "verdict": "accepted"}
    return {"id": identity, **ends, "reason": None, "units": [], "note": "", **more}


# --- rules -----------------------------------------------------------------------------------------------------------


def test_a_short_peak_is_seen_at_every_resolution_and_gaps_stay_empty():
    """However far somebody zooms out, the trace shows that the score once passed the threshold."""
    trace = np.zeros(6000, TRACE)
    trace["time_s"] = np.arange(6000) / 30 + np.where(np.arange(6000) < 3000, 0, 500)
    trace["face"], trace["score"], trace["threshold"] = 7, 0.1, 0.6
    trace["score"][1234] = 0.99
    (resolutions,) = resolutions_of(trace).values()
    assert [round(float(r.high.max()), 2) for r in resolutions] == [0.99] * len(resolutions)
    for resolution in resolutions:
        assert not ((resolution.time_s > 100.1) & (resolution.time_s < 599.9)).any()
    assert len(fitting(resolutions, 0, 1000, 100).time_s) <= 100
    close = fitting(resolutions, trace["time_s"][1234] - 0.01, trace["time_s"][1234] + 0.01, 100)
    assert float(close.high.max()) == pytest.approx(0.99)


def test_a_ticket_holds_for_its_time_alone_and_only_for_its_own_run():
    """A cookie that leaks from a browser's store is worth nothing minutes later, or to another program."""
    tickets = Tickets()
    cookie = tickets.cookie(1000.0, secure=True)
    sent = cookie.partition(";")[0]
    assert {"HttpOnly", "SameSite=Strict", "Secure"} <= {part.strip() for part in cookie.split(";")}
    assert tickets.holds(f"other=1; {sent}", 1000.0 + HELD_S - 1)
    assert not tickets.holds(sent, 1000.0 + HELD_S)
    name, _, value = sent.partition("=")
    later = f"{name}={int(value.partition('.')[0]) + 9999}.{value.partition('.')[2]}"
    assert not any(tickets.holds(text, 1000.0) for text in (later, None, "", f"{name}=", f"{name}=.", ";;=", "ü=1"))
    assert not Tickets().holds(sent, 1000.0)


# --- the port --------------------------------------------------------------------------------------------------------


def test_everything_needs_the_token_and_the_video_takes_its_ticket(folder):
    """No picture and no coding leaves without the token; a ticket opens the video and nothing else."""
    with reviewing(folder, token="sesame-open-sesame") as server:
        right = {"Authorization": "Bearer sesame-open-sesame"}
        for path in ("", f"/{NAME}", f"/{NAME}/trace", f"/{NAME}/track", f"/{NAME}/video/0"):
            assert asked(server, path)[0] == 401, path
        response, _ = http(server, "/api/sessions", **right)
        cookie = response.headers["Set-Cookie"].partition(";")[0]
        assert "Path" not in response.headers["Set-Cookie"]  # so that it works behind a proxy's prefix, and only there
        assert http(server, f"/api/sessions/{NAME}/video/0", Cookie=cookie, Range="bytes=0-9")[0].status == 206
        assert asked(server, f"/{NAME}", Cookie=cookie)[0] == 401
        assert http(server, "/api/sessions", Host="evil.example", **right)[0].status == 421
        assert http(server, "/api/sessions", Origin="http://evil.example", **right)[0].status == 403
        assert put(server, coding())[0]["code"] == "bad_message"  # no token came first
        assert not (folder / NAME / "codings").exists()
        assert put(server, coding(), first=[{"type": "auth", "token": "sesame-open-sesame"}])[0]["type"] == "saved"


def test_video_comes_in_pieces_that_are_the_file(folder):
    """What a player reads piece by piece is the recording byte for byte; what can't be sent is refused."""
    video = folder / NAME / "video.mkv"
    video.write_bytes(video.read_bytes() + bytes(3 * CHUNK_BYTES))
    data = video.read_bytes()
    with reviewing(folder) as server:

        def part(range_header):
            more = {} if range_header is None else {"Range": range_header}
            response, body = http(server, f"/api/sessions/{NAME}/video/0", **more)
            return response.status, response.headers.get("Content-Range"), body

        got = b""
        while len(got) < len(data):
            status, _, body = part(f"bytes={len(got)}-")
            assert status == 206
            assert 0 < len(body) <= CHUNK_BYTES
            got += body
        assert got == data
        assert part("bytes=5-9") == (206, f"bytes 5-9/{len(data)}", data[5:10])
        assert part("bytes=-7") == (206, f"bytes {len(data) - 7}-{len(data) - 1}/{len(data)}", data[-7:])
        for wrong in (f"bytes={len(data)}-", "bytes=9-5", "bytes=-", "bytes=0-1,4-5", "frames=0-1", "bytes=-0", None):
            assert part(wrong)[:2] == (416, f"bytes */{len(data)}"), wrong
        for wrong in ("1", "x", "99999999999999", "..%2Fsession.json"):
            assert http(server, f"/api/sessions/{NAME}/video/{wrong}", Range="bytes=0-")[0].status == 404


def test_bad_sessions_and_codings_are_said_in_one_line(folder):
    """One broken session or coding neither hides the others nor breaks the list."""
    for name, text in (("half", '{"version": 1, "sou'), ("newer", '{"version": 9}'), ("list", "[]")):
        (folder / name).mkdir()
        (folder / name / "session.json").write_text(text)
    (folder / NAME / "codings").mkdir()
    (folder / NAME / "codings" / "Ben.json").write_text('{"version": 1, "cod')
    (folder / NAME / "codings" / "Cleo.json").write_text(json.dumps(coding("Cleo", 1, session="another")))
    with (folder / NAME / "trace.bin").open("ab") as file:
        file.write(b"half")
    with reviewing(folder) as server:
        listed = {one["name"]: one for one in asked(server, "")[1]["sessions"]}
        assert listed[NAME]["intervals"] == 2
        for name in ("half", "newer", "list"):
            assert "session.json" in listed[name]["trouble"]
            assert "\n" not in listed[name]["trouble"]
        status, shown = asked(server, f"/{NAME}")
        assert status == 200
        assert len(shown["intervals"]) == 2
        assert [any(name in line for line in shown["trouble"]) for name in ("Ben", "Cleo")] == [True, True]
        status, refused = asked(server, f"/{NAME}?coder=Ben")
        assert status == 409
        assert "Ben.json is not a coding" in refused["trouble"]
        for wrong in ("..", "%2e%2e%2fsessions", "nothing", "half"):
            assert asked(server, f"/{wrong}")[0] == 409, wrong
        assert asked(server, f"/{NAME}?coder=..%2Fx")[0] == 409
        assert asked(server, f"/{NAME}/trace?face=1&from=nan&to=2&points=3")[0] == 400
        ben = (folder / NAME / "codings" / "Ben.json").read_text()
        wrong = [
            coding("Ben"),
            coding("../x"),
            coding(session="nothing"),
            {"version": 1},
            [],
            coding(marks=[{"id": 1}]),
        ]
        assert [answer["type"] for answer in put(server, *wrong)] == ["error"] * len(wrong)
        assert (folder / NAME / "codings" / "Ben.json").read_text() == ben


def test_two_pages_at_once_lose_nothing(folder):
    """Writes of one coder race from many pages: each is stored or told of the conflict with what is stored."""
    with reviewing(folder) as server:

        def page(number):
            mine, known = mark(f"own-{number}", onset_s=100.0 + number / 10, verdict="added"), coding()
            while True:
                (answer,) = put(server, {**known, "marks": [*known["marks"], mine]})
                if answer["type"] == "saved":
                    return
                assert answer["type"] == "conflict"
                known = answer["coding"]

        pages = [threading.Thread(target=page, args=(number,)) for number in range(6)]
        for one in pages:
            one.start()
        for one in pages:
            one.join(60)
        stored = load_coding(folder / NAME / "codings" / "Anna.json")
        assert sorted(one.id for one in stored.marks) == [f"own-{number}" for number in range(6)]
        assert stored.revision == 6


def test_a_blind_coder_is_sent_nothing_of_the_machine_until_done(folder):
    """Blindness does not depend on the page: the server leaves intervals and other coders out."""
    with reviewing(folder) as server:
        put(server, coding("Ben", marks=[mark(FIRST)]))
        _, shown = asked(server, f"/{NAME}?coder=Anna&blind=1")
        assert (shown["hidden"], shown["intervals"], shown["others"]) == (True, [], [])
        (answer,) = put(server, shown["coding"])
        _, shown = asked(server, f"/{NAME}?coder=Anna")  # not asking for it does not end it
        assert (shown["hidden"], shown["intervals"], shown["others"]) == (True, [], [])
        (answer,) = put(server, {**answer["coding"], "blind": False, "done": True})
        assert answer["coding"]["blind"]  # a page can't make a blind coding a seeing one
        _, shown = asked(server, f"/{NAME}?coder=Anna&blind=1")
        assert (len(shown["intervals"]), [other["coder"] for other in shown["others"]]) == (2, ["Ben"])
        (late,) = put(server, {**answer["coding"], "marks": [mark(FIRST)]})
        assert late["type"] == "error"
        assert load_coding(folder / NAME / "codings" / "Anna.json").marks == ()


def test_what_is_no_session_is_one_line_and_exit_code_2(tmp_path, capsys):
    """A wrong folder is said before a port is opened."""
    for arguments in (
        ["review", str(tmp_path)],
        ["review", str(tmp_path / "nowhere")],
        ["review"],
        ["review", "a", "b"],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("stream: ")
        assert error.count("\n") == 1


def test_the_command_serves_one_session_and_ends_when_asked(folder):
    """The command as somebody starts it: it says where to look, serves, and ends on SIGTERM with code 0."""
    command = [sys.executable, "-m", "stream", "review", str(folder / NAME), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        line = program.stderr.readline()
        port = int(line.split("127.0.0.1:")[1].split("/")[0])
        server = type("Running", (), {"port": port})
        assert [one["name"] for one in asked(server, "")[1]["sessions"]] == [NAME]
        response, _ = http(server, "/")
        assert (response.status, response.headers["Location"]) == (302, "review/")
        program.terminate()
        assert program.wait(20) == 0


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[test]")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def person(browser):
    """Opens pages, each of a browser profile of its own; the test fails if one logs an error or asks anybody else."""
    contexts, wrong = [], []

    def page():
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
        contexts.append(context)
        opened = context.new_page()
        opened.set_default_timeout(WAIT_MS)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        opened.on("request", lambda one: None if "//127.0.0.1:" in one.url else wrong.append(one.url))
        return opened

    yield page
    for context in contexts:
        context.close()
    # a video element gives up a range that it no longer wants, which a busy server sees as a reset
    expected = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "WebSocket connection to", "401")
    assert [text for text in wrong if not any(known in text for known in expected)] == []


def open_session(page, server, coder="", blind=False):
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.fill("#coder", coder)
    page.keyboard.press("Tab")
    if blind:
        page.check("#blind")
    page.click(f"text={NAME}")
    page.wait_for_selector("#session:not([hidden])")
    until(page, "document.getElementById('video').readyState >= 2 && review.player.frameS !== null")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def saved(page):
    until(
        page, "!review.saver.busy && !review.unsaved && document.getElementById('saved').dataset.state === 'connected'"
    )


def at(page, source_s, within_s=0.02):
    until(page, f"review.player.wantedS === null && Math.abs(review.player.nowS - {source_s}) < {within_s}")


@needs_browser
def test_a_reviewer_sees_the_moment_that_the_machine_reported(person, folder):
    """Selecting an interval shows its frame and aligned face; a key is one frame; a loop stays around the interval."""
    with reviewing(folder) as server:
        page = person()
        open_session(page, server)
        assert page.locator("#rows li").count() == 2
        press(page, "ArrowDown")
        at(page, RAISES_S[0])
        press(page, "ArrowRight")
        at(page, RAISES_S[0] + 1 / 30, 0.005)
        press(page, "ArrowLeft")
        at(page, RAISES_S[0], 0.005)
        press(page, "ArrowLeft")
        at(page, RAISES_S[0] - 1 / 30, 0.005)
        # the maker's matrix takes the middle 256 px of the picture: the aligned face is the video's middle
        difference = page.evaluate(
            """() => {
              const [face, video] = ["face", "video"].map((id) => document.getElementById(id));
              const own = new OffscreenCanvas(face.width, face.height), context = own.getContext("2d");
              context.drawImage(video, 32, 32, 256, 256, 0, 0, face.width, face.height);
              const pixels = (c) => c.getImageData(0, 0, face.width, face.height).data;
              const shown = face.getContext("2d");
              shown.resetTransform();
              const [a, b] = [pixels(shown), pixels(context)];
              return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
            }"""
        )
        assert difference < 2
        press(page, "]", "l")  # faster than 1 there is not
        until(page, "review.player.playing")
        page.evaluate("window.seen = []; setInterval(() => window.seen.push(review.player.nowS), 10)")
        until(page, "seen.length > 20 && seen.some((s, i) => i && s < seen[i - 1] - 0.3)")  # it came round
        low, high = page.evaluate("[Math.min(...seen), Math.max(...seen)]")
        assert low > RAISES_S[0] - 0.4
        assert high < RAISES_S[0] + 0.4 + 0.4
        press(page, "[", "[", "[", "[")
        assert page.evaluate("document.getElementById('video').playbackRate") == 1 / 16
        press(page, " ")
        until(page, "!review.player.playing")


@needs_browser
def test_scrubbing_the_trace_moves_the_video(person, folder):
    """A press in the middle of the whole session's strip shows the session's middle."""
    with reviewing(folder) as server:
        page = person()
        open_session(page, server)
        until(page, "review.timeline.near?.time_s.length > 100 && review.timeline.whole")
        thresholds = page.evaluate("[review.timeline.near.threshold[10], review.timeline.near.threshold.at(-1)]")
        assert thresholds == pytest.approx([0.6, 0.7])
        box = page.locator("#overview").bounding_box()
        page.mouse.click(box["x"] + 34 + (box["width"] - 46) / 2, box["y"] + 10)
        at(page, STARTS_S + 3, 0.05)


@needs_browser
def test_a_coder_codes_by_keyboard_undoes_and_finds_it_again(person, folder):
    """Each key's change is in the coder's file at once, and in the page that is opened later."""
    path = folder / NAME / "codings" / "Anna.json"
    with reviewing(folder) as server:
        page = person()
        open_session(page, server, "Anna")
        press(page, "ArrowDown", "a")
        saved(page)
        assert [(one.id, one.verdict) for one in load_coding(path).marks] == [(FIRST, "accepted")]
        press(page, "ArrowRight", "ArrowRight")
        at(page, RAISES_S[0] + 2 / 30)
        press(page, "i", "u")
        page.keyboard.type("1B+L4C")
        press(page, "Enter", "t")
        page.keyboard.type("both brows")
        press(page, "Enter", "ArrowDown", "r", "s")
        saved(page)
        first, second = load_coding(path).marks
        assert first.onset_s == pytest.approx(RAISES_S[0] + 2 / 30, abs=0.005)
        assert [(u.number, u.side, u.intensity) for u in first.units] == [(1, "both", "B"), (4, "left", "C")]
        assert first.note == "both brows"
        assert (second.verdict, second.reason) == ("rejected", "speech")
        press(page, "Shift+ArrowRight")
        at(page, RAISES_S[1] + 1)
        press(page, "n", "o")
        page.wait_for_selector("#rows [aria-current]")
        saved(page)
        assert [one.verdict for one in load_coding(path).marks] == ["accepted", "rejected", "added"]
        press(page, "z", "z")
        saved(page)
        page.reload()
        page.wait_for_selector("#session:not([hidden])")
        assert page.locator("#rows li[data-verdict=accepted]").count() == 1
        assert "1B+L4C" in page.inner_text("#rows li[data-verdict=accepted]")
        assert page.locator("#rows li[data-verdict=added]").count() == 0
        press(page, "ArrowDown", "u")
        page.fill("#units", "smile")
        press(page, "Enter")
        assert "no action unit" in page.inner_text("#units-wrong")


@needs_browser
def test_two_coders_one_of_them_blind(person, folder):
    """The blind one sees nobody's intervals until done, then both; neither touches the other's file."""
    with reviewing(folder) as server:
        anna = person()
        open_session(anna, server, "Anna")
        press(anna, "ArrowDown", "a", "ArrowDown", "r", "b")
        saved(anna)
        before = (folder / NAME / "codings" / "Anna.json").read_bytes()
        ben = person()
        asked_for = []
        ben.on("request", lambda one: asked_for.append(one.url))
        open_session(ben, server, "Ben", blind=True)
        assert ben.locator("#rows li").count() == 0
        press(ben, "Shift+ArrowRight")
        at(ben, STARTS_S + 1)
        press(ben, "n")
        saved(ben)
        assert not [url for url in asked_for if "/trace?" in url]
        assert "Anna" not in ben.inner_text("body")
        press(ben, "d")
        ben.click("text=Finish >> nth=-1")
        ben.wait_for_selector("text=Anna: rejected (blink)")
        assert ben.locator("#rows li").count() == 3
        assert ben.locator("#add").is_hidden()
        assert load_coding(folder / NAME / "codings" / "Ben.json").done
        assert (folder / NAME / "codings" / "Anna.json").read_bytes() == before
        anna.reload()
        anna.wait_for_selector("text=Added by Ben")


@needs_browser
def test_two_pages_of_one_coder_keep_both_changes_and_ask_where_they_clash(person, folder):
    """A save that meets a newer file: other intervals are merged, the same one is for the person to decide."""
    path = folder / NAME / "codings" / "Anna.json"
    with reviewing(folder) as server:
        one, two = person(), person()
        for page in (one, two):
            open_session(page, server, "Anna")
        press(one, "ArrowDown", "a")
        saved(one)
        press(two, "ArrowDown", "ArrowDown", "r", "h")
        two.wait_for_selector("text=both pages' changes are kept")
        saved(two)
        assert [mark.verdict for mark in load_coding(path).marks] == ["accepted", "rejected"]
        press(one, "ArrowDown", "a")
        one.wait_for_selector("text=Take mine instead")
        assert [mark.verdict for mark in load_coding(path).marks] == ["accepted", "rejected"]
        one.click("text=Take mine instead")
        saved(one)
        assert [mark.verdict for mark in load_coding(path).marks] == ["accepted", "accepted"]


@needs_browser
def test_a_server_that_goes_and_comes_back_gets_the_change(person, folder):
    """A change made while the program is away is said to be unsaved, and stored when it is back."""
    page = person()
    with reviewing(folder) as server:
        open_session(page, server, "Anna")
        port = server.port
    press(page, "ArrowDown", "a")
    page.wait_for_selector("#saved[data-state=lost]")
    assert "Not saved" in page.inner_text("#saved")
    with reviewing(folder, port=port):
        saved(page)
    assert len(load_coding(folder / NAME / "codings" / "Anna.json").marks) == 1


@needs_browser
def test_a_video_that_was_moved_is_said_and_coding_goes_on(person, folder):
    """The page says which file is missing; trace, intervals and coding work without it."""
    (folder / NAME / "video.mkv").rename(folder / "elsewhere.mkv")
    with reviewing(folder) as server:
        page = person()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.fill("#coder", "Anna")
        page.click(f"text={NAME}")
        page.wait_for_selector("text=video.mkv is not where the session says")
        press(page, "ArrowDown", "a")
        saved(page)
    assert len(load_coding(folder / NAME / "codings" / "Anna.json").marks) == 1


@needs_browser
def test_the_page_asks_for_the_token_and_then_shows_the_video(person, folder):
    """With a token nothing is shown before it is given; afterwards the video plays, which can't send a header."""
    with reviewing(folder, token="sesame-open-sesame") as server:
        page = person()
        page.goto(f"http://127.0.0.1:{server.port}/")
        for given in ("wrong", "sesame-open-sesame"):
            page.wait_for_selector("#token[open]")
            page.fill("#token-text", given)
            page.keyboard.press("Enter")
        page.wait_for_selector(f"text={NAME}")
        page.fill("#coder", "Anna")
        page.click(f"text={NAME}")
        until(page, "document.getElementById('video').readyState >= 2")
        press(page, "ArrowDown", "a")
        saved(page)
