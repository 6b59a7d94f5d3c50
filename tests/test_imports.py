"""Codings made elsewhere: nothing is lost on the way out and back, and what does not fit is refused in one line."""

import dataclasses
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import added, session

from stream.__main__ import main
from stream.errors import UserError
from stream.sessions.coding import REASONS, SIDES, ActionUnit, Coding, Mark, Verdict, load_coding
from stream.sessions.exchange import coding_from, export
from stream.sessions.session import load_session

VIDEOS = (("video.mkv", 86_400.125), ("video 2.mkv", 86_500.5))
FOUND = [(f"M{n}", n % 3 + 9, 86_401.0 + n, 86_401.1 + n, 86_401.2 + n) for n in range(12)]
NUMBERS = count()
LETTERS = st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t", exclude_characters="\ufffe\uffff")


@st.composite
def marks(draw):
    """Any marks whose times are whole ms: with overlaps, over the gap between two videos, of many faces."""
    units = st.builds(ActionUnit, st.integers(1, 99), st.sampled_from(SIDES), st.sampled_from(("", "A", "E")))
    made = []
    for n in range(draw(st.integers(0, 6))):
        verdict = draw(st.sampled_from(list(Verdict)))
        ms = sorted(draw(st.lists(st.integers(0, 120_000), min_size=3, max_size=3, unique=True)))
        onset_s, apex_s, offset_s = (86_400.5 + one / 1000 for one in ms)
        made.append(Mark(
            f"M{n}" if verdict is not Verdict.ADDED else f"own {n}",
            draw(st.integers(1, 200)), onset_s, draw(st.sampled_from((None, apex_s))), offset_s, verdict,
            draw(st.sampled_from(REASONS)) if verdict is Verdict.REJECTED else None,
            tuple(draw(st.lists(units, max_size=3))), draw(st.text(LETTERS)),
        ))  # fmt: skip
    return tuple(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("round")


@pytest.mark.parametrize("to", ["csv", "elan", "boris"])
@given(marks=marks())
def test_a_coding_comes_back_whole(to, folder, marks):
    """Coding -> file -> Coding, in every format that is read: all fields, and the times to less than 1 ms."""
    n = next(NUMBERS)
    coding = Coding("Ann", f"{n}", marks)
    made = session(folder / to / f"{n}", FOUND, [coding], videos=VIDEOS, ends_s=86_600.0)
    out = folder / to / f"{n}.{'eaf' if to == 'elan' else 'tsv'}"
    back = []
    for number, path in enumerate(export(made, to, out), 1):
        videos = made.about.videos[number - 1 : number]
        alone = dataclasses.replace(made, about=dataclasses.replace(made.about, videos=videos))
        # BORIS is told the video by its user; ELAN and CSV name it
        back += coding_from(alone if to == "boris" else made, path, "Ann").marks
    assert len(back) == len(marks)
    by_id = {mark.id: mark for mark in back}
    for mark in marks:
        one = by_id[mark.id]
        assert dataclasses.replace(one, onset_s=mark.onset_s, apex_s=mark.apex_s, offset_s=mark.offset_s) == mark
        assert (one.onset_s, one.offset_s) == pytest.approx((mark.onset_s, mark.offset_s), abs=0.0005)
        assert one.apex_s == (None if mark.apex_s is None else pytest.approx(mark.apex_s, abs=0.0005))


@pytest.fixture
def made(tmp_path):
    """One video that begins at 100 s; one face, which the machine saw move at 1 s of the video."""
    return session(tmp_path / "s", [("M1", 3, 101.0, 101.1, 101.2)], videos=(("video.mkv", 100.0),))


def test_the_command_stores_a_coding_and_never_replaces_one_unasked(made, tmp_path, capsys):
    """On the source's clock. A second import under the same name needs --force."""
    file = tmp_path / "anna.csv"
    file.write_text("\ufeffonset_s;offset_s;verdict\n1.0;1.2\n", encoding="utf-8")
    command = ["import", str(made.folder), str(file), "--coder", "Anna"]
    assert main([*command, "--blind"]) == 0
    stored = load_coding(made.folder / "codings" / "Anna.json")
    assert stored == Coding("Anna", "s", (Mark("anna-1", 3, 101.0, None, 101.2, Verdict.ADDED),), True, True, 1)
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert load_coding(made.folder / "codings" / "Anna.json") == stored
    assert main([*command, "--force"]) == 0
    assert load_coding(made.folder / "codings" / "Anna.json").revision == 2


def test_an_elan_file_made_by_hand(made, tmp_path):
    """Tiers with names of their own; action units or a note as the text; made by pympi as ELAN would."""
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is not installed")
    eaf = elan.Eaf(author="x")
    eaf.add_tier("micro", part="Anna")
    eaf.add_annotation("micro", 500, 900, "AU4B + L12")
    eaf.add_annotation("micro", 1500, 1900, "brows, unsure")
    eaf.to_file(str(tmp_path / "hand.eaf"))
    coding = coding_from(made, tmp_path / "hand.eaf")
    assert coding.coder == "Anna"
    units = (ActionUnit(4, "both", "B"), ActionUnit(12, "left"))
    assert coding.marks == (
        Mark("hand-1", 3, 100.5, None, 100.9, Verdict.ADDED, None, units),
        Mark("hand-2", 3, 101.5, None, 101.9, Verdict.ADDED, note="brows, unsure"),
    )


def test_tabular_events_of_boris(made, tmp_path):
    """As BORIS 8 exports them: a state of a subject, a point event, the path of the video."""
    head = ["Observation id", "Media duration (s)", "Subject", "Behavior", "Modifier #1", "Behavior type", "Time",
            "Media file name", "Comment"]  # fmt: skip
    rows = [
        ["o", "10", "Bo:3", "ME", "4B", "START", "1.5", "/data/video.mkv", "seen twice"],
        ["o", "10", "Bo:3", "apex", "None", "POINT", "1.6", "/data/video.mkv", ""],
        ["o", "10", "Bo:3", "ME", "4B", "STOP", "1.8", "/data/video.mkv", ""],
        ["o", "10", "No focal subject", "AU12", "", "POINT", "3.0", "/data/video.mkv", ""],
    ]
    file = tmp_path / "boris.tsv"
    file.write_text("\n".join("\t".join(row) for row in [head, *rows]) + "\n")
    coding = coding_from(made, file, "Bo")
    assert coding.marks == (
        Mark("boris-1", 3, 101.5, 101.6, 101.8, Verdict.ADDED, None, (ActionUnit(4, "both", "B"),), "ME\nseen twice"),
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "onset_s,offset_s\n1,oops\n", "line 2"),
        ("a.csv", "onset_s,offset_s\n2,1\n", "line 2"),
        ("a.csv", "onset_s,offset_s\nnan,1\n", "line 2"),
        ("a.csv", "onset_s,offset_s\n-5,1\n", "line 2"),
        ("a.csv", "onset_s,offset_s,units\n1,2,smile\n", "action units"),
        ("a.csv", "onset_s,offset_s,verdict,id\n1,2,accepted,M9\n", "of another video"),
        ("a.csv", "onset_s,offset_s,verdict,id\n1,2,rejected: boredom,M1\n", "boredom"),
        ("a.csv", "colour,size\n1,2\n", "no columns"),
        ("a.eaf", "<html></html>", "ANNOTATION_DOCUMENT"),
        ("a.eaf", "<ANNOTATION_DOC", "not XML"),
        ("a.tsv", "1.0\tBo:1\tME\t\t\tNA", "does not stop"),
        ("a.tsv", "soon\tBo:1\tME\t\t\tNA", "line 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, text, said, made, tmp_path, capsys):
    """And stores nothing."""
    (tmp_path / name).write_text(text)
    assert main(["import", str(made.folder), str(tmp_path / name), "--coder", "Anna"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (made.folder / "codings").exists()


def test_bytes_that_are_no_text_and_a_file_that_is_not_there(made, tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("a.csv", "gone.csv", "gone.eaf"):
        assert main(["import", str(made.folder), str(tmp_path / name), "--coder", "Anna"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_whose_coding_it_is(tmp_path):
    """Of several coders in a file one is chosen; a file of one coder may be stored under another name."""
    codings = [Coding("Ann", "s", (added("1", 1.0, 1.5),)), Coding("Bo", "s", (added("2", 2.0, 2.5),))]
    made = session(tmp_path / "s", codings=codings)
    (both,) = export(made, "csv", tmp_path / "both.csv")
    assert [mark.id for mark in coding_from(made, both, "Bo").marks] == ["2"]
    with pytest.raises(UserError, match="Ann, Bo"):
        coding_from(made, both)
    with pytest.raises(UserError, match="Ann, Bo"):
        coding_from(made, both, "Cy")
    (one,) = export(made, "csv", tmp_path / "one.csv", "Ann")
    assert coding_from(made, one, "Cy").coder == "Cy"
    Path(one).write_text("onset_s,offset_s\n1,2\n")
    with pytest.raises(UserError, match="--coder"):
        coding_from(made, one)


def test_several_faces_or_videos_must_be_named(tmp_path):
    """A guess would put the coding on the wrong person."""
    file = tmp_path / "a.csv"
    file.write_text("onset_s,offset_s\n1,2\n")
    two = session(tmp_path / "faces", [("a", 1, 1, 1, 2), ("b", 2, 3, 3, 4)])
    with pytest.raises(UserError, match="2 faces"):
        coding_from(two, file, "Ann")
    parts = session(tmp_path / "videos", videos=VIDEOS)
    with pytest.raises(UserError, match=r"video 2\.mkv"):
        coding_from(load_session(parts.folder), file, "Ann")
