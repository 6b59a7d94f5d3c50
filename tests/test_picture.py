"""Colours of decoded pictures: FFmpeg's own, made by the thread that asks."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources.picture import bgr

TASKS = Path("/proc/self/task")


def decoded(width: int, height: int, pixels: str) -> av.VideoFrame:
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return av.VideoFrame.from_ndarray(noise, format="bgr24").reformat(format=pixels)


@given(st.integers(2, 300), st.integers(2, 300), st.sampled_from(["yuv420p", "yuvj420p", "yuv422p", "nv12", "gray"]))
def test_the_pixels_are_those_of_any_number_of_threads(width: int, height: int, pixels: str) -> None:
    picture = decoded(width, height, pixels)
    image = bgr(picture)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, picture.to_ndarray(format="bgr24"))
    assert np.array_equal(image, picture.to_ndarray(format="bgr24", threads=3))


@pytest.mark.skipif(not TASKS.exists(), reason="needs /proc to count threads")
def test_no_thread_is_started_for_it() -> None:
    picture = decoded(640, 360, "yuv420p")
    before = set(os.listdir(TASKS))
    bgr(picture)
    assert set(os.listdir(TASKS)) <= before
    picture.to_ndarray(format="bgr24", threads=3)
    assert set(os.listdir(TASKS)) - before, "threads that FFmpeg starts do show"
