"""Exports are read back by the programs that they are for, or by their own libraries."""

import csv
import functools
import http.server
import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from shutil import which

import pytest
from recorded import added, session
from test_dashboard import CHROMIUM, FLAGS, needs_browser

from stream.__main__ import main
from stream.sessions.coding import ActionUnit, Coding, Mark, Verdict
from stream.sessions.exchange import export
from stream.sessions.formats import WRITERS

FOUND = [("M1", 1, 101.2, 101.3, 101.5), ("M2", 12, 103.0, 103.25, 103.5), ("M3", 1, 121.0, 121.2, 121.4)]
NOTE = 'Élan "quoted" <b>&amp;</b> --> 微表情\nsecond line\twith a tab'


@pytest.fixture
def recording(tmp_path):
    """Two videos that begin at 100 s and 120 s of the source's clock; marks that overlap and that cross the gap."""
    units = (ActionUnit(4, "both", "B"), ActionUnit(12, "left", "C"))
    ann = (
        Mark("M1", 1, 101.2, 101.3, 101.5, Verdict.ACCEPTED, None, units, NOTE),
        Mark("M2", 12, 103.0, 103.25, 103.5, Verdict.REJECTED, "blink"),
        added("own", 101.4, 101.9, apex_s=101.6),
        added("across", 118.0, 121.25),
    )
    bo = (added("1", 121.0, 121.0), added("2", 121.0, 121.4, face=12))
    codings = [Coding("Ann-Lee", "talk 1", ann, done=True), Coding("Bo", "talk 1", bo)]
    videos = (("video.mkv", 100.0), ("video-2.mkv", 120.0))
    return session(tmp_path / "talk 1", FOUND, codings, videos=videos, ends_s=130.0, seen={1: (100, 101)})


@pytest.fixture
def empty(tmp_path):
    """A session in which nothing was found and nobody coded, killed before it ended."""
    return session(tmp_path / "empty", ends_s=None)


@pytest.mark.parametrize("to", WRITERS)
def test_the_command_writes_only_new_files_outside_the_session(to, recording, tmp_path, capsys):
    """A second export is refused until --force; so is one onto the session's own files, forced or not."""
    out = tmp_path / "new" / "out"
    command = ["export", str(recording.folder), "--to", to, "--out", str(out)]
    assert main(command) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written
    assert all(path.is_file() and path.stat().st_mode & 0o077 == 0 for path in written)
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    if to != "bids":
        before = (recording.folder / "events.jsonl").read_bytes()
        link = tmp_path / "link"
        link.symlink_to(recording.folder / "events.jsonl")
        assert main([*command[:-1], str(link), "--force"]) == 2
        assert "would overwrite" in capsys.readouterr().err
        assert (recording.folder / "events.jsonl").read_bytes() == before


def test_wrong_usage_is_one_line(recording, tmp_path, capsys):
    """A coder who is not there, and a folder that is no session."""
    out = str(tmp_path / "x.csv")
    assert main(["export", str(recording.folder), "--to", "csv", "--out", out, "--coder", "Nobody"]) == 2
    assert "Ann-Lee, Bo" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--to", "csv", "--out", out]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path(out).exists()


def test_csv_has_every_interval_in_the_time_of_its_video(recording, tmp_path):
    """And states both clocks; the machine's regions are there, and nobody's action units but the coder's."""
    (path,) = export(recording, "csv", tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert [(r["video"], r["rater"], r["id"], r["onset_s"], r["offset_s"]) for r in rows] == [
        ("video.mkv", "(machine)", "M1", "1.200000", "1.500000"),
        ("video.mkv", "Ann-Lee", "M1", "1.200000", "1.500000"),
        ("video.mkv", "Ann-Lee", "own", "1.400000", "1.900000"),
        ("video.mkv", "(machine)", "M2", "3.000000", "3.500000"),
        ("video.mkv", "Ann-Lee", "M2", "3.000000", "3.500000"),
        ("video.mkv", "Ann-Lee", "across", "18.000000", "21.250000"),
        ("video-2.mkv", "(machine)", "M3", "1.000000", "1.400000"),
        ("video-2.mkv", "Bo", "1", "1.000000", "1.000000"),
        ("video-2.mkv", "Bo", "2", "1.000000", "1.400000"),
    ]
    assert (rows[1]["units"], rows[1]["note"], rows[4]["verdict"]) == ("4B+L12C", NOTE, "rejected: blink")
    assert (rows[0]["units"], rows[0]["region_brows"], rows[1]["region_brows"]) == ("", "0.7", "")
    assert rows[-1]["video_starts_s"] == "120.000000"
    assert rows[-1]["video_started"] == "2026-11-29T09:00:20.000000+00:00"


def test_one_coder_alone(recording, tmp_path):
    """--coder leaves the others out, and keeps the machine."""
    (path,) = export(recording, "csv", tmp_path / "out.csv", "Bo")
    raters = {line.split(",")[3] for line in path.read_text().splitlines()[1:]}
    assert raters == {"(machine)", "Bo"}


def test_what_begins_before_the_video_is_left_out_and_said(tmp_path, capsys):
    """A recording that starts in the middle of an interval has no picture of its onset."""
    session(tmp_path / "s", [("M", 1, 9.9, 10.1, 10.3)], videos=(("video.mkv", 10.0),))
    assert main(["export", str(tmp_path / "s"), "--to", "vtt", "--out", str(tmp_path / "o.vtt")]) == 0
    assert "-->" not in (tmp_path / "o.vtt").read_text()
    assert "left out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["recording", "empty"])
def test_bids_passes_the_validator(name, request, tmp_path):
    """The official validator finds no error, and every column is described."""
    validator = Path(sys.executable).parent / "bids-validator-deno"
    if not validator.exists():
        pytest.skip("bids-validator-deno is not installed")
    made = request.getfixturevalue(name)
    export(made, "bids", tmp_path / "set")
    done = subprocess.run(
        [validator, tmp_path / "set", "--format", "json"], capture_output=True, text=True, check=False, timeout=90
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []
    assert not [i for i in issues if "ADDITIONAL" in i["code"] or "UNDEFINED" in i["code"]], issues
    table = next((tmp_path / "set").glob("sub-*/beh/*_events.tsv"))
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t")[:2] == ["onset", "duration"]
    assert all(len(line.split("\t")) == len(lines[0].split("\t")) for line in lines)
    assert "s on the source's clock" in json.loads(table.with_suffix(".json").read_text())["onset"]["Description"]


def test_bids_keeps_the_description_of_a_data_set(recording, tmp_path):
    """Sessions are added to the data set that somebody has begun."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_description.json").write_text("{}")
    written = export(recording, "bids", tmp_path / "set")
    assert (tmp_path / "set" / "dataset_description.json").read_text() == "{}"
    assert [p.name for p in written if p.suffix == ".tsv"] == [
        "sub-talk1_task-video_run-1_events.tsv", "sub-talk1_task-video_run-2_events.tsv"]  # fmt: skip


def test_elan_is_read_by_pympi(recording, tmp_path):
    """Tiers per rater, face and lane, integer ms, dependent tiers that refer to their interval."""
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is not installed")
    first, second = export(recording, "elan", tmp_path / "out.eaf")
    eaf = elan.Eaf(str(first))
    assert eaf.get_annotation_data_for_tier("Ann-Lee:1") == [(1200, 1500, "accepted"), (18000, 21250, "added")]
    assert eaf.get_annotation_data_for_tier("Ann-Lee:1:2") == [(1400, 1900, "added")]
    assert eaf.get_annotation_data_for_tier("Ann-Lee:12") == [(3000, 3500, "rejected: blink")]
    assert eaf.get_ref_annotation_data_for_tier("Ann-Lee:1 units") == [(1200, 1500, "4B+L12C", "accepted")]
    assert eaf.get_ref_annotation_data_for_tier("Ann-Lee:1 note")[0][2] == NOTE
    assert eaf.get_parameters_for_tier("Ann-Lee:1 note")["PARENT_REF"] == "Ann-Lee:1"
    assert eaf.get_linked_files()[0]["MEDIA_URL"] == (recording.folder / "video.mkv").resolve().as_uri()
    assert elan.Eaf(str(second)).get_annotation_data_for_tier("Bo:1") == [(1000, 1001, "added")]
    assert "120.000000 s on the source's clock" in dict(elan.Eaf(str(second)).get_properties())["clocks"]


def test_elan_of_an_empty_session_is_read_by_pympi(empty, tmp_path):
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is not installed")
    (path,) = export(empty, "elan", tmp_path / "out.eaf")
    assert list(elan.Eaf(str(path)).get_tier_names()) == []


def test_textgrid_is_read_by_praatio(recording, tmp_path):
    """Interval tiers that fill the video, a point tier of apexes, quotes and other scripts in labels."""
    textgrid = pytest.importorskip("praatio.textgrid", reason="praatio is not installed")
    first, _ = export(recording, "textgrid", tmp_path / "out.TextGrid")
    grid = textgrid.openTextgrid(str(first), includeEmptyIntervals=False)
    assert grid.maxTimestamp == pytest.approx(21.25)  # the interval over the gap ends there
    marked = grid.getTier("Ann-Lee:1").entries
    assert [(e.start, e.end) for e in marked] == [(1.2, 1.5), (18.0, 21.25)]
    assert marked[0].label == f"accepted | 4B+L12C | {' '.join(NOTE.split())}"
    assert [e.time for e in grid.getTier("Ann-Lee:1 apex").entries] == [1.3]
    assert "100.000000 s on the source's clock" in grid.getTier("clocks").entries[0].label


@pytest.mark.parametrize("name", ["recording", "empty"])
def test_textgrid_is_read_by_praat(name, request, tmp_path):
    """Praat itself opens each file, and finds its tiers and its end."""
    if which("praat") is None:
        pytest.skip("needs Praat: apt-get install praat")
    script = tmp_path / "read.praat"
    script.write_text("form a\n sentence path\nendform\nRead from file: path$\ntiers = Get number of tiers\n"
                      "end = Get end time\nname$ = Get tier name: tiers\nwriteInfoLine: tiers, \" \", fixed$(end, 3), "
                      '" ", name$\n')  # fmt: skip
    said = []
    for path in export(request.getfixturevalue(name), "textgrid", tmp_path / "out.TextGrid"):
        done = subprocess.run(["praat", "--run", script, path], capture_output=True, text=True, check=True, timeout=60)
        said.append(done.stdout.strip())
    assert said == {"recording": ["11 21.250 Ann-Lee:12 apex", "5 10.000 Bo:12"], "empty": ["1 0.001 clocks"]}[name]


def test_boris_accepts_the_rows_that_are_pasted(recording, tmp_path):
    """BORIS 8 refuses all rows unless each has six columns, and pairs a state's rows in order of time."""
    for path in export(recording, "boris", tmp_path / "out.tsv"):
        events = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
        assert {len(event) for event in events} == {6}
        states = {}
        for time_s, subject, code, modifier, _, _ in sorted(events, key=lambda e: float(e[0])):
            if code != "apex":
                states.setdefault((subject, code, modifier), []).append(float(time_s))
        assert all(len(times) % 2 == 0 for times in states.values())
        pairs = {state: list(zip(times[::2], times[1::2], strict=True)) for state, times in states.items()}
        if path.stem == "out":
            assert pairs["Ann-Lee:12", "rejected: blink", ""] == [(3.0, 3.5)]
            assert pairs["Ann-Lee:1", "accepted", "4B+L12C"] == [(1.2, 1.5)]
            assert pairs["Ann-Lee:1:2", "added", ""] == [(1.4, 1.9)]


@needs_browser
def test_vtt_is_a_track_of_a_page_in_chromium(recording, tmp_path):
    """The browser's own parser finds every cue, with its times and its text."""
    sync_api = pytest.importorskip("playwright.sync_api")
    first, _ = export(recording, "vtt", tmp_path / "site" / "out.vtt")
    first.with_name("page.html").write_text(
        f"<!doctype html><video><track default kind=metadata src={first.name}></video>", encoding="utf-8"
    )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(first.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with sync_api.sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
            page.wait_for_function("document.querySelector('track').readyState >= 2")
            cues = page.evaluate("[...document.querySelector('track').track.cues].map(c => [c.id, c.startTime, "
                                 "c.endTime, c.getCueAsHTML().textContent])")  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert [cue[:3] for cue in cues] == [["M1", 1.2, 1.5], ["M1", 1.2, 1.5], ["own", 1.4, 1.9], ["M2", 3, 3.5],
                                         ["M2", 3, 3.5], ["across", 18, 21.25]]  # fmt: skip
    assert {cue[3] for cue in cues} >= {
        "(machine) | face 1 | 0.87",
        f"Ann-Lee | face 1 | accepted | 4B+L12C | {' '.join(NOTE.split())}",
        "Ann-Lee | face 12 | rejected: blink",
    }


def test_label_studio_tasks(recording, empty, tmp_path):
    """Their documented form: frames from 1 at the rate that the task names, predictions apart from annotations."""
    jsonschema = pytest.importorskip("jsonschema")
    text = {"type": "string"}
    spans = {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["start", "end"], "additionalProperties": False,
        "properties": {side: {"type": "integer", "minimum": 1} for side in ("start", "end")}}}  # fmt: skip
    value = {"type": "object", "required": ["ranges", "timelinelabels"], "additionalProperties": False,
             "properties": {"ranges": spans, "timelinelabels": {"type": "array", "items": text}}}  # fmt: skip
    result = {"type": "object", "required": ["id", "from_name", "to_name", "type", "value"], "properties": {
        "id": text, "from_name": text, "to_name": text, "type": {"const": "timelinelabels"}, "value": value,
        "meta": {"type": "object", "properties": {"text": {"type": "array", "items": text}}},
        "score": {"type": "number"}}}  # fmt: skip
    group = {"type": "array", "items": {"type": "object", "required": ["result"],
                                        "properties": {"result": {"type": "array", "items": result}}}}  # fmt: skip
    schema = {"type": "array", "items": {"type": "object", "required": ["data"], "properties": {
        "data": {"type": "object"}, "annotations": group, "predictions": group}}}  # fmt: skip
    (path,) = export(recording, "label-studio", tmp_path / "out.json")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(tasks, schema)
    assert [task["data"]["video"] for task in tasks] == ["video.mkv", "video-2.mkv"]
    accepted = tasks[0]["annotations"][0]["result"][0]
    assert accepted["value"] == {"ranges": [{"start": 37, "end": 46}], "timelinelabels": ["accepted"]}  # 1.2 s is 36
    assert [r["value"]["timelinelabels"] for r in tasks[0]["predictions"][0]["result"]] == [["detected"]] * 2
    ids = [r["id"] for task in tasks for group in task["annotations"] + task["predictions"] for r in group["result"]]
    assert len(ids) == len(set(ids))
    (path,) = export(empty, "label-studio", tmp_path / "empty.json")
    assert json.loads(path.read_text())[0]["annotations"] == []


@pytest.mark.parametrize("to", WRITERS)
def test_no_picture_is_exported(to, recording, tmp_path):
    """What is written is text; of the video there is only its name, or its place for ELAN."""
    (recording.folder / "video.mkv").write_bytes(b"\x1aE\xdf\xa3PICTURES")
    for path in export(recording, to, tmp_path / "out"):
        assert b"PICTURES" not in path.read_bytes()
        path.read_text(encoding="utf-8")


def test_a_disk_that_is_full_is_one_line(recording, capsys):
    """The device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert main(["export", str(recording.folder), "--to", "csv", "--out", "/dev/full", "--force"]) == 1
    assert "No space left" in capsys.readouterr().err
