"""The sessions that a reviewer may open: one, or all in a folder. Data that was read is cached until its file grows."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sessions.coding import Coding, ConflictError, load_coding, save_coding
from stream.sessions.resolutions import Resolution, resolutions_of
from stream.sessions.session import Session, load_session, sessions_in

KEPT = 8


class Shelf:
    """Sessions by name, for use from several threads. Raises UserError unless `folder` is a session or holds one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._alone = (folder / "session.json").exists()
        if self._alone:
            load_session(folder)
        elif not any(folder.glob("*/session.json")):
            sessions_in(folder)  # raises UserError, which says what to do
        self._traces: dict[tuple[Path, int], dict[int, tuple[Resolution, ...]]] = {}
        self._tracks: dict[tuple[Path, int], NDArray[np.void]] = {}
        self._reading, self._writing = threading.Lock(), threading.Lock()

    def names(self) -> list[str]:
        """Returns the names that can be opened now. Their order is that of time."""
        if self._alone:
            return [self._folder.name]
        return sorted(path.parent.name for path in self._folder.glob("*/session.json"))

    def open(self, name: str) -> Session:
        """Returns one session as it is now. Raises UserError if there is none of this name, or if it can't be read."""
        if name not in self.names():
            raise UserError(f"there is no session {name} here any more; go back to the list")
        return load_session(self._folder if self._alone else self._folder / name)

    def trace(self, session: Session) -> dict[int, tuple[Resolution, ...]]:
        """Returns the score trace of every face at several resolutions, finest first."""
        key = _key(session.folder / "trace.bin")
        with self._reading:
            if key not in self._traces:
                _make_room(self._traces)
                self._traces[key] = resolutions_of(session.trace())
            return self._traces[key]

    def track(self, session: Session) -> NDArray[np.void]:
        """Returns the places of the face crops, TRACK[n], in order of time."""
        key = _key(session.folder / "track.bin")
        with self._reading:
            if key not in self._tracks:
                _make_room(self._tracks)
                track = session.track()
                self._tracks[key] = track[np.argsort(track["time_s"], kind="stable")]
            return self._tracks[key]

    def coding(self, session: Session, coder: str) -> Coding:
        """Returns a coder's coding so far, or an empty one. Raises UserError, ValueError."""
        new = Coding(coder, session.name)
        path = session.folder / "codings" / f"{coder}.json"
        if not path.exists():
            return new
        coding = load_coding(path)
        if (coding.session, coding.coder) != (session.name, coder):
            raise UserError(
                f"{path} is a coding of session {coding.session} by {coding.coder}; move it to where it belongs"
            )
        return coding

    def save(self, coding: Coding) -> Coding:
        """Store a coding. Returns it with its new revision. Raises ConflictError, UserError, OSError.

        A finished blind coding can't be changed, because its coder could have seen the others meanwhile.
        """
        session = self.open(coding.session)
        with self._writing:
            stored = self.coding(session, coding.coder)
            if stored.revision != coding.revision:
                raise ConflictError(f"{coding.coder}: revision {stored.revision}, not {coding.revision}")
            if stored.blind and stored.done:
                raise UserError("a blind coding that is done can't be changed; code under another name")
            if stored.revision:
                coding = replace(coding, blind=stored.blind)
            return save_coding(session.folder / "codings", coding)


def _key(path: Path) -> tuple[Path, int]:
    return path, path.stat().st_size if path.exists() else 0


def _make_room(cache: dict[tuple[Path, int], Any]) -> None:
    while len(cache) >= KEPT:
        del cache[next(iter(cache))]
