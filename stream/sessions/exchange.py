"""`mestream export SESSION --to FORMAT --out PATH` and `mestream import SESSION FILE`."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from engine.paths import clash
from stream.errors import UserError
from stream.files.private import make_private_dir, open_private
from stream.sessions.coding import Coding, ConflictError, Mark, Verdict, save_coding
from stream.sessions.formats import WRITERS, reader
from stream.sessions.rows import MACHINE, Row, rows_of, shifted
from stream.sessions.session import Session, VideoFile, load_session


def main(argv: Sequence[str]) -> int:
    """Run one of the two commands; `argv` begins with its name. Raises UserError."""
    parser = argparse.ArgumentParser(prog="mestream", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("export", help="intervals of a session for other programs", allow_abbrev=False)
    out.add_argument("session", type=Path, metavar="SESSION")
    out.add_argument("--to", required=True, choices=WRITERS, metavar="FORMAT", help=", ".join(WRITERS))
    out.add_argument("--out", required=True, type=Path, metavar="PATH", help="a file; for bids, a folder")
    out.add_argument("--coder", metavar="NAME", help="this coder's intervals and the machine's (all coders)")
    out.add_argument("--force", action="store_true", help="overwrite what is there")
    back = commands.add_parser("import", help="a coding made in ELAN, BORIS or a table", allow_abbrev=False)
    back.add_argument("session", type=Path, metavar="SESSION")
    back.add_argument("file", type=Path, metavar="FILE")
    back.add_argument("--coder", metavar="NAME", help="who made the coding (who the file names)")
    back.add_argument("--blind", action="store_true", help="the coder did not see the machine's intervals")
    back.add_argument("--force", action="store_true", help="replace the coding that this coder has already")
    args = parser.parse_args(argv)
    session = load_session(args.session)
    if args.command == "export":
        for path in export(session, args.to, args.out, args.coder, args.force):
            print(path)
    else:
        coding = coding_from(session, args.file, args.coder, args.blind)
        _save(session, coding, args.force)
        print(f"{coding.coder}: {len(coding.marks)} intervals")
    return 0


def export(session: Session, to: str, out: Path, coder: str | None = None, force: bool = False) -> list[Path]:
    """Write a session in the format `to`. Returns the files. Raises UserError before anything is written."""
    texts = WRITERS[to](rows_of(session, coder), out)
    _check(texts.keys(), session, force)
    try:
        for path, text in texts.items():
            make_private_dir(path.parent)
            with open_private(path, "wb") as file:
                file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"{error.filename or out} can't be written ({error.strerror})") from None
    return list(texts)


def _check(paths: Collection[Path], session: Session, force: bool) -> None:
    inputs = [("the session", session.folder), *(("its video", video.path) for video in session.about.videos)]
    if why := clash([("--out", path) for path in paths], inputs):
        raise UserError(why, 2)
    for path in paths:
        if path.is_dir():
            raise UserError(f"--out {path} is a folder; name a file in it", 2)
        if path.exists() and not force:
            raise UserError(f"--out {path} exists already; add --force to overwrite it, or give another path", 2)


def coding_from(session: Session, file: Path, coder: str | None = None, blind: bool = False) -> Coding:
    """Returns the coding in a file, which is not stored yet. Raises UserError that says what is wrong with the file."""
    try:
        rows = [row for row in reader(file)(file) if row.rater != MACHINE]
    except OSError as error:
        raise UserError(f"{file} can't be read ({error.strerror})", 2) from None
    except (ValueError, KeyError) as error:
        raise UserError(f"{file} can't be read as a coding: {error}", 2) from None
    rater = _rater(file, {row.rater for row in rows}, coder)
    try:
        marks = [_mark(session, row, f"{file.stem}-{n}") for n, row in enumerate(rows, 1) if row.rater == rater]
        return Coding(coder or rater, session.name, tuple(marks), blind=blind, done=True)
    except ValueError as error:
        raise UserError(f"{file}: {error}", 2) from None


def _rater(file: Path, raters: set[str], coder: str | None) -> str:
    """Returns the rater whose rows to use: the coder, or else the file's only rater, whose name may differ."""
    if coder is None and raters <= {""}:
        raise UserError(f"{file} does not name its coder; add --coder NAME", 2)
    if coder in raters or not raters:
        return coder or ""
    if len(raters) > 1:
        raise UserError(f"{file} holds codings by {', '.join(sorted(raters))}; choose one by --coder", 2)
    return raters.pop()


def _mark(session: Session, row: Row, id: str) -> Mark:
    """Returns the row on the source's clock. Raises ValueError if it does not fit the session."""
    mark = replace(row.mark, id=row.mark.id or id, face=row.mark.face or _only_face(session))
    if mark.verdict is not Verdict.ADDED and mark.id not in {one.id for one in session.intervals()}:
        raise ValueError(f"{mark.id} is {mark.verdict}, but the session has no such interval: is it of another video?")
    return shifted(mark, _video(session, row.video).starts_s)


def _only_face(session: Session) -> int:
    faces = {int(face) for face in session.trace()["face"]} | {one.face for one in session.intervals()}
    if len(faces) > 1:
        raise ValueError(f"it does not say which of {len(faces)} faces; name tiers or subjects CODER:FACE")
    return faces.pop() if faces else 1


def _video(session: Session, name: str) -> VideoFile:
    videos = session.about.videos or (VideoFile(session.folder, session.about.starts_s),)
    named = [video for video in videos if video.path.name == name]
    if named or len(videos) == 1:
        return (named or list(videos))[0]
    names = ", ".join(video.path.name for video in videos)
    raise ValueError(f"it does not say of which video it is ({names}); a table needs a column `video`")


def _save(session: Session, coding: Coding, force: bool) -> None:
    stored = next((one for one in session.codings() if one.coder == coding.coder), None)
    if stored is not None and not force:
        raise UserError(f"{session.name} has a coding by {coding.coder} already; give another name by --coder, "
                        "or add --force to replace it", 2)  # fmt: skip
    try:
        save_coding(session.folder / "codings", replace(coding, revision=stored.revision if stored else 0))
    except ConflictError as error:
        raise UserError(
            f"{error}: somebody else is coding as {coding.coder}; import again when they are done"
        ) from None
    except OSError as error:
        raise UserError(f"{session.folder / 'codings'} can't be written ({error.strerror})") from None
