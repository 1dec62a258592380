"""Runs PyTorch weights through Ultralytics, for GPUs (in half precision) and as the reference on CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cortex_spark.detect.base import Detections, Image, Prepared
from cortex_spark.detect.models import Model, ultralytics_yolo


class UltralyticsDetector:
    """One model on one ``device`` ("cuda:0", "cpu")."""

    def __init__(self, model: Model, folder: Path, device: str) -> None:
        self._model = model
        self._device = device
        self._half = device.startswith("cuda")
        self.batch_size = 64 if self._half else 8
        self._yolo = ultralytics_yolo()(folder / model.entry, task="detect")

    def prepare(self, image: Image) -> Prepared:
        """As it is: Ultralytics letterboxes whole batches itself."""
        height, width = image.shape[:2]
        return Prepared(image, 1.0, (0, 0), (width, height))

    def detect(self, images: Sequence[Prepared]) -> list[Detections]:
        """The objects of each picture."""
        results = self._yolo.predict(
            [prepared.tensor for prepared in images],
            imgsz=list(self._model.imgsz),
            conf=self._model.confidence,
            iou=self._model.iou,
            max_det=self._model.max_detections,
            batch=len(images),
            half=self._half,
            device=self._device,
            rect=False,
            verbose=False,
        )
        return [
            Detections(
                result.boxes.xyxy.float().cpu().numpy(),
                result.boxes.conf.float().cpu().numpy(),
                result.boxes.cls.cpu().numpy().astype(np.int32),
            )
            for result in results
        ]
