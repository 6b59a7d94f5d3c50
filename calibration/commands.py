"""The commands of `mestream calibrate`, each from its options to its answer."""

import argparse
import math
from dataclasses import asdict, replace
from typing import Any

from calibration import plots, visible
from calibration import probability as probabilities
from calibration import threshold as thresholds
from calibration.answer import Answer
from calibration.camera import measure
from calibration.law import fit_law
from calibration.look import follow, look, opened
from calibration.stretches import Stretch, from_bench, from_pools
from calibration.verdicts import GRADES, verdicts
from engine.evaluation.matching import VideoResult
from engine.evaluation.metrics import sweep
from engine.model import Model, load_model
from stream.config import Config
from stream.decide.baseline import CALIBRATING_S, BaselineLaw, State
from stream.decide.operating_point import VERSION, Fitted, OperatingPoint, fitted_fields, load
from stream.errors import UserError


def threshold(options: argparse.Namespace) -> Answer:
    """Fits an operating point on data, or looks one up in the table that was fitted for the weights."""
    model, asked = load_model(options.model), options.false_alarms_per_hour
    if options.pool or options.bench:
        return _fit(model, _stretches(options, model), _data(options), asked)
    path = model.directory / "operating_point.json"
    if not path.exists():
        raise UserError(f"{path} is missing and no data is given; add --pool DIR or --bench DIR of tuning people", 2)
    fitted = load(path, model.sha256)
    if not isinstance(fitted, Fitted):
        raise UserError(f"{path} is one person's baseline; put the model's operating point there, or add --pool DIR", 2)
    rate = asked or fitted.point.false_alarms_per_hour
    low = [p for p in (*fitted.table, fitted.point) if p.false_alarms_per_hour <= rate + 1e-9]
    if not low:
        least = min(p.false_alarms_per_hour for p in (*fitted.table, fitted.point))
        raise UserError(f"--false-alarms-per-hour {rate:g}: the data behind {path} backs {least:.3g} or more, not less")
    point = min(low, key=lambda p: p.threshold)
    chosen = Fitted(point, fitted.table, fitted.probability, fitted.baseline)
    record = _file("operating_point", model) | fitted_fields(chosen)
    return Answer(record, f"{point.words} without micro-expressions", lambda p: plots.rates(record["table"], point, p))


def _fit(model: Model, stretches: list[Stretch], data: str, asked: float | None) -> Answer:
    law, judged = fit_law(stretches)
    videos = [s.under(law) for s in stretches]
    found = thresholds.alarms(videos)
    if found.hours <= 0:
        raise UserError(f"{data}: holds no time without micro-expressions; give more of it")
    rate = asked or thresholds.default_rate(found)
    try:
        point = found.at_rate(rate)
    except ValueError as error:
        raise UserError(f"--false-alarms-per-hour {rate:g}: {error}; give more data or a higher rate") from None
    curve = probabilities.fit(probabilities.sample(videos))
    rows, own = thresholds.table(videos), thresholds.row(point, sweep(videos))
    if own["threshold"] not in [r["threshold"] for r in rows]:
        rows.append({"asked": rate, **own})
    table = tuple(OperatingPoint(*(r[k] for k in OperatingPoint.__dataclass_fields__)) for r in rows)
    fitted = Fitted(point, table, None if curve is None else curve.curve, law)
    record = _file("operating_point", model) | fitted_fields(fitted)
    record |= {
        "table": rows,
        "confidence": thresholds.CONFIDENCE,
        "source": data,
        "asked": rate,
        "by_source": _by_source([s.source for s in stretches], videos, point.threshold),
        "baseline_judged": judged,
        "recall": own["recall"],
        "f1": own["f1"],
        "ece": None if curve is None else {"before": curve.ece_before, "after": curve.ece_after},
    }
    lines = [f"{point.words} without micro-expressions"]
    lines += [
        f"  {row['source']}: {row['false_alarms_per_hour']:.1f} an hour, at most {row['upper_bound']:.1f}, "
        f"recall {row['recall']:.3f}"
        for row in record["by_source"]
    ]
    return Answer(record, "\n".join(lines), lambda p: plots.rates(rows, point, p))


def _by_source(sources: list[str], videos: list[VideoResult], threshold: float) -> list[dict[str, Any]]:
    """The figures of the point on each pool or bench separately. `sources` names the pool or bench of each video."""
    parts = []
    for source in dict.fromkeys(sources):
        own = [v for v, name in zip(videos, sources, strict=True) if name == source]
        if (found := thresholds.alarms(own)).hours > 0:
            parts.append({"source": source, **thresholds.row(found.point(threshold), sweep(own))})
    return parts


def probability(options: argparse.Namespace) -> Answer:
    """Fits the probability of a score, and reports the error before and after."""
    model = load_model(options.model)
    stretches = _stretches(options, model)
    law = _law(model)
    found = probabilities.fit(probabilities.sample([s.under(law) for s in stretches]))
    if found is None:
        raise UserError(f"{_data(options)}: too few intervals, right or wrong, to tell what a score means; add data")
    record = _file("probability", model) | {"source": _data(options)} | asdict(found)
    text = (
        f"{found.method}: expected calibration error {found.ece_before:.3f} before, {found.ece_after:.3f} after "
        f"(on groups not fitted on); {found.right} of {found.intervals} intervals right"
    )
    return Answer(record, text, lambda path: plots.reliability(found, path))


def camera(options: argparse.Namespace) -> Answer:
    """Looks through a camera and judges the result."""
    config = _config(options)
    with opened(config) as source:
        seen = look(source, config, options.seconds)
    found = measure(seen)
    crops = visible.on_grid(seen)
    motion = visible.motion_noise_px(crops)
    smallest = visible.smallest_px(motion)
    judged = verdicts(found, smallest)
    worst = max(judged, key=lambda v: GRADES.index(v.grade)).grade
    record = {
        "kind": "camera",
        "version": VERSION,
        "source": seen.info.name,
        "grade": worst,
        "smallest_me_px": smallest if math.isfinite(smallest) else None,
        "verdicts": [asdict(v) for v in judged],
        "measured": {k: v if v == v else None for k, v in asdict(found).items()},
    }
    width = max(len(v.item) for v in judged)
    lines = [f"{v.grade:4}  {v.item:{width}}  {v.says}" + (f"; {v.remedy}" if v.remedy else "") for v in judged]
    return Answer(
        record, "\n".join(lines), lambda path: plots.camera(seen, judged, crops[len(crops) // 2], motion, path)
    )


def baseline(options: argparse.Namespace) -> Answer:
    """Follows one person's noise floor, as the live program would, and stores it."""
    model, config = load_model(options.model), _config(options)
    with opened(config) as source:
        # The gain of 1 only switches the baseline on. It moves thresholds, which this command ignores.
        followed = follow(source, config, options.seconds, replace(_law(model), gain=1.0))
        name = source.info.name
    known = followed.baseline
    level, spread, where = (known.level, known.spread, known.conditions) if known else (None, None, None)
    if known is None or known.state is not State.WATCHING or level is None or spread is None or where is None:
        raise UserError(
            f"{name}: one face was seen without a change of light for {known.seconds if known else 0:.1f} s; "
            f"{CALIBRATING_S:g} s are needed"
        )
    shift = _law(model).shift(level)
    record = _file("baseline", model) | {
        "source": name,
        "level": round(level, 4),
        "spread": round(spread, 4),
        "seconds": round(known.seconds, 2),
        "conditions": {k: None if v is None else round(v, 2) for k, v in asdict(where).items()},
        "shift": round(shift, 4),
    }
    text = (
        f"{name}: quiet at log-odds {level:.2f} +- {spread:.2f} over {known.seconds:.0f} s; "
        f"this moves the threshold by {shift:+.2f} in log-odds"
    )
    return Answer(record, text, lambda path: plots.baseline(followed.trace, level, path))


def int8(options: argparse.Namespace) -> Answer:
    """Ranges for INT8 from pools of real crops, and the cost of INT8 in F1 on the tuning people."""
    from calibration import int8 as quantising
    from engine.export import load_network
    from engine.training.pools.pool import Pool

    model = load_model(options.model)
    net = load_network(model)
    seen = quantising.observe(net, Pool(options.data, model.spec), options.clips)
    tuning = Pool(options.pool or options.data, model.spec)
    chosen = quantising.choose(net, seen, quantising.judged_on(net, tuning, options.sequences))
    rows = quantising.rows(seen, chosen)
    record = _file("int8_ranges", model) | {
        "ranges": chosen.ranges,
        "way": chosen.way,
        "f1_float": round(chosen.f1_float, 4),
        "f1_int8": round(chosen.f1_int8, 4),
        "tried": dict(chosen.tried),
        "layers": rows,
        "source": ", ".join(path.resolve().name for path in options.data),
    }
    kept = [str(row["layer"]) for row in rows if row["precision"] == "float"]
    text = (
        f"{chosen.way}: F1 {chosen.f1_int8:.4f} in INT8, {chosen.f1_float:.4f} in floating point, on "
        f"{min(options.sequences, len(tuning))} sequences; {len(rows) - len(kept)} of {len(rows)} layers in INT8"
        + (f", not {', '.join(kept)}" if kept else "")
    )
    return Answer(record, text, lambda path: plots.ranges(seen, chosen, path))


def _config(options: argparse.Namespace) -> Config:
    """The live program's own settings. A file is read at full speed."""
    is_file = options.source is not None and "://" not in options.source
    return Config(
        camera=options.camera,
        source=options.source,
        offline=is_file,
        model=options.model,
        face_model=options.face_model,
        max_faces=1,
    )


def _law(model: Model) -> BaselineLaw:
    path = model.directory / "operating_point.json"
    fitted = load(path, model.sha256) if path.exists() else None
    return fitted.baseline if isinstance(fitted, Fitted) and fitted.baseline else BaselineLaw()


def _stretches(options: argparse.Namespace, model: Model) -> list[Stretch]:
    stretches = from_pools(options.pool, model) if options.pool else []
    if options.bench:
        stretches += from_bench(options.bench, model)
    if not stretches:
        raise UserError("no data: give --pool DIR or --bench DIR of tuning people", 2)
    return stretches


def _data(options: argparse.Namespace) -> str:
    return ", ".join(path.resolve().name for path in (*options.pool, *filter(None, [options.bench])))


def _file(kind: str, model: Model) -> dict[str, Any]:
    return {"kind": kind, "version": VERSION, "model_sha256": model.sha256}
