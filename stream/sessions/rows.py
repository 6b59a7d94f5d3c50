"""The rows that an export writes and an import reads: intervals in the time of their video, whoever marked them."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from stream.errors import UserError
from stream.sessions.coding import ActionUnit, Coding, Mark, Verdict
from stream.sessions.session import Session, VideoFile

log = logging.getLogger("stream")

MACHINE = "(machine)"
"""The machine's name among the raters. No coder can have this name."""
UNIT = re.compile(r"(?:AU)?([LR]?)(\d{1,2})([A-E]?)", re.IGNORECASE)
LETTER_OF = {"left": "L", "right": "R", "both": ""}
SIDE_OF = {letter: side for side, letter in LETTER_OF.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """One interval. Times are seconds of the file `video`, whose first frame is 0.

    `rater`: a coder's name or MACHINE; "" if a file names none. `face`: 0 if a file names none. `mark.id` may be "" in
    a file made elsewhere. `score` and `regions`: only for the machine's intervals.
    """

    video: str
    rater: str
    mark: Mark
    score: float | None = None
    regions: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`accepted`, `added`, `rejected: REASON`, or "" for the machine, which judges nothing."""
        if self.rater == MACHINE:
            return ""
        return f"{self.mark.verdict}: {self.mark.reason}" if self.mark.reason else str(self.mark.verdict)

    @property
    def label(self) -> str:
        """Everything about the interval in one line, for people to read."""
        score = "" if self.score is None else f"{self.score:.2f}"
        parts = (self.verdict, score, units_text(self.mark.units), " ".join(self.mark.note.split()))
        return " | ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class VideoRows:
    """All intervals of one session that begin in one video.

    `started`: wall clock of its time 0. `fps`: rate of the model's frames.
    """

    session: str
    video: VideoFile
    started: str
    duration_s: float
    fps: float
    rows: tuple[Row, ...]

    @property
    def clocks(self) -> str:
        """Explains in one sentence how the video's clock relates to the others."""
        return f"Time 0 of {self.video.path.name} is {self.video.starts_s:.6f} s on the source's clock, {self.started}."


def rows_of(session: Session, coder: str | None = None) -> tuple[VideoRows, ...]:
    """Returns the intervals of the machine and of all coders (or of one), video by video, in order of onset.

    An interval belongs to the video that shows its onset. Its offset may be after the end of that video. Intervals that
    begin before the first video are left out, and the log says so. Raises UserError if `coder` has not coded the
    session.
    """
    codings = {coding.coder: coding for coding in session.codings()}
    if coder is not None and coder not in codings:
        raise UserError(f"{session.name} has no coding by {coder!r}; it has: {', '.join(codings) or 'none'}", 2)
    about = session.about
    videos = about.videos or (VideoFile(session.folder, about.starts_s),)
    rows: dict[VideoFile, list[Row]] = {video: [] for video in videos}
    for rater, mark, score, regions in _marks(session, [c for c in codings.values() if coder in (None, c.coder)]):
        begun = [video for video in videos if video.starts_s <= mark.onset_s + 1e-6]
        if begun:
            video = begun[-1]
            rows[video].append(Row(video.path.name, rater, shifted(mark, -video.starts_s), score, regions))
        else:
            log.warning("%s %s at %.3f s begins before the video; left out", rater, mark.id, mark.onset_s)
    ends = [*(video.starts_s for video in videos[1:]), _end_s(session)]
    return tuple(
        VideoRows(
            session.name,
            video,
            _wall(about.started, video.starts_s - about.starts_s),
            max([end - video.starts_s, 0.001, *(row.mark.offset_s for row in rows[video])]),
            about.model_fps,
            tuple(sorted(rows[video], key=lambda row: (row.mark.onset_s, row.rater, row.mark.id))),
        )
        for video, end in zip(videos, ends, strict=True)
    )


def shifted(mark: Mark, by_s: float) -> Mark:
    """Returns the mark on another clock, to the microsecond."""
    apex_s = None if mark.apex_s is None else _moved(mark.apex_s, by_s)
    return replace(mark, onset_s=_moved(mark.onset_s, by_s), apex_s=apex_s, offset_s=_moved(mark.offset_s, by_s))


def lanes(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Sorts rows into tiers without overlaps: `RATER:FACE`, then `RATER:FACE:2` and so on for rows that overlap."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        lane, name = 1, f"{row.rater}:{row.mark.face}"
        while name in found and found[name][-1].mark.offset_s + 0.001 > row.mark.onset_s:
            lane += 1
            name = f"{row.rater}:{row.mark.face}:{lane}"
        found.setdefault(name, []).append(row)
    return found


def rater_and_face(lane: str) -> tuple[str, int]:
    """Returns rater and face of a tier that `lanes` named; ("", 0) for any other name."""
    named = re.fullmatch(r"([^:]+):(\d+)(?::\d+)?", lane)
    return (named[1], int(named[2])) if named else ("", 0)


def units_text(units: Sequence[ActionUnit]) -> str:
    """Returns action units as FACS writes them: `4B+L12C`."""
    return "+".join(f"{LETTER_OF[unit.side]}{unit.number}{unit.intensity}" for unit in units)


def units_in(text: str) -> tuple[ActionUnit, ...]:
    """The reverse of `units_text`; it also reads `AU4 + AU12`. Raises ValueError for anything else."""
    units = []
    for word in text.split("+") if text.strip() else ():
        unit = UNIT.fullmatch(word.strip())
        if unit is None:
            raise ValueError(f"{text!r} is not a list of action units such as 4B+L12C")
        units.append(ActionUnit(int(unit[2]), SIDE_OF[unit[1].upper()], unit[3].upper()))
    return tuple(units)


def mark_in(id: str, face: int, times_s: tuple[float, float | None, float], text: str, **rest: str) -> Mark:
    """Returns the mark in a file. `text` is a verdict as `Row.verdict` writes it, or what a coder wrote elsewhere.

    Any other text is read as action units, or else as the note. `rest`: `units` and `note` if the file has them
    separately. Raises ValueError if the mark is invalid.
    """
    if not all(math.isfinite(time) and time >= 0 for time in times_s if time is not None):
        raise ValueError(f"times {times_s} are not seconds of a video")
    word, _, reason = (part.strip() for part in text.partition(":"))
    units, note = units_in(rest.get("units", "")), rest.get("note", "")
    verdict = Verdict.ADDED
    if word in tuple(Verdict):
        verdict = Verdict(word)
    elif text.strip():
        reason = ""
        try:
            units += units_in(text)
        except ValueError:
            note = f"{text}\n{note}" if note else text
    return Mark(id, face, *times_s, verdict, reason or None, units, note)


def _marks(session: Session, codings: Iterable[Coding]) -> Iterator[tuple[str, Mark, float | None, dict[str, float]]]:
    for one in session.intervals():
        mark = Mark(one.id, one.face, one.onset_s, one.apex_s, one.offset_s, Verdict.ADDED)
        yield MACHINE, mark, one.score, one.regions
    for coding in codings:
        for mark in coding.marks:
            yield coding.coder, mark, None, {}


def _moved(time_s: float, by_s: float) -> float:
    return max(0.0, round(time_s + by_s, 6))


def _end_s(session: Session) -> float:
    trace = session.trace()
    known = [session.about.ends_s, float(trace["time_s"][-1]) if trace.size else None, session.about.starts_s]
    return next(time for time in known if time is not None)


def _wall(started: str, later_s: float) -> str:
    return (datetime.fromisoformat(started) + timedelta(seconds=later_s)).isoformat(timespec="microseconds")
