"""`mestream evaluate`: truth and events in, thresholds chosen without looking, a report out; and the live path
over videos and image folders, recorded and replayed."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import cv2
import openpyxl
import pytest
from clips import face_image, face_video, raised_at

from engine.datasets import Video
from engine.datasets.truth import Nuisance, TruthInterval, TruthVideo, load_truth, save_truth
from engine.evaluate import main
from engine.evaluation import live
from engine.evaluation.events import Said, detections_of, judged, read_events
from engine.evaluation.figures import at_threshold, figures, wilson
from engine.evaluation.matching import Detection, Truth
from engine.evaluation.metrics import count
from engine.evaluation.protocol import decide
from stream.app import assemble, offline_events
from stream.config import Config
from stream.decide.odds import log_odds, probability
from stream.decide.tracker import IntervalTracker
from stream.decide.tracker_config import TrackerConfig
from stream.errors import UserError
from stream.sources import open_source


def me(onset_s, length_s=0.4, **more):
    return TruthInterval(onset_s, onset_s + 0.4 * length_s, onset_s + length_s, **more)


def truth_video(file, subject, intervals=(), split="test", **more):
    return TruthVideo(file, subject, 30.0, more.pop("duration_s", 60.0), split, tuple(intervals), **more)


def message(phase, key, onset_s, offset_s, score, at_s, suppressed=None):
    """One event message as `--offline --events` writes it."""
    open_ = phase == "start"
    return {
        "type": "event",
        "v": 1,
        "epoch": "e",
        "seq": 1,
        "phase": phase,
        "id": key,
        "source": "v",
        "face": 1,
        "onset_s": onset_s,
        "apex_s": None if open_ else onset_s + 0.1,
        "offset_s": None if open_ else offset_s,
        "score": score,
        "regions": {},
        "time": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "latency_ms": 0,
        "quality": {},
        "suppressed": suppressed,
    }


def spotted(key, onset_s, score, length_s=0.4):
    """An ME spotted as the live program would: `start` 0.3 s after the onset, `end` 0.4 s after the offset."""
    offset_s = onset_s + length_s
    return [
        message("start", key, onset_s, None, score, onset_s + 0.3),
        message("end", key, onset_s, offset_s, score, offset_s + 0.4),
    ]


def write_events(path, messages):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(m) + "\n" for m in messages), encoding="utf-8")


@pytest.fixture
def material(tmp_path):
    """Two videos to tune on, three to judge, of four people; events with known right and wrong."""
    videos = [
        truth_video("tune/a.mp4", "a", [me(5), me(20)], "tune"),
        truth_video("tune/b.mp4", "b", [], "tune"),
        truth_video(
            "c.mp4",
            "c",
            [
                me(5, amplitude_px=2.0, regions=("brows",)),
                me(20, amplitude_px=0.6, regions=("brows", "mouth")),
                me(40, 0.6, amplitude_px=1.0),
            ],
            nuisances=(Nuisance(20.3, 26, "speech"), Nuisance(20.5, 21, "head")),
        ),
        truth_video("d.mp4", "d", [], nuisances=(Nuisance(9, 12, "speech"),), tags={"nuisance": "speech"}),
        truth_video("d2.mp4", "d", [], tags={"nuisance": "none"}),
    ]
    save_truth(tmp_path / "truth.json", videos)
    events = {
        "tune/a": spotted("1", 5, 0.8) + spotted("2", 20, 0.6),
        "tune/b": spotted("1", 5, 0.5),
        "c": spotted("1", 5, 0.9) + spotted("2", 20.05, 0.55) + spotted("3", 30, 0.7),
        "d": [*spotted("1", 10, 0.65), message("start", "2", 50, None, 0.6, 50.3)],
        "d2": [],
    }
    events["d"].append(message("retract", "2", 50, 50.4, 0.6, 50.8, "blink"))
    for name, messages in events.items():
        write_events(tmp_path / "events" / f"{name}.jsonl", messages)
    return tmp_path


def run(folder, *arguments, out="out"):
    """Call the program; its exit code and what evaluation.json holds."""
    code = main([*map(str, arguments), "--out", str(folder / out), "--rounds", "50"])
    path = folder / out / "evaluation.json"
    return code, json.loads(path.read_text()) if path.exists() else None


# ---- scoring events


def test_events_are_judged_at_the_threshold_of_the_tuning_videos(material):
    """Best F1 on the tuning videos is at 0.6 (both MEs, no false alarm); on the test videos that gives 1 TP, 2 FP."""
    code, result = run(material, "--truth", material / "truth.json", "--events", material / "events")
    assert code == 0
    assert list(result["threshold"]["of"].values()) == pytest.approx([0.6, 0.6])
    assert (result["rule"]["tp"], result["rule"]["fp"], result["rule"]["fn"]) == (1, 2, 2)
    assert result["material"]["videos"] == 3
    assert result["material"]["mes"] == 3
    assert result["false_alarms"]["me_free"]["alarms"] == 1
    assert result["false_alarms"]["me_free"]["per_hour"] == pytest.approx(30)
    assert result["recall_at"] == pytest.approx({"1/min": 2 / 3, "10/h": 1 / 3, "1/h": 1 / 3})
    assert result["timing"]["start_delay_s"]["median"] == pytest.approx(0.3, abs=0.02)
    assert result["timing"]["end_delay_s"]["median"] == pytest.approx(0.4, abs=0.02)
    assert result["alarms_on"] == {"nothing known": 1, "speech": 1}
    assert result["suppressed"] == {"blink": 1}
    assert result["from_size"]["1.5"]["f1"] == pytest.approx(2 * 1 / (2 + 2))
    assert result["by_tag"]["nuisance"]["speech"]["alarms_per_minute"] == pytest.approx(1)
    assert [(r["from"], r["n"], r["found"]) for r in result["by_size"]] == [(0.0, 1, 0), (1.0, 1, 0), (2.0, 1, 1)]


@pytest.mark.slow
def test_recall_is_told_by_region_and_by_what_goes_on_meanwhile(material):
    """Of c's MEs the first is found. The second shows in two regions, and a word begins before it ends."""
    _, result = run(material, "--truth", material / "truth.json", "--events", material / "events")
    counted = {key: {k: (r["n"], r["found"]) for k, r in result[key].items()} for key in ("by_region", "by_company")}
    assert counted["by_region"] == {"brows": (2, 1), "mouth": (1, 0)}
    assert counted["by_company"] == {"nothing known": (2, 1), "speech": (1, 0)}
    report = (material / "out" / "report.md").read_text()
    assert "| brows | 2 | 0.500 |" in report
    assert "| speech | 1 | 0.000 |" in report


@pytest.mark.slow
def test_a_given_threshold_is_used_as_it_is(material):
    where = ("--truth", material / "truth.json", "--events", material / "events")
    _, result = run(material, *where, "--threshold", 0.5)
    assert (result["rule"]["tp"], result["rule"]["fp"], result["rule"]["fn"]) == (2, 2, 1)


@pytest.mark.slow
def test_only_the_videos_asked_for_are_judged_at_the_threshold_of_all(material, capsys):
    """Only d's video with speech: one false alarm in its minute, at the tuning videos' threshold, which has no tag."""
    where = ("--truth", material / "truth.json", "--events", material / "events")
    code, result = run(material, *where, "--only", "nuisance=speech")
    assert code == 0
    assert list(result["threshold"]["of"].values()) == pytest.approx([0.6, 0.6])
    assert (result["material"]["videos"], result["rule"]["tp"], result["rule"]["fp"]) == (1, 0, 1)
    assert result["false_alarms"]["me_free"]["per_hour"] == pytest.approx(60)
    assert "only nuisance=speech" in (material / "out" / "report.md").read_text().splitlines()[0]
    _, both = run(material, *where, "--only", "nuisance=speech,none", out="both")
    assert both["material"]["videos"] == 2
    capsys.readouterr()
    for asked, says in (("nuisance=blink,none", "there are none, speech"), ("part=mixed", "none has a tag part")):
        assert run(material, *where, "--only", asked, out="bad") == (1, None)
        assert says in capsys.readouterr().err


@pytest.mark.slow
def test_events_without_tuning_videos_are_judged_as_emitted(material):
    videos = [replace(v, split="test") for v in load_truth(material / "truth.json")]
    save_truth(material / "truth.json", videos)
    _, result = run(material, "--truth", material / "truth.json", "--events", material / "events")
    assert result["threshold"]["how"] == "as emitted"
    assert (result["rule"]["tp"], result["rule"]["fp"], result["rule"]["fn"]) == (4, 3, 1)


@pytest.mark.slow
def test_loso_chooses_each_persons_threshold_on_the_others(material):
    where = ("--truth", material / "truth.json", "--events", material / "events")
    _, result = run(material, *where, "--protocol", "loso")
    # without a: two of c's three MEs from .55 on, with two alarms; without c: both MEs of a from .6 on, with d's alarm
    assert result["threshold"]["of"]["a"] == pytest.approx(0.55)
    assert result["threshold"]["of"]["c"] == pytest.approx(0.6)
    assert result["material"]["videos"] == 5


@pytest.mark.slow
def test_the_report_is_self_contained_and_the_same_twice(material):
    where = ("--truth", material / "truth.json", "--events", material / "events")
    run(material, *where, out="first")
    run(material, *where, out="second")
    page = (material / "first" / "report.html").read_text()
    assert page.count("<svg") == 2 + 2 + 3  # two curves, two bar charts, a trace per video
    for outside in ("<script", "<link", "src=", "@import", "url(http"):
        assert outside not in page
    for name in ("report.html", "report.md", "evaluation.json"):
        texts = [(material / run_ / name).read_text().replace(f"/{run_}", "/out") for run_ in ("first", "second")]
        assert texts[0] == texts[1]
    assert "| F1 | 0.333 |" in (material / "first" / "report.md").read_text()


def test_emission_times_are_media_times_only_offline(tmp_path):
    live_message = message("end", "1", 5, 5.4, 0.9, 1_790_000_000)
    write_events(tmp_path / "e.jsonl", [{"type": "hello"}, live_message, message("end", "2", 9, 9.4, 0.9, 9.8)])
    assert [s.emitted_s for s in read_events(tmp_path / "e.jsonl")] == [None, 9.8]


def test_starts_count_even_when_taken_back_and_ends_know_their_start():
    said = [Said("start", "1", 5, None, None, 0.5, 5.2), Said("retract", "1", 5, 5.1, 5.4, 0.5, 5.9, "blink")]
    said += [Said("start", "2", 7, None, None, 0.6, 7.3), Said("end", "2", 7, 7.2, 7.4, 0.8, 7.9)]
    detections, starts = detections_of(said, 30)
    assert detections == (Detection(210, 222, 0.8, 216, 7.3, 7.9),)
    assert starts == ((5.2, 0.5), (7.3, 0.6))


def test_only_micro_expressions_are_asked_for():
    video = truth_video("v.mp4", "a", [me(1), me(3, kind="blink"), me(5, 2.0, kind="macro")])
    result = judged(video, [])
    assert result.result.truths == (Truth(30, 42, 35),)
    assert [n.kind for n in result.other] == ["blink", "macro"]


def test_no_video_is_judged_by_its_own_threshold():
    """Turning one person's scores upside down changes nobody's threshold but the others'."""
    videos = [
        judged(truth_video(f"{s}.mp4", s, [me(5)]), [Said("end", "1", 5, 5.1, 5.4, score, 5.8)])
        for s, score in (("a", 0.9), ("b", 0.4), ("c", 0.6))
    ]
    before = decide(videos, "loso", 0.5, 0.1, at_threshold).thresholds
    detection = replace(videos[0].result.detections[0], score=0.2)
    videos[0] = replace(videos[0], result=replace(videos[0].result, detections=(detection,)))
    after = decide(videos, "loso", 0.5, 0.1, at_threshold).thresholds
    assert before["a"] == after["a"] == pytest.approx(0.4)
    assert after["b"] == pytest.approx(0.2)


def test_figures_of_nothing_are_plain():
    """A video without MEs and without events: every ratio is 0 or unknown, and nothing divides by it."""
    result = figures(decide([judged(truth_video("v", "a"), [])], "fixed", 0.5, 0.1, at_threshold), rounds=5)
    assert result["rule"]["f1"] == 0
    assert result["timing"]["end_delay_s"] == {"n": 0, "median": None, "p90": None}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1)]
)
def test_wilson_against_its_table(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-3)


# ---- truth.json


def test_truth_round_trip(tmp_path):
    videos = [
        truth_video(
            "a/v.mp4", "p", [me(1, amplitude_px=1.5, regions=("brows",), face=1)], "tune", tags={"skin": "light"}
        ),
        truth_video("w.mp4", "q", nuisances=(Nuisance(1, 2, "gaze"),)),
    ]
    save_truth(tmp_path / "truth.json", videos)
    assert load_truth(tmp_path / "truth.json") == videos


GOOD = {"file": "v.mp4", "subject": "a", "fps": 30, "duration_s": 9}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "can't be read as JSON"),
        ("[]", 'is not {"version": 1'),
        (json.dumps({"version": 2, "videos": []}), 'is not {"version": 1'),
        (json.dumps({"version": 1, "videos": [{**GOOD, "fps": 0}]}), "video v.mp4: fps 0.0"),
        (json.dumps({"version": 1, "videos": [{"file": "v.mp4"}]}), "video v.mp4: lacks 'subject'"),
        (json.dumps({"version": 1, "videos": [3]}), "video 0"),
        (json.dumps({"version": 1, "videos": [GOOD, GOOD]}), "video v.mp4 is there twice"),
        (json.dumps({"version": 1, "videos": [{**GOOD, "split": "train"}]}), "split train is not one of tune, test"),
        (
            json.dumps({"version": 1, "videos": [{**GOOD, "intervals": [{"onset_s": 2, "offset_s": 1}]}]}),
            "interval 2.0, None, 1.0 is not in order",
        ),
    ],
)
def test_a_bad_truth_is_one_line(tmp_path, capsys, text, says):
    (tmp_path / "truth.json").write_text(text)
    code, _ = run(tmp_path, "--truth", tmp_path / "truth.json", "--events", tmp_path)
    err = capsys.readouterr().err
    assert code == 1
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one of --truth"),
        (["--truth", "t.json"], "--truth needs --events"),
        (["--bench", "b", "--dataset", "smic", "--root", "r"], "give one of"),
        (["--dataset", "smic"], "--dataset needs --root"),
        (["--dataset", "imagenet", "--root", "r"], "invalid choice"),
        (["--bench", "b", "--train"], "--train needs --dataset"),
        (["--bench", "b", "--threshold", "0.5", "--protocol", "loso"], "one of them chooses"),
        (["--bench", "b", "--threshold", "0.05"], "not from 0.1 to 1"),
        (["--bench", "b", "--only", "part="], "is not TAG=VALUE"),
        (["--dataset", "smic", "--root", "r", "--only", "part=a"], "have no tags"),
        (["--bench", "b", "--jobs", "0"], "must be at least 1"),
        (["--bench", "b", "--nonsense"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path, capsys, arguments, says):
    code, _ = run(tmp_path, *arguments)
    err = capsys.readouterr().err
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_a_video_without_events_is_not_passed_over(material, capsys):
    (material / "events" / "d2.jsonl").unlink()
    code, _ = run(material, "--truth", material / "truth.json", "--events", material / "events")
    assert code == 1
    assert "no events for d2.mp4" in capsys.readouterr().err


def test_a_line_that_is_no_event_is_named(material, capsys):
    (material / "events" / "d2.jsonl").write_text('{"type":"event"}\n')
    code, _ = run(material, "--truth", material / "truth.json", "--events", material / "events")
    assert code == 1
    assert "d2.jsonl line 1 is not an event" in capsys.readouterr().err


def test_a_bench_that_lacks_a_video_names_it(tmp_path, capsys):
    save_truth(tmp_path / "truth.json", [truth_video("gone.mp4", "a")])
    code, _ = run(tmp_path, "--bench", tmp_path)
    assert code == 1
    assert "lacks gone.mp4" in capsys.readouterr().err


def test_a_data_set_that_is_not_there_is_one_line(tmp_path, capsys):
    code, _ = run(tmp_path, "--dataset", "samm-lv", "--root", tmp_path)
    err = capsys.readouterr().err
    assert code == 1
    assert "has no SAMM_LongVideos_V" in err
    assert err.count("\n") == 1


# ---- the live path, recorded


@pytest.fixture(scope="module")
def believer(eager_model):
    """Where weights lie that take about anything for a micro-expression: there are events to compare."""
    return eager_model.directory


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The portrait raises a brow at 1.2 s; the room is empty from 2.3 to 2.6 s."""
    return face_video(tmp_path_factory.mktemp("clip") / "clip.mp4", length_s=4.0, away=(2.3, 2.6))


@pytest.fixture(scope="module")
def recorded(clip, believer):
    return live.record_file(clip, Config(offline=True, model=believer, runtime="onnx", threshold=0.1, max_faces=1))


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6])
def test_a_replay_says_what_the_program_says(clip, believer, recorded, threshold):
    """The recorded run, replayed at any threshold, gives the events of `--offline` at that threshold."""
    config = Config(offline=True, model=believer, runtime="onnx", threshold=threshold, max_faces=1)
    with closing(open_source(str(clip), paced=False)) as source:
        events = list(offline_events(assemble(config, source)))
    replayed = recorded.replay(TrackerConfig().at(threshold))
    assert [(s.phase, s.onset_s, s.offset_s, s.score, s.suppressed) for s in replayed] == [
        (e.phase.value, e.onset_s, e.offset_s, e.score, e.suppressed) for e in events
    ]
    assert [s.emitted_s for s in replayed] == pytest.approx(
        [datetime.fromisoformat(e.time).timestamp() for e in events], abs=0.002
    )
    if threshold == 0.1:
        assert {s.phase for s in replayed} >= {"start"}


@pytest.mark.parametrize("base", [0.3, 0.5])
def test_a_replay_moves_the_threshold_as_the_faces_baseline_did(recorded, base):
    """And a sweep over it stays sound: what reaches a threshold is what a run at it says."""
    config = TrackerConfig().at(base)
    lively = live.Recording("m")
    said = []
    for steps in recorded.faces:
        lively.faces.append([replace(step, shift=0.1 * (i % 20)) for i, step in enumerate(steps)])
        tracker = IntervalTracker(config)
        for i, step in enumerate(steps):
            tracker.config = config.at(probability(log_odds(base) + 0.1 * (i % 20)))
            said += (
                tracker.flush(step.now_s, step.reason)
                if step.reason
                else tracker.update(list(step.intervals), step.now_s)
            )
    replayed = lively.replay(config, baselines=True)
    assert sorted((s.phase, s.onset_s) for s in replayed) == sorted((e.phase.value, e.onset_s) for e in said)
    ends = [s for s in replayed if s.phase == "end"]
    assert all(s.score >= base - 1e-9 for s in ends)
    swept = [s for s in lively.replay(TrackerConfig().at(0.1), baselines=True) if s.phase == "end"]
    assert [s.onset_s for s in swept if s.score >= base] == [s.onset_s for s in ends]
    assert lively.replay(config) == recorded.replay(config)


def test_a_recording_comes_back_from_disk(recorded, tmp_path):
    recorded.save(tmp_path / "r.json.gz")
    assert live.Recording.load(tmp_path / "r.json.gz") == recorded
    assert recorded.frames == 120
    assert any(score > 0 for _, score in recorded.trace(0.3))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8b"])
def test_a_broken_recording_is_one_line(tmp_path, content):
    (tmp_path / "r.json.gz").write_bytes(content)
    with pytest.raises(UserError, match="is not a recording"):
        live.Recording.load(tmp_path / "r.json.gz")


def test_names_that_differ_are_recorded_apart(tmp_path):
    assert live.recording_path(tmp_path, "a/b") != live.recording_path(tmp_path, "a_b")


@pytest.mark.slow
def test_a_bench_runs_through_the_live_path_and_again_from_its_recordings(clip, believer, tmp_path):
    """At a given threshold the tuning videos have no say: they need not even be there."""
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "clip.mp4").symlink_to(clip)
    judged = truth_video("clip.mp4", "a", [me(1.2, amplitude_px=3)], duration_s=4)
    save_truth(bench / "truth.json", [judged, truth_video("elsewhere.mp4", "b", split="tune")])
    where = ("--bench", bench, "--model", believer, "--runtime", "onnx", "--threshold", 0.1)
    code, first = run(tmp_path, *where)
    assert code == 0
    assert first["material"]["mes"] == 1
    assert first["rule"]["tp"] + first["rule"]["fp"] > 0
    code, again = run(tmp_path, *where, "--recordings", tmp_path / "out" / "recordings", out="again")
    assert code == 0
    assert {k: v for k, v in again.items() if k != "command"} == {k: v for k, v in first.items() if k != "command"}


@pytest.fixture
def samm(tmp_path):
    """SAMM Long Videos in small: two people, 1.5 s each at 200 fps; a row with an impossible apex."""
    book = openpyxl.Workbook()
    rows = [["header"]] * 9 + [
        [
            "Subject",
            "Filename",
            "Inducement Code",
            "Onset",
            "Apex",
            "Offset",
            "Duration",
            "Type",
            "Action Units",
            "Notes",
        ],
        ["006", "006_1_1", 1, 61, -1069, 141, 81, "Micro - 1/2", "4", None],
        ["007", "007_1_1", 1, 61, 100, 141, 81, "Macro", "12", None],
    ]
    for row in rows:
        book.active.append(row)
    root = tmp_path / "samm"
    root.mkdir()
    book.save(root / "SAMM_LongVideos_V3_Release.xlsx")
    for name in ("006_1", "007_1"):
        folder = root / "SAMM_longvideos" / name
        folder.mkdir(parents=True)
        for n in range(1, 301):
            # only what is read at 60 fps needs to be a face
            image = face_image(n / 200, raised_at(n / 200, 0.3), 240)
            cv2.imwrite(str(folder / f"{name}_{n:04d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return root


@pytest.mark.slow
def test_a_data_set_runs_leave_one_subject_out(samm, believer, tmp_path, capsys):
    where = ("--dataset", "samm-lv", "--root", samm, "--model", believer, "--runtime", "onnx")
    code, result = run(tmp_path, *where)
    assert code == 0
    assert result["material"] | {"minutes": 0, "me_free_minutes": 0} == {
        "videos": 2,
        "people": 2,
        "minutes": 0,
        "mes": 1,
        "me_free_videos": 1,
        "me_free_minutes": 0,
        "me_free_people": 1,
    }
    assert result["material"]["minutes"] == pytest.approx(2 * 1.5 / 60)
    assert set(result["threshold"]["of"]) == {"006", "007"}
    assert "apex -1070 lies outside" in result["notes"][0]
    assert "published are 147 videos" in capsys.readouterr().err
    recording = live.Recording.load(live.recording_path(tmp_path / "out" / "recordings", "006/006_1"))
    assert recording.frames == 90
    assert recording.faces


def test_an_image_folder_that_ends_in_a_broken_file_is_one_line(samm):
    frames = sorted((samm / "SAMM_longvideos" / "006_1").iterdir())[:2]
    frames[1].write_bytes(b"")
    source = live.FolderSource(Video("006", "006_1", 200.0, tuple(enumerate(frames))), 200.0)
    assert source.read().time_s == 0
    with pytest.raises(UserError, match="can't be read as an image"):
        source.read()


def test_a_video_without_frames_counts_its_mes_as_missed(believer):
    config = Config(offline=True, model=believer, runtime="onnx", threshold=0.1)
    recording = live.record_video(Video("a", "v", 30.0, ()), config, 60.0)
    assert count([judged(truth_video("v", "a", [me(1)]), recording.replay(TrackerConfig())).result]).fn == 1
