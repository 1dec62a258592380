"""The value that every detector returns, and the protocol that every detector follows."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

#: Periods of work that a meter remembers, the latest.
_PERIODS: Final = 4096


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects of one picture, by falling confidence; the fields have the names of ``supervision.Detections``.

    xyxy: (N, 4) float32, corners in pixels of the original picture.
    confidence: (N,) float32, 0 to 1.
    class_id: (N,) int32, index into the model's class names.
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        """Check the shapes once, here."""
        count = len(self.xyxy)
        if self.xyxy.shape != (count, 4) or self.confidence.shape != (count,) or self.class_id.shape != (count,):
            raise ValueError(
                f"shapes {self.xyxy.shape}, {self.confidence.shape}, {self.class_id.shape} do not belong together"
            )

    @classmethod
    def empty(cls) -> Self:
        """No objects."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.xyxy)

    def boxes(self, names: Sequence[str], width: int, height: int) -> list[dict[str, int | float | str]]:
        """As the table's boxes: integer corners inside the picture; confidence in ten thousandths.

        The rounding makes a row's value independent of how a float32 sum was ordered.
        """
        limits = np.array([width, height, width, height])
        corners = np.clip(np.rint(self.xyxy), 0, limits).astype(int)
        return [
            {
                "x1": int(x1),
                "y1": int(y1),
                "x2": int(x2),
                "y2": int(y2),
                "classname": names[class_id],
                "confidence": round(float(confidence), 4),
            }
            for (x1, y1, x2, y2), confidence, class_id in zip(corners, self.confidence, self.class_id, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture made ready for the detector's input."""

    tensor: Image  # what the adapter's network takes
    scale: float  # input pixels per picture pixel
    pad: tuple[int, int]  # input pixels left of and above the picture
    size: tuple[int, int]  # width and height of the picture


class Meter:
    """When and how long something that does ``capacity`` things at a time was busy; ``with meter:`` around each."""

    def __init__(self, capacity: int = 1) -> None:
        self._capacity = capacity
        self._active = 0
        self._seconds = 0.0
        self._since = time.monotonic()
        self._busy: deque[tuple[float, float]] = deque(maxlen=_PERIODS)  # the latest: perhaps nobody takes them
        self._busy_since = 0.0
        self._lock = threading.Lock()

    def take(self) -> list[tuple[float, float]]:
        """The periods in which at least one thing was going on since the last call, in seconds since the epoch."""
        with self._lock:
            taken = list(self._busy)
            self._busy.clear()
            if self._active:
                now = time.time()
                taken.append((self._busy_since, now))
                self._busy_since = now
            return taken

    @property
    def seconds(self) -> float:
        """Busy seconds so far: one of two at work for a second is half a second."""
        with self._lock:
            self._advance()
            return self._seconds

    def __enter__(self) -> None:
        with self._lock:
            self._advance()
            if not self._active:
                self._busy_since = time.time()
            self._active += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._advance()
            self._active -= 1
            if not self._active:
                self._busy.append((self._busy_since, time.time()))

    def _advance(self) -> None:
        now = time.monotonic()
        self._seconds += (now - self._since) * min(self._active, self._capacity) / self._capacity
        self._since = now


class Detector(Protocol):
    """Runs one model in this process. ``prepare`` may run in many threads, ``submit`` in one."""

    #: Pictures that are best given to ``submit`` at once.
    batch_size: int
    #: Busy while a network runs: what of the time is not in its ``seconds``, the detector has waited.
    meter: Meter

    def prepare(self, image: Image, size: tuple[int, int] | None = None) -> Prepared:
        """Make a BGR ``image`` of shape (height, width, 3) ready.

        ``size`` is the width and height of the picture, where ``image`` is a smaller decode of it: boxes refer to it.
        """
        ...

    def submit(self, images: Sequence[Prepared]) -> list[Future[Detections]]:
        """Begin with the pictures; waits while the detector has as much as it can hold, not for what it finds."""
        ...

    def detect(self, images: Sequence[Prepared]) -> list[Detections]:
        """The objects of each picture, once all are found."""
        found: list[Future[Detections]] = []
        for first in range(0, len(images), self.batch_size):
            found += self.submit(images[first : first + self.batch_size])
        return [future.result() for future in found]
