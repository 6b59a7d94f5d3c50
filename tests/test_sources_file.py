"""Files as sources: the time of every frame is its own, nothing is left out, and bad files get one clear line."""

import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from videos import number_in, numbered, write_video

from stream.errors import UserError
from stream.sources import Source, open_source
from stream.types import Frame, SourceGap

RATES = [12, 15, 24, Fraction(30000, 1001), 30, 60, 120, 200]


def play(path: Path | str, **options: object) -> tuple[list[Frame], list[SourceGap]]:
    source = open_source(str(path), **{"paced": False, **options})  # type: ignore[arg-type]
    frames, gaps = [], []
    while (item := source.read()) is not None:
        frames.append(item) if isinstance(item, Frame) else gaps.append(item)
    source.close()
    return frames, gaps


@pytest.mark.parametrize("rate", RATES, ids=float)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
def test_every_frame_has_the_time_that_its_image_tells(tmp_path: Path, rate: Fraction, ending: str) -> None:
    """At any rate, in any container, with B frames: right to the container's tick, so to a small part of a frame."""
    tick = 1 / Fraction(rate) if ending == "avi" else Fraction(1, 90000)
    times = [i / Fraction(rate) for i in range(48)]
    path = write_video(tmp_path / f"v.{ending}", times, rate=rate, time_base=tick)
    source = open_source(str(path), paced=False)
    assert source.info.nominal_fps == pytest.approx(float(rate), rel=1e-3)
    assert not source.info.live
    source.close()
    frames, gaps = play(path)
    assert gaps == []
    assert [number_in(frame.image) for frame in frames] == list(range(48))
    assert [frame.index for frame in frames] == list(range(48))
    for frame in frames:
        assert frame.time_s == pytest.approx(
            number_in(frame.image) / float(rate), abs=source.info.time_uncertainty_s + 1e-6
        )


def test_variable_frame_rate_keeps_each_frames_own_time(tmp_path: Path) -> None:
    """A webcam recording whose rate falls from 60 to 12 fps and comes back, with jitter."""
    steps = np.random.default_rng(1).permutation([1 / 60] * 40 + [1 / 30] * 40 + [1 / 12] * 20)
    times = [round(float(t), 5) for t in np.concatenate([[0], np.cumsum(steps)])]
    frames, gaps = play(write_video(tmp_path / "v.mp4", times))
    assert gaps == []
    assert [number_in(frame.image) for frame in frames] == list(range(len(times)))
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-5)


def test_a_pause_in_a_file_is_a_gap(tmp_path: Path) -> None:
    """2.5 s without a frame: a gap from the last frame on, and the frame after it at its own time."""
    frames, gaps = play(write_video(tmp_path / "v.mp4", [0, 0.033, 0.067, 2.567, 2.6]))
    assert gaps == [SourceGap(frames[2].time_s, "stalled")]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.033, 0.067, 2.567, 2.6], abs=1e-4)


def test_an_edit_list_is_obeyed(tmp_path: Path) -> None:
    """What an edit list cuts away is not shown, and media time starts at the cut, as in a player."""
    path = write_video(tmp_path / "v.mp4", [i / 30 for i in range(30)], options={"bf": "0", "g": "30"})
    shift_edit_list(path, media_time=10 * 3000)
    frames, _ = play(path)
    assert [number_in(frame.image) for frame in frames] == list(range(10, 30))
    assert frames[0].time_s == 0
    assert frames[-1].time_s == pytest.approx(19 / 30, abs=1e-4)


def shift_edit_list(path: Path, media_time: int) -> None:
    """Make the one edit of an mp4 start at `media_time` of the track (version 0 `elst`: ISO 14496-12, 8.6.6)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    assert data[at + 4] == 0
    assert int.from_bytes(data[at + 8 : at + 12]) == 1
    data[at + 16 : at + 20] = media_time.to_bytes(4)
    path.write_bytes(data)


def test_a_late_picture_keeps_its_distance_from_the_sound(tmp_path: Path) -> None:
    """The picture begins 0.5 s after the sound: its first frame is at 0.5 s, where a player shows it."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        picture = container.add_stream("libx264", rate=30)
        picture.height, picture.width, picture.pix_fmt = 64, 192, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        container.mux(sound.encode(silence))
        for i in range(10):
            image = av.VideoFrame.from_ndarray(numbered(i), format="bgr24")
            image.pts, image.time_base = 15 + i, Fraction(1, 30)
            container.mux(picture.encode(image))
        container.mux(picture.encode(None))
    frames, _ = play(path)
    assert frames[0].time_s == pytest.approx(0.5, abs=0.001)


def test_no_time_stamps_at_all_means_the_nominal_rate(tmp_path: Path) -> None:
    """A raw H.264 stream has no PTS: 25 fps, FFmpeg's own default, and no frame lost."""
    frames, gaps = play(write_video(tmp_path / "v.h264", [i / 25 for i in range(20)], rate=25))
    assert gaps == []
    assert [number_in(frame.image) for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(20)])


def test_a_phones_upright_video_is_upright(tmp_path: Path) -> None:
    """The container says by how much to turn the image; the source does it, and tells the size as shown."""
    path = write_video(tmp_path / "v.mp4", [0, 0.04], rotation=90)
    source = open_source(str(path), paced=False)
    frame = source.read()
    source.close()
    assert isinstance(frame, Frame)
    assert (source.info.width_px, source.info.height_px) == (64, 192)
    assert frame.image.shape == (192, 64, 3)
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        assert picture.rotation == 90
        assert np.array_equal(frame.image, np.rot90(picture.to_ndarray(format="bgr24")))


@pytest.mark.parametrize(
    ("second_starts_s", "size_px", "reasons"),
    [
        (0, (192, 64), ["clock_jump"]),
        (0, (96, 48), ["clock_jump"]),
        (1.5, (96, 48), ["resolution_changed"]),
        (1.5, (192, 64), []),
    ],
)
def test_two_recordings_in_one_file_are_parted_by_a_gap(
    tmp_path: Path, second_starts_s: float, size_px: tuple[int, int], reasons: list[str]
) -> None:
    """MPEG-TS files put one after the other, as recorders do: time goes on; a seam in time or size is one gap."""
    times = [i / 30 for i in range(45)]
    first = write_video(tmp_path / "a.ts", times, options={"bf": "0"})
    images = [numbered(45 + i, *size_px) for i in range(45)]
    second = write_video(tmp_path / "b.ts", [second_starts_s + t for t in times], images=images, options={"bf": "0"})
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    frames, gaps = play(tmp_path / "both.ts")
    assert [number_in(frame.image) for frame in frames] == list(range(90))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 30 for i in range(90)], abs=1e-3)
    assert gaps == [SourceGap(frames[44].time_s, reason) for reason in reasons]


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_tiny_images(tmp_path: Path, size: tuple[int, int]) -> None:
    """Images of 1x1 px and of odd sizes come out as they are."""
    images = [np.full((size[1], size[0], 3), value, np.uint8) for value in (10, 200, 90)]
    path = write_video(tmp_path / "v.mkv", [0, 0.1, 0.2], images=images, codec="ffv1", pix_fmt="bgr0")
    frames, _ = play(path)
    assert [frame.image.tolist() for frame in frames] == [image.tolist() for image in images]


def test_the_same_file_twice_gives_the_same_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [i / 30 for i in range(30)])
    first, second = play(path)[0], play(path)[0]
    assert [(frame.index, frame.time_s, frame.image.tobytes()) for frame in first] == [
        (frame.index, frame.time_s, frame.image.tobytes()) for frame in second
    ]


def test_damaged_frames_are_left_out_counted_and_a_gap_if_time_is_missing(tmp_path: Path) -> None:
    """Ten JPEGs of an MJPEG file are overwritten: the others keep their time, the hole of 1/3 s is a gap."""
    path = write_video(
        tmp_path / "v.avi", [i / 30 for i in range(40)], codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 30)
    )
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 40
    for start in starts[12:22]:
        data[start + 660 : start + 740] = bytes(80)
    path.write_bytes(data)
    source = open_source(str(path), paced=False)
    items = []
    while (item := source.read()) is not None:
        items.append(item)
    frames = [item for item in items if isinstance(item, Frame)]
    assert source.corrupt == 10
    assert [number_in(frame.image) for frame in frames] == [*range(12), *range(22, 40)]
    assert [frame.time_s for frame in frames] == pytest.approx([number_in(frame.image) / 30 for frame in frames])
    assert items[12] == SourceGap(frames[11].time_s, "corrupt")


def test_real_time_pace_follows_the_time_stamps(tmp_path: Path) -> None:
    """A paced file takes as long as it is, hands out no frame before its time, and drops none."""
    path = write_video(tmp_path / "v.mp4", [i / 30 for i in range(16)])
    source = open_source(str(path), paced=True)
    first = source.read()
    began_s, seen = time.monotonic(), [first]
    while isinstance(item := source.read(), Frame):
        assert time.monotonic() - began_s >= item.time_s - 0.01
        seen.append(item)
    assert item is None
    assert [number_in(frame.image) for frame in seen if isinstance(frame, Frame)] == list(range(16))
    assert source.dropped == 0


def test_a_looped_file_goes_on_with_rising_time(tmp_path: Path) -> None:
    """Between two laps there is a gap; time and index never go back."""
    source = open_source(str(write_video(tmp_path / "v.mp4", [i / 30 for i in range(10)])), paced=False, loop=True)
    items = [source.read() for _ in range(33)]
    source.close()
    gaps = [i for i, item in enumerate(items) if isinstance(item, SourceGap)]
    frames = [item for item in items if isinstance(item, Frame)]
    assert gaps == [10, 21, 32]
    assert items[10] == SourceGap(frames[9].time_s, "loop")
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 30 for i in range(30)], abs=1e-4)
    assert [number_in(frame.image) for frame in frames] == list(range(10)) * 3


@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_read_that_waits_ends_when_told(tmp_path: Path, how: str) -> None:
    """The next frame of a paced file is 30 s away: `close` or `stop` from another thread ends the wait."""
    stop = threading.Event()
    source = open_source(str(write_video(tmp_path / "v.mp4", [0, 30])), paced=True, stop=stop)
    assert isinstance(source.read(), Frame)
    assert source.read() == SourceGap(0.0, "stalled")
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(source.read()))
    reader.start()
    began_s = time.monotonic()
    source.close() if how == "close" else stop.set()
    reader.join(1)
    assert not reader.is_alive()
    assert time.monotonic() - began_s < 1
    assert got == [None]
    source.close()
    assert source.read() is None


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    """A recording that broke off before its index was written can't be read at all."""
    path = cut(write_video(tmp_path / "v.mp4", [i / 30 for i in range(30)], images=noise(30)), 0.6)
    with pytest.raises(UserError, match=r"v\.mp4: .*cut off.*check") as caught:
        open_source(str(path), paced=False)
    assert caught.value.code == 1
    assert "\n" not in str(caught.value)


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 255, (64, 192, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("where", ["in a frame", "between frames", "in a frame of a fragment", "in a frame of an avi"])
def test_a_file_cut_short_gives_what_there_is_and_then_says_so(tmp_path: Path, where: str) -> None:
    """Every whole frame is handed out, then comes one line, not a quiet end."""
    fragments = "empty_moov+frag_every_frame"
    path = write_video(
        tmp_path / ("v.avi" if "avi" in where else "v.mp4"),
        [i / 30 for i in range(60)],
        images=noise(60),
        time_base=Fraction(1, 30),
        codec="mpeg4",
        container_options={} if "avi" in where else {"movflags": fragments if "fragment" in where else "faststart"},
    )
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        ends = packets[40].pos + (packets[40].size // 2 if "in a" in where else 0)
    with path.open("r+b") as file:
        file.truncate(ends)
    source = open_source(str(path), paced=False)
    frames: list[Frame] = []
    with pytest.raises(UserError, match=r"v\....: breaks off.*copy or record it again"):
        play_into(frames, source)
    assert [frame.time_s for frame in frames] == pytest.approx([i / 30 for i in range(40)], abs=1e-3)


def play_into(frames: list[Frame], source: Source) -> None:
    while isinstance(item := source.read(), Frame):
        frames.append(item)


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_bad_files_get_one_line_with_value_reason_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.mp4").write_text("not a video\n" * 100)
    bad = {
        tmp_path: "is a directory without pictures",
        tmp_path / "missing.mp4": "no such file; check the path",
        tmp_path / "empty.mp4": "is empty",
        tmp_path / "notes.mp4": "is not a video",
        sound_only(tmp_path / "sound.mp4"): "holds no video",
    }
    for path, reason in bad.items():
        with pytest.raises(UserError) as caught:
            open_source(str(path), paced=False)
        message = str(caught.value)
        assert str(path) in message
        assert reason in message
        assert "\n" not in message
        assert caught.value.code == 1
