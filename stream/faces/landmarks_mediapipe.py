"""Runs the landmark networks through the `mediapipe` package: an optional extra, `--landmarks mediapipe`.

It uses IMAGE mode, which has no low-pass filter. In this mode it detects faces anew on every frame and is slower. The
package looks up a telemetry host when it runs (google-ai-edge/mediapipe issue 6291). That is one reason why it is not
the default.
"""

import math
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine.extras import pip_install
from stream.errors import UserError
from stream.faces.landmarks import POINTS, Image, Points, Roi, roi_of


class MediapipeLandmarker:
    """Has the same methods and points as `stream.faces.landmarks.Landmarker`. Not thread-safe.

    Raises UserError if the extra is not installed or does not start.
    """

    def __init__(self, model: Path, max_faces: int = 4) -> None:
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise UserError(
                f"--landmarks mediapipe: the mediapipe package is not there ({error}); "
                f"run: {pip_install('mediapipe')}, or leave the flag out",
                code=2,
            ) from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=max_faces,
        )
        try:
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--landmarks mediapipe: the package does not start ({reason}); it needs the system's libEGL and "
                "libGLESv2; install those, or leave the flag out"
            ) from error
        # its destructor needs threads that no longer exist when the interpreter shuts down; it would print a traceback
        weakref.finalize(self, setattr, self._landmarker, "_handle", None)
        self._mediapipe = mediapipe
        self._newest: tuple[Image, list[Points]] | None = None

    def find(self, image: Image) -> list[Points]:
        """Returns the landmarks (float32[478, 3], px of `image`) of every face. The result for the newest image is
        cached.
        """
        if self._newest is None or self._newest[0] is not image:
            self._newest = image, self._run(image)
        return self._newest[1]

    def detect(self, image: Image, wanted: int = 1) -> list[Roi]:
        """Returns the square around the landmarks of each face. `wanted` has no effect here."""
        return [roi_of(points) for points in self.find(image)]

    def track(self, image: Image, roi: Roi) -> tuple[Points, float]:
        """Returns the landmarks of the face nearest to `roi` and 1.0, or 0.0 if no centre is within half of
        its side.
        """
        best: tuple[float, Points] = roi.side / 2, np.zeros((POINTS, 3), np.float32)
        presence = 0.0
        for points in self.find(image):
            there = roi_of(points)
            away = math.hypot(there.x - roi.x, there.y - roi.y)
            if away < best[0]:
                best, presence = (away, points), 1.0
        return best[1], presence

    def _run(self, image: Image) -> list[Points]:
        height, width = image.shape[:2]
        rgb = np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=rgb)
        faces = self._landmarker.detect(picture).face_landmarks
        scale = np.array([width, height, width], np.float32)
        # MediaPipe gives shares of the image, from the corner of its first pixel; our origin is that pixel's centre
        corner = np.array([0.5, 0.5, 0], np.float32)
        return [np.array([[p.x, p.y, p.z] for p in face], np.float32) * scale - corner for face in faces]
