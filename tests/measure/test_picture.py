"""Bytes to measures."""

from __future__ import annotations

import csv
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from cortex_spark.measure import BadPictureError, Picture, measure
from cortex_spark.measure.picture import histogram

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


def rotated_jpeg(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG of ``image`` as it is stored, with an EXIF orientation."""
    ok, encoded = cv2.imencode(".jpg", image)
    assert ok
    body: bytes = encoded.tobytes()
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + struct.pack(
        ">HHI", orientation, 0, 0
    )
    exif = b"Exif\x00\x00" + tiff
    return body[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + body[2:]


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


def measured_or_refused(body: bytes) -> Picture | None:
    """The picture, or None for a named reason; anything else is raised."""
    try:
        return measure(body, max_pixels=_PIXELS)
    except BadPictureError as bad:
        if bad.outcome not in ("not_an_image", "unsupported_format", "decode_error", "too_many_pixels"):
            raise
        return None


def test_odd_files_are_measured_or_end_in_a_named_reason(shared: Path) -> None:
    odd = shared / "odd_images"
    with (odd / "manifest.csv").open() as manifest:
        rows = list(csv.DictReader(manifest))
    assert len(rows) > 100
    measured = 0
    for row in rows:
        body = (odd / next(iter(row.values()))).read_bytes()
        picture = measured_or_refused(body)
        if picture is None:
            continue
        measured += 1
        assert picture.image.shape == (picture.height, picture.width, 3), row
        assert picture.image.dtype == np.uint8, row
        assert [sum(channel) for channel in picture.histogram] == [picture.width * picture.height] * 3, row
    # Most of these files are odd, not broken.
    assert measured > len(rows) / 2
