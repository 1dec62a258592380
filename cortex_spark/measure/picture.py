"""Bytes to a measured picture. Pure, and safe to run in threads: OpenCV releases the interpreter's lock."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cortex_spark.pillow import is_no_picture

#: Levels of a channel per bin, and bins per channel.
HISTOGRAM_BINS: Final = 32
_LEVELS: Final = [0.0, 256.0]

#: Accepted formats by Pillow's name for them. Vector, document and camera formats are not pictures of the web.
FORMATS: Final = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
    "JPEG2000": "jpeg2000",
    "ICO": "ico",
}


class BadPictureError(Exception):
    """Bytes that yield no picture; ``outcome`` names the reason."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and its measures."""

    hash: str  # sha256 of the bytes, lower-case hexadecimal
    format: str
    width: int  # pixels, after EXIF rotation
    height: int
    bytes: int
    histogram: list[list[int]]  # 3 x 32: red, green, blue; pixels per bin of 8 levels
    image: npt.NDArray[np.uint8]  # (height, width, 3), BGR


def measure(body: bytes, *, max_pixels: int) -> Picture:
    """Decode ``body`` and measure it; animated pictures by their first frame.

    Raises BadPictureError.
    """
    kind = _check_header(body, max_pixels)
    image = _decode(body)
    height, width = image.shape[:2]
    return Picture(
        hash=hashlib.sha256(body).hexdigest(),
        format=kind,
        width=width,
        height=height,
        bytes=len(body),
        histogram=histogram(image),
        image=image,
    )


def histogram(image: npt.NDArray[np.uint8]) -> list[list[int]]:
    """Pixels per bin of 8 levels: 3 x 32, red, green, blue, of a BGR ``image`` of shape (height, width, 3)."""
    return [
        cv2.calcHist([image], [channel], None, [HISTOGRAM_BINS], _LEVELS).astype(np.int64).ravel().tolist()
        for channel in (2, 1, 0)
    ]


def _check_header(body: bytes, max_pixels: int) -> str:
    """The format that the header declares, without decoding anything."""
    try:
        with Image.open(io.BytesIO(body)) as header:
            kind, (width, height) = header.format or "", header.size
    except Exception as error:  # Pillow's plugins raise whatever a damaged header makes them
        if is_no_picture(error):
            raise BadPictureError("not_an_image", f"begins with {body[:12]!r}") from None
        raise BadPictureError("decode_error", f"header: {error}"[:200]) from None
    if kind not in FORMATS:
        raise BadPictureError("not_an_image", f"{kind} is not an accepted format")
    if width * height > max_pixels:
        raise BadPictureError("too_many_pixels", f"{width} x {height} declared, {max_pixels} pixels allowed")
    return FORMATS[kind]


def _decode(body: bytes) -> npt.NDArray[np.uint8]:
    """Decode to BGR, upright."""
    try:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is not None:
        return np.asarray(image, np.uint8)
    try:  # what OpenCV does not read, Pillow often does: ICO, odd TIFFs, palette tricks
        with Image.open(io.BytesIO(body)) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except Exception as error:
        raise BadPictureError("decode_error", str(error)[:200]) from None
    return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1])
