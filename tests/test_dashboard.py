"""The dashboard in a real Chromium against the real server: what a person at the screen would see and do."""

import csv
import io
import os
import re
import threading
import time
from itertools import product
from pathlib import Path
from shutil import which

import cv2
import numpy as np
import pytest
from clips import face_video
from live_program import live
from msgspec.structs import replace
from serving import STATUS, event, serving

from stream.decide import operating_point
from stream.protocol.messages import FaceStatus, OperatingPoint, Scores
from stream.types import Phase

CHROMIUM = os.environ.get("CHROMIUM") or which("chromium") or which("chromium-browser") or which("google-chrome")
DASHBOARD = Path(__file__).parent.parent / "stream" / "server" / "dashboard"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium, or set CHROMIUM")
WAIT_MS = 15_000


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[test]")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A page that fails its test if it logs an error, runs into one, or asks anybody but its server for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, locale="en-GB")
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            None if "//127.0.0.1:" in request.url or request.url.startswith("blob:") else wrong.append(request.url)
        ),
    )
    yield page
    context.close()
    expected = ("ERR_CONNECTION_REFUSED", "WebSocket connection to", "401")  # a server that is down, a token asked for
    assert [text for text in wrong if not any(known in text for known in expected)] == []


def open_dashboard(page, server):
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("#link[data-state=connected]", timeout=WAIT_MS)


def until(page, expression):
    """Wait for a condition in the page; asked from here, since its policy forbids what Playwright would inject."""
    deadline_s = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline_s, f"never came true: {expression}"
        page.wait_for_timeout(20)


def taken(page):
    """(events taken in, duplicates seen) by the page."""
    return page.evaluate("[session.counts.events, session.counts.duplicates]")


def states(page):
    return page.evaluate("Object.fromEntries([...session.intervals.values()].map(i => [i.id.slice(-3), i.state]))")


def jpeg(brightness, size=128):
    y, x = np.mgrid[:size, :size]
    face = (
        90
        + 60 * np.exp(-((x - 64) ** 2 + (y - 70) ** 2) / 1800)
        + brightness * np.exp(-((x - 64) ** 2 + (y - 35) ** 2) / 200)
    )
    return cv2.imencode(".jpg", np.clip(face, 0, 255).astype(np.uint8))[1].tobytes()


@needs_browser
def test_events_appear_as_they_begin_settle_or_are_taken_back(page, tmp_path):
    with serving(tmp_path) as server:
        server.publish(event(1, Phase.END))  # from before the page was opened
        open_dashboard(page, server)
        assert "is being analysed" in page.inner_text("#analysing")
        page.wait_for_selector("li[data-state=settled]", timeout=WAIT_MS)
        server.publish(event(2, Phase.START, apex_s=None, offset_s=None))
        page.wait_for_selector("li[data-state=open]", timeout=WAIT_MS)
        assert page.inner_text("li[data-state=open] .what") == "Brow movement, going on"
        server.publish(event(3, Phase.START))
        server.publish(event(2, Phase.END))
        server.publish(event(3, Phase.RETRACT))
        page.wait_for_selector("li[data-state=retracted]", timeout=WAIT_MS)
        assert page.locator("li[data-state=settled]").count() == 2
        assert page.inner_text("li[data-state=retracted] .what") == "Not counted: a blink"
        assert page.inner_text("li[data-state=settled] .what >> nth=0") == "Brow movement, 0.40 s"
        assert "does not say what the person felt" in page.inner_text("footer")
        server.publish_status(
            replace(STATUS, faces=[FaceStatus(1, "cannot_spot", "low_fps")], degraded=["journal: disk full"])
        )
        page.wait_for_selector(".face-state[data-state=cannot_spot]", timeout=WAIT_MS)
        assert "too few frames" in page.inner_text(".face-state")
        assert "29.8" in page.inner_text("#health")
        assert "disk full" in page.inner_text("#degraded")


@pytest.mark.slow
@needs_browser
def test_the_real_pipeline_on_a_real_video_is_shown_whole(page, tmp_path, eager_model):
    """The whole program, its clip in real time: what the page took in is what another subscriber was sent."""
    video = face_video(tmp_path / "face.mp4")
    with live(tmp_path, eager_model, video) as running:
        assert running.pipeline.serving.wait(30)
        open_dashboard(page, running.pipeline.server)
        assert "file:face.mp4" in page.inner_text("#analysing")
        page.wait_for_selector("li[data-state=settled]", timeout=2 * WAIT_MS)
        until(page, "session.faces.get(1).scores.length > 3 && session.faces.get(1).previews.length > 10")
        until(
            page,
            "document.querySelector('.face-picture canvas').getContext('2d').getImageData(64, 64, 1, 1).data[3] > 0",
        )
        assert page.inner_text(".face h2") == "Face 1"
        running.finish()
    published = {message["seq"]: message for message in running.of_type("event")}
    until(page, f"session.counts.events >= {max(published)}")  # the last ones may still be on their way
    assert taken(page) == [max(published), 0]
    ends = {message["id"]: message["onset_s"] for message in published.values() if message["phase"] == "end"}
    shown = page.evaluate("Object.fromEntries([...session.intervals.values()].map(i => [i.id, [i.state, i.onset_s]]))")
    assert ends
    assert {id_: shown[id_] for id_ in ends} == {id_: ["settled", onset_s] for id_, onset_s in ends.items()}


@needs_browser
def test_a_restart_is_caught_up_without_loss_or_duplicate(page, tmp_path):
    """Killed between two events; more were published and journalled while the page could not listen."""
    with serving(tmp_path) as server:
        port = server.port
        open_dashboard(page, server)
        for n in range(1, 6):
            server.publish(event(n))
        server.publish(event(6, Phase.START))
        until(page, "session.counts.events === 6")
    page.wait_for_selector("#link[data-state=lost]", timeout=WAIT_MS)
    with serving(tmp_path, port=port + 1 if port < 65535 else 0) as elsewhere:  # same journal: the page misses these
        for n in range(7, 10):
            elsewhere.publish(event(n))
    with serving(tmp_path, port=port) as server:
        server.publish(event(10))
        page.wait_for_selector("#link[data-state=connected]", timeout=WAIT_MS)
        until(page, "session.counts.events === 10")
        assert taken(page) == [10, 0]
        assert len(states(page)) == 10
        assert states(page)["006"] == "unsettled"  # its end can never come
        assert page.inner_text("li[data-state=unsettled] .what") == "Brow movement, end unknown"
        assert "restarted" in page.inner_text("#list")


@needs_browser
def test_two_tabs_and_a_slow_one_each_get_every_event_once(browser, page, tmp_path):
    """The slow tab's thread is blocked for a while; meanwhile the others are served as if it were not there."""
    total = 80
    with serving(tmp_path) as server:
        open_dashboard(page, server)
        tabs = [page, page.context.new_page(), page.context.new_page()]
        for tab in tabs[1:]:
            open_dashboard(tab, server)
        tabs[2].evaluate("setTimeout(() => { const end = Date.now() + 1500; while (Date.now() < end); }, 0)")

        def publish():
            for n in range(total):
                server.publish(event(n))
                for k in range(5):
                    server.publish_scores(Scores(1, 2.0 * n + k / 10, 0.2, 0.5))
                time.sleep(0.002)

        publisher = threading.Thread(target=publish)
        publisher.start()
        for tab in tabs:
            until(tab, f"session.counts.events === {total}")
            assert taken(tab) == [total, 0]
        publisher.join()


@needs_browser
def test_previews_are_only_asked_for_when_shown_and_give_the_detail_view_its_pictures(page, tmp_path):
    with serving(tmp_path) as server:
        open_dashboard(page, server)
        server.publish_status(STATUS)
        until(page, "session.status !== null")
        deadline_s = time.monotonic() + 10
        while not server.wants("preview"):
            assert time.monotonic() < deadline_s
        page.keyboard.press("v")
        while server.wants("preview"):
            assert time.monotonic() < deadline_s
        page.keyboard.press("v")
        while not server.wants("preview"):
            assert time.monotonic() < deadline_s
        happened = event(5)  # onset at 10.0 s, apex at 10.16 s, offset at 10.4 s
        for time_s in np.arange(9.5, 10.9, 1 / 30):
            moved = np.clip(1 - abs(time_s - happened.apex_s) / 0.2, 0, 1)
            server.publish_preview(1, jpeg(60 * moved), float(time_s))
        server.publish(happened)
        until(page, "session.intervals.size === 1 && [...session.intervals.values()][0].frames.length > 25")
        page.click("li[data-state=settled] button")
        page.wait_for_selector("#detail-body[data-pictures=true] #replay", timeout=WAIT_MS)
        brow = """(id) => { const c = document.getElementById(id);
            return c.getContext('2d').getImageData(64, 35, 1, 1).data[0]; }"""
        until(page, "document.getElementById('crop-apex').getContext('2d').getImageData(64, 35, 1, 1).data[0] > 0")
        onset, apex, offset = (page.evaluate(brow, f"crop-{name}") for name in ("onset", "apex", "offset"))
        assert apex > onset + 20  # the right frame is in the right place
        assert abs(offset - onset) < 20
        peak = """(magnify) => {
            const slider = document.getElementById('magnify');
            slider.value = magnify;
            slider.dispatchEvent(new Event('input'));
            window.peak = 0;
        }"""
        page.evaluate("""() => {
            const context = document.getElementById('replay').getContext('2d');
            const look = () => context.getImageData(64, 35, 1, 1).data[0];
            setInterval(() => { window.peak = Math.max(window.peak ?? 0, look()); }, 15);
        }""")
        page.select_option("#speed", "1")
        page.evaluate(peak, 1)
        until(page, f"Math.abs(window.peak - {apex}) < 12")
        page.evaluate(peak, 3)
        until(page, f"window.peak > {apex} + 15")  # the motion is enlarged
        assert "160 ms" in page.inner_text("#crop-apex + figcaption")
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0


@needs_browser
def test_the_strip_shows_the_thresholds_that_the_faces_run_at(page, tmp_path):
    """Everybody's until a face has its own, then that, then the span of several; and the rate of the log."""
    point = OperatingPoint(0.4684, 9.2216, 15.2639, 1.19)
    status = replace(STATUS, threshold=0.4684, false_alarms_per_hour=9.2216, operating_point=point)
    strip = "[...document.querySelectorAll('dt')].find((e) => e.textContent === 'Threshold').nextSibling.textContent"
    with serving(tmp_path) as server:
        open_dashboard(page, server)
        server.publish_status(status)
        until(page, f"{strip}.startsWith('0.47 ')")
        assert page.evaluate(strip) == "0.47 9.2 false alarms/h, at most 15.3"
        logged = operating_point.OperatingPoint(0.4684, 9.2216, 15.2639, 1.19).words
        assert "9.2 false alarms an hour, at most 15.3 " in logged
        server.publish_scores(Scores(1, 2.0, 0.2, 0.61))
        until(page, "session.faces.get(1)?.scores.length === 1")
        server.publish_status(status)
        until(page, f"{strip}.startsWith('0.61 ')")
        server.publish_scores(Scores(2, 2.1, 0.2, 0.52))
        until(page, "session.faces.get(2)?.scores.length === 1")
        server.publish_status(replace(status, faces=[FaceStatus(n, "watching", None) for n in (1, 2)]))
        until(page, f"{strip}.startsWith('0.52 to 0.61 ')")


@needs_browser
def test_marks_and_intervals_are_exported(page, tmp_path):
    with serving(tmp_path) as server:
        open_dashboard(page, server)
        server.publish(event(1))
        server.publish(event(2, Phase.RETRACT))
        until(page, "session.counts.events === 2")
        page.keyboard.press("m")
        page.fill("#note-text", '=HYPERLINK("x"), said "no"')
        page.keyboard.press("Enter")
        page.wait_for_selector("li[data-state=mark]:has-text('HYPERLINK')", timeout=WAIT_MS)  # the note is kept
        with page.expect_download() as download:
            page.keyboard.press("e")
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_bytes().decode())))
    settled, retracted = (next(row for row in rows if row["state"] == state) for state in ("settled", "retracted"))
    assert (settled["onset_s"], settled["apex_s"], settled["duration_s"], settled["brows"]) == (
        "2",
        "2.16",
        "0.4000",
        "0.8",
    )
    assert retracted["reason"] == "blink"
    mark = next(row for row in rows if row["kind"] == "mark")
    assert mark["note"] == '\'=HYPERLINK("x"), said "no"'  # text, not a formula


@needs_browser
def test_the_session_can_be_scrolled_with_the_keyboard_and_brought_back(page, tmp_path):
    with serving(tmp_path) as server:
        open_dashboard(page, server)
        page.evaluate("session.startS -= 600")
        page.focus("#timeline")
        page.keyboard.press("Home")
        until(page, "!document.getElementById('live').disabled")
        assert page.get_attribute("#timeline", "aria-valuenow") == "30"
        page.keyboard.press("ArrowRight")
        until(page, "document.getElementById('timeline').getAttribute('aria-valuenow') > 30")
        page.keyboard.press("l")
        until(page, "document.getElementById('live').disabled")


@needs_browser
def test_everything_can_be_reached_by_keyboard(page, tmp_path):
    with serving(tmp_path) as server:
        server.publish(event(1))
        open_dashboard(page, server)
        page.wait_for_selector("li[data-state=settled]", timeout=WAIT_MS)
        wanted, reached = ["preview", "marker", "export", "help", "timeline", "settled"], []
        for _ in range(12):
            page.keyboard.press("Tab")
            focused = "document.activeElement.id || document.activeElement.closest('li')?.dataset.state"
            reached.append(page.evaluate(focused))
        assert [name for name in reached if name in wanted][: len(wanted)] == wanted
        page.focus("li[data-state=settled] button")
        page.keyboard.press("Enter")
        page.wait_for_selector("#detail[open]", timeout=WAIT_MS)


@needs_browser
def test_the_token_is_asked_for_and_kept_out_of_the_url(page, tmp_path):
    with serving(tmp_path, token="correct horse") as server:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_selector("#token[open]", timeout=WAIT_MS)
        page.fill("#token-text", "wrong")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('token-why').textContent.includes('wrong')")
        page.fill("#token-text", "correct horse")
        page.keyboard.press("Enter")
        page.wait_for_selector("#link[data-state=connected]", timeout=WAIT_MS)
        assert "horse" not in page.url
        page.reload()
        page.wait_for_selector("#link[data-state=connected]", timeout=WAIT_MS)  # this tab remembers


@needs_browser
def test_nothing_sticks_out_at_any_width(page, tmp_path):
    with serving(tmp_path) as server:
        server.publish(event(1))
        open_dashboard(page, server)
        page.wait_for_selector("li[data-state=settled]", timeout=WAIT_MS)
        for width in (320, 390, 820, 1600):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.click("li[data-state=settled] button")
            box = page.locator("#detail").bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            page.keyboard.press("Escape")


@needs_browser
def test_what_others_say_is_never_run_as_markup(page, tmp_path):
    evil = "<img src=x onerror=\"document.title='owned'\">"
    with serving(tmp_path) as server:
        open_dashboard(page, server)
        server.update_hello(source=evil)
        server.publish(event(1, Phase.RETRACT, suppressed=evil, regions={evil: 1.0}, source=evil))
        server.publish_status(replace(STATUS, faces=[FaceStatus(1, "cannot_spot", evil)], degraded=[evil]))
        page.wait_for_selector("li[data-state=retracted]", timeout=WAIT_MS)
        page.wait_for_selector("#degraded li", timeout=WAIT_MS)
        page.click("li[data-state=retracted] button")
        assert page.locator("img").count() == 0


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_colour_has_aa_contrast_on_every_ground(theme):
    """WCAG 2.2, 1.4.3: 4.5 to 1; all pairs, since all occur."""
    style = (DASHBOARD / "style.css").read_text()
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    texts = ("text", "soft", "settled", "open", "retracted", "threshold", "mark", "warn")
    for text, ground in [
        *product(texts, ("panel", "ground")),
        ("soft", "sunk"),
        ("text", "sunk"),
        ("warn", "warn-ground"),
        ("panel", "settled"),
    ]:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_the_page_is_whole_and_asks_nobody_else_for_anything():
    for file in (path for path in DASHBOARD.rglob("*") if path.is_file()):
        text = file.read_text()
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\"'\s]+", text)
        for name in re.findall(r'(?:src|href)="([^"#?{$]+)"|from "(\.[^"]+)"', text):
            named = file.parent / (name[0] or name[1])
            assert named.is_file() or (named / "index.html").is_file(), named
