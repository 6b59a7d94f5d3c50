"""The review pages' part of the port: lists sessions, shows one, sends its video, stores codings. It uses no socket."""

import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from engine.spec import ModelSpec
from stream.errors import UserError
from stream.server.answers import Answer, QueryError, json_answer, text_answer
from stream.sessions.coding import Coding, ConflictError, coding_of, json_of
from stream.sessions.resolutions import fitting
from stream.sessions.session import Session
from stream.sessions.shelf import Shelf

CHUNK_BYTES = 1 << 20
"""The most that one answer carries of a video. A browser requests the rest."""
POINTS_MAX = 4000
TRACK_MAX = 4000
_RANGE = re.compile(r"bytes=(\d{1,15})?-(\d{1,15})?", re.ASCII)


class Reviews:
    """Answers the requests of the review pages. `alone`: the program shows nothing live."""

    def __init__(self, shelf: Shelf, *, alone: bool) -> None:
        self.alone = alone
        self._shelf = shelf

    def listed(self) -> Answer:
        """Returns all sessions, newest first. An unreadable one is listed with its error."""
        return json_answer({"sessions": [self._in_short(name) for name in reversed(self._shelf.names())]})

    def _in_short(self, name: str) -> dict[str, Any]:
        try:
            session = self._shelf.open(name)
            about, (_, ends_s) = session.about, self._span(session)
            return {
                "name": name,
                "source": about.source,
                "started": about.started,
                "duration_s": ends_s - about.starts_s,
                "complete": about.complete,
                "consent": about.consent,
                "intervals": len(session.intervals()),
                "coders": list(session.coders),
            }
        except (UserError, OSError, ValueError, KeyError, TypeError) as error:
            return {"name": name, "trouble": _one_line(error)}

    def session(self, name: str, part: str, query: Mapping[str, str]) -> Answer:
        """Returns one session or its `part`: "", "trace" or "track". Raises QueryError."""
        try:
            session = self._shelf.open(name)
            match part:
                case "":
                    return json_answer(self._whole(session, query.get("coder", ""), query.get("blind") == "1"))
                case "trace":
                    return json_answer(self._trace(session, query))
                case "track":
                    return json_answer(self._track(session, query))
        except QueryError:
            raise
        except (UserError, OSError, ValueError, KeyError, TypeError) as error:
            return json_answer({"trouble": _one_line(error)}, HTTPStatus.CONFLICT)
        return text_answer(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _whole(self, session: Session, coder: str, blind: bool) -> dict[str, Any]:
        about, (starts_s, ends_s) = session.about, self._span(session)
        mine = self._shelf.coding(session, coder) if coder else None
        if mine is not None and mine.revision == 0 and blind:
            mine = Coding(coder, session.name, blind=True)
        hidden = mine is not None and mine.blind and not mine.done
        trouble, others = self._others(session, coder) if not hidden else ([], [])
        return {
            "name": session.name,
            "source": about.source,
            "started": about.started,
            "starts_s": starts_s,
            "ends_s": ends_s,
            "complete": about.complete,
            "consent": about.consent,
            "dropped": about.dropped,
            "model": {"name": about.model_name, "fps": about.model_fps},
            "threshold": about.threshold,
            "false_alarms_per_hour": about.false_alarms_per_hour,
            "crop_px": ModelSpec().crop_px,
            "videos": [{"starts_s": v.starts_s, "name": v.path.name, "there": v.path.is_file()} for v in about.videos],
            "faces": sorted({*self._shelf.trace(session), *(one.face for one in session.intervals())}),
            "hidden": hidden,
            "intervals": [] if hidden else [asdict(one) for one in session.intervals()],
            "coding": None if mine is None else json_of(mine),
            "others": [json_of(other) for other in others],
            "trouble": trouble,
        }

    def _others(self, session: Session, coder: str) -> tuple[list[str], list[Coding]]:
        """Returns the other coders' codings, and the errors of unreadable ones."""
        trouble, others = [], []
        for name in session.coders:
            try:
                if name != coder:
                    others.append(self._shelf.coding(session, name))
            except (UserError, ValueError) as error:
                trouble.append(_one_line(error))
        return trouble, others

    def _span(self, session: Session) -> tuple[float, float]:
        """Returns the first and last moment of a session. One that was cut short ends with its last data."""
        about = session.about
        if about.ends_s is not None:
            return about.starts_s, max(about.ends_s, about.starts_s)
        ends = [float(r[0].time_s[-1]) for r in self._shelf.trace(session).values()]
        ends += [one.offset_s for one in session.intervals()]
        return about.starts_s, max([about.starts_s, *ends])

    def _trace(self, session: Session, query: Mapping[str, str]) -> dict[str, Any]:
        from_s, to_s, face = _number(query, "from"), _number(query, "to"), int(_number(query, "face"))
        points = min(max(int(_number(query, "points")), 1), POINTS_MAX)
        resolutions = self._shelf.trace(session).get(face)
        if resolutions is None:
            return {"time_s": [], "low": [], "high": [], "threshold": []}
        found = fitting(resolutions, from_s, to_s, points)
        return {
            "time_s": found.time_s.round(4).tolist(),
            **{name: _plain(getattr(found, name)) for name in ("low", "high", "threshold")},
        }

    def _track(self, session: Session, query: Mapping[str, str]) -> dict[str, Any]:
        from_s, to_s, face = _number(query, "from"), _number(query, "to"), int(_number(query, "face"))
        track = self._shelf.track(session)
        first, last = np.searchsorted(track["time_s"], [from_s, to_s])
        found = track[first:last]
        found = found[found["face"] == face][:TRACK_MAX]
        return {"time_s": found["time_s"].tolist(), "matrix": found["matrix"].reshape(-1, 6).round(4).tolist()}

    def video(self, name: str, number: int, range_header: str | None) -> Answer:
        """Returns a piece of a video: the bytes that `range_header` requests, at most CHUNK_BYTES."""
        try:
            path = self._shelf.open(name).about.videos[number].path
            size = path.stat().st_size
            first, last = _range(range_header, size)
            with path.open("rb") as file:
                file.seek(first)
                body = file.read(last - first + 1)
        except (UserError, IndexError):
            return text_answer(HTTPStatus.NOT_FOUND, "there is no such video")
        except OSError as error:
            return text_answer(HTTPStatus.NOT_FOUND, f"{path.name} can't be read: {error.strerror}")
        except QueryError as error:
            return text_answer(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, str(error), **{"Content-Range": f"bytes */{size}"}
            )
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {first}-{first + len(body) - 1}/{size}",
            "Cache-Control": "private, no-store",
        }
        return Answer(HTTPStatus.PARTIAL_CONTENT, _type_of(path), body, headers)

    def save(self, text: str | bytes) -> str:
        """Store a coding from a page. Returns the answer: `saved`, `conflict` with the stored coding, or `error`."""
        try:
            coding = coding_of(json.loads(text))
            return json.dumps({"type": "saved", "coding": json_of(self._shelf.save(coding))})
        except ConflictError:
            stored = self._shelf.coding(self._shelf.open(coding.session), coding.coder)
            return json.dumps({"type": "conflict", "coding": json_of(stored)})
        except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return json.dumps({"type": "error", "message": _one_line(error)})


def session_path(path: str) -> tuple[str, str]:
    """Returns name and part of a URL path /api/sessions/NAME[/PART]; ("", "") is the list. Raises QueryError."""
    name, _, part = path.removeprefix("/api/sessions").removeprefix("/").partition("/")
    try:
        return unquote(name, errors="strict"), part
    except UnicodeDecodeError:
        raise QueryError("the path can't be read") from None


def _number(query: Mapping[str, str], name: str) -> float:
    try:
        value = float(query[name])
    except (KeyError, ValueError):
        value = np.nan
    if not abs(value) < 1e12:
        raise QueryError(f"{name} must be a number")
    return value


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Returns the first and last byte to send of a file of `size` bytes. Raises QueryError if there are none."""
    asked = _RANGE.fullmatch(header or "")
    if asked is None or asked.groups() == (None, None):
        raise QueryError("ask for one range of bytes")
    first, last = (None if part is None else int(part) for part in asked.groups())
    if first is None:
        first, last = max(size - (last or 0), 0), size - 1  # that many bytes at the end
    if first >= size or (last is not None and last < first):
        raise QueryError(f"the video has {size} bytes")
    return first, min(size - 1 if last is None else last, size - 1, first + CHUNK_BYTES - 1)


def _type_of(path: Path) -> str:
    return {".mkv": "video/webm"}.get(path.suffix.lower(), mimetypes.guess_type(path.name)[0] or "video/mp4")


def _plain(values: Any) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def _one_line(error: Exception) -> str:
    known = isinstance(error, UserError | OSError | ValueError)
    return " ".join(str(error).split()) if known else f"a field is missing or of the wrong kind: {error}"
