"""What a set of weights is and expects. Training, export, runtimes and the live program rely on it."""

import re
from dataclasses import dataclass, fields, replace

CLASSES = ("micro", "blink", "macro", "speech", "head", "none")
"""Order of the classification head."""
KINDS = CLASSES[:-1]
"""The kinds of facial movement. Every kind except `micro` is a nuisance and a reason to suppress."""
REGIONS = ("brows", "eyes", "cheeks", "mouth")
"""Parts of the face that a movement is attributed to."""
LIMITS = {
    "fps": (1, 1000),
    "clip_frames": (2, 4096),
    "hop_frames": (1, 4096),
    "crop_px": (8, 1024),
    "lags": (1, 4096),
    "channels": (1, 4096),
    "stride": (1, 4096),
    "oldest_centre": (0, 4095),
    "anchors": (1, 4096),
}
"""The allowed range of each number of a `ModelSpec`, both ends included. `lags` and `anchors` have 1 to MOST numbers.
"""
MOST = 64
STREAMS = {
    "brows_r": "brows", "brows_l": "brows", "eyes": "eyes", "cheeks": "cheeks", "mouth_r": "mouth", "mouth_l": "mouth",
}  # fmt: skip
"""Streams of a regional network (`engine.streams`), each with the one of REGIONS that it reports on."""
STREAMS_PX = 128
"""Side of the crops in which the places of streams are given."""
SHAPES = ("whole", "regional")
"""`whole`: one feature of the face. `regional`: a stream for each of STREAMS."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Geometry of a MESNet. Every number is in frames of the model's time grid or px of the crop.

    `fps`: rate of the time grid, Hz. `clip_frames`: length T of a clip. `hop_frames`: frames between two scored clips.
    `crop_px`: side S of a crop. `lags`: how many frames back the motion stem looks. `channels`: width C of the
    per-frame feature. `stride`: frames between two anchor centres. `oldest_centre`: anchors centred before this frame
    are left out. `anchors`: lengths of the multi-scale candidates. `shape`: one of SHAPES.

    Raises ValueError with a text when a field is outside LIMITS or the fields do not fit each other.
    """

    name: str = "mesnet-v1"
    fps: int = 30
    clip_frames: int = 64
    hop_frames: int = 4
    crop_px: int = 128
    lags: tuple[int, ...] = (3, 6, 12)
    channels: int = 96
    stride: int = 2
    oldest_centre: int = 0
    anchors: tuple[int, ...] = (7, 11, 15, 21)
    shape: str = SHAPES[0]

    def __post_init__(self) -> None:
        # the name is part of file names
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ValueError(f"name {self.name!r:.80} is not 1 to 64 letters, digits, '.', '_' or '-'")
        for field in fields(self)[1:-1]:
            _check(field.name, getattr(self, field.name), many=field.name in ("lags", "anchors"))
        if self.hop_frames > self.clip_frames:
            raise ValueError(f"hop_frames {self.hop_frames} is more than the {self.clip_frames} frames of a clip")
        if self.shape not in SHAPES:
            raise ValueError(f"shape {self.shape!r:.80} is not one of {', '.join(SHAPES)}")
        if self.streams > 1 and (self.crop_px != STREAMS_PX or self.channels % (self.streams + 1)):
            need = f"crop_px {STREAMS_PX} and a multiple of {self.streams + 1} channels"
            raise ValueError(f"crop_px {self.crop_px}, channels {self.channels}: a {self.shape} network needs {need}")
        if not self.centres:
            raise ValueError(f"oldest_centre {self.oldest_centre} leaves no anchor in {self.clip_frames} frames")

    @property
    def streams(self) -> int:
        """Number V of streams."""
        return len(STREAMS) if self.shape == "regional" else 1

    @property
    def stream_channels(self) -> int:
        """Width W of a stream's feature. The context of the whole face takes another W channels."""
        return self.channels // (self.streams + 1)

    @property
    def proposals(self) -> int:
        """Number P of candidate clips per clip: anchor centres times anchor lengths, for each stream."""
        return len(self.centres) * len(self.anchors) * self.streams

    @staticmethod
    def regional() -> "ModelSpec":
        """Of a network of regional streams."""
        channels = 32 * (len(STREAMS) + 1)
        return ModelSpec(name="mesnet-r1", channels=channels, anchors=(8, 12, 18), shape="regional")

    @property
    def centres(self) -> range:
        """Frames of the clip at which anchors are centred."""
        return range(-(-self.oldest_centre // self.stride) * self.stride, self.clip_frames, self.stride)

    def live(self) -> "ModelSpec":
        """The trained weights as a live program uses them: every second centre, none older than 1.3 s.

        The program decides an interval within 0.8 s of its offset, so older anchors propose what earlier hops have
        decided. Candidates move by up to their length, so neighbouring centres propose the same.
        """
        return replace(self, stride=4, oldest_centre=24)


def _check(name: str, value: object, many: bool) -> None:
    low, high = LIMITS[name]
    if many and not (isinstance(value, tuple) and 1 <= len(value) <= MOST):
        raise ValueError(f"{name} {value!r:.80} is not a list of 1 to {MOST} whole numbers")
    for number in value if isinstance(value, tuple) and many else (value,):
        if type(number) is not int or not low <= number <= high:  # True is no number
            raise ValueError(f"{name} {number!r:.80} is not a whole number from {low} to {high}")


HEAD_FIELDS = 3 + len(CLASSES) + len(REGIONS)
"""Columns of the network's output float32[N, P, HEAD_FIELDS]. 0..2 are onset, apex and offset in frames of the clip.
0 is the clip's first frame, and the values may reach past either end. 3..8 are the probability per CLASSES, which
sums to 1. 9..12 are the share per REGIONS, which sums to 1."""
