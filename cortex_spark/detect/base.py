"""The value that every detector returns, and the protocol that every detector follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


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


class Detector(Protocol):
    """Runs one model in this process. ``prepare`` may run in many threads, ``detect`` in one."""

    #: Pictures that are best given to ``detect`` at once.
    batch_size: int

    def prepare(self, image: Image) -> Prepared:
        """Make a BGR ``image`` of shape (height, width, 3) ready."""
        ...

    def detect(self, images: Sequence[Prepared]) -> list[Detections]:
        """The objects of each picture."""
        ...
