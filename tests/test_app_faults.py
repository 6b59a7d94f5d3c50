"""What breaks inside the running program: each fault has one named behaviour, injected here into the real pipeline."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clips import face_in_camera, face_video
from live_program import Running, live
from servers import MjpegCamera

from engine.scorer import Scorer
from stream.decide.tracker import EPSILON_S, State
from stream.errors import UserError
from stream.faces.stage import Effort
from stream.live.overload import Level
from stream.live.pipeline import Parts


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera() as served:
        served.next_image = face_in_camera
        yield served


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_video(tmp_path_factory.mktemp("video") / "face.mp4")


def fails_once(broken: Callable[[], bool], inner: Any, error: Exception) -> Any:
    """The same function, which raises as soon as `broken()` is true."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        if broken():
            raise error
        return inner(*arguments, **keywords)

    return call


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("stage", ["face", "score"])
def test_a_worker_that_dies_ends_the_program_with_its_own_error(tmp_path, camera, eager_model, stage):
    """One line names the thread and the error, and no thread stays behind.

    A face thread dies while a movement is open: the movement is closed before the clients are sent away.
    """

    def change(parts: Parts) -> None:
        error = ValueError("of\nsorts")
        if stage == "face":
            faces = parts.faces._faces
            faces.update = fails_once(lambda: something_is_open(parts), faces.update, error)  # type: ignore[method-assign]
        else:
            scorer = parts.scores._scorer
            scorer.heads = fails_once(lambda: parts.faces.frames > 45, scorer.heads, error)  # type: ignore[method-assign]

    with live(tmp_path, eager_model, camera.url(), change) as running:
        with pytest.raises(UserError, match=rf"^the {stage} thread failed: ValueError: of sorts$"):
            running.finish()
        last = {event["id"]: event["phase"] for event in running.of_type("event")}
    if stage == "face":
        assert last
        assert set(last.values()) <= {"end", "retract"}
    assert not {"face", "score", "server", "journal"} & threads()


class FailingGpu:
    """A real runtime that calls itself a GPU and, once told to, gives out at its next hop as one out of memory does."""

    name = "cuda"

    def __init__(self, runtime: Any, gives_out: Callable[[], bool]) -> None:
        self.spec, self.faces = runtime.spec, runtime.faces
        self._runtime, self._gives_out = runtime, gives_out

    def step(self, *arguments: Any, **keywords: Any) -> Any:
        if self._gives_out():
            raise RuntimeError("CUDA error: out of memory")
        return self._runtime.step(*arguments, **keywords)


def something_is_open(parts: Parts) -> bool:
    """Whether a movement that a `start` has told of is not over yet, as far as anybody can tell."""
    return any(
        track.state is State.STARTED and track.estimate().offset_s > tracker._now_s + EPSILON_S
        for tracker in [decider._tracker for decider in list(parts.scores._deciders.values())]
        for track in tracker._tracks
    )


def test_a_gpu_that_fails_is_replaced_by_the_cpu(tmp_path, camera, eager_model):
    """Events go on; the status says `degraded` and names the new runtime; what was open is closed, not bridged."""

    def change(parts: Parts) -> None:
        scorer = parts.scores._scorer
        parts.scores._scorer = Scorer(FailingGpu(scorer.runtime, lambda: something_is_open(parts)), scorer.spec)

    with live(tmp_path, eager_model, camera.url(), change) as running:
        status = running.wait_for(lambda m: m["type"] == "status" and m["runtime"] == "onnx")
        assert "runtime cuda failed, onnx took over (RuntimeError: CUDA error: out of memory)" in status["degraded"]
        seen_s = max(event["onset_s"] for event in running.of_type("event"))
        running.wait_for(lambda m: m["type"] == "event" and m["phase"] == "end" and m["onset_s"] > seen_s + 0.5)
    reasons = {event["suppressed"] for event in running.of_type("event")}
    assert "runtime_lost" in reasons


def test_a_full_disk_is_said_and_does_not_stop_the_spotting(tmp_path, camera, eager_model):
    """/dev/full takes nothing: the events go on over the socket, the status says why the file lacks them."""
    with live(tmp_path, eager_model, camera.url(), events=Path("/dev/full")) as running:
        trouble = "--events /dev/full: No space left on device"
        running.wait_for(lambda m: m["type"] == "status" and trouble in m["degraded"])
        count = len(running.of_type("event"))
        running.wait_for(lambda m: len(running.messages) > 0 and len(running.of_type("event")) > count)


def test_a_server_that_dies_ends_the_program_with_one_line(tmp_path, camera, eager_model):
    """The server's event loop stops while clients are connected: the program ends, and the journal is closed whole."""
    with live(tmp_path, eager_model, camera.url()) as running:
        running.wait_for(lambda m: m["type"] == "status")
        running.pipeline.server._hub.call(lambda: asyncio.get_running_loop().stop())
        with pytest.raises(
            UserError, match=r"^the event server died: RuntimeError: Event loop stopped .*; start again$"
        ):
            running.finish()
    assert not {"server", "journal"} & threads()


def watch_latency(running: Running, for_s: float) -> tuple[list[int], list[float]]:
    """Hops waiting and latencies of the newest status, looked at again and again."""
    waiting, latencies, until_s = [], [], time.monotonic() + for_s
    while time.monotonic() < until_s:
        waiting.append(running.pipeline.hops_waiting)
        status = running.of_type("status")[-1:]
        latencies += [status[0]["latency_ms"]["p99"]] if status and status[0]["latency_ms"]["p99"] else []
        running.ended.wait(0.1)
    return waiting, latencies


@pytest.mark.slow
def test_a_machine_that_cannot_keep_up_says_so_and_stays_in_time(tmp_path, camera, eager_model):
    """Every frame takes 70 ms: half of the camera's frames are dropped and counted, things are given up in the stated
    order, no queue grows, and the newest frame is never older than a few frames' work."""

    def change(parts: Parts) -> None:
        update, busy = parts.faces._faces.update, threading.Event()

        def slow(frame: Any) -> Any:
            busy.wait(0.07)
            return update(frame)

        parts.faces._faces.update = slow  # type: ignore[method-assign]

    with live(tmp_path, eager_model, camera.url(), change) as running:
        running.wait_for(lambda m: m["type"] == "status" and Level.TELEMETRY.words == m["degraded"], limit_s=20)
        waiting, latencies = watch_latency(running, 2.0)
        status = running.of_type("status")[-1]
    degraded = [tuple(message["degraded"]) for message in running.of_type("status")]
    assert list(dict.fromkeys(degraded))[:3] == [
        tuple(level.words) for level in (Level.NOTHING, Level.PREVIEW, Level.TELEMETRY)
    ]
    assert max(waiting) <= 2
    assert latencies
    assert max(latencies) < 2000  # waiting in a queue they would be 4 s by now
    assert status["dropped"]["capture"] > 20
    assert status["fps"] < 20


def test_what_is_given_up_is_really_given_up(tmp_path, camera, eager_model):
    """At the last level: one face, every second hop, no trace, no preview; and the events still come."""
    with live(tmp_path, eager_model, camera.url(), max_faces=3) as running:
        running.wait_for(lambda m: m["type"] == "preview")
        running.wait_for(lambda m: m["type"] == "scores")
        running.pipeline._overload.level = Level.FACES
        running.wait_for(lambda m: m["type"] == "status" and len(m["degraded"]) == 4)
        reduced = Effort(2 * eager_model.spec.hop_frames, max_faces=1)
        while running.parts.faces.effort != reduced:  # the face thread takes it up with its next frame
            assert not running.ended.wait(0.02)
        # what was sent before that has come by the second status from here
        statuses = len(running.of_type("status"))
        running.wait_for(lambda m: len(running.of_type("status")) >= statuses + 2)
        begin, count = len(running.messages), len(running.of_type("event"))
        running.wait_for(lambda m: len(running.of_type("event")) > count)
    kinds = {message["type"] for message in running.messages[begin:]}
    assert not {"preview", "scores"} & kinds


def test_nothing_is_left_behind_by_many_runs(tmp_path, video, eager_model, caplog):
    """A third run leaves no more threads behind, and no more file handles, than the first."""
    caplog.set_level(logging.WARNING)
    threads_left, handles_left = [], []
    for _ in range(3):
        before = set(threading.enumerate())
        with live(tmp_path, eager_model, video) as running:
            running.wait_for(lambda m: m["type"] == "hello")  # else the end may come while the client is connecting
            running.stop.set()
            running.finish()
        for thread in set(threading.enumerate()) - before:
            thread.join(10)  # one that is just ending is not left behind
        threads_left.append(threading.active_count())
        handles_left.append(len(list(Path("/proc/self/fd").iterdir())))
    assert threads_left[-1] <= threads_left[0]
    assert handles_left[-1] <= handles_left[0]
