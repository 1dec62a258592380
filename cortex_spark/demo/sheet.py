"""A contact sheet: the best labelled pictures side by side, with their boxes, as one PNG.

Drawn with Pillow, whose built-in font is a real one; supervision's annotators would add 187 MB to what the demo
installs (PyAV alone 107 MB; measured with supervision 0.31).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Sample = Mapping[str, Any]
"""A row of ``samples`` with its boxes as mappings (``Row.asDict(recursive=True)``)."""

Colour = tuple[int, int, int]
Look = NDArray[np.float32]

_TILE: Final = (372, 264)  # pixels, of the picture's place
_CAPTION, _GAP, _MARGIN, _HEADER = 46, 18, 36, 112
_GROUND: Final[Colour] = (18, 21, 27)
_CARD: Final[Colour] = (30, 35, 44)
_BRIGHT: Final[Colour] = (238, 241, 245)
_DIM: Final[Colour] = (146, 155, 168)
_INK: Final[Colour] = (14, 16, 20)
_LOOK: Final = 8  # a picture's look is 8 x 8 pixels
_FINE: Final = 2  # drawn this much larger and scaled down: smooth lines and corners
#: Bright enough for dark writing on them, and far from each other; the sheet's most frequent class gets the first.
_PALETTE: Final[tuple[Colour, ...]] = (
    (255, 183, 77), (79, 195, 247), (129, 199, 132), (240, 98, 146), (186, 160, 255), (255, 241, 118),
    (77, 208, 190), (255, 120, 90), (198, 255, 90), (120, 144, 255), (255, 168, 214), (150, 235, 255),
    (214, 178, 138), (0, 230, 118), (232, 120, 255), (255, 214, 190), (176, 190, 197), (255, 82, 82),
    (38, 198, 218), (205, 220, 57),
)  # fmt: skip


@dataclass(frozen=True)
class _Box:
    x1: float
    y1: float
    x2: float
    y2: float
    classname: str
    confidence: float


def _boxes(sample: Sample) -> list[_Box]:
    """The boxes that clients read: those of the first annotator."""
    annotators = sample["object_analysis"] or [[]]
    return [
        _Box(box["x1"], box["y1"], box["x2"], box["y2"], box["classname"], box["confidence"]) for box in annotators[0]
    ]


def _merit(sample: Sample) -> float:
    """How good a picture of the data set this is: sure labels, several classes, large enough to look at."""
    boxes = _boxes(sample)
    if not boxes:
        return 0.0
    quality = sample["label_quality_estimation"]
    if quality is None:
        quality = sum(box.confidence for box in boxes) / len(boxes)
    classes = len({box.classname for box in boxes})
    return float(quality * (1 + 0.2 * min(classes - 1, 3)) * min(1.0, sample["width"] / _TILE[0]))


def _look(data: bytes) -> Look:
    """What a picture looks like from afar, to tell a subject's crops and mirror images from other subjects."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        return np.zeros(3 * _LOOK**2, np.float32)
    small = cv2.resize(pixels, (_LOOK, _LOOK), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean(axis=(0, 1))
    return (small / max(float(np.linalg.norm(small)), 1e-6)).ravel()


def _resemblance(one: Look, other: Look) -> float:
    """0 for pictures that have nothing in common, 1 for the same or its mirror image."""
    mirrored = other.reshape(_LOOK, _LOOK, 3)[:, ::-1].ravel()
    return max(0.0, float(one @ other), float(one @ mirrored))


def choose(samples: Iterable[Sample], images: Mapping[str, bytes], limit: int) -> list[Sample]:
    """The best ``limit`` samples with boxes, varied: what looks like a chosen one or shows the same counts less.

    ``images`` are the pictures by ``_id``; a sample whose picture is missing is passed over.
    """
    rest = sorted(
        (sample for sample in samples if sample["_id"] in images and _boxes(sample)),
        key=lambda sample: str(sample["_id"]),
    )
    looks = [_look(images[sample["_id"]]) for sample in rest]
    kinds = [frozenset(box.classname for box in _boxes(sample)) for sample in rest]
    worth = [_merit(sample) for sample in rest]
    chosen: list[int] = []
    while len(chosen) < min(limit, len(rest)):
        best = max((place for place in range(len(rest)) if place not in chosen), key=worth.__getitem__)
        chosen.append(best)
        for place in range(len(rest)):
            worth[place] *= 1 - 0.9 * _resemblance(looks[place], looks[best]) ** 2
            worth[place] *= 0.8 if kinds[place] == kinds[best] else 1.0
    return [rest[place] for place in chosen]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """``text``, cut with an ellipsis to ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _backdrop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture itself, blurred and dark, where it does not fill its place."""
    small = ImageOps.fit(picture, (size[0] // 8, size[1] // 8))
    blurred = small.filter(ImageFilter.GaussianBlur(3)).resize(size, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(blurred).enhance(0.42)


def _span(size: float, length: float, low: float, high: float) -> float | None:
    """Where a window of ``length`` on a side of ``size`` begins to show ``low`` to ``high``, centred; None: nowhere."""
    if high - low > length:
        return None
    return min(max((low + high - length) / 2, 0.0), size - length)


def _window(size: tuple[int, int], boxes: Sequence[_Box]) -> tuple[float, float, float, float]:
    """The part of a picture to show: what fills the tile if that holds all boxes, else the whole picture.

    Corners in pixels of the picture; ``size`` is its width and height.
    """
    width, height = size
    shape = _TILE[0] / _TILE[1]
    w, h = min(float(width), height * shape), min(float(height), width / shape)
    left = _span(width, w, min(box.x1 for box in boxes), max(box.x2 for box in boxes))
    top = _span(height, h, min(box.y1 for box in boxes), max(box.y2 for box in boxes))
    if left is None or top is None:
        return 0.0, 0.0, float(width), float(height)
    return left, top, left + w, top + h


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_boxes(canvas: Image.Image, boxes: Sequence[_Box], colours: Mapping[str, Colour]) -> None:
    """Boxes and their labels; coordinates are pixels of ``canvas``. The surest is drawn last, on top."""
    draw = ImageDraw.Draw(canvas)
    line, font, pad = 5 * _FINE // 2, _font(13 * _FINE), 4 * _FINE
    height = 13 * _FINE + 2 * pad
    for box in reversed(boxes):
        draw.rounded_rectangle((box.x1, box.y1, box.x2, box.y2), 3 * _FINE, outline=colours[box.classname], width=line)
    taken: list[tuple[float, ...]] = []
    for box in boxes:  # the surest label gets the best place
        text = f"{box.classname} {box.confidence:.2f}"
        width = font.getlength(text) + 2 * pad
        left = min(max(box.x1, 0), canvas.width - width)
        tops = (box.y1 - height, box.y1, box.y2 - height, box.y2)
        places = [(left, top, left + width, top + height) for top in tops if 0 <= top <= canvas.height - height]
        free = [place for place in places if not any(_overlap(place, other) for other in taken)]
        if not free:
            continue  # a label over a label says nothing
        taken.append(free[0])
        draw.rounded_rectangle(free[0], 4 * _FINE, fill=colours[box.classname])
        draw.text((free[0][0] + pad, free[0][1] + height / 2), text, fill=_INK, font=font, anchor="lm")


def _tile(sample: Sample, data: bytes, colours: Mapping[str, Colour]) -> Image.Image:
    """One picture with its boxes and its caption."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    wide, high = _TILE[0] * _FINE, _TILE[1] * _FINE
    card = Image.new("RGB", (wide, high + _CAPTION * _FINE), _CARD)
    place = _backdrop(picture, (wide, high))
    boxes = _boxes(sample)
    left, top, right, bottom = _window(picture.size, boxes)
    scale = min(wide / (right - left), high / (bottom - top))
    shown = picture.resize(
        (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))),
        Image.Resampling.LANCZOS,
        box=(left, top, right, bottom),
    )
    x, y = (wide - shown.width) // 2, (high - shown.height) // 2
    place.paste(shown, (x, y))
    edge = _FINE  # half a line: a box at the picture's edge stays visible
    scaled = [
        _Box(
            max((box.x1 - left) * scale + x, edge),
            max((box.y1 - top) * scale + y, edge),
            min((box.x2 - left) * scale + x, wide - 1 - edge),
            min((box.y2 - top) * scale + y, high - 1 - edge),
            box.classname,
            box.confidence,
        )
        for box in boxes
    ]
    _draw_boxes(place, scaled, colours)
    card.paste(place, (0, 0))
    draw = ImageDraw.Draw(card)
    pad, middle = 14 * _FINE, high + _CAPTION * _FINE / 2
    size = f"{sample['width']} x {sample['height']} {sample['format'] or ''}".strip()
    small = _font(13 * _FINE)
    draw.text((wide - pad, middle), size, fill=_DIM, font=small, anchor="rm")
    host = _fit(str(sample["host"] or ""), _font(15 * _FINE), wide - 3 * pad - small.getlength(size))
    draw.text((pad, middle), host, fill=_BRIGHT, font=_font(15 * _FINE), anchor="lm")
    mask = Image.new("L", card.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, card.width - 1, card.height - 1), 12 * _FINE, fill=255)
    ground = Image.new("RGB", card.size, _GROUND)
    ground.paste(card, (0, 0), mask)
    return ground.resize((_TILE[0], _TILE[1] + _CAPTION), Image.Resampling.LANCZOS)


def _legend(sheet: Image.Image, classes: Counter[str], colours: Mapping[str, Colour]) -> None:
    """Class names with their colours and counts, right-aligned in the header; as many as there is room for."""
    draw, font = ImageDraw.Draw(sheet), _font(15)
    room: float = sheet.width * 0.55
    entries: list[tuple[str, str]] = []
    for name, count in classes.most_common():
        text = f"{name} {count}"
        room -= font.getlength(text) + 42
        if room < 0:
            break
        entries.append((name, text))
    right: float = sheet.width - _MARGIN
    middle = _HEADER - 42
    for name, text in reversed(entries):
        left = right - font.getlength(text)
        draw.text((left, middle), text, fill=_BRIGHT, font=font, anchor="lm")
        draw.rounded_rectangle((left - 20, middle - 6, left - 8, middle + 6), 3, fill=colours[name])
        right = left - 42


def contact_sheet(
    samples: Iterable[Sample],
    images: Mapping[str, bytes],
    path: Path,
    *,
    title: str = "Cortex on Spark",
    subtitle: str = "",
    columns: int = 4,
    limit: int = 16,
) -> int:
    """Draws the best ``limit`` of ``samples`` whose picture is in ``images`` (by ``_id``, as downloaded) as a PNG.

    Returns the number of pictures drawn; with none there is no file.
    """
    chosen = choose(samples, images, limit)
    if not chosen:
        return 0
    columns = min(columns, len(chosen))
    classes = Counter(box.classname for sample in chosen for box in _boxes(sample))
    colours = {name: _PALETTE[place % len(_PALETTE)] for place, (name, _) in enumerate(classes.most_common())}
    rows = -(-len(chosen) // columns)
    wide, high = _TILE[0] + _GAP, _TILE[1] + _CAPTION + _GAP
    size = (2 * _MARGIN + columns * wide - _GAP, _HEADER + rows * high - _GAP + _MARGIN)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _HEADER - 64), title, fill=_BRIGHT, font=_font(30), anchor="lm")
    draw.text((_MARGIN, _HEADER - 30), subtitle, fill=_DIM, font=_font(15), anchor="lm")
    _legend(sheet, classes, colours)
    for place, sample in enumerate(chosen):
        row, column = divmod(place, columns)
        tile = _tile(sample, images[sample["_id"]], colours)
        sheet.paste(tile, (_MARGIN + column * wide, _HEADER + row * high))
    sheet.save(path, "PNG")
    return len(chosen)
