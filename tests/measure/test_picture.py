"""Bytes to measures."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from cortex_spark.measure import BadPictureError, measure
from cortex_spark.measure.picture import histogram, scaled_to
from tests.measure.exif import rotated_jpeg

_PIXELS = 10**8


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


def test_histogram_counts_red_green_blue() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = (255, 0, 8)  # blue 255, green 0, red 8
    red, green, blue = histogram(image).tolist()
    assert (red[0], red[1], sum(red)) == (5, 1, 6)
    assert (green[0], sum(green)) == (6, 6)
    assert (blue[0], blue[31], sum(blue)) == (5, 1, 6)


def test_pixels_are_capped_before_decoding() -> None:
    with pytest.raises(BadPictureError) as caught:
        measure(png_header(60_000, 60_000), max_pixels=_PIXELS)
    assert caught.value.outcome == "too_many_pixels"


def old_bitmap(width: int, height: int) -> bytes:
    """An icon's bitmap, black, with the shorter header of its time."""
    pixels = bytes(3 * width * height + 4 * height) if width < 100 else bytes(20)
    return struct.pack("<IHHHH", 12, width, 2 * height, 1, 24) + pixels


def icon(*inside: bytes) -> bytes:
    """An ICO file; what is empty lies behind its end."""
    head = struct.pack("<HHH", 0, 1, len(inside))
    start = len(head) + 16 * len(inside)
    for content in inside:
        at = start if content else 0x7FFF_FFFF
        head += struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 24, len(content), at)
        start += len(content)
    return head + b"".join(inside)


@pytest.mark.parametrize("is_first_broken", [False, True])
@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (png_header(60_000, 60_000), "60000 x 60000 d"),
        (struct.pack("<IiiHHIIiiII", 40, 60_000, 2 * 60_000, 1, 24, 0, 0, 0, 0, 0, 0), "60000 x 60000 d"),
        (old_bitmap(60_000, 30_000), "60000 x 30000 d"),
    ],
    ids=["png", "bitmap", "old bitmap"],
)
def test_pixels_of_an_icon_are_capped_before_decoding(inside: bytes, says: str, is_first_broken: bool) -> None:
    """Pillow decodes it when it opens the file, whatever size its directory names."""
    with pytest.raises(BadPictureError) as caught:
        measure(icon(*([b""] * is_first_broken), inside), max_pixels=_PIXELS)
    assert (caught.value.outcome, caught.value.detail[:15]) == ("too_many_pixels", says)


def test_an_old_icon_is_a_picture() -> None:
    picture = measure(icon(old_bitmap(16, 16)), max_pixels=_PIXELS)
    assert (picture.format, picture.width, picture.height) == ("ico", 16, 16)


@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (3, False), (6, True), (8, True)])
def test_exif_rotation_turns_the_picture(orientation: int, turned: bool) -> None:
    picture = measure(rotated_jpeg(np.zeros((20, 50, 3), np.uint8), orientation), max_pixels=_PIXELS)
    assert (picture.width, picture.height) == ((20, 50) if turned else (50, 20))


@pytest.mark.parametrize(
    "body", [b"", b"x", b"<html></html>", b"%PDF-1.4", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n"]
)
def test_no_picture_is_a_named_reason(body: bytes) -> None:
    with pytest.raises(BadPictureError) as caught:
        measure(body, max_pixels=_PIXELS)
    assert caught.value.outcome in ("not_an_image", "decode_error")


@pytest.mark.parametrize(("side", "factor"), [(20, 1), (200, 1), (399, 1), (400, 2), (799, 2), (800, 4), (3200, 8)])
def test_a_decode_to_fit_keeps_what_the_letterbox_needs(side: int, factor: int) -> None:
    ok, encoded = cv2.imencode(".jpg", np.zeros((side // 2, side, 3), np.uint8))
    assert ok
    picture = measure(encoded.tobytes(), max_pixels=_PIXELS, fit=(200, 200))
    assert (picture.width, picture.height) == (side, side // 2)
    assert picture.image.shape[1] == -(-side // factor)
    assert picture.image.shape[1] >= min(side, 200)


def test_counts_in_proportion_keep_their_sum() -> None:
    counts = np.array([[1, 1, 1], [3, 0, 0]])
    assert scaled_to(counts, 10).tolist() == [[4, 3, 3], [10, 0, 0]]
    assert scaled_to(counts, 3).tolist() == counts.tolist()


def test_large_pictures_are_counted_exactly() -> None:
    image = np.zeros((4099, 4101, 3), np.uint8)  # more pixels than a float32 counts
    assert histogram(image)[:, 0].tolist() == [4099 * 4101] * 3
