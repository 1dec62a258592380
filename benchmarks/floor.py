"""The floor: all that the labelling job does to a picture, in one process and from memory, without Spark or network.

``python -m benchmarks.floor --pictures FOLDER [--side 1300] --model NAME|PATH [--no-detector]`` hashes, reads the
header, decodes, measures, letterboxes, detects and suppresses with the product's own functions, and tries several
arrangements of threads; the best one is what no job on this machine can exceed. Medians of three runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
from rich.table import Table

from benchmarks.common.pictures import add_options, from_options
from benchmarks.common.usage import Usage, cores
from cortex_spark.console import err, out
from cortex_spark.detect import Detections, Model, load_detector, resolve_model
from cortex_spark.detect.base import Detector, Prepared
from cortex_spark.measure import MEASURED_SIZE, BadPictureError, Picture, measure

_MAX_PIXELS = 100_000_000
_RUNS = 3


@dataclass(frozen=True)
class Arrangement:
    """What runs side by side."""

    decoders: int  # threads that hash, decode, measure and letterbox
    streams: int = 0  # pictures in the network at a time, each on one core


@dataclass(frozen=True)
class Floor:
    """What one arrangement reached: medians of its runs."""

    arrangement: Arrangement
    decode: str
    pictures: float  # per second
    cpu: float  # CPU-seconds per 1,000 pictures
    busy: float  # share of the time in which the detector was at work

    def cells(self) -> list[str]:
        """For a table."""
        streams = self.arrangement.streams
        return [
            self.decode,
            str(self.arrangement.decoders),
            str(streams) if streams else "-",
            f"{self.pictures:.1f}",
            f"{self.cpu:.1f}",
            f"{self.pictures * self.cpu / 1000:.2f}",
            f"{self.busy:.0%}" if streams else "-",
        ]


Ready = tuple[Picture, Prepared | None]


def ready(body: bytes, fit: tuple[int, int] | None, detector: Detector | None) -> Ready | None:
    """One picture up to the detector, as the pipeline's decode stage does it; None for what is no picture."""
    try:
        picture = measure(body, max_pixels=_MAX_PIXELS, fit=fit)
    except BadPictureError:
        return None
    if detector is None:
        return replace(picture, image=np.empty((0, 0, 3), np.uint8)), None
    prepared = detector.prepare(picture.image, (picture.width, picture.height))
    return replace(picture, image=np.empty((0, 0, 3), np.uint8)), prepared


def prepared_pictures(
    bodies: Sequence[bytes], decoders: int, fit: tuple[int, int] | None, detector: Detector | None
) -> Iterator[Ready]:
    """The pictures in their order, a few of them ahead of their turn."""
    ahead = 2 * decoders + (detector.batch_size if detector is not None else 64)
    waiting: deque[Future[Ready | None]] = deque()
    with ThreadPoolExecutor(decoders) as pool:
        for body in bodies:
            waiting.append(pool.submit(ready, body, fit, detector))
            if len(waiting) > ahead and (done := waiting.popleft().result()) is not None:
                yield done
        yield from (done for future in waiting if (done := future.result()) is not None)


def run_once(
    bodies: Sequence[bytes], model: Model | None, detector: Detector | None, decoders: int, scaled: bool
) -> tuple[int, int]:
    """All pictures once; their number, and that of their boxes."""
    fit = (model.imgsz if model is not None else MEASURED_SIZE) if scaled else None
    pictures = prepared_pictures(bodies, decoders, fit, detector)
    if detector is None or model is None:
        return sum(1 for _ in pictures), 0
    boxes: list[int] = []
    begun: deque[tuple[Picture, Future[Detections]]] = deque()
    while batch := list(itertools.islice(pictures, detector.batch_size)):
        found = detector.submit([prepared for _, prepared in batch if prepared is not None])
        begun += zip((picture for picture, _ in batch), found, strict=True)
        while begun and begun[0][1].done():
            boxes.append(_finished(*begun.popleft(), model))
    boxes += [_finished(*one, model) for one in begun]
    return len(boxes), sum(boxes)


def _finished(picture: Picture, found: Future[Detections], model: Model) -> int:
    """How many boxes there are; they are made as a row has them."""
    return len(found.result().boxes(model.names, picture.width, picture.height))


def floor(
    bodies: Sequence[bytes],
    model: Model | None,
    arrangement: Arrangement,
    *,
    scaled: bool,
    device: str = "cpu",
    runs: int,
) -> Floor:
    """Medians of ``runs`` runs over all pictures, after a few to warm up."""
    detector = load_detector(model, device=device, threads=arrangement.streams) if model is not None else None
    run_once(bodies[:32], model, detector, arrangement.decoders, scaled)
    rates, cpu, busy = [], [], []
    for _ in range(runs):
        at_work = detector.meter.seconds if detector is not None else 0.0
        with Usage() as usage:
            count, _ = run_once(bodies, model, detector, arrangement.decoders, scaled)
        rates.append(count / usage.seconds)
        cpu.append(1000 * usage.cpu / count)
        busy.append(((detector.meter.seconds if detector is not None else 0.0) - at_work) / usage.seconds)
    return Floor(
        arrangement,
        "scaled" if scaled else "full",
        statistics.median(rates),
        statistics.median(cpu),
        statistics.median(busy),
    )


def arrangements(with_detector: bool) -> list[Arrangement]:
    """Those worth trying: fewer, as many and more threads than cores."""
    n = cores()
    if not with_detector:
        return [Arrangement(decoders) for decoders in (n, n + 1, 2 * n)]
    return [Arrangement(decoders, streams) for streams in (n, max(n // 2, 1)) for decoders in (1, n)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16", "f16"])
    parser.add_argument("--no-detector", action="store_true", help="hash, decode and measure only")
    parser.add_argument("--decode", action="append", choices=["full", "scaled"], help="default: both")
    parser.add_argument("--arrangement", type=int, nargs=2, metavar=("DECODERS", "STREAMS"), help="try this one only")
    parser.add_argument("--times", type=int, default=4, help="how often each picture comes in a run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    cv2.setNumThreads(1)
    bodies = from_options(options)
    model = None if options.no_detector else resolve_model(options.model, precision=options.precision)
    err.print(
        f"{len(bodies):,} pictures of {sum(map(len, bodies)) / len(bodies) / 1000:.0f} KB, {cores()} cores, "
        f"{model.describe() if model else 'no detector'}"
    )
    best: list[Floor] = []
    tried: list[Floor] = []
    for decode in options.decode or ["full", "scaled"]:
        scaled = decode == "scaled"
        worth = [Arrangement(*options.arrangement)] if options.arrangement else arrangements(model is not None)
        some = [floor(bodies, model, each, scaled=scaled, runs=1) for each in worth]
        tried += some
        choice = max(some, key=lambda one: one.pictures).arrangement
        best.append(floor(bodies * options.times, model, choice, scaled=scaled, runs=_RUNS))
    if options.json:
        out.print_json(json.dumps({"floor": [asdict(one) for one in best], "tried": [asdict(one) for one in tried]}))
        return
    table = Table("decode", "decoders", "streams", "pictures/s", "CPU-s per 1,000", "cores used", "detector busy")
    for one in tried:
        table.add_row(*one.cells(), style="dim")
    table.add_section()
    for one in best:
        table.add_row(*one.cells(), style="bold")
    table.caption = (
        f"above: one run of each arrangement; below: the best, median of {_RUNS} runs. "
        f"Fewer than {cores()} cores used: something else ran, or the arrangement left them idle"
    )
    out.print(table)


if __name__ == "__main__":
    main()
