"""Drawn scenes for what no photograph of the demo shows: a stop sign, a clock, a traffic light, a television."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from cortex_spark.demo.photos import Pixels

Draw = Callable[[np.random.Generator, Pixels], Pixels]
_SIZE: Final = 480
_RED: Final = (38, 30, 196)
_WHITE: Final = (245, 245, 245)
_DARK: Final = (34, 32, 30)


def _street(rng: np.random.Generator) -> Pixels:
    """Sky, a few houses, a lawn and a road, (480, 480, 3)."""
    rows = np.linspace(0, 1, _SIZE, dtype=np.float32)[:, None, None]
    top, bottom = np.array((226, 178, 118), np.float32), np.array((246, 236, 222), np.float32)
    sky = (1 - rows) * top + rows * bottom
    scene = np.repeat(sky, _SIZE, axis=1).astype(np.uint8)
    for left in range(-20, _SIZE, 90):
        roof = int(rng.integers(150, 260))
        shade = rng.integers(90, 190, 3).tolist()
        cv2.rectangle(scene, (left, roof), (left + 84, 360), shade, -1)
        for x in range(left + 12, left + 70, 24):
            for y in range(roof + 16, 340, 34):
                cv2.rectangle(scene, (x, y), (x + 12, y + 18), (214, 232, 240), -1)
    cv2.rectangle(scene, (0, 360), (_SIZE, 410), (88, 150, 104), -1)
    cv2.rectangle(scene, (0, 410), (_SIZE, _SIZE), (96, 94, 92), -1)
    return scene


def _finish(scene: Pixels, rng: np.random.Generator) -> Pixels:
    """A little blur and grain, as a camera would add."""
    noise = rng.normal(0, 3, scene.shape)
    return np.clip(cv2.GaussianBlur(scene, (3, 3), 0) + noise, 0, 255).astype(np.uint8)


def _stop_sign(rng: np.random.Generator, _: Pixels) -> Pixels:
    scene = _street(rng)
    x, y, radius = int(rng.integers(170, 310)), int(rng.integers(150, 200)), int(rng.integers(78, 104))
    cv2.rectangle(scene, (x - 6, y), (x + 6, 430), (150, 152, 154), -1)
    angles = np.deg2rad(22.5 + 45 * np.arange(8))
    for size, colour in ((radius, _WHITE), (int(radius * 0.93), _RED)):
        corners = np.stack([x + size * np.cos(angles), y + size * np.sin(angles)], axis=1).round().astype(np.int32)
        cv2.fillPoly(scene, [corners], colour, cv2.LINE_AA)
    scale = radius / 48
    (width, height), _base = cv2.getTextSize("STOP", cv2.FONT_HERSHEY_DUPLEX, scale, 6)
    origin = (x - width // 2, y + height // 2)
    cv2.putText(scene, "STOP", origin, cv2.FONT_HERSHEY_DUPLEX, scale, _WHITE, max(3, radius // 16), cv2.LINE_AA)
    return _finish(scene, rng)


def _clock(rng: np.random.Generator, _: Pixels) -> Pixels:
    scene = np.full((_SIZE, _SIZE, 3), rng.integers(150, 215, 3), np.uint8)
    for y in range(0, _SIZE, 48):  # a brick wall
        shift = 24 if y // 48 % 2 else 0
        cv2.line(scene, (0, y), (_SIZE, y), (132, 140, 150), 2)
        for x in range(shift, _SIZE, 96):
            cv2.line(scene, (x, y), (x, y + 48), (132, 140, 150), 2)
    x, y, radius = int(rng.integers(200, 280)), int(rng.integers(200, 280)), int(rng.integers(120, 170))
    cv2.circle(scene, (x, y), radius, (44, 52, 70), -1, cv2.LINE_AA)
    cv2.circle(scene, (x, y), int(radius * 0.9), _WHITE, -1, cv2.LINE_AA)
    for number in range(1, 13):
        angle = np.deg2rad(number * 30 - 90)
        text = str(number)
        (width, height), _base = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, radius / 170, 2)
        origin = (
            int(x + radius * 0.74 * np.cos(angle) - width / 2),
            int(y + radius * 0.74 * np.sin(angle) + height / 2),
        )
        cv2.putText(scene, text, origin, cv2.FONT_HERSHEY_DUPLEX, radius / 170, _DARK, 2, cv2.LINE_AA)
    hour, minute = int(rng.integers(0, 12)), int(rng.integers(0, 60))
    for turn, length, thick in (((hour + minute / 60) / 12, 0.45, 9), (minute / 60, 0.66, 5)):
        angle = 2 * np.pi * turn - np.pi / 2
        tip = (int(x + radius * length * np.cos(angle)), int(y + radius * length * np.sin(angle)))
        cv2.line(scene, (x, y), tip, _DARK, thick, cv2.LINE_AA)
    cv2.circle(scene, (x, y), 8, _RED, -1, cv2.LINE_AA)
    return _finish(scene, rng)


def _traffic_light(rng: np.random.Generator, _: Pixels) -> Pixels:
    scene = _street(rng)
    x, y, lit = int(rng.integers(160, 320)), int(rng.integers(40, 80)), int(rng.integers(0, 3))
    cv2.rectangle(scene, (x - 7, y + 200), (x + 7, 440), (70, 72, 74), -1)
    cv2.rectangle(scene, (x - 42, y), (x + 42, y + 216), (28, 30, 30), -1)
    for index, colour in enumerate(((40, 40, 235), (30, 190, 245), (90, 220, 70))):
        centre = (x, y + 40 + 68 * index)
        shown = colour if index == lit else tuple(part // 5 for part in colour)
        cv2.circle(scene, centre, 28, shown, -1, cv2.LINE_AA)
    return _finish(scene, rng)


def _television(rng: np.random.Generator, photo: Pixels) -> Pixels:
    scene = np.full((_SIZE, 640, 3), rng.integers(170, 225, 3), np.uint8)
    cv2.rectangle(scene, (0, 380), (640, _SIZE), (62, 92, 128), -1)
    left, top = int(rng.integers(90, 150)), int(rng.integers(60, 90))
    cv2.rectangle(scene, (left + 150, top + 240), (left + 230, 392), _DARK, -1)
    cv2.rectangle(scene, (left + 90, 382), (left + 290, 398), _DARK, -1)
    cv2.rectangle(scene, (left - 12, top - 12), (left + 392, top + 252), _DARK, -1)
    scene[top : top + 240, left : left + 380] = cv2.resize(photo, (380, 240), interpolation=cv2.INTER_AREA)
    return _finish(scene, rng)


SCENES: Final[dict[str, Draw]] = {
    "stop sign": _stop_sign,
    "clock": _clock,
    "traffic light": _traffic_light,
    "television": _television,
}


def draw(kind: str, seed: int, photo: Pixels) -> Pixels:
    """Draws the scene ``kind``, (480, 480 or 640, 3); ``photo`` is what a television shows. One seed, one picture."""
    return SCENES[kind](np.random.default_rng(seed), photo)
