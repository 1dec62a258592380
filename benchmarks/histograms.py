"""What a histogram loses when JPEGs are decoded at a fraction of their size.

``python -m benchmarks.histograms --pictures FOLDER [--side 1300]``: L1 distance of normalised histograms (0 equal, 2
nothing in common; half of it is the share of pixels that lie in another bin), mean of the three channels, for the
folder's JPEGs and for plots, pages of text and charts drawn at 1300 px.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence

import cv2
import numpy as np
from rich.table import Table

from benchmarks.common.pictures import add_options, from_options
from cortex_spark.console import out
from cortex_spark.measure.decode import decode, reduction
from cortex_spark.measure.header import Header, read_header
from cortex_spark.measure.picture import histogram

_FACTORS = (2, 4, 8)
_MAX_PIXELS = 100_000_000


def graphics() -> list[bytes]:
    """Eight JPEGs of quality 85: bars, lines, text and pies, as pages of the web have them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rng, found = np.random.default_rng(0), []
    for number in range(8):
        figure, axes = plt.subplots(figsize=(13, 8.6), dpi=100)
        if number % 4 == 0:
            axes.bar(range(12), rng.random(12))
        elif number % 4 == 1:
            axes.plot(rng.random((60, 5)).cumsum(0))
            axes.grid()
        elif number % 4 == 2:
            axes.axis("off")
            for line in range(30):
                axes.text(0, line / 30, " ".join(f"word{place}" for place in range(20)), fontsize=9)
        else:
            axes.pie(rng.random(6), labels=list("abcdef"))
        page = io.BytesIO()
        figure.savefig(page, format="png")
        plt.close(figure)
        image = cv2.imdecode(np.frombuffer(page.getvalue(), np.uint8), cv2.IMREAD_COLOR)
        found.append(cv2.imencode(".jpg", np.asarray(image), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
    return found


def distances(bodies: Sequence[bytes], factor: int) -> np.ndarray:
    """The L1 distance of each JPEG's histogram at 1/``factor`` to its own at full size."""
    headers = [read_header(body, _MAX_PIXELS) for body in bodies]
    return np.array(
        [
            np.abs(_shares(body, header, None) - _shares(body, header, _fit(header, factor))).sum(1).mean()
            for body, header in zip(bodies, headers, strict=True)
            if header.format == "jpeg"
        ]
    )


def _fit(header: Header, factor: int) -> tuple[int, int]:
    """A square that leads to this factor."""
    side = max(header.width, header.height) // factor
    assert reduction(header, (side, side)) == factor
    return side, side


def _shares(body: bytes, header: Header, fit: tuple[int, int] | None) -> np.ndarray:
    counts = histogram(decode(body, header, fit))
    return np.asarray(counts / counts.sum(1, keepdims=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    bodies = from_options(parser.parse_args())
    table = Table("", "decoded at", "mean", "median", "largest")
    for name, some in (("photographs", bodies), ("graphics", graphics())):
        for factor in _FACTORS:
            found = distances(some, factor)
            cells = [f"{value:.3f}" for value in (found.mean(), np.median(found), found.max())]
            table.add_row(name, f"1/{factor}", *cells)
    out.print(table)


if __name__ == "__main__":
    main()
