"""The commands that the pages print, as a reader would copy them."""

import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from program import ROOT

LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prose"]["pages"]
DIARY = "docs/lab-notebook.md"  # its commands were those of their day
PAGES = [name for name in LISTED if name != DIARY]
TYPED = re.compile(r"\s*(\.venv/bin/|mestream |python3? -|pip |make |\.ci/)")
PROGRAM = re.compile(r"(?:\.venv/bin/)?(?:mestream|python3? -m [\w.]+)(?= |$)")
RUNS = re.compile(r"(\.venv/bin/)?mestream( |$)|umask ")
YOURS = re.compile(r"(?<![\w$-])[A-Z][A-Z0-9_]*(?![\w=])|\.\.\.|[\[|]")
"""FILE, DIR, N, HOST: what the reader fills in. `[`, `|` and `...` leave something open, too."""
FENCE = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One command as it is printed, without its comment. `needs`: what its comment says it needs."""

    page: str
    text: str
    needs: str = ""

    @property
    def runs(self) -> bool:
        """Whether a test runs it as it is printed. It checks the others: what they need is not here."""
        return bool(RUNS.match(self.text)) and not self.needs and not YOURS.search(self.text)


def fenced(page: str) -> list[Command]:
    """The commands in the blocks that are marked `sh`."""
    found, waiting = [], ""
    for info, content in FENCE.findall((ROOT / page).read_text()):
        for line in content.splitlines() if info == "sh" else ():
            waiting += line + "\n"
            try:
                shlex.split(waiting)
            except ValueError:  # a quotation goes on in the next line
                continue
            text, _, comment = waiting.partition("  #")
            found.append(Command(page, text.strip(), comment.partition("needs ")[2].strip()))
            waiting = ""
    return [command for command in found if command.text]


def quoted(page: str) -> list[Command]:
    """The commands with flags in the page's sentences and tables."""
    prose = FENCE.sub("", (ROOT / page).read_text())
    pieces = [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", prose)]
    return [
        Command(page, piece) for piece in pieces if (named := PROGRAM.match(piece)) and " -" in piece[named.end() :]
    ]


def runnable() -> dict[str, list[Command]]:
    """By page, the commands that a test runs, in order."""
    return _by_page(command for page in PAGES for command in fenced(page) if command.runs)


def checkable() -> dict[str, list[Command]]:
    """By page, all others."""
    return _by_page(c for page in PAGES for c in [*fenced(page), *quoted(page)] if not c.runs or c in quoted(page))


def _by_page(commands: Iterable[Command]) -> dict[str, list[Command]]:
    return {page: list(some) for page, some in groupby(commands, key=lambda command: command.page)}


def unmarked() -> list[str]:
    """Lines that look like commands in blocks that are not marked `sh`, so that nobody tries them."""
    blocks = [(page, *block) for page in PAGES for block in FENCE.findall((ROOT / page).read_text())]
    lines = [(page, line) for page, info, content in blocks if info != "sh" for line in content.splitlines()]
    return [f"{page}: {line}" for page, line in lines if TYPED.match(line)]
