"""Motion JPEG is split by its markers, whatever stands between the pictures, and its size is bounded."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_pictures import encoded, level, picture
from test_image import black, with_size

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.network.mjpeg import JpegSplitter, MjpegStream

LEVELS = (40, 120, 200)
JPEGS = [encoded(picture(value)) for value in LEVELS]

BETWEEN = {
    "nothing": (b"", b""),
    "a boundary with a length": (b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", b"\r\n"),
    "another spelling of the type": (b"--b\r\nContent-Type: image/jpg\r\n\r\n", b"\r\n"),
    "parameters in the type": (b"--b\r\nContent-Type: image/jpeg;size=9\r\n\r\n", b"\r\n"),
    "a boundary alone": (b"--b\r\n\r\n", b"\r\n"),
    "a boundary behind": (b"Content-Type: image/jpeg\r\n\r\n", b"\r\n--b\r\n"),
    "a wrong length": (b"--b\r\nContent-Length: 7\r\n\r\n", b"\r\n"),
    "zeros": (b"", bytes(1000)),
}


def stream(data: bytes, piece: int = 1000) -> MjpegStream:
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    return MjpegStream(lambda _most: pieces.pop(0) if pieces else b"", shown="camera", wanted=lambda: True)


def levels(made: MjpegStream) -> list[int]:
    found = []
    while (frame := made.read()) is not None:
        found.append(min(LEVELS, key=lambda value: abs(value - level(frame))))
    return found


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("piece", [1, 7, 1000, 1_000_000])
def test_pictures_are_found_whatever_stands_between_them(between: str, piece: int) -> None:
    before, after = BETWEEN[between]
    made = stream(b"".join((before % len(one) if b"%d" in before else before) + one + after for one in JPEGS), piece)
    assert levels(made) == list(LEVELS)
    assert made.skipped == 0


def test_a_picture_comes_as_soon_as_its_end_is_there() -> None:
    assert len(JpegSplitter().feed(JPEGS[0])) == 1


def test_a_thumbnail_inside_a_picture_is_no_picture() -> None:
    inner = JPEGS[2]
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    assert levels(stream(JPEGS[0][:2] + segment + JPEGS[0][2:])) == [LEVELS[0]]


def test_pictures_without_an_end_marker_are_read() -> None:
    boundary = b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n"
    made = stream(boundary.join(one.removesuffix(b"\xff\xd9") for one in [*JPEGS, JPEGS[0]]))
    assert levels(made) == list(LEVELS)  # the last one may still go on


def test_damaged_pictures_are_counted_and_the_next_one_is_found() -> None:
    zeros = JPEGS[0][:2] + bytes(500) + JPEGS[0][-2:]
    cut = JPEGS[0][: len(JPEGS[0]) * 2 // 3]
    made = stream(zeros + JPEGS[1] + cut + JPEGS[2])
    assert levels(made) == [LEVELS[1], LEVELS[2]]
    assert made.skipped == 2


@given(st.binary(max_size=4000), st.integers(1, 500))
def test_noise_never_raises_and_hides_no_picture(noise: bytes, piece: int) -> None:
    splitter, found = JpegSplitter(), []
    data = noise + bytes(70_000) + JPEGS[0]  # longer than any segment that noise can announce
    for at in range(0, len(data), piece):
        found += splitter.feed(data[at : at + piece])
    assert found
    assert found[-1].endswith(JPEGS[0]) or b"\xff\xda" in noise


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"\xff\xd8\xff\xe0", "no picture in 4 MB"),
        (b"\xff\xd8\xff\xda\0\2", "larger than 16 MB"),
        (b"", "no picture in 4 MB"),
    ],
)
def test_endless_data_is_given_up(begin: bytes, words: str) -> None:
    pieces = itertools.chain([begin + b"\1"], itertools.repeat(b"\1" * 65_536))
    made = MjpegStream(lambda _most: next(pieces), shown="camera", wanted=lambda: True)
    with pytest.raises(SourceError, match=rf"camera: .*{words}.*; check"):
        made.read()


def test_a_huge_picture_is_refused() -> None:
    with pytest.raises(SourceError, match=r"camera: too large: 16000x16000 pixels as JPEG need .* MB of memory; scale"):
        stream(with_size(black(100, "JPEG"), 16_000, 16_000)).read()
