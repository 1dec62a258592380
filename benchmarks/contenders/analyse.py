"""Our own function from a picture's bytes to its row, for use inside of peers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.contender import unpickled
from cortex_spark.detect import Detections, load_detector
from cortex_spark.measure import measure
from cortex_spark.measure.picture import histogram

_MAX_PIXELS: Final = 100_000_000


class Analyser:
    """Hash, decode, measures, letterbox, detection, suppression: what ``cortex label`` does for a picture."""

    def __init__(self, model: str, threads: int) -> None:
        cv2.setNumThreads(1)
        resolved = unpickled(model)
        self._detector = load_detector(resolved, threads=threads)
        self._fit = resolved.imgsz if resolved.decode == "scaled" else None

    def __call__(self, bodies: Iterable[bytes]) -> list[tuple[int, float]]:
        """Number of boxes and time of each picture; while some are in the network, the next is decoded."""
        futures: list[Future[tuple[int, float]]] = []
        for body in bodies:
            picture = measure(body, max_pixels=_MAX_PIXELS, fit=self._fit)
            prepared = self._detector.prepare(picture.image, (picture.width, picture.height))
            futures += map(_timed, self._detector.submit([prepared]))
        return [future.result() for future in futures]

    def decoded(self, bodies: Iterable[bytes], images: Iterable[NDArray[np.uint8]]) -> list[tuple[int, float]]:
        """The same where somebody else has decoded the pictures: RGB, (height, width, 3)."""
        futures: list[Future[tuple[int, float]]] = []
        for body, image in zip(bodies, images, strict=True):
            picture = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
            hashlib.sha256(body).hexdigest()
            histogram(picture)
            futures += map(_timed, self._detector.submit([self._detector.prepare(picture)]))
        return [future.result() for future in futures]


def _timed(found: Future[Detections]) -> Future[tuple[int, float]]:
    timed: Future[tuple[int, float]] = Future()

    def end(_: object) -> None:
        error = found.exception()
        if error is None:
            timed.set_result((len(found.result()), time.time()))
        else:
            timed.set_exception(error)

    found.add_done_callback(end)
    return timed


def tally(rows: Sequence[tuple[int, float]]) -> tuple[int, list[float]]:
    """Boxes in all, and the times."""
    return sum(boxes for boxes, _ in rows), [at for _, at in rows]
