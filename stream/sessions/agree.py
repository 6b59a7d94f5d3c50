"""`mestream agree SESSION...`: compares coders with each other and with the machine, as a table or as JSON."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from stream.errors import UserError
from stream.sessions.agreement import Agreement, Rated, Shared, compare
from stream.sessions.coding import Coding
from stream.sessions.rows import MACHINE
from stream.sessions.session import Session, load_session
from stream.sources.media_clock import LONG_GAP_S
from stream.text import printable

PIPE_CELLS = 160
"""Width of the tables if there is no terminal."""


def main(argv: Sequence[str]) -> int:
    """Print the agreement of all raters. Raises UserError if there is nothing to compare."""
    parser = argparse.ArgumentParser(
        prog="mestream agree", description="Agreement of coders with each other and with the machine."
    )
    parser.add_argument("sessions", nargs="+", type=Path, metavar="SESSION", help="a session folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    folders = {folder.resolve(): folder for folder in args.sessions}  # a session that is named twice counts once
    sessions = [load_session(folder) for folder in folders.values()]
    found = agreements(sessions)
    if not found:
        raise UserError("no coding in these sessions; code them in the review page, or use mestream import", 2)
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        console = Console(width=None if sys.stdout.isatty() else PIPE_CELLS)
        with console.capture() as drawn:
            _show(found, console)
        print(drawn.get(), end="")  # rich would end the program if the output were closed
        for line in _remarks(sessions):
            print(printable(line))
    return 0


def agreements(sessions: Iterable[Session]) -> list[Agreement]:
    """Returns the agreement of every two raters that share a session: coders in order of their names, the
    machine last.
    """
    shared: dict[tuple[str, str], list[Shared]] = {}
    for session in sessions:
        seen = watched(session)
        rated = {coding.coder: _coded(coding, session) for coding in session.codings()}
        raters = [*sorted(rated), MACHINE]
        rated[MACHINE] = _found(session)
        for first, second in combinations(raters, 2):
            shared.setdefault((first, second), []).append(Shared(rated[first], rated[second], seen))
    return [compare(first, second, parts) for (first, second), parts in sorted(shared.items(), key=_machine_last)]


def watched(session: Session) -> dict[int, NDArray[np.int64]]:
    """Returns, by face, the frames on which it was seen. Pauses between crops of up to LONG_GAP_S are filled. Frames
    are at model_fps.

    A session without a stored track counts as watched from start to end, for each face that the machine scored.
    """
    fps, track = session.about.model_fps, session.track()
    if track.size:
        return {int(face): _seen(track["time_s"][track["face"] == face], fps) for face in np.unique(track["face"])}
    trace = session.trace()
    times = [*trace["time_s"].tolist(), *(i.offset_s for i in session.intervals())]
    ends_s = session.about.ends_s if session.about.ends_s is not None else max(times, default=session.about.starts_s)
    faces = {*np.unique(trace["face"]).tolist(), *(i.face for i in session.intervals())}
    frames = np.arange(round(session.about.starts_s * fps), round(ends_s * fps) + 1, dtype=np.int64)
    return dict.fromkeys(faces, frames)


def _seen(times_s: NDArray[np.float64], fps: float) -> NDArray[np.int64]:
    times_s = np.sort(times_s)
    spans = np.split(times_s, np.flatnonzero(np.diff(times_s) > LONG_GAP_S) + 1)
    frames = [np.arange(round(s[0] * fps), round(s[-1] * fps) + 1, dtype=np.int64) for s in spans]
    return np.unique(np.concatenate(frames))


def _coded(coding: Coding, session: Session) -> tuple[Rated, ...]:
    fps = session.about.model_fps
    return tuple(
        Rated(m.face, m.onset_s, m.offset_s, fps, frozenset(unit.number for unit in m.units)) for m in coding.real
    )


def _found(session: Session) -> tuple[Rated, ...]:
    return tuple(Rated(i.face, i.onset_s, i.offset_s, session.about.model_fps) for i in session.intervals())


def _machine_last(item: tuple[tuple[str, str], list[Shared]]) -> tuple[bool, tuple[str, str]]:
    return item[0][1] == MACHINE, item[0]


def _show(found: Iterable[Agreement], console: Console) -> None:
    table = Table("raters", "sessions", "events", "matched", "F1", "frames agree", "kappa", "ICC onset", "ICC offset",
                  "onset error", "offset error")  # fmt: skip
    for one in found:
        table.add_row(
            f"{one.first} / {one.second}", str(one.sessions), f"{one.first_events} / {one.second_events}",
            str(one.matched), _number(one.f1), "-" if one.percent is None else f"{one.percent:.2f} %",
            _number(one.kappa), _number(one.icc_onset), _number(one.icc_offset), _ms(one.onset_error_s),
            _ms(one.offset_error_s),
        )  # fmt: skip
    console.print(table)
    for one in found:
        if one.units:
            units = Table("action unit", "both", f"only {one.first}", f"only {one.second}", "neither",
                          title=f"{one.first} / {one.second}")  # fmt: skip
            for u in one.units:
                units.add_row(*map(str, (u.unit, u.both, u.only_first, u.only_second, u.neither)))
            console.print(units)


def _remarks(sessions: Iterable[Session]) -> Iterable[str]:
    for session in sessions:
        for coding in session.codings():
            if not coding.done:
                yield f"{session.name}: {coding.coder} has not finished; what is not marked counts as not seen"
            if not coding.blind:
                yield f"{session.name}: {coding.coder} saw the machine's intervals, so agreement with it is biased"


def _number(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"
