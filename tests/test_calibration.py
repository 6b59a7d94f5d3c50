"""Calibration's fits: the rate that a threshold stands for, what a score means, what a face's level is to do."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.optimize import isotonic_regression

from calibration import probability as probabilities
from calibration.__main__ import main
from calibration.law import fit_law
from calibration.probability import Sample
from calibration.stretches import Stretch
from calibration.threshold import Alarms, alarms, default_rate, table
from engine.evaluation.matching import Detection, Truth, VideoResult
from engine.mesnet import MESNet, MotionStem
from engine.model import Model, save_description
from engine.spec import ModelSpec
from engine.training.pools.pool import LENGTH, prepare, through_stem, write_shard
from stream.config import Config
from stream.decide.baseline import BaselineLaw
from stream.decide.odds import probability
from stream.decide.policy import policy_of

FPS = 30.0


def video(subject: str, hours: float, truths: list[Truth], detections: list[Detection]) -> VideoResult:
    return VideoResult(subject, "v", FPS, hours * 3600, tuple(truths), tuple(detections))


def ends(scores: list[float], first: int = 0) -> list[Detection]:
    """Detections of 10 frames, 100 frames apart."""
    return [Detection(first + 100 * i, first + 100 * i + 9, score) for i, score in enumerate(scores)]


# --- threshold -------------------------------------------------------------------------------------------------------


def test_an_alarm_is_what_overlaps_no_me_and_hours_are_without_mes():
    """A badly placed detection of an ME is no alarm; an ME's own seconds are not ME-free."""
    truths = [Truth(0, 29), Truth(100, 129)]
    v = video("a", 1.0, truths, [Detection(25, 60, 0.9), Detection(110, 119, 0.8), Detection(300, 309, 0.7)])
    found = alarms([v])
    assert found.scores.tolist() == [0.7]
    assert found.hours == pytest.approx(1 - 2 / 3600)


def test_the_lowest_threshold_that_keeps_the_rate():
    """Two hours and ten alarms an hour: of thirty alarms the twentieth passes, the next does not."""
    scores = [0.99 - 0.02 * i for i in range(30)]
    point = Alarms(np.array(scores), 2.0).at_rate(10)
    assert scores[20] < point.threshold <= scores[19]
    assert point.false_alarms_per_hour == 10
    assert point.upper_bound == pytest.approx(29.06 / 2, abs=0.01), "Garwood: 20 seen, 29.06 is the 95 % bound"
    assert point.hours == 2.0


def test_a_rate_that_the_hours_cannot_back_is_refused():
    """In 0.2 h no rate below 15 per hour shows: none at all would then be nothing unusual."""
    found = Alarms(np.array([0.9, 0.8]), 0.2)
    assert found.lowest_rate == pytest.approx(15)
    assert default_rate(found) == pytest.approx(15)
    with pytest.raises(ValueError, match="can back 15"):
        found.at_rate(10)
    assert default_rate(Alarms(np.empty(0), 5.0)) == 10


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.1, 0.999), max_size=40),
    st.floats(0.05, 20),
    st.floats(1, 400),
)
@example(scores=[0.5] * 4, hours=1.0, rate=3.0)  # all alike: none may pass
def test_no_threshold_lets_more_through_than_was_asked(scores, hours, rate):
    """And where alarms are left out, none that is noticeably lower would keep the rate too."""
    found = Alarms(np.sort(np.array(scores, float))[::-1], hours)
    if rate < found.lowest_rate:
        with pytest.raises(ValueError, match="can back"):
            found.at_rate(rate)
        return
    point = found.at_rate(rate)
    assert point.false_alarms_per_hour <= rate + 1e-9
    assert point.upper_bound > point.false_alarms_per_hour
    assert 0.1 <= point.threshold < 1
    left = [s for s in scores if s < point.threshold]
    if left:
        best = max(left)
        assert sum(s >= best for s in scores) / hours > rate or best < 0.1 or best > 0.9998


def test_the_bound_holds_on_hours_not_seen():
    """Chosen on two hours, the threshold's true rate is within the bound in about 95 % of 100 worlds."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        scores = rng.beta(1.5, 3, rng.poisson(60 * 2.0)) * 0.9 + 0.1
        point = Alarms(np.sort(scores)[::-1], 2.0).point(0.6)
        fresh = rng.beta(1.5, 3, 20_000) * 0.9 + 0.1
        inside += 60 * float((fresh >= 0.6).mean()) <= point.upper_bound
    assert inside / 100 >= 0.91


def test_the_table_says_what_is_found_at_each_rate():
    truths = [Truth(100 * i, 100 * i + 9) for i in range(20)]
    found = ends([0.5 + 0.02 * i for i in range(20)])
    noise = ends([0.1 + 0.004 * i for i in range(200)], first=50_000)
    rows = table([video("a", 2.0, truths, found + noise)])
    assert [r["asked"] for r in rows] == [120.0, 60.0, 30.0, 20.0, 10.0, 5.0, 2.0], "360 and 240 are asked for in vain"
    assert all(a["threshold"] <= b["threshold"] and a["recall"] >= b["recall"] for a, b in pairwise(rows))
    assert rows[0]["recall"] == 1


# --- a face's level --------------------------------------------------------------------------------------------------


def people(rng: np.random.Generator, lifted: float) -> list[Stretch]:
    """Twenty faces of three groups whose alarms' scores are lifted by `lifted` x their level, MEs' as much."""
    stretches = []
    for k in range(20):
        level = float(rng.normal(-5, 1.2))
        lift = lifted * (level + 5)
        alarm = [probability(x + lift) for x in rng.normal(-0.5, 1.0, 25)]
        me = [probability(x + lift) for x in rng.normal(2.0, 0.8, 10)]
        truths = [Truth(100_000 + 100 * i, 100_009 + 100 * i) for i in range(len(me))]
        result = video(f"group {k % 3}", 1.5, truths, ends(alarm) + ends(me, first=100_000))
        stretches.append(Stretch(result, (level,) * len(result.detections), level))
    return stretches


def test_a_law_is_found_where_levels_lift_scores():
    """It finds more at equal false alarms, and evens them out over faces."""
    stretches = people(np.random.default_rng(2), lifted=1.0)
    law, judged = fit_law(stretches)
    assert law.gain >= 0.5
    assert judged["recall_with_held_out"] > judged["recall_without"] + 0.02
    noisy = [s for s in stretches if s.levels[0] > -4.5]
    rate = alarms([s.under(BaselineLaw()) for s in stretches]).at_rate(10)
    moved = alarms([s.under(law) for s in stretches]).at_rate(10)
    before = alarms([s.under(BaselineLaw()) for s in noisy]).point(rate.threshold).false_alarms_per_hour
    after = alarms([s.under(law) for s in noisy]).point(moved.threshold).false_alarms_per_hour
    assert before > 1.3 * 10, "noisy faces paid for the others"
    assert after < before / 1.2


def test_no_law_is_made_of_levels_that_mean_nothing():
    """Where levels are luck, moving thresholds by them only hurts: the gain is 0."""
    law, _ = fit_law(people(np.random.default_rng(3), lifted=0.0))
    assert law.gain == 0


def test_an_unknown_level_moves_nothing():
    result = video("a", 1.0, [], ends([0.6]))
    assert Stretch(result, (None,)).under(BaselineLaw(1.0, -9.0)).detections[0].score == 0.6


# --- probability -----------------------------------------------------------------------------------------------------


def drawn(slope: float, shift: float, count: int = 1500, seed: int = 4) -> Sample:
    """Intervals whose chance to be right is a known function of their score."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, count)
    right = rng.random(count) < 1 / (1 + np.exp(-(slope * odds + shift)))
    return Sample(odds, right, np.array([f"person {k % 6}" for k in range(count)]))


def test_a_boastful_score_is_brought_down_to_the_truth():
    found = probabilities.fit(drawn(slope=0.6, shift=-1.5))
    assert found is not None
    assert found.method in ("platt", "isotonic")
    assert found.ece_before > 0.15
    assert found.ece_after < 0.04
    for odds in (-2.0, 0.0, 2.0):
        assert found.curve(odds) == pytest.approx(probability(0.6 * odds - 1.5), abs=0.06)


def test_a_score_that_is_a_probability_stays_about_what_it_is():
    found = probabilities.fit(drawn(slope=1.0, shift=0.0))
    assert found is not None
    for odds in (-2.0, 0.0, 2.0):
        assert found.curve(odds) == pytest.approx(probability(odds), abs=0.06)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=2, max_size=60))
@example([(0.0, False), (0.0078125, True)])  # parted by a hair: a map as steep as can be
@example([(1.0, False), (2.2250738585072014e-308, True), (-0.640625, False)])
def test_every_map_rises_and_stays_a_probability(pairs):
    odds, right = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    for method, make in probabilities.METHODS.items():
        curve = make(odds, right)
        values = [curve(x) for x in np.linspace(-9, 9, 37)]
        assert all(0 <= a <= b <= 1 for a, b in pairwise(values)), method


def test_a_map_by_steps_has_two_knots_a_step():
    """However many intervals it rests on, the file stays small; and every score gets what the nearest steps give it."""
    data = drawn(slope=1.0, shift=0.0)
    curve = probabilities.isotonic(data.odds, data.right)
    order = np.argsort(data.odds)
    steps = isotonic_regression(data.right[order].astype(float)).x.clip(probabilities.EDGE, 1 - probabilities.EDGE)
    assert [curve(x) for x in data.odds[order]] == pytest.approx(steps)
    assert len(curve.scores) <= 2 * len(np.unique(steps)) < 200


@pytest.mark.parametrize("right", [0, 1])
def test_too_little_to_say_is_said(right):
    """One hit, or one person alone, makes no probability."""
    few = Sample(np.arange(5.0), np.arange(5) < right, np.array(["a", "b"] * 2 + ["a"]))
    assert probabilities.fit(few) is None
    alone = drawn(1, 0, 50)
    assert probabilities.fit(replace(alone, groups=np.array(["a"] * 50))) is None


def test_expected_error_of_a_coin_that_is_called_certain():
    bins = probabilities.reliability(np.full(1000, 9.0), np.arange(1000) % 2 == 0)
    assert probabilities.expected_error(bins) == pytest.approx(0.5, abs=0.01)


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Weights, without graphs, that take about anything for an ME."""
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    net = MESNet(ModelSpec())
    with torch.no_grad():
        net.crn.classify.weight.mul_(0.1)
        net.crn.classify.bias.copy_(torch.eye(1, 6)[0] * 2.5)
        net.cpn.conv.bias.copy_(torch.tensor([3.0, 0, 0]).repeat_interleave(4))
    save_file(net.state_dict(), directory / "mesnet.safetensors")
    return save_description(directory, ModelSpec())


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, moving_crops) -> Path:
    """Three shards of one sequence each, an ME in every one."""
    folder, spec = tmp_path_factory.mktemp("pool"), ModelSpec()
    prepare(folder, spec)
    for number in range(3):
        rows = through_stem(MotionStem(spec), moving_crops(LENGTH + max(spec.lags), spec.crop_px, number), spec)
        truth = np.zeros((24, 9), np.float32)
        truth[:, 0] = -2
        truth[0, :4] = 0, 40 + number, 46, 53
        write_shard(folder, number, [rows], [truth])
    return folder


@pytest.mark.slow
def test_threshold_writes_what_the_live_program_reads(tmp_path, eager, pool, capsys):
    """Fit, look up again, run: one file all the way; JSON on stdout is the file; the picture is there."""
    out, plot = tmp_path / "point.json", tmp_path / "rates.png"
    arguments = ["threshold", "--model", eager.directory, "--pool", pool, "--false-alarms-per-hour", 3000]
    assert main([*map(str, arguments), "--json", "--out", str(out), "--plot", str(plot)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(out.read_text())
    assert said["false_alarms_per_hour"] <= 3000
    assert said["hours"] == pytest.approx(3 * (LENGTH - 13) / 30 / 3600, rel=0.05)
    assert plot.stat().st_size > 1000
    decided = policy_of(Config(calibration=out), eager, "camera:0")
    assert decided.tracker.threshold == pytest.approx(said["threshold"])
    assert decided.point is not None
    assert decided.point.upper_bound == pytest.approx(said["upper_bound"])


def test_a_baseline_in_the_operating_points_place_is_one_line(tmp_path, full_model, capsys):
    """Somebody kept what `calibration baseline` wrote under the name that the table of rates has."""
    home = shutil.copytree(full_model.directory, tmp_path / "model")
    about = {"kind": "baseline", "version": 1, "model_sha256": full_model.sha256, "source": "camera:0", "level": -4.0}
    about |= {"spread": 0.5, "seconds": 42.0, "conditions": {"light": 110, "face_px": 180, "fps": None}}
    (home / "operating_point.json").write_text(json.dumps(about))
    assert main(["threshold", "--model", str(home)]) == 2
    assert "operating_point.json is one person's baseline" in capsys.readouterr().err


@pytest.mark.slow
def test_a_point_is_also_told_of_every_pool_by_itself(tmp_path, eager, pool, capsys):
    """A rate is one of the people that it was counted on: alarms and hours of the parts are those of the whole."""
    other = shutil.copytree(pool, tmp_path / "other")
    for file in other.glob("000002*"):
        file.unlink()
    pools = ["--pool", str(pool), str(other)]
    arguments = ["threshold", "--model", str(eager.directory), "--false-alarms-per-hour", "2000", *pools]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    parts = said["by_source"]
    assert [part["source"] for part in parts] == [pool.name, "other"]
    assert parts[0]["hours"] == pytest.approx(parts[1]["hours"] * 3 / 2, abs=2e-4)
    assert sum(part["hours"] for part in parts) == pytest.approx(said["hours"], abs=2e-4)
    alarms = [part["false_alarms_per_hour"] * part["hours"] for part in parts]
    assert sum(alarms) == pytest.approx(said["false_alarms_per_hour"] * said["hours"], rel=0.05)
    assert sum(alarms) > 0
    assert main(arguments) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [f"  {pool.name}", "  other"]


def test_asking_for_less_than_the_data_can_back_is_one_line(eager, pool, capsys):
    assert (
        main(["threshold", "--model", str(eager.directory), "--pool", str(pool), "--false-alarms-per-hour", "1"]) == 1
    )
    err = capsys.readouterr().err
    assert err.startswith("calibration: --false-alarms-per-hour 1: ")
    assert "can back" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["threshold", "--false-alarms-per-hour", "0"], 2, "0 is not a positive number"),
        (["threshold", "--pool", "/nowhere"], 2, "holds no pool"),
        (["threshold"], 2, "no data is given"),
        (["probability"], 2, "no data"),
        (["baseline", "--source", "/nowhere.mp4"], 2, "/nowhere.mp4"),
        (["baseline"], 2, "--camera --source"),
        (["camera", "--camera", "0", "--source", "x"], 2, "not allowed with"),
        (["camera", "--source", "/nowhere.mp4"], 2, "/nowhere.mp4"),
        (["camera", "--source", "x.mp4", "--seconds", "-1"], 2, "-1 is not a positive number"),
        (["threshold", "--out", "/nowhere/x.json"], 2, "no folder /nowhere"),
        (["fly"], 2, "invalid choice"),
    ],
)
def test_bad_input_is_one_line(eager, capsys, arguments, code, says):
    given = [*arguments, "--model", str(eager.directory)] if arguments[0] != "fly" else arguments
    assert main(given) in (code, 1 if "/nowhere.mp4" in says else code)
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
