"""Deletes a session: what `--record` and the coders made of it, and nothing else."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stream.errors import UserError
from stream.sessions.coding import NAME
from stream.sessions.session import Session

VIDEO = re.compile(r"video(-\d+)?(\.[^/]*)?")


def delete_session(session: Session) -> tuple[Path, ...]:
    """Remove the files of a session and its folder. Returns other things in the folder, which stay, in order.

    A video that the session only refers to stays. Links are neither followed nor removed. `session.json` goes last, so
    a partly deleted session is still a session. Raises UserError if a file can't be removed.
    """
    folder = session.folder
    if folder.is_symlink():
        raise UserError(f"{folder} is a link; delete the session where it lies")
    for path in _files(session):
        try:
            if path.is_file() and not path.is_symlink():
                path.unlink()
        except OSError as error:
            raise UserError(f"{path} can't be deleted ({error.strerror}); the session is still there in part") from None
    for place in (folder / "codings", folder):
        with suppress(OSError):  # the folder is a link or holds something else
            place.rmdir()
    return tuple(sorted(folder.rglob("*")))


def _files(session: Session) -> Iterator[Path]:
    folder, codings = session.folder, session.folder / "codings"
    inside = folder.resolve()
    for video in session.about.videos:
        if video.path.parent == inside and VIDEO.fullmatch(video.path.name):
            yield folder / video.path.name
    for name in ("video.part", "track.bin", "trace.bin", "events.jsonl"):
        yield folder / name
    if not codings.is_symlink():
        yield from (path for path in codings.glob("*.json") if NAME.fullmatch(path.stem))
        yield from codings.glob(".*.json.*.part")
    yield from folder.glob(".session.json.*.part")
    yield folder / "session.json"
