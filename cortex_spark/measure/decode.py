"""Bytes to upright pixels: OpenCV where it can, Pillow for transparency and for what OpenCV does not read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cortex_spark.measure.header import BadPictureError, Header

Pixels = npt.NDArray[np.uint8]

#: How far libjpeg can scale down while it decodes: it leaves out the high frequencies of each 8 x 8 block.
_REDUCED: Final = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

#: What turns a stored picture upright, by EXIF orientation (CIPA DC-008, Orientation).
_UPRIGHT: Final[dict[int, Callable[[Pixels], Any]]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def decode(body: bytes, header: Header, fit: tuple[int, int] | None = None) -> Pixels:
    """The upright picture, BGR of shape (height, width, 3); animated ones by their first frame, alpha on white.

    ``fit`` is the height and width of a letterbox that the picture is for: a JPEG that is larger may come out at 1/2,
    1/4 or 1/8 of its size, never smaller than the letterbox needs it.

    Raises BadPictureError: ``decode_error``.
    """
    image = None if header.transparent else _opencv(body, reduction(header, fit))
    if image is None:
        image = _pillow(body)
    if header.orientation in _UPRIGHT:
        image = np.asarray(_UPRIGHT[header.orientation](image), np.uint8)
    return image


def reduction(header: Header, fit: tuple[int, int] | None) -> int:
    """By how much a picture may be scaled down while it is decoded: 1, 2, 4 or 8."""
    if fit is None or header.format != "jpeg":
        return 1
    width, height = header.width, header.height
    if header.orientation >= min(range(5, 9)):
        width, height = height, width
    spare = max(height / fit[0], width / fit[1])
    return max(factor for factor in _REDUCED if factor <= max(spare, 1))


def _opencv(body: bytes, factor: int) -> Pixels | None:
    # OpenCV turns JPEGs by EXIF, but neither WebP nor AVIF: so it turns none.
    try:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _pillow(body: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(body)) as picture:
            if picture.has_transparency_data:
                layer = picture.convert("RGBA")
                flat = Image.new("RGBA", layer.size, "white")
                flat.alpha_composite(layer)
            else:
                flat = picture
            return np.asarray(cv2.cvtColor(np.asarray(flat.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)
    except Exception as error:  # Pillow's plugins raise whatever damaged data makes them
        raise BadPictureError("decode_error", str(error)[:200]) from None
