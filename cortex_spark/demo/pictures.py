"""Crops, sizes, flips and formats of the demo's photographs and drawn scenes: some 240 files, the same for one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np

from cortex_spark.demo import photos, scenes
from cortex_spark.demo.photos import Pixels

#: Files made of each photograph, by host: faces of a cat bear more repetition than frames of one film.
_VARIANTS: Final = {"cats": 18, "coffee": 18, "people": 14, "garage": 11, "space": 5, "museum": 4, "street": 5}
_SCENES: Final = {"stop sign": 8, "clock": 8, "traffic light": 5, "television": 6}
_ON_TELEVISION: Final = ("chelsea", "boulevard", "astronaut", "coffee", "cyclist", "luis")

_WITH_WRITING: Final = ("stop sign", "clock", "faust", "astronaut")  # would look odd in a mirror

_WIDTHS: Final = (160, 240, 320, 400, 480, 640, 800)  # pixels
_PNG_WIDTH: Final = 400  # photographs as PNG are large: only up to this width
_FORMATS: Final = (("jpg", "image/jpeg", 0.66), ("png", "image/png", 0.14), ("webp", "image/webp", 0.2))


@dataclass(frozen=True)
class File:
    """One encoded picture of the demo's web."""

    host: str  # "cats", without ".localhost"
    name: str  # "chelsea-07-480.webp"
    content_type: str
    data: bytes
    width: int
    height: int
    alt: str

    @property
    def sha256(self) -> str:
        """Of ``data``, lower-case hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def _crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """At least three quarters of both sides, near the middle: what the picture shows stays in it."""
    height, width = pixels.shape[:2]
    share = rng.uniform(0.76, 1.0)
    h, w = int(height * share), int(width * share)
    top, left = int((height - h) * rng.uniform(0.2, 0.8)), int((width - w) * rng.uniform(0.2, 0.8))
    return pixels[top : top + h, left : left + w]


def _encode(pixels: Pixels, suffix: str, rng: np.random.Generator) -> bytes:
    quality = int(rng.integers(70, 94))
    options = {
        "jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 6],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }
    done, data = cv2.imencode(f".{suffix}", pixels, options[suffix])
    if not done:
        raise RuntimeError(f"OpenCV does not encode {suffix}")
    return data.tobytes()


def _variant(host: str, subject: str, alt: str, index: int, pixels: Pixels, seed: int) -> File:
    rng = np.random.default_rng([seed, index, *subject.encode()])
    if index:  # the first is the whole photograph
        pixels = _crop(pixels, rng)
    if index % 2 and subject not in _WITH_WRITING:
        pixels = pixels[:, ::-1]
    suffix, content_type = _FORMATS[int(rng.choice(len(_FORMATS), p=[share for *_, share in _FORMATS]))][:2]
    widths = [width for width in _WIDTHS if suffix != "png" or width <= _PNG_WIDTH]
    width = int(rng.choice(widths)) if index else min(pixels.shape[1], _WIDTHS[-1])
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    method = cv2.INTER_AREA if width < pixels.shape[1] else cv2.INTER_CUBIC
    small = cv2.resize(pixels, (width, height), interpolation=method)
    gain = rng.uniform(0.88, 1.12) if index else 1.0
    small = np.clip(small.astype(np.float32) * gain, 0, 255).astype(np.uint8)
    name = f"{subject.replace(' ', '-')}-{index:02d}-{width}.{suffix}"
    return File(host, name, content_type, _encode(small, suffix, rng), width, height, alt)


def _every(seed: int) -> Iterator[File]:
    found = photos.load()
    for photo in photos.PHOTOS:
        for index in range(_VARIANTS[photo.host]):
            yield _variant(photo.host, photo.name, photo.alt, index, found[photo.name], seed)
    for kind, count in _SCENES.items():
        for index in range(count):
            drawn = scenes.draw(kind, seed * 1000 + index, found[_ON_TELEVISION[index % len(_ON_TELEVISION)]])
            yield _variant("drawings", kind, f"A drawn {kind}", index, drawn, seed)


@cache
def make(seed: int = 0) -> tuple[File, ...]:
    """All files, grouped by host. Raises CortexError when a photograph's package is not installed.

    Takes three seconds and 8 MB, once per process.
    """
    return tuple(_every(seed))
