"""Paths for a format with one video per file: the path that the user named, then PATH-2, PATH-3 and so on."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from stream.sessions.rows import VideoRows


def per_video(videos: Sequence[VideoRows], out: Path, text_of: Callable[[VideoRows], str]) -> dict[Path, str]:
    """Returns one file per video."""
    return {out if n == 1 else out.with_stem(f"{out.stem}-{n}"): text_of(one) for n, one in enumerate(videos, 1)}


def one_line(texts: Iterable[str]) -> str:
    """Joins the fields of a row without quotes: tabs and line ends become spaces."""
    return "\t".join(" ".join(text.split()) for text in texts)
