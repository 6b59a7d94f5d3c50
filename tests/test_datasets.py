"""The loaders of the licensed data sets, on small files written here in the same format, oddities included."""

from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pytest
import xlwt
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets import LOADERS, DatasetError, Interval, Video, loso, subsample

IMAGE = cv2.imencode(".jpg", np.full((8, 8, 3), 128, np.uint8))[1].tobytes()


def write_frames(folder: Path, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(IMAGE)


def write_xlsx(path: Path, sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def write_xls(path: Path, sheets):
    book = xlwt.Workbook()
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row):
                if cell is not None:
                    sheet.write(i, j, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(str(path))


def spans(video, kind="micro"):
    return [(i.onset, i.apex, i.offset) for i in video.intervals if i.kind == kind]


def by_name(videos):
    return {v.name: v for v in videos}


# ---- CAS(ME)^2

RULE_1 = [[15, "s15", 1], [16, "s16", 2]]
RULE_2 = [["0101", "disgust1"], ["0102", "disgust2"], ["0401", "anger1"], ["0503", "happy2"], [505, "happy3"]]


def casme2_row(subject, video, onset, apex, offset, kind="micro-expression"):
    return [subject, video, onset, apex, offset, "4+7", "negative", kind, "disgust"]


@pytest.fixture
def casme2(tmp_path):
    def write(rows, frames=60, rule_1=RULE_1):
        sheets = {"CASFEcode_final": rows, "naming rule1": rule_1, "naming rule2": RULE_2}
        write_xlsx(tmp_path / "CAS(ME)^2code_final.xlsx", sheets)
        for name in ("15_0101disgustingteeth", "15_0102eatingworms", "15_0505funnyinnovations"):
            write_frames(tmp_path / "rawpic" / "s15" / name, [f"img{n:03d}.jpg" for n in range(1, frames + 1)])
        write_frames(tmp_path / "rawpic" / "s16" / "16_0401girlcrashing", ["img001.jpg", "img002.jpg"])
        return LOADERS["casme2"](tmp_path)

    return write


def test_casme2_rows_without_headings_find_their_video(casme2):
    """subject 1 is s15, disgust2 is 0102; frames count from 1 in the files, from 0 here."""
    videos = casme2([casme2_row(1, "disgust2_3", 21, 26, 33), casme2_row(1, "happy3_1", 2, 9, 40, "macro-expression")])
    found = by_name(videos)
    assert list(found) == [
        "15_0101disgustingteeth",
        "15_0102eatingworms",
        "15_0505funnyinnovations",
        "16_0401girlcrashing",
    ]
    assert spans(found["15_0102eatingworms"]) == [(20, 25, 32)]
    assert spans(found["15_0505funnyinnovations"], "macro") == [(1, 8, 39)]
    video = found["15_0102eatingworms"]
    assert (video.subject, video.fps, video.duration_s) == ("s15", 30, 2.0)
    assert video.frames[0][0] == 0
    assert video.frames[0][1].name == "img001.jpg"
    assert video.intervals[0].action_units == "4+7"


def test_casme2_videos_without_expressions_are_there(casme2):
    assert [len(v.intervals) for v in casme2([casme2_row(1, "disgust1_1", 2, 3, 5)])] == [1, 0, 0, 0]


def test_casme2_offset_0_is_apex_plus_the_way_to_it(casme2):
    video = casme2([casme2_row(1, "disgust1_1", 11, 16, 0)])[0]
    assert spans(video) == [(10, 15, 20)]
    assert "offset 0 means unknown" in video.notes[0]


def test_casme2_naming_rule_of_two_columns(casme2):
    assert spans(casme2([casme2_row(2, "anger1_1", 1, 1, 2)], rule_1=[[1, "s15"], [2, "s16"]])[3]) == [(0, 0, 1)]


def test_casme2_video_that_is_not_on_disk_counts_as_missed_and_says_so(casme2):
    lost = casme2([casme2_row(2, "happy2_1", 5, 8, 12)])[-1]
    assert (lost.subject, lost.frames, spans(lost)) == ("s16", (), [(4, 7, 11)])
    assert "not on disk" in lost.notes[0]


def test_casme2_unknown_name_is_an_error_with_its_row(casme2):
    with pytest.raises(DatasetError, match="row 2: subject 1, video sad1_1"):
        casme2([casme2_row(1, "disgust1_1", 1, 2, 3), casme2_row(1, "sad1_1", 1, 2, 3)])


# ---- SAMM Long Videos

SAMM_HEAD = [[f"SAMM Long Videos, line {i}"] for i in range(9)] + [
    ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type", "Action Units", "Notes"]
]


def samm_row(filename, onset, apex, offset, kind="Micro - 1/2", duration=None):
    duration = offset - onset + 1 if duration is None else duration
    return [filename[:3], filename, 1, onset, apex, offset, duration, kind, "4(B/C)+7B", None]


@pytest.fixture
def samm(tmp_path):
    def write(rows, version=3, head=SAMM_HEAD, frames=400):
        write_xlsx(tmp_path / f"SAMM_LongVideos_V{version}_Release.xlsx", {"Sheet1": head + rows})
        for name in ("006_1", "006_2", "007_1"):
            numbers = range(1, frames + 1) if name == "006_1" else (1, 2)
            write_frames(tmp_path / "SAMM_longvideos" / name, [f"{name}_{n:04d}.jpg" for n in numbers])
        return LOADERS["samm-lv"](tmp_path)

    return write


def test_samm_rows_after_ten_header_rows(samm):
    videos = samm([samm_row("006_1_2", 101, 140, 180), samm_row("006_1_3", 200, 250, 390, "Macro")])
    assert [(v.subject, v.name) for v in videos] == [("006", "006_1"), ("006", "006_2"), ("007", "007_1")]
    assert spans(videos[0]) == [(100, 139, 179)]
    assert spans(videos[0], "macro") == [(199, 249, 389)]
    assert (videos[0].fps, videos[0].duration_s) == (200, 2.0)
    assert videos[0].notes == ()
    assert videos[0].intervals[0].action_units == "4(B/C)+7B"


@pytest.mark.parametrize(
    ("row", "span", "note"),
    [
        (samm_row("006_1_1", 0, 40, 80), (0, 39, 79), "before the first frame"),
        (samm_row("006_1_1", 20, 90, 80), (19, None, 79), "apex 89 lies outside"),
        (samm_row("006_1_1", 20, -1069, 80), (19, None, 79), "apex -1070 lies outside"),
        (samm_row("006_1_1", 380, 390, 450), (379, 389, 399), "past the last frame 399"),
        (samm_row("006_1_1", 20, 30, 80, duration=7), (19, 29, 79), "duration 7 is not"),
    ],
)
def test_samm_oddities_are_mended_and_told(samm, row, span, note):
    video = samm([row])[0]
    assert spans(video) == [span]
    assert note in video.notes[0]


@pytest.mark.parametrize("row", [samm_row("006_1_1", 500, 510, 550), samm_row("006_1_1", 80, 50, 20)])
def test_samm_what_cannot_be_mended_is_left_out_and_told(samm, row):
    video = samm([row])[0]
    assert video.intervals == ()
    assert "left out" in video.notes[-1]


def test_samm_takes_the_newest_release(samm, tmp_path):
    samm([samm_row("006_1_1", 20, 30, 80)], version=1)
    assert spans(samm([samm_row("006_1_1", 21, 31, 81)], version=2)[0]) == [(20, 30, 80)]


def test_samm_without_headings_is_another_version(samm):
    with pytest.raises(DatasetError, match="no row with the headings Subject, Filename"):
        samm([samm_row("006_1_1", 20, 30, 80)], head=[["nothing"]] * 10)


# ---- CAS(ME)^3 part A

CASME3_HEAD = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion", "Expression type"]


@pytest.fixture
def casme3(tmp_path):
    def write(rows, blinks=(), frames=range(100)):
        sheets = {
            "AU+Emotion": [CASME3_HEAD, *rows],
            "eye blink": [["Subject", "Filename", "Onset", "Apex", "Offset"], *blinks],
        }
        write_xls(tmp_path / "CAS(ME)3_part_A_v2.xls", sheets)
        write_frames(tmp_path / "data" / "spNO.1" / "a" / "color", [f"{n}.jpg" for n in frames])
        write_frames(tmp_path / "data" / "spNO.10" / "b" / "color", ["0.jpg"])
        return LOADERS["casme3"](tmp_path)

    return write


def casme3_row(filename, onset, apex, offset, kind="Micro-expression"):
    return ["spNO.1", filename, onset, apex, offset, "R4", "II", "fear", kind]


def test_casme3_expressions_and_blinks(casme3):
    videos = casme3(
        [casme3_row("a", 10, 16, 32), casme3_row("a", 40, 50, 90, "Macro-expression")],
        blinks=[["spNO.1", "a", 60, 63, 70]],
    )
    assert [(v.subject, v.name) for v in videos] == [("spNO.1", "spNO.1_a"), ("spNO.10", "spNO.10_b")]
    assert spans(videos[0]) == [(10, 16, 32)]
    assert spans(videos[0], "macro") == [(40, 50, 90)]
    assert spans(videos[0], "blink") == [(60, 63, 70)]


def test_casme3_gaps_between_frames_stay_gaps_in_time(casme3):
    video = casme3([casme3_row("a", 10, 16, 32)], frames=[*range(20), *range(50, 100)])[0]
    times = [time_s for _, time_s, _ in video.read()]
    assert len(times) == 70
    assert max(np.diff(times)) == pytest.approx(31 / 30)
    assert "30 frames lack" in video.notes[-1]


# ---- SMIC-E-long


def test_smic_counts_from_the_first_frame(tmp_path):
    rows = [
        ["Subject", "Filename", "OnsetF", "OffsetF", "FirstF", "Emotion"],
        [1, "s1_ne_01", 1020, 1050, 1000, "negative"],
        [1, "s1_ne_01", 1060, 1120, 1000, "negative"],
        [2, "s2_po_01", 2000, 2010, 2000, "positive"],
    ]
    write_xlsx(tmp_path / "SMIC-HS-E_annotation.xlsx", {"Sheet1": rows})
    write_frames(tmp_path / "HS" / "s1" / "s1_ne_01", [f"image{n}.jpg" for n in range(1000, 1100)])
    first, second = LOADERS["smic"](tmp_path)
    assert (first.subject, first.fps) == ("1", 100)
    assert spans(first) == [(20, None, 50), (60, None, 99)]
    assert (second.frames, spans(second)) == ((), [(0, None, 10)])
    assert "not on disk" in second.notes[0]


# ---- what goes wrong


@pytest.mark.parametrize("name", LOADERS)
def test_an_empty_folder_is_one_clear_line(name, tmp_path):
    with pytest.raises(DatasetError, match=r"^[^\n]*put[^\n]*$"):
        LOADERS[name](tmp_path)


def test_a_broken_table_is_one_clear_line(samm, tmp_path):
    samm([])
    (tmp_path / "SAMM_LongVideos_V3_Release.xlsx").write_bytes(b"not a zip")
    with pytest.raises(DatasetError, match="can't be read as a table"):
        LOADERS["samm-lv"](tmp_path)


def test_a_missing_sheet_names_those_that_are_there(casme2, tmp_path):
    casme2([])
    write_xlsx(tmp_path / "CAS(ME)^2code_final.xlsx", {"other": [[1]]})
    with pytest.raises(DatasetError, match="no sheet 'naming rule1' but other"):
        LOADERS["casme2"](tmp_path)


def test_a_broken_image_is_named(samm, tmp_path):
    video = samm([])[1]
    video.frames[1][1].write_bytes(b"")
    with pytest.raises(DatasetError, match=r"006_2_0002\.jpg can't be read as an image"):
        list(video.read())


@pytest.mark.parametrize("bad", [(5, None, 4, "micro"), (5, 9, 8, "micro"), (-1, None, 4, "micro"), (1, 2, 3, "smile")])
def test_what_is_no_interval_is_refused(bad):
    with pytest.raises(ValueError, match="not an interval"):
        Interval(*bad)


# ---- subsampling, folds


def test_subsampling_samm_to_30_fps_does_not_drift(samm):
    video = samm([])[0]
    read = list(video.read(30))
    assert len(read) == 60
    for k, (number, time_s, image) in enumerate(read):
        assert time_s == number / 200
        assert abs(time_s - k / 30) <= 0.5 / 200 + 1e-9
        assert image.shape == (8, 8, 3)


@given(
    st.lists(st.integers(0, 400), unique=True, max_size=80).map(sorted),
    st.sampled_from([30.0, 100.0, 200.0]),
    st.sampled_from([10.0, 30.0, 60.0]),
)
def test_subsampling_keeps_order_and_makes_nothing_up(numbers, fps, target_fps):
    kept = subsample(numbers, fps, target_fps)
    assert kept == sorted(set(kept))
    if target_fps >= fps:
        assert kept == list(range(len(numbers)))
    for k in range(int(400 / fps * target_fps)):
        exact = round(k / target_fps * fps)
        if exact in numbers and abs(exact / fps - k / target_fps) < 0.499 / fps:
            assert any(abs(numbers[i] - exact) <= 1 for i in kept)


def test_loso_holds_out_each_person_once_in_natural_order():
    videos = [Video(s, f"{s}_{i}", 30, ()) for s in ("s10", "s2") for i in range(2)]
    folds = loso(videos)
    assert [f.subject for f in folds] == ["s2", "s10"]
    for fold in folds:
        assert {v.subject for v in fold.test} == {fold.subject}
        assert fold.subject not in {v.subject for v in fold.train}
        assert len(fold.test) + len(fold.train) == 4
