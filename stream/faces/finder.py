"""Turns each frame into one aligned crop per face: detection, landmarks, identity, alignment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from stream.faces.align import crop_matrix, extract, face_width_px, head_pose_deg, quality
from stream.faces.landmarks import PRESENT, Image, Landmarker, Points, Roi, roi_of
from stream.faces.tracks import MEMORY_S, Track, assign, same_face
from stream.types import FaceCrop, FaceGap, Frame

__all__ = ["Faces", "LandmarkSource", "Limits", "crop_matrix", "extract", "open_landmarker"]

SEARCH_S = 0.2
SEARCH_MORE_S = 0.5
"""How often the detector looks for new faces: SEARCH_S while no face is followed, SEARCH_MORE_S while one is."""
CENSUS_S = 10.0
"""How often faces beyond `max_faces` are counted. Counting searches the whole image closely and takes 20 to 60 ms."""
MOST_FACES = 64
BACK = 0.9
"""Hysteresis: a face that has passed a limit must come back by this factor, so that it does not flicker at the limit.
"""


class LandmarkSource(Protocol):
    """Finds faces and their landmarks: `stream.faces.landmarks.Landmarker` or MediaPipe's own."""

    def detect(self, image: Image, wanted: int = 1) -> list[Roi]:
        """Returns the places of the faces, best first. It looks more closely if it finds fewer than
        `wanted` at once.
        """

    def track(self, image: Image, roi: Roi) -> tuple[Points, float]:
        """Returns the landmarks of the face within `roi` (float32[478, 3], px) and the probability that there is a
        face.
        """


def open_landmarker(kind: str, face_model: Path, max_faces: int) -> LandmarkSource:
    """Opens what `--landmarks` names: `litert` (this program runs the networks) or `mediapipe` (the package, an extra).

    Raises UserError if the model file is not valid or the extra is not installed.
    """
    if kind == "mediapipe":
        from stream.faces.landmarks_mediapipe import MediapipeLandmarker  # only for those who installed it

        return MediapipeLandmarker(face_model, max_faces)
    return Landmarker(face_model)


@dataclass(frozen=True, slots=True)
class Limits:
    """A face beyond these limits is followed but not watched."""

    max_yaw_deg: float = 35.0
    max_pitch_deg: float = 30.0
    min_face_px: float = 48.0


class Faces:
    """Follows up to `max_faces` faces and gives the aligned crops of each frame. Not thread-safe.

    A face keeps its number while it moves, crosses another face, or is lost for up to MEMORY_S. After that the number
    is not used again. The detector runs while fewer than `max_faces` are followed: on every frame while a face is lost,
    every SEARCH_S while there is no face, and every SEARCH_MORE_S otherwise. Once `max_faces` are followed, it runs
    every CENSUS_S to count the others (`unwatched`).
    """

    def __init__(self, landmarker: LandmarkSource, max_faces: int = 1, limits: Limits | None = None) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, not {max_faces}")
        self._landmarker = landmarker
        self._max_faces = max_faces
        self._limits = limits or Limits()
        self._tracks: list[Track] = []
        self._next_id = 1
        self._searched_s: float | None = None
        self._counted_s: float | None = None
        self.unwatched = 0

    def update(self, frame: Frame) -> list[FaceCrop | FaceGap]:
        """Returns, in order of face number, a crop of each face that can be watched and a gap for each that no longer
        can.
        """
        self._follow(frame)
        self._part_collapsed(frame.time_s)
        if self._search_due(frame.time_s):
            self._search(frame)
        self._count_unwatched(frame)
        return self._report(frame)

    def gap(self, time_s: float, reason: str) -> list[FaceGap]:
        """The source has a gap from `time_s` on. Every watched face gets a gap and has to be found again."""
        gaps = [FaceGap(track.face_id, time_s, reason) for track in self._tracks if track.gap is None]
        for track in self._tracks:
            track.lose()
            track.steady.reset()
            track.gap = track.gap or reason
        self._searched_s = None
        return gaps

    def limit(self, max_faces: int, time_s: float) -> list[FaceGap]:
        """Follow at most `max_faces` from now on. The faces with the highest numbers are dropped, and their numbers
        end.
        """
        self._max_faces, self._counted_s, self.unwatched = max_faces, None, 0
        gone, self._tracks = self._tracks[max_faces:], self._tracks[:max_faces]
        return [FaceGap(track.face_id, time_s, "overload", final=True) for track in gone]

    def close(self, time_s: float) -> list[FaceGap]:
        """The source has ended, so every number ends."""
        gaps = [FaceGap(track.face_id, time_s, "closed", final=True) for track in self._tracks]
        self._tracks.clear()
        return gaps

    def _follow(self, frame: Frame) -> None:
        for track in self._tracks:
            if track.lost:
                continue
            points, presence = self._landmarker.track(frame.image, track.roi_at(frame.time_s))
            roi = roi_of(points)
            if presence >= PRESENT and track.reaches(roi, frame.time_s):
                track.see(points, roi, frame.time_s)
            else:
                track.lose()

    def _part_collapsed(self, time_s: float) -> None:
        """If two tracks are on one face, the better-fitting track keeps it. The other counts as lost behind it."""
        live = sorted((track for track in self._tracks if not track.lost), key=lambda track: track.surprised)
        for i, track in enumerate(live):
            if any(not other.lost and same_face(track.roi, other.roi) for other in live[:i]):
                track.lose(unsee=True)

    def _search_due(self, time_s: float) -> bool:
        if sum(not track.lost for track in self._tracks) >= self._max_faces:
            return False
        if self._searched_s is None or any(track.lost for track in self._tracks):
            return True
        return not 0 <= time_s - self._searched_s < (SEARCH_MORE_S if self._tracks else SEARCH_S)

    def _search(self, frame: Frame) -> None:
        self._searched_s = frame.time_s
        live = [track.roi for track in self._tracks if not track.lost]
        found: list[tuple[Points, Roi]] = []
        for detected in self._landmarker.detect(frame.image, wanted=self._max_faces):
            taken = live + [roi for _, roi in found]
            if len(taken) >= self._max_faces:
                break
            if any(same_face(detected, roi) for roi in taken):
                continue
            points, presence = self._landmarker.track(frame.image, detected)
            if presence < PRESENT:
                continue
            points, presence = self._landmarker.track(frame.image, roi_of(points))
            roi = roi_of(points)
            if presence >= PRESENT and not any(same_face(roi, other) for other in taken):
                found.append((points, roi))
        self._recognise_places(found, frame.time_s)

    def _count_unwatched(self, frame: Frame) -> None:
        """Count the faces beyond `max_faces`. The count affects no track and no crop."""
        if len(self._tracks) < self._max_faces:
            self.unwatched = 0
        live = [track.roi for track in self._tracks if not track.lost]
        due = self._counted_s is None or not 0 <= frame.time_s - self._counted_s < CENSUS_S
        if len(live) < self._max_faces or not due:
            return
        self._counted_s = frame.time_s
        others = [
            roi
            for roi in self._landmarker.detect(frame.image, wanted=MOST_FACES)
            if not any(same_face(roi, followed) for followed in live)
        ]
        self.unwatched = sum(self._landmarker.track(frame.image, roi)[1] >= PRESENT for roi in others)

    def _recognise_places(self, found: list[tuple[Points, Roi]], time_s: float) -> None:
        """Match the found faces to the lost ones by least surprise. A face that matches no lost one is new."""
        lost = [track for track in self._tracks if track.lost and 0 <= time_s - track.seen_s <= MEMORY_S]
        cost = np.full((len(lost), len(found)), np.inf)
        for i, track in enumerate(lost):
            for j, (_, roi) in enumerate(found):
                if track.reaches(roi, time_s):
                    cost[i, j] = track.surprise(roi, time_s)
        pairs = assign(cost)
        for i, j in pairs:
            lost[i].see(*found[j], time_s)
        for j in sorted(set(range(len(found))) - {j for _, j in pairs}):
            points, roi = found[j]
            self._tracks.append(Track(self._next_id, roi, time_s, points))
            self._next_id += 1

    def _report(self, frame: Frame) -> list[FaceCrop | FaceGap]:
        out: list[FaceCrop | FaceGap] = []
        for track in list(self._tracks):
            if track.lost and not 0 <= frame.time_s - track.seen_s <= MEMORY_S:
                out.append(FaceGap(track.face_id, frame.time_s, track.gap or "lost", final=True))
                self._tracks.remove(track)
                continue
            reason = self._reason(track)
            if reason is None and track.points is not None:
                matrix, crop = track.steady.crop(frame.image, crop_matrix(track.points), frame.time_s)
                out.append(FaceCrop(track.face_id, frame.time_s, crop, quality(track.points, crop), matrix))
            else:
                track.steady.reset()
                if track.gap is None:
                    out.append(FaceGap(track.face_id, frame.time_s, reason or "lost"))
            track.gap = reason
        return out

    def _reason(self, track: Track) -> str | None:
        """The reason why the face cannot be watched now, or None."""
        if track.points is None:
            return "lost"
        limits, slack = self._limits, 1.0 if track.gap is None else BACK
        yaw_deg, pitch_deg = head_pose_deg(track.points)
        if abs(yaw_deg) > limits.max_yaw_deg * slack or abs(pitch_deg) > limits.max_pitch_deg * slack:
            return "turned_away"
        if face_width_px(track.points) < limits.min_face_px / slack:
            return "too_small"
        return None
