"""Describes a source of frames and its interface. `stream.sources` opens one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream.text import printable
from stream.types import Frame, SourceGap


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is and delivers. `name` is safe to print and send: it holds no credentials, see `printable`.

    `width_px`, `height_px`: size of the delivered images (upright). `nominal_fps`: what the container or driver claims,
    None if it claims nothing credible. Measure the true rate from the frames' times. `requested_*`: what was requested.
    `file`: the one file that is played, if the source uses its times. `time_uncertainty_s`: how far `time_s` may be
    from the moment a frame shows, as far as the program can know.
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

    `dropped`: frames that arrived and were not delivered (live: a newer one replaced them; file: PTS not increasing).
    `corrupt`: frames that could not be decoded.
    """

    info: SourceInfo
    dropped: int
    corrupt: int

    def read(self) -> Frame | SourceGap | None:
        """Block until there is a frame or a gap. Returns None once the source has ended.

        Raises:
            UserError: the source failed for good (a truncated file, a camera that does not come back, ...).
        """

    def close(self) -> None:
        """Release the device, file or connection within 1 s. A `read` that waits in another thread returns None."""


def redact(url: str) -> str:
    """Returns the URL without possible secrets: user, password, query values and the fragment.

    Any other text (a path, a camera's name) is returned unchanged. If in doubt it hides too much, since a password may
    hold an unescaped `/`, `?` or `@`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    _, at, rest = rest.rpartition("@")
    rest, _, _ = rest.partition("#")
    path, question, query = rest.partition("?")
    hidden = "&".join(f"{pair.partition('=')[0]}=***" if "=" in pair else "***" for pair in query.split("&"))
    return f"{scheme}://{'***@' if at else ''}{path}{question}{hidden if question else ''}"
