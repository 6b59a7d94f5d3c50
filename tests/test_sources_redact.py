"""No secret of a URL is ever printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/cam", "http://host/cam"),
        ("rtsp://me:pw@host:554/cam", "rtsp://***@host:554/cam"),
        ("rtsp://me:p@w/x?y#z@host/cam", "rtsp://***@host/cam"),
        ("http://host/cam?user=me&pwd=pw&channel=1", "http://host/cam?user=***&pwd=***&channel=***"),
        ("http://me@host/cam?t0ken", "http://***@host/cam?***"),
        ("http://host/cam#pw", "http://host/cam"),
        ("interview@home.mp4", "interview@home.mp4"),
        ("C:\\videos\\a.mp4", "C:\\videos\\a.mp4"),
    ],
)
def test_examples(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12), st.sampled_from(["http", "rtsp", "RTSPS"]))
def test_whatever_the_password_it_is_gone(user: str, password: str, scheme: str) -> None:
    """Marked so that it can be looked for: any characters, even those that a URL should not hold."""
    secret = f"Q{password}Q"
    assert redact(f"{scheme}://{user}:{secret}@camera.example/live") == f"{scheme}://***@camera.example/live"
    assert secret not in redact(f"{scheme}://camera.example/live?key={secret}&b={secret}")
