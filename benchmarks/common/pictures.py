"""The pictures that everything is measured on: a folder's, as they are or re-encoded to the web's usual size."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np

#: What a picture of the web of about 1300 pixels weighs; the JPEG quality is chosen to meet it.
MEAN_BYTES: Final = 126_000
_QUALITIES: Final = (20, 95)
_SAMPLE: Final = 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options ``--pictures``, ``--side`` and ``--quality``, for ``from_options``."""
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--side", type=int, help="re-encode them to JPEGs whose longer side has this many pixels")
    parser.add_argument("--quality", type=int, help="of these JPEGs; default: so that they have 126 KB on average")


def from_options(options: argparse.Namespace) -> list[bytes]:
    """The pictures that the command line asks for; ends the program where there are none."""
    bodies = load(options.pictures, side=options.side, quality=options.quality)
    if not bodies:
        raise SystemExit(f"{options.pictures}: no pictures in it")
    return bodies


def load(folder: Path, *, side: int | None = None, quality: int | None = None) -> list[bytes]:
    """The files of ``folder`` by name; with ``side`` as JPEGs whose longer side has that many pixels.

    Without ``quality`` the JPEGs weigh ``MEAN_BYTES`` on average, as nearly as a quality does it.
    """
    bodies = [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
    if side is None:
        return bodies
    images = [image for body in bodies if (image := _scaled(body, side)) is not None]
    if quality is None:
        quality = _quality_for(images[:: max(1, len(images) // _SAMPLE)], MEAN_BYTES)
    return [_jpeg(image, quality) for image in images]


def _scaled(body: bytes, side: int) -> np.ndarray | None:
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA))


def _quality_for(images: list[np.ndarray], mean_bytes: int) -> int:
    """The highest quality whose JPEGs weigh no more than ``mean_bytes`` on average."""
    low, high = _QUALITIES
    while low < high:
        middle = (low + high + 1) // 2
        if sum(len(_jpeg(image, middle)) for image in images) <= mean_bytes * len(images):
            low = middle
        else:
            high = middle - 1
    return low


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    done, body = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return body.tobytes()
