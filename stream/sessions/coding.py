"""One coder's view of a session: verdicts on the machine's intervals, and intervals of their own.

A coding is one file of its session, `codings/NAME.json`. A new version is written completely beside the old one and
then replaces it, so the file is never incomplete. `revision` counts the writes. A writer names the revision that they
read, and is refused if somebody else has written since.
"""

import json
import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from stream.errors import UserError
from stream.files import whole

VERSION = 1
NAME = re.compile(r"[\w][\w .-]{0,63}", re.ASCII)
REASONS = ("blink", "speech", "head", "expression", "nothing")
SIDES = ("left", "right", "both")
INTENSITIES = ("", "A", "B", "C", "D", "E")


class Verdict(StrEnum):
    """A coder's judgement of an interval. `added`: the machine did not report it."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """A FACS action unit: its number, the side of the face, and the intensity A to E ("" if it was not coded)."""

    number: int
    side: str = "both"
    intensity: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.number < 100 and self.side in SIDES and self.intensity in INTENSITIES):
            raise ValueError(f"AU{self.number} {self.side} {self.intensity}: no such action unit")


@dataclass(frozen=True, slots=True)
class Mark:
    """One interval as a coder sees it. Times are seconds on the session's source clock, onset_s <= apex_s <= offset_s.

    `id`: that of the machine's interval, or its own if `verdict` is `added`. `reason`: an entry of REASONS for a
    rejected interval.
    """

    id: str
    face: int
    onset_s: float
    apex_s: float | None
    offset_s: float
    verdict: Verdict
    reason: str | None = None
    units: tuple[ActionUnit, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        apex_s = self.onset_s if self.apex_s is None else self.apex_s
        if not self.onset_s <= apex_s <= self.offset_s < float("inf"):
            raise ValueError(f"mark {self.id}: onset {self.onset_s}, apex {self.apex_s}, offset {self.offset_s}")
        if (self.reason is not None) != (self.verdict is Verdict.REJECTED) or self.reason not in (None, *REASONS):
            raise ValueError(f"mark {self.id}: {self.verdict} for reason {self.reason}")


@dataclass(frozen=True, slots=True)
class Coding:
    """One coder's complete coding of one session. `blind`: made without seeing the machine's intervals or
    other coders.
    """

    coder: str
    session: str
    marks: tuple[Mark, ...] = ()
    blind: bool = False
    done: bool = False
    revision: int = 0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.coder):
            raise ValueError(f"coder {self.coder!r}: use 1 to 64 letters, digits, spaces, dots, dashes")

    @property
    def real(self) -> tuple[Mark, ...]:
        """The intervals that this coder considers micro-expressions."""
        return tuple(mark for mark in self.marks if mark.verdict is not Verdict.REJECTED)


class ConflictError(Exception):
    """Somebody else has written this coding since it was read."""


def load_coding(path: Path) -> Coding:
    """Read one coding. Raises UserError that names the file."""
    try:
        return coding_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is not a coding ({error}); set it aside, or make it again in the review page"
        ) from None


def coding_of(message: dict[str, Any]) -> Coding:
    """Builds a coding from its JSON form. Raises ValueError, KeyError or TypeError if the form is invalid."""
    if message["version"] != VERSION:
        raise ValueError(f"version {message['version']}, this program reads {VERSION}")
    marks = tuple(
        Mark(
            id=str(m["id"]),
            face=int(m["face"]),
            onset_s=float(m["onset_s"]),
            apex_s=None if m["apex_s"] is None else float(m["apex_s"]),
            offset_s=float(m["offset_s"]),
            verdict=Verdict(m["verdict"]),
            reason=m.get("reason"),
            units=tuple(ActionUnit(int(u["number"]), u["side"], u["intensity"]) for u in m.get("units", ())),
            note=str(m.get("note", "")),
        )
        for m in message["marks"]
    )
    return Coding(
        message["coder"],
        message["session"],
        marks,
        bool(message["blind"]),
        bool(message["done"]),
        int(message["revision"]),
    )


def json_of(coding: Coding) -> dict[str, Any]:
    """Returns the JSON form that `coding_of` reads."""
    return {"version": VERSION, **asdict(coding)}


def save_coding(folder: Path, coding: Coding) -> Coding:
    """Write a coding into `folder`. Returns it with its new revision.

    Raises ConflictError unless `coding.revision` is the one on disk (0: there is none), and OSError if the disk is
    full.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{coding.coder}.json"
    stored = load_coding(path).revision if path.exists() else 0
    if stored != coding.revision:
        raise ConflictError(f"{path.name} is at revision {stored}, not {coding.revision}")
    written = replace(coding, revision=stored + 1)
    whole.replace(path, json.dumps(json_of(written), indent=1).encode())
    return written
