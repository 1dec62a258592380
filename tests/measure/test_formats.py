"""docs/formats.md says what is done with each format; each cell is checked with a picture made for it."""

from __future__ import annotations

import csv
import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.measure import FORMATS, BadPictureError, Picture, measure

_PIXELS = 10**8
_ROOT = Path(__file__).parents[2]
_DOC = (_ROOT / "docs" / "formats.md").read_text()
_PILLOW = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF"}
_PILLOW |= {"jpeg2000": "JPEG2000", "ico": "ICO"}
_LOSSLESS: dict[str, dict[str, Any]] = {
    "webp": {"lossless": True, "exact": True},
    "jpeg": {"quality": 95},
    "avif": {"quality": 95},
}


def table(first: str) -> list[dict[str, str]]:
    """The rows of the document's table whose first column is called ``first``."""
    lines = re.split(rf"^\| {first} \|", _DOC, flags=re.MULTILINE)[1].split("\n\n")[0].splitlines()
    names = [first, *(cell.strip() for cell in lines[0].strip(" |").split("|"))]
    return [dict(zip(names, (cell.strip() for cell in line.strip("|").split("|")), strict=True)) for line in lines[2:]]


CLAIMS = [(row["format"], name, cell) for row in table("format") for name, cell in row.items() if name != "format"]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    if kind == "ico":
        options["sizes"] = [image.size]
    image.save(
        out,
        "MPO" if kind == "jpeg" and "append_images" in options else _PILLOW[kind],
        **{
            **_LOSSLESS.get(kind, {}),
            **options,
        },
    )
    return out.getvalue()


def halves(mode: str, left: Any, right: Any) -> Image.Image:
    """64 x 32 pixels, one colour left and one right."""
    image = Image.new(mode, (64, 32), right)
    image.paste(left, (0, 0, 32, 32))
    return image


def colours(picture: Picture) -> tuple[list[int], list[int]]:
    """Red, green, blue in the middle of the left and of the right half."""
    y, width = picture.image.shape[0] // 2, picture.image.shape[1]
    left, right = (picture.image[y, x, ::-1].tolist() for x in (width // 4, 3 * width // 4))
    return left, right


def close(found: list[int], wanted: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.array(found) - wanted).max() <= 12)


def measured(body: bytes) -> Picture:
    return measure(body, max_pixels=_PIXELS)


def test_the_table_has_the_accepted_formats() -> None:
    assert [row["format"] for row in table("format")] == list(dict.fromkeys(FORMATS.values()))


@pytest.mark.parametrize("kind", dict.fromkeys(FORMATS.values()))
def test_every_format_is_measured(kind: str) -> None:
    picture = measured(encoded(halves("RGB", (200, 30, 40), (20, 60, 220)), kind))
    assert (picture.format, picture.width, picture.height) == (kind, 64, 32)
    left, right = colours(picture)
    assert close(left, (200, 30, 40))
    assert close(right, (20, 60, 220))


def animated(kind: str) -> Picture:
    first, second = halves("RGB", "red", "red"), halves("RGB", "blue", "blue")
    body = encoded(first, kind, save_all=True, append_images=[second, second])
    with Image.open(io.BytesIO(body)) as made:
        assert getattr(made, "n_frames", 1) > 1
    return measured(body)


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = halves("RGB", "red", "blue")
    image.paste("lime", (0, 0, 64, 8))
    return encoded(image, kind, exif=exif)


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, name, cell in CLAIMS if name == "animated"])
def test_of_frames_the_first_counts(kind: str, cell: str) -> None:
    if cell == "-":
        assert kind in ("bmp", "jpeg2000", "ico")  # which know no frames
        return
    assert cell == "first frame"
    assert all(close(half, (255, 0, 0)) for half in colours(animated(kind)))


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, name, cell in CLAIMS if name == "orientation"])
def test_orientation_turns_the_picture(kind: str, cell: str) -> None:
    if cell == "-":
        picture = measured(turned(kind, 6))
        assert (picture.width, picture.height) == (64, 32)
        return
    assert cell == "EXIF"
    for orientation in range(1, 9):
        body = turned(kind, orientation)
        picture, judge = measured(body), upright(body)
        assert (picture.width, picture.height) == ((32, 64) if orientation >= 5 else (64, 32))
        assert picture.image.shape == judge.shape
        assert np.abs(picture.image - judge).mean() <= 1, orientation


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, name, cell in CLAIMS if name == "transparency"])
def test_transparency_is_laid_on_white(kind: str, cell: str) -> None:
    image = halves("RGBA", (0, 0, 0, 0), (255, 0, 0, 255))
    if cell == "-":
        assert kind in ("jpeg", "bmp")
        return
    assert cell == "on white"
    left, right = colours(measured(encoded(image, kind)))
    assert close(left, (255, 255, 255))
    assert close(right, (255, 0, 0))


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, name, cell in CLAIMS if name == "CMYK"])
def test_cmyk_is_converted(kind: str, cell: str) -> None:
    image = halves("CMYK", (255, 0, 0, 0), (0, 255, 255, 0))  # cyan, red
    if cell == "-":
        return
    left, right = colours(measured(encoded(image, kind)))
    assert close(left, (0, 255, 255))
    assert close(right, (255, 0, 0))


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, name, cell in CLAIMS if name == "16 bits"])
def test_of_16_bits_the_upper_8_count(kind: str, cell: str) -> None:
    if cell == "-":
        return
    values = np.full((32, 64), 0x40FF, np.uint16)
    values[:, 32:] = 0xC0FF
    left, right = colours(measured(encoded(Image.fromarray(values), kind)))
    assert max(abs(value - 0x40) for value in left) <= 1
    assert max(abs(value - 0xC0) for value in right) <= 1


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, name, cell in CLAIMS if name == "scaled decode"])
def test_only_these_are_decoded_to_fit(kind: str, cell: str) -> None:
    body = (
        encoded(halves("RGB", "red", "blue").resize((500, 250), Image.Resampling.NEAREST), kind)
        if kind != "ico"
        else (encoded(halves("RGB", "red", "blue").resize((200, 100), Image.Resampling.NEAREST), kind))
    )
    full, scaled = measured(body), measure(body, max_pixels=_PIXELS, fit=(40, 40))
    assert (scaled.width, scaled.height, scaled.hash) == (full.width, full.height, full.hash)
    assert (scaled.image.size < full.image.size) == (cell == "yes")
    assert [sum(channel) for channel in scaled.histogram] == [full.width * full.height] * 3


def test_outcomes_are_known_and_limits_are_those_of_the_code() -> None:
    rows = table("outcome")
    named = re.findall(r"`(\w+)`", " ".join(row["outcome"] for row in rows))
    assert set(named) <= set(outcomes.FINAL)
    assert Settings().max_pixels == 100_000_000
    assert "(100 million)" in _DOC


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1heicmiaf", "HEIC"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II\xbc\x01\x08\x00", "JPEG XR"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG"),
        (b"8BPS\x00\x01" + struct.pack(">6xHIIHH14x", 3, 1, 1, 8, 3), "PSD"),
        (b"P6 2 2 255 abcdefghijkl", "PPM"),
    ],
)
def test_other_formats_are_called_by_their_names(body: bytes, name: str) -> None:
    with pytest.raises(BadPictureError) as caught:
        measured(body)
    assert (caught.value.outcome, caught.value.detail) == ("unsupported_format", f"{name} is not accepted")


def upright(body: bytes) -> np.ndarray:
    """What Pillow makes of it: the judge."""
    with Image.open(io.BytesIO(body)) as picture:
        image: Image.Image = ImageOps.exif_transpose(picture)
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.new("RGBA", layer.size, "white")
            image.alpha_composite(layer)
        return np.asarray(image.convert("RGB"))[:, :, ::-1].astype(int)


def test_each_odd_file_ends_as_its_table_says(shared: Path) -> None:
    with (shared / "odd_images" / "manifest.csv").open() as file:
        manifest = {row["file"]: row for row in csv.DictReader(file)}
    with Path(__file__).with_name("odd_images.csv").open() as file:
        expected = list(csv.DictReader(file))
    assert [row["file"] for row in expected] == list(manifest)
    for row in expected:
        body = (shared / "odd_images" / row["file"]).read_bytes()
        for fit in (None, (16, 16)):
            try:
                picture = measure(body, max_pixels=_PIXELS, fit=fit)
                found = ["ok", picture.format, str(picture.width), str(picture.height)]
                assert [sum(channel) for channel in picture.histogram] == [picture.width * picture.height] * 3, row
                assert fit or picture.image.shape == (picture.height, picture.width, 3), row
            except BadPictureError as bad:
                found = [bad.outcome, "", "", ""]
            assert found == [row[name] for name in ("outcome", "format", "width", "height")], (row, fit)
        assert agrees_with_pillow(row, manifest[row["file"]], body) == (not row["unlike_pillow"]), row


def agrees_with_pillow(row: dict[str, str], manifest: dict[str, str], body: bytes) -> bool:
    if row["outcome"] != "ok":
        return manifest["pil"] != "ok"
    assert row["format"] == FORMATS[manifest["fmt"]]
    theirs, ours = upright(body), measured(body).image
    assert theirs.shape == ours.shape == (int(row["height"]), int(row["width"]), 3), row
    return bool(np.abs(theirs - ours).mean() <= 1)


@pytest.mark.parametrize("progressive", [False, True])
def test_cut_and_damaged_jpegs_end_alike_at_every_scale(progressive: bool) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (120, 160, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "jpeg", progressive=progressive)
    damaged = [whole[:cut] for cut in range(4, len(whole), len(whole) // 40)]
    places = range(700, len(whole), len(whole) // 20)
    damaged += [whole[:place] + b"\x55\xaa\x55" + whole[place + 3 :] for place in places]
    ends = set()
    for body in damaged:
        results = []
        for fit in (None, (80, 80), (40, 40), (20, 20)):
            try:
                picture = measure(body, max_pixels=_PIXELS, fit=fit)
                results.append(("ok", picture.width, picture.height))
            except BadPictureError as bad:
                results.append((bad.outcome, 0, 0))
        assert len(set(results)) == 1, results
        ends.add(results[0][0])
    assert ends == {"ok", "decode_error"}
