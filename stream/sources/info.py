"""What a source of frames is: what it says of itself, and how it is used. See `stream.sources` for opening one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream.text import printable
from stream.types import Frame, SourceGap


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is and gives. `name` is fit to be printed and sent: credentials are out of it, see `printable`.

    `width_px`, `height_px`: of the images as given (upright). `nominal_fps`: what the container or driver claims, None
    if it claims nothing credible; the true rate is to be measured from the frames' times. `requested_*`: what was asked
    for.
    `file`: the one file that is played, if its own times are the source's.
    `time_uncertainty_s`: how far a frame's `time_s` may be from the moment it shows, as far as this end can know.
    """

    name: str
    live: bool
    width_px: int
    height_px: int
    nominal_fps: float | None
    backend: str
    time_uncertainty_s: float
    requested_width_px: int | None = None
    requested_height_px: int | None = None
    requested_fps: float | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))


class Source(Protocol):
    """A stream of frames in order of time.

    `dropped`: frames that came and were not handed out (live: a newer one replaced them; file: PTS not increasing).
    `corrupt`: frames that could not be decoded.
    """

    info: SourceInfo
    dropped: int
    corrupt: int

    def read(self) -> Frame | SourceGap | None:
        """Block until there is a frame or a gap; None is the end, for good.

        Raises:
            UserError: the source failed for good (a truncated file, a camera that does not come back, ...).
        """

    def close(self) -> None:
        """Let go of the device, file or connection within 1 s; a `read` that waits in another thread returns None."""


def redact(url: str) -> str:
    """The same URL without what may be a secret: user and password, values of the query, the fragment.

    Anything else (a path, a camera's name) is returned as it is. When in doubt it hides too much: a password may hold
    an unescaped `/`, `?` or `@`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    _, at, rest = rest.rpartition("@")
    rest, _, _ = rest.partition("#")
    path, question, query = rest.partition("?")
    hidden = "&".join(f"{pair.partition('=')[0]}=***" if "=" in pair else "***" for pair in query.split("&"))
    return f"{scheme}://{'***@' if at else ''}{path}{question}{hidden if question else ''}"
