"""Encodes an aligned crop as a JPEG for the preview."""

import cv2

from stream.types import FaceCrop

QUALITY_PERCENT = 80


def jpeg(crop: FaceCrop) -> bytes:
    """Returns the crop as a grey JPEG."""
    encoded, data = cv2.imencode(".jpg", crop.image, (cv2.IMWRITE_JPEG_QUALITY, QUALITY_PERCENT))
    if not encoded:
        raise RuntimeError(f"crop of face {crop.face_id} could not be encoded")
    return data.tobytes()
