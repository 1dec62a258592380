"""The contact sheet: which pictures are on it, and that their boxes are where the objects are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cortex_spark.demo.sheet import choose, contact_sheet

TILE = (372, 264 + 46)
ORIGIN = (36, 112)


def sample(_id: str, *boxes: tuple[int, int, int, int, str, float], **columns: Any) -> dict[str, Any]:
    names = ("x1", "y1", "x2", "y2", "classname", "confidence")
    defaults = {
        "_id": _id,
        "object_analysis": [[dict(zip(names, box, strict=True)) for box in boxes]],
        "label_quality_estimation": None,
        "width": 600,
        "height": 400,
        "host": "a.localhost",
        "alt_text": _id,
        "format": "png",
    }
    return defaults | columns


def box(classname: str = "cat", confidence: float = 0.9) -> tuple[int, int, int, int, str, float]:
    return (100, 100, 300, 300, classname, confidence)


def png(width: int = 600, height: int = 400, colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), colour, np.uint8))[1].tobytes()


def noise(seed: int, *, mirrored: bool = False) -> bytes:
    """A picture like no other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    pixels = cv2.resize(pixels[:, ::-1] if mirrored else pixels, (600, 400), interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize(
    ("samples", "limit", "expected"),
    [
        ([], 3, []),
        ([sample("a")], 3, []),  # nothing was found in it
        ([sample("a", object_analysis=None)], 3, []),
        ([sample("a", box())], 0, []),
        ([sample("no picture", box()), sample("a", box())], 3, ["a"]),
        ([sample("a", box(confidence=0.5)), sample("b", box(confidence=0.9))], 2, ["b", "a"]),
        # A judged quality counts before the detector's confidence.
        ([sample("a", box(), label_quality_estimation=0.1), sample("b", box(confidence=0.5))], 1, ["b"]),
        # Several classes are better than one, small pictures worse than large ones.
        ([sample("a", box()), sample("b", box(), box("dog"))], 1, ["b"]),
        ([sample("a", box(confidence=0.95), width=100), sample("b", box())], 1, ["b"]),
        # The same picture again, or its mirror image, comes after another one, even if that is less sure.
        ([sample("a", box()), sample("like a", box()), sample("b", box("dog", 0.5))], 3, ["a", "b", "like a"]),
        ([sample("a", box()), sample("mirrored a", box()), sample("b", box("dog", 0.5))], 3, ["a", "b", "mirrored a"]),
        # So do the same classes, a little.
        ([sample("a", box()), sample("b", box()), sample("c", box("dog", 0.85))], 3, ["a", "c", "b"]),
    ],
)
def test_choose(samples: list[dict[str, Any]], limit: int, expected: list[str]) -> None:
    names = ("a", "like a", "mirrored a", "b", "c")
    images = {name: noise(ord(name[-1]), mirrored="mirrored" in name) for name in names}
    assert [chosen["_id"] for chosen in choose(samples, images, limit)] == expected
    assert [chosen["_id"] for chosen in choose(reversed(samples), images, limit)] == expected


def test_sheet_is_a_grid(tmp_path: Path) -> None:
    samples = [sample(str(n), box()) for n in range(7)]
    images = {str(n): png() for n in range(6)}  # of the last there is no picture
    assert contact_sheet(samples, images, tmp_path / "sheet.png", columns=4) == 6
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (2 * 36 + 4 * (TILE[0] + 18) - 18, 112 + 2 * (TILE[1] + 18) - 18 + 36)


def test_nothing_to_show(tmp_path: Path) -> None:
    assert contact_sheet([sample("a"), sample("b", box())], {"a": png()}, tmp_path / "sheet.png") == 0
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("size", "corners", "drawn"),
    [
        # Fits the tile's shape nearly: scaled, and cut above and below.
        ((372, 300), (100, 100, 200, 200), (100, 82, 200, 182)),
        # Much too wide, the object small: the tile shows the part around it.
        ((1200, 264), (500, 60, 700, 220), (86, 60, 286, 220)),
        # Much too wide, the object as wide: the whole picture, between blurred bars.
        ((744, 264), (10, 20, 734, 244), (5, 76, 367, 188)),
    ],
)
def test_boxes_are_where_the_objects_are(
    tmp_path: Path, size: tuple[int, int], corners: tuple[int, int, int, int], drawn: tuple[int, int, int, int]
) -> None:
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[corners[1] : corners[3], corners[0] : corners[2]] = (0, 0, 255)  # the object is red
    data = cv2.imencode(".png", pixels)[1].tobytes()
    labelled = sample("a", (*corners, "cat", 0.9), width=width, height=height)
    contact_sheet([labelled], {"a": data}, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    tile = sheet[ORIGIN[1] : ORIGIN[1] + 264, ORIGIN[0] : ORIGIN[0] + TILE[0]]
    line = (np.abs(tile - (255, 183, 77)).sum(axis=2) < 60).astype(np.uint8)  # the first colour: the box and its label
    middle = (drawn[0] + drawn[2]) // 2, (drawn[1] + drawn[3]) // 2
    across, down = np.flatnonzero(line[middle[1]]), np.flatnonzero(line[:, drawn[2] - 15])
    assert across[[0, -1]] == pytest.approx((drawn[0], drawn[2]), abs=3)
    assert down[[0, -1]] == pytest.approx((drawn[1], drawn[3]), abs=3)
    red = (tile[:, :, 0] > 200) & (tile[:, :, 1] < 60)
    rows, columns = np.nonzero(red)
    assert (columns.min(), columns.max()) == pytest.approx((drawn[0], drawn[2]), abs=5)
    assert (rows.min(), rows.max()) == pytest.approx((drawn[1], drawn[3]), abs=5)


def test_a_class_has_one_colour_and_long_names_are_cut(tmp_path: Path) -> None:
    names = [f"class number {n}" for n in range(30)]
    samples = [
        sample(str(n), box(name), host="a-very-long-host-name." * 5, alt_text=None) for n, name in enumerate(names)
    ]
    assert contact_sheet(samples, {str(n): png() for n in range(30)}, tmp_path / "sheet.png", limit=30) == 30


def test_pictures_at_their_odd_sizes(tmp_path: Path) -> None:
    samples = [
        sample("wide", (0, 0, 2000, 3, "cat", 0.9), width=2000, height=3),
        sample("high", (0, 0, 3, 2000, "cat", 0.9), width=3, height=2000),
        sample("dot", (0, 0, 1, 1, "cat", 0.9), width=1, height=1),
    ]
    images = {"wide": png(2000, 3), "high": png(3, 2000), "dot": png(1, 1)}
    assert contact_sheet(samples, images, tmp_path / "sheet.png") == 3
