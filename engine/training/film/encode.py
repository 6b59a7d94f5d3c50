"""Pictures -> a video file, as a webcam's own encoder, a recorder or a video call would write it."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from engine.training.generator.camera import Camera

TICK = Fraction(1, 90_000)
COARSE_TICK = Fraction(1, 1000)
"""The finest that MPEG-4 part 2 and Matroska support."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder by FFmpeg's `name`, with its options. `bit_rate` is in bit/s when the options do not set the quality.

    `rate` is the encoder's nominal frames per second. It does not change the stamps, which are in ticks.
    """

    name: str
    options: dict[str, str]
    bit_rate: int | None = None
    rate: int = 30
    tick: Fraction = TICK

    @property
    def ending(self) -> str:
        """Ending of a file format that takes this codec and keeps the given stamps."""
        return ".mkv" if self.name in ("mjpeg", "libvpx") else ".mp4"


def webcam(crf: int) -> Encoder:
    """H.264 without delay, hence without B frames."""
    options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency", "threads": "1", "g": "120"}
    return Encoder("libx264", options)


def mjpeg(quality: int) -> Encoder:
    """`quality` is like JPEG's, 40 to 95. FFmpeg's quantiser (from 1) is the one that gives a face picture the same
    size."""
    quantiser = str(max(1, round((100 - quality) / 8)))
    return Encoder("mjpeg", {"qmin": quantiser, "qmax": quantiser}, rate=1000, tick=COARSE_TICK)


FINE = webcam(6)
"""Its loss is not visible. It is for films whose camera had no codec."""


def encoder_of(camera: Camera) -> Encoder:
    """Of the camera's codec; FINE for `none`."""
    if camera.codec == "mjpeg":
        return mjpeg(camera.quality)
    return webcam(camera.quality) if camera.codec == "h264" else FINE


def write_film(stem: Path, images: Iterable[NDArray[np.uint8]], time_s: NDArray[np.float64], camera: Camera) -> Path:
    """`write_video` by the camera's own encoder. Returns the file: `stem` with that encoder's ending."""
    encoder = encoder_of(camera)
    path = stem.with_name(stem.name + encoder.ending)
    write_video(path, images, time_s, encoder)
    return path


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], time_s: NDArray[np.float64], encoder: Encoder) -> None:
    """Encodes uint8[H, W, 3] BGR images, with the stamps as PTS."""
    jpeg = encoder.name == "mjpeg"
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:  # Matroska's ids are random
        video = out.add_stream(encoder.name, rate=encoder.rate, options=encoder.options)
        assert isinstance(video, av.VideoStream)
        video.pix_fmt, video.codec_context.time_base = "yuvj420p" if jpeg else "yuv420p", encoder.tick
        if jpeg:
            video.codec_context.color_range = 2
        if encoder.bit_rate is not None:
            video.bit_rate = encoder.bit_rate
        for image, t in zip(images, time_s, strict=True):
            if not video.width or video.width != image.shape[1]:
                video.height, video.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=video.pix_fmt, threads=1)
            frame.pts, frame.time_base = round(float(t) / encoder.tick), encoder.tick
            out.mux(video.encode(frame))
        out.mux(video.encode())
