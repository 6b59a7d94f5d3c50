"""The people on the videos in `video/` of `--data`, and their splits. People are separated before anything else.

All videos of a person are in one split. The first people were split by hand. Later ones are split by a hash of their
name: half train, a fifth tune, the rest test.
"""

import hashlib
from pathlib import Path

from stream.errors import UserError

BY_HAND = {
    "grid/lbax4n.mpg": "train", "grid/lbbc2a.mpg": "train", "grid/swiz3n.mpg": "train", "grid/sbwe5n.mpg": "tune",
    "grid/id2_swwp2s.mpg": "test",
    # asl: four people, one of them in five clips, one in four, one in two
    "asl/again.mkv": "train", "asl/help.mkv": "train", "asl/no.mkv": "train", "asl/student.mkv": "train",
    "asl/yes.mkv": "train", "asl/book.mkv": "train", "asl/learn.mkv": "train", "asl/school.mkv": "train",
    "asl/walk.mkv": "train",
    "asl/eat.mkv": "tune", "asl/night.mkv": "tune", "asl/sorry.mkv": "test",
    "pexels_wolfganglanger.mp4": "test", "single_face.mp4": "test",
}  # fmt: skip
"""Split of each video of the first people."""
FOLDERS = ("auduno", "grid2", "grid_lady", "grid_s1", "pexels2")
"""Folders of the later people. Each holds one person, except `SHARED`, where file names begin with the person."""
SHARED = ("grid2", "pexels2")
THE_SAME = {"grid/bbaf2n.mpg": "grid_s1", "grid/lwbsza.mpg": "grid_lady"}
SPEAKING = ("grid", "auduno")
"""Prefixes of folders with people who speak all the time."""


def person_of(name: str) -> str:
    """The person on a video. Videos are named by their path below `video/`."""
    if name in THE_SAME:
        return THE_SAME[name]
    folder, _, file = name.rpartition("/")
    if folder in SHARED:
        return Path(file).stem.rsplit("_", 1)[0] if folder == "grid2" else Path(file).stem
    return folder if folder in FOLDERS else name


def split_of_video(name: str) -> str:
    """`train`, `tune` or `test`."""
    if name in BY_HAND:
        return BY_HAND[name]
    share = int.from_bytes(hashlib.sha256(person_of(name).encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.5 else "tune" if share < 0.7 else "test"


def speaks(name: str) -> bool:
    """Whether the person on a video speaks all the time."""
    return name.startswith(SPEAKING)


def files_of(data: Path, split: str) -> list[str]:
    """Names of the available videos of the split's people. Raises UserError if there are none."""
    video = data / "video"
    later = sorted(p.relative_to(video).as_posix() for folder in FOLDERS for p in (video / folder).glob("*.*"))
    names = [n for n in (*BY_HAND, *THE_SAME, *later) if split_of_video(n) == split and (video / n).is_file()]
    if not names:
        raise UserError(f"--data {data}: video/ holds none of the videos of the {split} split", 2)
    return names
