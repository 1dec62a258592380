"""What a picture's header says before anything is decoded: format, size, orientation, transparency."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image

from cortex_spark.pillow import is_no_picture

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

#: Pictures that Pillow does not know, by how they begin. HEIC: no decoder of its patented HEVC has a fitting licence.
_UNSUPPORTED: Final = {
    "HEIC": re.compile(rb"....ftyp(.{8,60})?(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n", re.DOTALL),
    "JPEG XR": re.compile(rb"II\xbc[\x00\x01]", re.DOTALL),
    "SVG": re.compile(
        rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.{0,500}?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b", re.DOTALL
    ),
}

_ICO: Final = b"\x00\x00\x01\x00"
#: How a bitmap begins whose width and height have 16 bits: the length of its header.
_OLD_BITMAP: Final = (12).to_bytes(4, "little")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
#: Where a PNG may tell its orientation. Pillow finds these behind the pixels too, and decodes the whole file for that.
_PNG_ORIENTATION: Final = re.compile(rb"eXIf|Raw profile type exif|XML:com\.adobe\.xmp")
_EXIF_ORIENTATION: Final = 0x0112


class BadPictureError(Exception):
    """Bytes that yield no picture; ``outcome`` names the reason."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture declares of itself."""

    format: str
    width: int  # pixels as they are decoded, before they are turned by ``orientation``
    height: int
    orientation: int  # of EXIF: 1 upright, 2 to 8 turned or mirrored; 1 for what its decoder turns by itself
    transparent: bool  # has an alpha channel or a transparent colour


def read_header(body: bytes, max_pixels: int) -> Header:
    """The header of ``body``; nothing is decoded.

    Raises BadPictureError: ``not_an_image``, ``unsupported_format``, ``too_many_pixels``, ``decode_error``.
    """
    try:
        for width, height in _icons(body):
            _check_size(width, height, max_pixels)
        with Image.open(io.BytesIO(body)) as picture:
            kind, (width, height) = picture.format or "", picture.size
            if kind not in FORMATS:
                raise BadPictureError("unsupported_format", f"{kind} is not accepted")
            _check_size(width, height, max_pixels)
            # The transparent colour of a 16-bit grey picture is lost: Pillow cannot bring it down to 8 bits.
            transparent = picture.has_transparency_data and not picture.mode.startswith("I")
            return Header(FORMATS[kind], width, height, _orientation(picture, body), transparent)
    except BadPictureError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged header makes them
        if not is_no_picture(error):
            raise BadPictureError("decode_error", f"header: {error}"[:200]) from None
    for name, beginning in _UNSUPPORTED.items():
        if beginning.match(body):
            raise BadPictureError("unsupported_format", f"{name} is not accepted")
    if any(_begins_as(kind, body) for kind in FORMATS):
        raise BadPictureError("decode_error", "header: it begins as a picture, and is damaged")
    raise BadPictureError("not_an_image", f"begins with {body[:12]!r}")


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise BadPictureError("too_many_pixels", f"{width} x {height} declared, {most} pixels allowed")


def _icons(body: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each picture of an ICO, which Pillow decodes already when it opens the file."""
    if not body.startswith(_ICO):
        return
    for entry in range(6, 6 + 16 * int.from_bytes(body[4:6], "little"), 16):
        start = int.from_bytes(body[entry + 12 : entry + 16], "little")
        header = body[start : start + 24]
        if len(header) < 24:
            continue  # cut off
        if header.startswith(_PNG):
            yield struct.unpack(">II", header[16:])
        elif header.startswith(_OLD_BITMAP):
            width, height = struct.unpack("<HH", header[4:8])
            yield width, height // 2
        else:  # a bitmap: picture and mask, one above the other
            width, height = struct.unpack("<ii", header[4:12])
            yield abs(width), abs(height) // 2


def _begins_as(kind: str, body: bytes) -> bool:
    Image.init()
    accepts = Image.OPEN[kind][1] if kind in Image.OPEN else None
    return accepts is not None and accepts(body[:16]) is True


def _orientation(picture: Image.Image, body: bytes) -> int:
    if picture.format == "TIFF" or (picture.format == "PNG" and not _PNG_ORIENTATION.search(body)):
        return 1  # both decoders turn TIFFs themselves
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing, and says it with any exception
        return 1
    return orientation if orientation in range(1, 9) else 1
