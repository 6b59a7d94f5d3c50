"""A session on disk: what is half written, moved, foreign or old is read as far as it goes, or refused in one line."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import run, said
from serving import event
from test_record import a_crop, a_file, a_run, recorded
from videos import numbered

from stream.errors import UserError
from stream.protocol.messages import encode, event_message
from stream.sessions.coding import Coding, ConflictError, Mark, Verdict, load_coding, save_coding
from stream.sessions.delete import delete_session
from stream.sessions.listing import listed, main
from stream.sessions.session import Session, State, load_session, sessions_in, write_about
from stream.sinks.record import Recorder
from stream.types import Frame, TracePoint

FACES = 12
"""More than one digit."""


def a_session(parent: Path, events: int = 3) -> Session:
    """What a run leaves: `events` intervals of as many faces, a score and a crop of each."""
    items = [Frame(0, 0.0, numbered(0)), Frame(1, 2.0, numbered(1))]
    for k in range(events):
        face = FACES + k
        items += [a_crop(k / 10, face), TracePoint(face, k / 10, 0.5, 0.6, 0.47), event(k, face=face)]
    return load_session(recorded(parent, items, consent="ja, gerne ☺"))


def test_a_session_json_that_ends_anywhere_is_refused_in_one_line(tmp_path):
    """Cut at every byte: never half a session, never a traceback."""
    path = a_session(tmp_path).folder / "session.json"
    whole = path.read_bytes()
    for size in range(len(whole) - 2):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError) as caught:
            load_session(path.parent)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_events_that_end_anywhere_give_the_whole_lines(tmp_path):
    session = a_session(tmp_path)
    path = session.folder / "events.jsonl"
    whole, intervals = path.read_bytes(), session.intervals()
    assert [interval.face for interval in intervals] == [FACES, FACES + 1, FACES + 2]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert session.intervals() == intervals[: whole[:size].count(b"\n")]


@pytest.mark.parametrize("name", ["trace", "track"])
def test_scores_and_crops_that_end_anywhere_give_the_whole_records(tmp_path, name):
    session = a_session(tmp_path)
    path, read = session.folder / f"{name}.bin", getattr(session, name)
    whole, records = path.read_bytes(), read()
    assert len(records) == 3
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        np.testing.assert_array_equal(read(), records[: size // records.dtype.itemsize])


WHOLE = json.dumps(
    {
        **{
            "version": 1,
            "source": "camera:0",
            "epoch": "01J",
            "program": "mestream 0.1",
            "started": "2026-11-29T09:00:00Z",
        },
        **{
            "starts_s": 5.0,
            "model_name": "m",
            "model_sha256": "ab",
            "model_fps": 30.0,
            "runtime": "onnx",
            "threshold": 0.5,
        },
        **{"false_alarms_per_hour": 9.2, "videos": [{"file": "video.mkv", "starts_s": 5.0}], "file_sha256": None},
        **{"consent": "", "dropped": {"record": 1}, "ends_s": 9.0, "complete": True},
    }
)
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner))


@given(data=st.data())
def test_a_session_json_with_any_value_wrong_is_read_or_refused(tmp_path_factory, data):
    """Whatever somebody's editor did to one value: a session with times that are numbers, or one line."""
    folder = tmp_path_factory.mktemp("any")
    message = json.loads(WHOLE)
    message[data.draw(st.sampled_from(sorted(message)))] = data.draw(JSON)
    (folder / "session.json").write_text(json.dumps(message))
    refused, length_s = "", 0.0
    try:
        length_s = listed(load_session(folder)).length_s
    except UserError as error:
        refused = str(error)
    assert "\n" not in refused
    assert np.isfinite(length_s)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"version"', "{}", "[" * 100_000, '{"version": 1e999}', "\udce9"])
def test_what_is_no_session_json_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "session.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"session.json can't be read as a session"):
        load_session(tmp_path)


def test_a_foreign_line_among_the_events_is_named(tmp_path):
    session = a_session(tmp_path)
    path = session.folder / "events.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, b'{"type":"note"}\n', *rest]))
    with pytest.raises(UserError, match=r"events.jsonl: line 2 is no event"):
        session.events()


def test_what_record_wrote_before_is_refused_with_the_way_on(tmp_path):
    """The layout without `version`: source, epoch, and videos with a wall clock."""
    video = {"file": "video.mkv", "starts_s": 5.0, "wall_clock": "2026-11-01T00:00:00+00:00"}
    (tmp_path / "session.json").write_text(json.dumps({"source": "camera:0", "epoch": "01J", "videos": [video]}))
    with pytest.raises(UserError, match=r"recorded before .* --source .*video.mkv --offline --record DIR"):
        load_session(tmp_path)


def test_a_newer_session_is_refused_by_its_version(tmp_path):
    path = a_session(tmp_path).folder / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(UserError, match="version 2, this program reads 1"):
        load_session(path.parent)


def test_an_empty_session_is_a_session(tmp_path):
    """Begun and ended without a frame, as when a camera never gives one."""
    session = load_session(recorded(tmp_path, []))
    assert (session.events(), session.intervals(), session.codings()) == ([], (), ())
    assert (len(session.trace()), len(session.track()), session.media_s(0.0)) == (0, 0, None)
    assert listed(session).length_s == 0.0


def test_a_moved_video_is_told_and_nothing_else_is_lost(tmp_path):
    source = a_file(tmp_path / "interview.mp4")
    recorder = Recorder(tmp_path / "rec", a_run(source, live=False))
    recorder.put(event(1))
    recorder.close()
    session = load_session(recorder.folder)
    assert session.state is State.COMPLETE
    source.file.rename(tmp_path / "elsewhere.mp4")
    assert session.state is State.VIDEO_MOVED
    assert len(session.intervals()) == 1


def test_a_session_that_was_cut_short_ends_with_its_last_crop_or_score(tmp_path):
    session = a_session(tmp_path, events=3)
    cut = replace(session, about=replace(session.about, ends_s=None, complete=False))
    assert (cut.state, cut.ends_s) == (State.CUT_SHORT, pytest.approx(0.2))


@pytest.mark.parametrize("name", ["日本 Gespräch", "ñ" * 80, "a\nb\x1b[31m", "[red]", "-x"])
def test_names_of_any_script_are_listed(tmp_path, capsys, name):
    """A folder's name is the session's, whatever it holds; nothing of it steers the terminal."""
    session = a_session(tmp_path / "rec")
    session.folder.rename(tmp_path / "rec" / name)
    assert main([str(tmp_path / "rec"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == name
    assert main([str(tmp_path / "rec")]) == 0
    table = capsys.readouterr().out
    assert len(table.splitlines()) == 2
    assert "\x1b" not in table
    assert name.replace("\n", "\\n").replace("\x1b", "\\x1b") in table


def test_the_command_lists_sessions_and_names_what_is_none(tmp_path):
    """As its user sees it: good sessions in a table, newest last, each bad folder in one line, exit code 0."""
    first, second = a_session(tmp_path / "rec"), a_session(tmp_path / "rec", events=0)
    for coder in ("Zoe", "Ann"):
        save_coding(first.folder / "codings", Coding(coder, first.name))
    (first.folder / "codings" / "Zoe.json").write_text("{")  # this is no reason to hide the session
    write_about(second.folder, replace(second.about, complete=False, started="2099-01-01T00:00:00.000Z"))
    (tmp_path / "rec" / "holiday").mkdir()
    (tmp_path / "rec" / "broken").mkdir()
    (tmp_path / "rec" / "broken" / "session.json").write_text("{")
    (tmp_path / "rec" / "notes.txt").write_text("a file is no folder")
    done = run(tmp_path, "sessions", "rec")
    assert done.returncode == 0
    assert len(said(done.stderr)) == 2
    assert "rec/broken/session.json can't be read as a session" in said(done.stderr)[0]
    assert "rec/holiday is no session" in said(done.stderr)[1]
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["name", "source", "start", "(UTC)", "length", "intervals", "coders", "state"]
    assert [row.split()[0] for row in rows] == [first.name, second.name]
    assert rows[0].endswith("complete ")
    assert "0:02    3          Ann, Zoe" in rows[0]
    assert "cut short" in rows[1]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_sessions_is_one_line_and_code_2(tmp_path, there):
    folder = tmp_path if there else tmp_path / "nowhere"
    done = run(tmp_path, "sessions", folder)
    assert done.returncode == 2
    assert len(said(done.stderr)) == 1
    assert str(folder) in said(done.stderr)[0]


def test_one_session_can_be_named_itself(tmp_path):
    session = a_session(tmp_path)
    assert sessions_in(session.folder) == [session]


def test_a_deleted_session_is_gone_with_all_that_was_made_of_it(tmp_path):
    """Also what a killed program left half written, but not the sessions beside it."""
    session, other = a_session(tmp_path), tmp_path / "other"
    save_coding(session.folder / "codings", Coding("Ann", session.name))
    for left in (".session.json.x1.part", "video.part", "codings/.Ann.json.x2.part"):
        (session.folder / left).write_text("half")
    other.mkdir()
    assert delete_session(session) == ()
    assert list(tmp_path.iterdir()) == [other]


def test_deleting_takes_nothing_else_and_follows_no_link(tmp_path):
    """Foreign files stay where they are, as do the source video, links, and what they lead to."""
    source = a_file(tmp_path / "video-2.mkv")
    recorder = Recorder(tmp_path / "rec", a_run(source, live=False))
    recorder.close()
    session = load_session(recorder.folder)
    save_coding(session.folder / "codings", Coding("Ann", session.name))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Zoe.json").write_text("{}")
    (session.folder / "codings" / "Zoe.json").symlink_to(outside / "Zoe.json")
    (session.folder / "codings" / "photo.jpg").write_text("")
    (session.folder / "report.docx").write_text("")
    (session.folder / "video-2.mkv").write_text("no video of this session")
    (session.folder / "trace.bin").unlink()
    (session.folder / "trace.bin").symlink_to(outside / "Zoe.json")
    left = delete_session(session)
    names = ["codings", "codings/Zoe.json", "codings/photo.jpg", "report.docx", "trace.bin", "video-2.mkv"]
    assert left == tuple(session.folder / name for name in names)
    assert all(os.path.lexists(path) for path in left)
    assert source.file.exists()
    assert (outside / "Zoe.json").read_text() == "{}"


@pytest.mark.parametrize("which", ["folder", "codings"])
def test_a_linked_folder_is_not_deleted_through(tmp_path, which):
    session = a_session(tmp_path / "rec")
    save_coding(tmp_path / "codings", Coding("Ann", session.name))
    if which == "codings":
        (session.folder / "codings").symlink_to(tmp_path / "codings")
        assert delete_session(session) == (session.folder / "codings",)
        assert (tmp_path / "codings" / "Ann.json").exists()
    else:
        (tmp_path / "link").symlink_to(session.folder)
        with pytest.raises(UserError, match="is a link"):
            delete_session(load_session(tmp_path / "link"))
        assert session.intervals()


def test_a_coding_is_written_whole_and_never_over_another(tmp_path):
    """Whoever read an older revision is refused; a coding cut anywhere is refused in one line."""
    mark = Mark("01J", 1, 0.1, None, 0.4, Verdict.ADDED, note="Lächeln")
    first = save_coding(tmp_path / "codings", Coding("Ann", "s", (mark,)))
    assert save_coding(tmp_path / "codings", first).revision == 2
    with pytest.raises(ConflictError):
        save_coding(tmp_path / "codings", first)
    (path,) = (tmp_path / "codings").iterdir()
    assert load_coding(path).marks == (mark,)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is not a coding") as caught:
            load_coding(path)
        assert "\n" not in str(caught.value)


def test_events_of_any_script_are_whole_lines(tmp_path):
    """A name with a line separator of Unicode in it is still one line."""
    session = a_session(tmp_path, events=0)
    line = encode(event_message(event(1, source="file:a\u2028b\x85日本.mp4"), "e", 1))
    (session.folder / "events.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert session.events()[0]["source"] == "file:a\u2028b\x85日本.mp4"
