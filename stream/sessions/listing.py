"""`mestream sessions DIR`: which sessions lie in a folder."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.errors import UserError
from stream.sessions.session import Session, State, sessions_in
from stream.text import printable

log = logging.getLogger("stream")

PIPE_CELLS = 100_000
"""Width of the table if there is no terminal."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A session in a list. `intervals`: how many the machine reported. `coders`: those who coded it."""

    name: str
    source: str
    started: str
    length_s: float
    intervals: int
    coders: tuple[str, ...]
    state: State


def listed(session: Session) -> Listed:
    """Summarises a session. Raises UserError if one of its files can't be read."""
    about = session.about
    length_s = session.ends_s - about.starts_s
    intervals = len(session.intervals())
    return Listed(session.name, about.source, about.started, length_s, intervals, session.coders, session.state)


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns its exit code. A folder that is no session is one line on stderr."""
    parser = argparse.ArgumentParser(prog="mestream sessions", description=__doc__, allow_abbrev=False)
    parser.add_argument("dir", metavar="DIR", type=Path, help="what --record DIR named, or one session in it")
    parser.add_argument("--json", action="store_true", help="as JSON")
    arguments = parser.parse_args(argv)
    rows: list[Listed] = []
    for session in sessions_in(arguments.dir):
        try:
            rows.append(listed(session))
        except (UserError, OSError) as error:
            log.warning("%s", error)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _print(rows)
    return 0


def _print(rows: Sequence[Listed]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "source", "start (UTC)", "length", "intervals", "coders", "state"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        minutes, seconds = divmod(round(row.length_s), 60)
        cells = (
            row.name,
            row.source,
            row.started[:19].replace("T", " "),
            f"{minutes}:{seconds:02}",
            str(row.intervals),
            ", ".join(row.coders),
            row.state.value,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else PIPE_CELLS)
    with console.capture() as drawn:
        console.print(table)
    print(drawn.get(), end="")  # rich would end the program if the output were closed
