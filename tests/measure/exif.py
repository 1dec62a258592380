"""Pictures that are stored otherwise than they are looked at."""

import struct

import cv2
import numpy as np


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
