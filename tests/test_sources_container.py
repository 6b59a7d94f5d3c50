"""What is in a container besides frames: how they are to be shown, which of several streams, at what rate they were
taken, and how large a picture may be."""

import os
import resource
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import face_video
from program import command, environment, lines_of_json, run, said, start
from test_sources_file import play
from videos import number_in, numbered, write_video

from engine.model import Model
from stream.errors import UserError
from stream.sources import open_source
from stream.sources.media_clock import capture_rate
from stream.types import Frame

LOSSLESS = {"codec": "libx264rgb", "pix_fmt": "bgr24", "options": {"qp": "0", "preset": "ultrafast"}}
ORIENTATIONS = [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)]
ORIENTATIONS += [(0, 1, 1, 0), (0, -1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0)]


def placed(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Each pixel (x, y) put at (a x + c y, b x + d y), as ISO 14496-12 says: the slow, plain way."""
    a, b, c, d = matrix
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    out[to_y, to_x] = image
    return out


@pytest.mark.parametrize("ending", ["mp4", "mov"])
@pytest.mark.parametrize("matrix", ORIENTATIONS, ids=str)
def test_all_eight_orientations_are_shown_as_a_player_shows_them(tmp_path: Path, matrix: Any, ending: str) -> None:
    """Turned and mirrored: every pixel where the display matrix puts it, and the size as shown."""
    images = [np.random.default_rng(i).integers(0, 256, (32, 48, 3), np.uint8) for i in range(2)]
    path = write_video(tmp_path / f"v.{ending}", [0, 0.04], images=images, matrix=matrix, **LOSSLESS)
    source = open_source(str(path), paced=False)
    frames = [source.read(), source.read()]
    source.close()
    expected = [placed(image, matrix) for image in images]
    for frame, image in zip(frames, expected, strict=True):
        assert isinstance(frame, Frame)
        assert np.array_equal(frame.image, image)
    assert (source.info.height_px, source.info.width_px) == expected[0].shape[:2]


def events_of(folder: Path, path: Path, model: Model, *more: object) -> tuple[list[tuple], list[str]]:
    """Times of the intervals of a video, and what was said."""
    out = folder / f"{path.stem}.jsonl"
    arguments = ("--offline", "--source", path, "--events", out, "--model", model.directory, "--runtime", "onnx")
    done = run(folder, *arguments, *more)
    assert done.returncode == 0, done.stderr
    ends = [event for event in lines_of_json(out) if event["phase"] == "end"]
    return [(event["onset_s"], event["apex_s"], event["offset_s"]) for event in ends], said(done.stderr)


def test_a_mirrored_file_has_the_events_of_the_plain_one(tmp_path: Path, eager_model: Model) -> None:
    """What is stored is mirrored, and so is shown as it was: the very same events. (It was turned upside down.)"""
    plain = face_video(tmp_path / "plain.mp4", length_s=2)
    images = [frame.image for frame in play(plain)[0]]
    times = [frame.time_s for frame in play(plain)[0]]
    mirrored = [image[:, ::-1] for image in images]
    straight = write_video(tmp_path / "straight.mp4", times, images=images, **LOSSLESS)
    flipped = write_video(tmp_path / "flipped.mp4", times, images=mirrored, matrix=(-1, 0, 0, 1), **LOSSLESS)
    expected, _ = events_of(tmp_path, straight, eager_model)
    assert len(expected) >= 2
    assert events_of(tmp_path, flipped, eager_model)[0] == expected


def streams_file(path: Path, *streams: dict[str, Any], container: dict[str, str] | None = None) -> Path:
    """A file of several video streams: `count` pictures from number `first` on, by `codec`, with a `disposition`."""
    with av.open(str(path), "w", options=container or {}) as out:
        made: list[Any] = []
        for wanted in streams:
            stream: Any = out.add_stream(wanted.get("codec", "libx264"), rate=30)
            stream.width, stream.height = 192, 64
            stream.pix_fmt = "yuvj420p" if wanted.get("codec") == "mjpeg" else "yuv420p"
            stream.disposition = getattr(av.stream.Disposition, wanted.get("disposition", "default"))
            made.append(stream)
        for stream, wanted in zip(made, streams, strict=True):
            for i in range(wanted["count"]):
                picture = av.VideoFrame.from_ndarray(numbered(wanted["first"] + i), format="bgr24")
                picture.pts, picture.time_base = i, Fraction(1, 30)
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
    return path


MOVIE = {"first": 100, "count": 30}
COVER = {"first": 500, "count": 1, "codec": "mjpeg", "disposition": "attached_pic"}
STILL = {"first": 500, "count": 1, "codec": "mjpeg"}
EXTRA = {"first": 900, "count": 30, "disposition": "captions"}


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("streams", "shown"),
    [((COVER, MOVIE), 100), ((STILL, MOVIE), 100), ((EXTRA, MOVIE), 100), ((MOVIE, EXTRA), 100), ((EXTRA, STILL), 900)],
    ids=["cover first", "still first", "default second", "default first", "still default"],
)
def test_of_several_video_streams_the_best_is_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, streams: tuple[dict, ...], shown: int
) -> None:
    """Cover pictures and stills do not count, the default stream is preferred; the log says which of how many."""
    if streams == (EXTRA, STILL) and ending == "mkv":
        pytest.skip("Matroska does not tell that a stream has one picture")
    caplog.set_level("INFO", "stream")
    frames, _ = play(streams_file(tmp_path / f"v.{ending}", *streams))
    assert [number_in(frame.image) for frame in frames] == list(range(shown, shown + 30))
    number = next(i for i, stream in enumerate(streams) if stream["first"] == shown)
    if streams[0] == COVER and ending == "mp4":
        number = 0  # FFmpeg lists a cover, which is no track of an mp4, behind the tracks
    assert f"v.{ending}: watching video stream {number} of 2, counted from 0 (h264 192x64)" in caplog.text


def test_the_log_names_the_stream_and_video_stream_takes_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = streams_file(tmp_path / "v.mp4", EXTRA, MOVIE)
    caplog.set_level("INFO", "stream")
    play(path)
    assert "v.mp4: watching video stream 1 of 2, counted from 0 (h264 192x64); --video-stream N takes" in caplog.text
    assert number_in(play(path, video_stream=0)[0][0].image) == 900
    with pytest.raises(UserError, match=r"--video-stream 2: .*no such video stream.*0: h264 192x64; 1: h264") as caught:
        open_source(str(path), paced=False, video_stream=2)
    assert caught.value.code == 2


def with_android_tag(path: Path, times: list[float], images: list[np.ndarray], fps: float, **more: Any) -> Path:
    """A video with `com.android.capture.fps` as a phone writes it: a big-endian float32, type 23, in `moov/meta`."""
    tags, options = {"com.android.capture.fps": "240."}, {"movflags": "use_metadata_tags"}
    write_video(path, times, images=images, tags=tags, container_options=options, **more)
    data = bytearray(path.read_bytes())
    at = data.index(b"240.")
    assert data[at - 8 : at - 4] == (1).to_bytes(4)
    data[at - 8 : at - 4], data[at : at + 4] = (23).to_bytes(4), np.array(fps, ">f4").tobytes()
    path.write_bytes(data)
    return path


def test_slow_motion_has_the_times_of_the_capture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """240 fps stored at 30: every frame comes 1/240 s after the one before, and the log says so."""
    caplog.set_level("INFO", "stream")
    images = [numbered(i) for i in range(48)]
    path = with_android_tag(tmp_path / "slow.mp4", [i / 30 for i in range(48)], images, 240)
    source = open_source(str(path), paced=False)
    assert source.info.nominal_fps == 240
    source.close()
    frames, _ = play(path)
    assert [frame.time_s for frame in frames] == pytest.approx([i / 240 for i in range(48)], abs=1e-5)
    assert "slow.mp4: slow motion, taken at 240 fps and stored at 30; times are those of the capture" in caplog.text
    as_stored, _ = play(path, capture_fps=30)
    assert [frame.time_s for frame in as_stored] == pytest.approx([i / 30 for i in range(48)], abs=1e-4)
    faster, _ = play(path, capture_fps=120)
    assert faster[-1].time_s == pytest.approx(47 / 120, abs=1e-4)


def test_slow_motion_has_the_events_of_real_time(tmp_path: Path, eager_model: Model) -> None:
    """The same frames stored four times as slow, with a phone's tag: the times are those of the plain file."""
    plain = face_video(tmp_path / "plain.mp4", fps=120, length_s=2)
    frames, _ = play(plain)
    images = [frame.image for frame in frames]
    straight = write_video(
        tmp_path / "straight.mp4", [i / 120 for i in range(240)], rate=120, images=images, **LOSSLESS
    )
    slow = with_android_tag(tmp_path / "slow.mp4", [i / 30 for i in range(240)], images, 120, **LOSSLESS)
    expected, _ = events_of(tmp_path, straight, eager_model)
    found, lines = events_of(tmp_path, slow, eager_model)
    assert len(found) == len(expected) >= 1
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, abs=0.002)
    assert any("slow motion, taken at 120 fps" in line for line in lines)


@pytest.mark.parametrize(
    ("stored", "asked", "tags", "rate"),
    [
        (30.0, None, {"com.android.capture.fps": "240.000000"}, 240.0),
        (30.0, None, {"com.apple.quicktime.capture.fps": "120"}, 120.0),
        (30.0, None, {"com.android.capture.fps": "30.000000"}, None),
        (15.0, None, {"com.android.capture.fps": "30.000000"}, None),
        (29.0, None, {"com.android.capture.fps": "60.000000"}, None),
        (240.0, None, {"com.android.capture.fps": "240.000000"}, None),
        (240.0, None, {"com.apple.quicktime.full-frame-rate-playback-intent": "1"}, None),
        (30.0, None, {"com.android.capture.fps": "fast"}, None),
        (30.0, None, {"com.android.capture.fps": "inf"}, None),
        (30.0, 200.0, {"com.android.capture.fps": "240.000000"}, 200.0),
        (None, None, {"com.android.capture.fps": "240.000000"}, None),
    ],
)
def test_a_tag_is_believed_only_where_it_is_slow_motion(stored: Any, asked: Any, tags: Any, rate: Any) -> None:
    """A phone's every video has the tag. In the dark it takes 15 frames where 30 were asked for, and in real time."""
    assert capture_rate(stored, asked, tags) == rate


def test_a_single_picture_is_a_failure_with_one_line(tmp_path: Path, eager_model: Model) -> None:
    """A JPEG, or a video of one frame: nothing can move in it, so exit code 0 would be a lie."""
    cv2.imwrite(str(tmp_path / "one.jpg"), numbered(1))
    write_video(tmp_path / "one.mp4", [0])
    for name in ("one.jpg", "one.mp4"):
        done = run(tmp_path, "--source", name, "--model", eager_model.directory)
        assert (done.returncode, len(said(done.stderr))) == (1, 1), done.stderr
        assert f"{name}: is a single picture" in said(done.stderr)[0]


def peak_mib(folder: Path, *arguments: object) -> tuple[int, float, str]:
    """Exit code, most memory held at once and stderr of a run that may hold 3 GiB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    done = subprocess.Popen(
        command(*arguments),
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder),
        preexec_fn=limit,
    )
    assert done.stderr is not None
    text = done.stderr.read()
    _, status, usage = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    return done.returncode, usage.ru_maxrss / 1024, text


def explosive(path: Path) -> Path:
    """A file of few bytes that claims a great picture."""
    if path.suffix in (".jpg", ".png"):
        cv2.imwrite(str(path), np.zeros((8000, 8000, 3), np.uint8))
        return path
    images = [np.zeros((8000, 8000, 3), np.uint8)] * 2
    return write_video(path, [0, 0.1], images=images, options={"preset": "ultrafast"})


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "jpg", "png"])
def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path, ending: str) -> None:
    """8000 x 8000 px: one line that names size, limit and remedy, and less memory than one such picture takes."""
    path = explosive(tmp_path / f"big.{ending}")
    _, idle_mib, _ = peak_mib(tmp_path, "--source", "missing.mp4")
    code, most_mib, text = peak_mib(tmp_path, "--source", path)
    assert (code, len(said(text))) == (1, 1), text
    assert most_mib - idle_mib < 70
    assert "--max-pixels" in text
    assert "8000 x 8000 px" in text


def test_max_pixels_is_the_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [0, 0.1])
    assert len(play(path, max_pixels=192 * 64)[0]) == 2
    with pytest.raises(UserError, match=r"192 x 64 px is more than the limit of 12287 pixels.*--max-pixels 12288"):
        play(path, max_pixels=192 * 64 - 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("written", [0, 40_000], ids=["no writer", "a writer that fell silent"])
def test_a_wait_for_a_fifo_ends_at_a_signal(tmp_path: Path, number: signal.Signals, written: int) -> None:
    """Nobody writes, or no longer: exit code 0 and at most one line, soon."""
    fifo, events = tmp_path / "fifo.ts", tmp_path / "events.jsonl"
    os.mkfifo(fifo)
    film = face_video(tmp_path / "film.ts", length_s=2).read_bytes()
    process = start(tmp_path, "--source", fifo, "--offline", "--events", events, "--log-level", "debug")
    if written:
        with fifo.open("wb", buffering=0) as pipe:  # opens once the program reads
            pipe.write(film[:written])
            process.send_signal(number)
            text = process.communicate(timeout=30)[1]
    else:
        wait_for_open(process.pid, fifo)
        process.send_signal(number)
        text = process.communicate(timeout=30)[1]
    assert process.returncode == 0, text
    assert "Traceback" not in text or "told to stop" in text
    assert len([line for line in said(text) if "where it happened" not in line]) <= 1


def wait_for_open(pid: int, path: Path) -> None:
    """Wait until the process holds the file open."""
    tick, folder = threading.Event(), Path(f"/proc/{pid}/fd")
    for _ in range(600):
        with_it = [link for link in folder.iterdir() if os.path.realpath(link) == str(path)]
        if with_it:
            return
        tick.wait(0.05)
    raise AssertionError("it was never opened")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
@pytest.mark.parametrize("way", ["fifo", "stdin"])
def test_a_fifo_and_stdin_give_what_the_file_gives(tmp_path: Path, way: str) -> None:
    path = write_video(tmp_path / "v.ts", [i / 30 for i in range(30)], options={"bf": "0"})
    expected = [(frame.time_s, frame.image.tobytes()) for frame in play(path)[0]]
    if way == "fifo":
        os.mkfifo(tmp_path / "fifo")
        writer = subprocess.Popen(["sh", "-c", f"cat {path} > {tmp_path / 'fifo'}"])
        got = play(tmp_path / "fifo")[0]
        writer.wait(10)
        assert [(frame.time_s, frame.image.tobytes()) for frame in got] == expected
        return
    code = "import sys; from test_sources_file import play; print(len(play('/dev/stdin')[0]))"
    env = environment(
        tmp_path, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent.parent), str(Path(__file__).parent)])
    )
    done = subprocess.run([sys.executable, "-c", code], input=path.read_bytes(), capture_output=True, env=env)
    assert done.stdout.split() == [b"30"], done.stderr


COLOURS = {
    "10-bit HEVC, PQ": ("mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=0:transfer=smpte2084"}),
    "10-bit HEVC, HLG": ("mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=0:transfer=arib-std-b67"}),
    "grey, 8 bits": ("mkv", "ffv1", "gray", {}),
    "grey, 16 bits": ("mkv", "ffv1", "gray16le", {}),
    "VP9 with alpha": ("webm", "libvpx-vp9", "yuva420p", {}),
    "odd size, 4:4:4": ("mkv", "libx264", "yuv444p", {}),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_unusual_pixels_are_read_like_any_other(tmp_path: Path, kind: str) -> None:
    """What needs other colours than a webcam's comes out as BGR of the right size that shows what was filmed."""
    ending, codec, pixels, options = COLOURS[kind]
    try:
        av.CodecContext.create(codec, "w")
    except av.error.FFmpegError:
        pytest.skip(f"no encoder {codec} here")
    size = (199, 65) if kind.startswith("odd") else (192, 64)
    images = [numbered(i, *size) for i in range(6)]
    path = write_video(
        tmp_path / f"v.{ending}",
        [i / 30 for i in range(6)],
        images=images,
        codec=codec,
        pix_fmt=pixels,
        options=options,
        time_base=Fraction(1, 1000) if ending == "webm" else Fraction(1, 90000),
    )
    frames, gaps = play(path)
    assert gaps == []
    assert {frame.image.shape for frame in frames} == {images[0].shape}
    assert [number_in(frame.image) for frame in frames] == list(range(6))
