"""Parts of a multipart stream come out whole, however the network cut the bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources.multipart import HEADER_LIMIT_BYTES, PART_LIMIT_BYTES, BadMultipart, PartSplitter

BODY = st.binary(max_size=60).map(lambda data: b"\xff\xd8" + data.replace(b"-", b"") + b"\xff\xd9")


def stream(bodies: list[bytes], *, lengths: bool, line: bytes = b"\r\n", dashes: bytes = b"--") -> bytes:
    out = b""
    for body in bodies:
        length = b"Content-Length: %d%s" % (len(body), line) if lengths else b""
        out += dashes + b"cam" + line + b"Content-Type: image/jpeg" + line + length + line + body + line
    return out


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(
    # what begins as a JPEG and has no end is held to have a wrong length; that has a test of its own
    st.lists(st.binary(min_size=1, max_size=60).filter(lambda body: not body.startswith(b"\xff\xd8")), max_size=6),
    st.lists(st.integers(0, 10_000), max_size=20),
    st.sampled_from([b"\r\n", b"\n"]),
)
def test_parts_with_a_length(bodies: list[bytes], places: list[int], line: bytes) -> None:
    """Any bytes, cut anywhere, even bytes that look like a boundary."""
    splitter = PartSplitter("cam")
    data = stream(bodies, lengths=True, line=line)
    assert [part for piece in cut(data, places) for part in splitter.feed(piece)] == bodies


@given(st.lists(BODY, min_size=1, max_size=6))
def test_parts_without_a_length_end_at_the_boundary_or_the_end_of_the_jpeg(bodies: list[bytes]) -> None:
    """Each image comes as soon as it is sent, not with the next one."""
    splitter = PartSplitter("--cam")
    for body in bodies:
        assert splitter.feed(stream([body], lengths=False)) == [body]
    assert PartSplitter("cam").feed(stream(bodies, lengths=False)) == bodies


@given(st.lists(BODY, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=20))
def test_parts_without_a_length_cut_anywhere(bodies: list[bytes], places: list[int]) -> None:
    """As long as no image holds the end mark within, each comes out whole once."""
    bodies = [b"\xff\xd8" + body.replace(b"\xff", b"") + b"\xff\xd9" for body in bodies]
    splitter = PartSplitter('"cam"')
    assert [part for piece in cut(stream(bodies, lengths=False), places) for part in splitter.feed(piece)] == bodies


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_junk_gives_parts_or_one_error_but_never_grows(pieces: list[bytes]) -> None:
    splitter = PartSplitter("cam")
    try:
        for piece in pieces:
            assert isinstance(splitter.feed(piece), list)
    except BadMultipart:
        pass


JPEGS = [b"\xff\xd8" + bytes([number]) * 20_000 + b"\xff\xd9" for number in range(5)]


@pytest.mark.parametrize("boundary", ["cam", ""])
@pytest.mark.parametrize("first_line", [True, False])
@pytest.mark.parametrize("off", [None, 0, -7, 1, 2, 5, 40])
@pytest.mark.parametrize("step", [1_000, 10**6])
def test_what_browsers_accept_is_accepted(boundary: str, first_line: bool, off: int | None, step: int) -> None:
    """No boundary line before the first part, no boundary named, lengths missing or wrong, images over 8 KB."""
    if not boundary and not first_line and off not in (None, 0):
        pytest.skip("nothing is left by which to find the first image's end")
    data = b""
    for number, jpeg in enumerate(JPEGS):
        data += b"--cam\r\n" if number or first_line else b""
        length = b"" if off is None else b"Content-Length: %d\r\n" % (len(jpeg) + off)
        data += b"Content-Type: image/jpeg\r\n" + length + b"\r\n" + jpeg + b"\r\n"
    splitter = PartSplitter(boundary)
    end = b"--cam\r\n" + bytes(60)
    found = [part for at in range(0, len(data + end), step) for part in splitter.feed((data + end)[at : at + step])]
    assert [part.rstrip(b"\r\n") for part in found] == JPEGS


def test_a_first_part_that_is_only_an_image() -> None:
    """No boundary line and no headers at all."""
    data = JPEGS[0] + b"\r\n--cam\r\n\r\n" + JPEGS[1]
    assert PartSplitter("cam").feed(data) == JPEGS[:2]


def test_what_is_no_stream_is_refused() -> None:
    """Endless bytes without a boundary, and a part of absurd length, are errors rather than memory."""
    with pytest.raises(BadMultipart, match="no part begins"):
        PartSplitter("cam").feed(b"x" * (HEADER_LIMIT_BYTES + 100))
    with pytest.raises(BadMultipart, match="announced"):
        PartSplitter("cam").feed(b"--cam\r\nContent-Length: %d\r\n\r\n" % (PART_LIMIT_BYTES + 1))
