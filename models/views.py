"""Views of photographs: what the teacher labels and the student learns from.

A view is a square RGB picture (S, S, 3) uint8. The first of every photograph is letterboxed as for validation; the
others are affine (zoomed, shrunk, squeezed, mirrored, other colours) or mosaics of four photographs. Nothing keeps
track of boxes: the teacher looks at the finished view.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
GREY = (114, 114, 114)  # Ultralytics' letterbox colour


def photo_paths(folders: Iterable[Path]) -> list[Path]:
    """List the pictures below `folders`, sorted, so that a seed means the same views everywhere."""
    return sorted({p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES})


def load(path: Path, longest: int) -> Picture:
    """Read a picture as RGB (H, W, 3) with its longer side at most `longest` pixels."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{path} is not a picture that OpenCV reads")
    scale = longest / max(bgr.shape[:2])
    if scale < 1:
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def letterbox(photo: Picture, size: int) -> Picture:
    """Scale a photograph to fit a square of `size` pixels and centre it on grey."""
    height, width = photo.shape[:2]
    scale = size / max(height, width)
    resized = cv2.resize(photo, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    top, left = (size - resized.shape[0]) // 2, (size - resized.shape[1]) // 2
    view = np.full((size, size, 3), GREY, np.uint8)
    view[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
    return view


def _place(photo: Picture, width: int, height: int, zoom: float, rng: Generator) -> Picture:
    """Fit a photograph `zoom` times into (height, width), squeezed a little, mirrored or not, at a random place."""
    h, w = photo.shape[:2]
    fit = zoom * min(width / w, height / h)
    squeeze = float(np.exp(rng.uniform(-0.2, 0.2)))
    sx, sy = fit * squeeze, fit / squeeze
    # Free room (or, where negative, what is cut off) is shared out at random between the two sides.
    dx, dy = rng.uniform(0, 1, 2) * (width - w * sx, height - h * sy)
    if rng.random() < 0.5:
        sx, dx = -sx, dx + w * sx
    matrix = np.array([[sx, 0, dx], [0, sy, dy]], np.float32)
    placed = cv2.warpAffine(photo, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=GREY)
    return np.asarray(placed, dtype=np.uint8)


def _colours(view: Picture, rng: Generator) -> Picture:
    """Vary hue (by 3 degrees), saturation and brightness (by 40 per cent)."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * (0.015, 0.4, 0.4) + (0, 1, 1)
    ramp = np.arange(256, dtype=np.float64)
    tables = [(ramp + hue * 180) % 180, np.clip(ramp * saturation, 0, 255), np.clip(ramp * value, 0, 255)]
    channels = cv2.split(cv2.cvtColor(view, cv2.COLOR_RGB2HSV))
    hsv = cv2.merge([cv2.LUT(c, t.astype(np.uint8)) for c, t in zip(channels, tables, strict=True)])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)


def affine(photo: Picture, size: int, rng: Generator) -> Picture:
    """One photograph, zoomed to between 0.5 and 2 times its letterboxed size."""
    return _colours(_place(photo, size, size, 2 ** float(rng.uniform(-1, 1)), rng), rng)


def mosaic(photos: list[Picture], size: int, rng: Generator) -> Picture:
    """Four photographs around a centre that is off the middle by up to 15 per cent."""
    cx, cy = (int(c) for c in size * rng.uniform(0.35, 0.65, 2))
    view = np.empty((size, size, 3), np.uint8)
    corners = ((0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size))
    for photo, (x1, y1, x2, y2) in zip(photos, corners, strict=True):
        view[y1:y2, x1:x2] = _place(photo, x2 - x1, y2 - y1, float(rng.uniform(0.9, 1.9)), rng)
    return _colours(view, rng)


def make(photos: list[Picture], index: int, chances: NDArray[np.float64], size: int, seed: int) -> Picture:
    """Make view number `index`: the first `len(photos)` are letterboxed, then affine ones and mosaics in turn.

    `chances` (len(photos),) is how likely each photograph is to be drawn for those.
    """
    if index < len(photos):
        return letterbox(photos[index], size)
    rng = np.random.default_rng((seed, index))
    drawn = [photos[i] for i in rng.choice(len(photos), 4, p=chances)]
    return mosaic(drawn, size, rng) if index % 2 else affine(drawn[0], size, rng)
