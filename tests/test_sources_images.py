"""Folders of pictures as sources: each at its own moment by its number; what is not one video is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import face_image, raised_at
from program import lines_of_json, run, said
from test_sources_file import play
from videos import number_in, numbered

from engine.model import Model
from stream.errors import UserError
from stream.sources import open_source
from stream.types import SourceGap


def write(folder: Path, numbers: list[int], name: str = "img_{}.png") -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / name.format(number)), numbered(number))
    return folder


@pytest.mark.parametrize("ending", ["png", "bmp", "jpg"])
def test_pictures_come_in_the_order_of_their_numbers_at_the_rate_given(tmp_path: Path, ending: str) -> None:
    """1, 2, ... 10, 11, not 1, 10, 11, 2; other files of the folder are left alone."""
    folder = write(tmp_path / "s15", list(range(1, 13)), f"img{{}}.{ending}")
    (folder / "notes.txt").write_text("subject 15")
    source = open_source(str(folder), paced=False, fps=200)
    source.close()
    assert (source.info.name, source.info.nominal_fps, source.info.live) == ("images:s15", 200, False)
    frames, gaps = play(folder, fps=200)
    assert gaps == []
    assert [number_in(frame.image) for frame in frames] == list(range(1, 13))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 200 for i in range(12)])


@pytest.mark.parametrize(
    ("pattern", "shown"), [("a_%03d.png", [7, 8, 9]), ("a_%d.png", [7, 8, 9, 12]), ("b%d.png", [])]
)
def test_a_pattern_names_some_of_a_folder(tmp_path: Path, pattern: str, shown: list[int]) -> None:
    write(tmp_path, [7, 8, 9], "a_{:03d}.png")
    write(tmp_path, [12], "a_{}.png")
    if not shown:
        with pytest.raises(UserError, match=r"names no pictures; give a video file, or a folder"):
            open_source(str(tmp_path / pattern), paced=False, fps=30)
        return
    assert [number_in(frame.image) for frame in play(tmp_path / pattern, fps=30)[0]] == shown


def test_missing_numbers_are_told_and_their_time_stays_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """5 is missing, then 11 to 60: the others keep their moment, and a hole of over a second is a gap."""
    numbers = [*range(5), *range(6, 11), *range(61, 64)]
    frames, gaps = play(write(tmp_path / "s", numbers), fps=25)
    assert [frame.time_s for frame in frames] == pytest.approx([number / 25 for number in numbers])
    assert gaps == [SourceGap(10 / 25, "stalled")]
    assert "by their numbers 51 pictures are missing (5, 11-60); nothing is put in their place" in caplog.text


def test_names_that_are_not_numbered_alike_are_counted_in_natural_order(tmp_path: Path) -> None:
    for i, name in enumerate(["a2", "a10", "b1"]):
        write(tmp_path, [i], f"{name}.png".replace("{}", ""))
    frames, _ = play(tmp_path, fps=10)
    assert [number_in(frame.image) for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2])


def test_a_damaged_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", list(range(20)), "{}.jpg")
    for number in range(4, 12):
        data = (folder / f"{number}.jpg").read_bytes()
        (folder / f"{number}.jpg").write_bytes(data[: len(data) - 200])
    source = open_source(str(folder), paced=False, fps=25)
    items = list(iter(source.read, None))
    assert source.corrupt == 8
    assert items[4] == SourceGap(3 / 25, "corrupt")
    assert len(items) == 13


def test_what_is_not_one_video_gets_one_line(tmp_path: Path) -> None:
    """Sizes that differ, no rate, one picture, a picture over the limit."""
    mixed = write(tmp_path / "mixed", [1, 2])
    cv2.imwrite(str(mixed / "img_3.png"), numbered(3, 96, 48))
    whole, single = write(tmp_path / "whole", [1, 2]), write(tmp_path / "single", [1])
    bad: list[tuple[Path, dict, str, int]] = [
        (mixed, {"fps": 30}, r"pictures of different sizes \(img_1.png 192x64, img_3.png 96x48\); give one video", 1),
        (whole, {}, r"pictures have no times of their own; add --fps", 2),
        (single, {"fps": 30}, r"is a single picture.*give a video, or a folder", 1),
        (whole, {"fps": 30, "max_pixels": 12000}, r"img_1.png: .*192 x 64 px.*--max-pixels 12288", 1),
    ]
    for path, options, says, code in bad:
        with pytest.raises(UserError, match=says) as caught:
            open_source(str(path), paced=False, **options)
        assert "\n" not in str(caught.value)
        assert caught.value.code == code


def test_a_photograph_that_says_how_to_turn_it_is_upright(tmp_path: Path) -> None:
    """A camera's JPEG on its side, with EXIF orientation 6: shown a quarter turn clockwise."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:8] = 255
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    marked = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + jpeg[2:]
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(marked)
    frame = play(tmp_path, fps=10)[0][0]
    assert frame.image.shape == (48, 32, 3)
    assert frame.image[:, -6:].min() > 200
    assert frame.image[:, :20].max() < 50


def test_a_data_sets_folder_gives_events(tmp_path: Path, eager_model: Model) -> None:
    """The whole program on numbered JPEGs: offline, with times by --fps."""
    (tmp_path / "s15").mkdir()
    for i in range(1, 91):
        time_s = i / 30
        cv2.imwrite(str(tmp_path / "s15" / f"img{i}.jpg"), face_image(time_s, raised_at(time_s, 1.2)))
    arguments = ("--source", "s15", "--fps", 30, "--offline", "--events", "out.jsonl", "--model", eager_model.directory)
    done = run(tmp_path, *arguments, "--runtime", "onnx")
    assert done.returncode == 0, done.stderr
    assert "images:s15: 90 frames, 1 faces" in said(done.stderr)[-1]
    ends = [event for event in lines_of_json(tmp_path / "out.jsonl") if event["phase"] == "end"]
    assert len(ends) >= 3
    assert {event["source"] for event in ends} == {"images:s15"}
