"""WebVTT: cues for a player's `<track>`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stream.sessions.formats.placing import per_video
from stream.sessions.rows import VideoRows


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns one file per video."""
    return per_video(videos, out, lambda one: "\n\n".join(_blocks(one)) + "\n")


def _blocks(one: VideoRows) -> Iterator[str]:
    yield "WEBVTT"
    yield f"NOTE {_plain(one.clocks)}"
    for row in one.rows:
        onset, offset = round(1000 * row.mark.onset_s), round(1000 * row.mark.offset_s)
        times = f"{_stamp(onset)} --> {_stamp(max(offset, onset + 1))}"  # a cue is never empty
        text = f"{row.rater} | face {row.mark.face} | {row.label}"
        yield f"{_plain(row.mark.id)}\n{times}\n{_plain(text)}"


def _stamp(ms: int) -> str:
    minutes, ms = divmod(ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


def _plain(text: str) -> str:
    """Returns one line without markup and without an arrow, which would end a cue."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
