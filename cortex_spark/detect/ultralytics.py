"""Runs PyTorch weights of Ultralytics' models, for GPUs (in half precision) and as the reference on CPUs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cortex_spark.detect.base import Detections, Detector, Image, Meter, Prepared
from cortex_spark.detect.geometry import in_picture, letterbox, suppress
from cortex_spark.detect.models import Model, ultralytics_yolo

#: One batch in the network, one behind it whose boxes are being suppressed, and one on its way to the device.
_BATCHES: Final = 3


class UltralyticsDetector(Detector):
    """One model on one ``device`` ("cuda:0", "cpu").

    Decoding and letterboxing happen in the caller's threads, a batch travels to the device as bytes, and only boxes
    above the confidence come back: Ultralytics' own predictor does all that picture by picture in one thread.
    """

    def __init__(self, model: Model, folder: Path, device: str) -> None:
        import torch

        self._model = model
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        self.batch_size = 64 if on_gpu else 8
        self.meter = Meter()
        network = ultralytics_yolo()(folder / model.entry, task="detect").model
        self._end_to_end = bool(getattr(network, "end2end", False))
        self._dtype = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[model.precision]
        self._network = network.fuse().eval().to(self._device, self._dtype, memory_format=torch.channels_last)
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="detect")
        self._boxes = ThreadPoolExecutor(1, thread_name_prefix="suppress")
        self._room = threading.Semaphore(_BATCHES)

    def prepare(self, image: Image, size: tuple[int, int] | None = None) -> Prepared:
        """Letterbox to the network's input."""
        return letterbox(image, *self._model.imgsz, size)

    def submit(self, images: Sequence[Prepared]) -> list[Future[Detections]]:
        """Begin with the pictures, as one batch."""
        self._room.acquire()
        found: list[Future[Detections]] = [Future() for _ in images]
        self._forward.submit(self._guarded, self._infer, images, found, self._on_device(images))
        return found

    def _guarded(self, step: Any, images: Sequence[Prepared], found: Sequence[Future[Detections]], *given: Any) -> None:
        """One step of a batch; its error is that of every picture which has no answer yet."""
        try:
            step(images, found, *given)
        except BaseException as error:
            self._room.release()
            for future in found:
                if not future.done():
                    future.set_exception(error)

    def _on_device(self, images: Sequence[Prepared]) -> Any:
        import torch

        batch = torch.from_numpy(np.stack([prepared.tensor for prepared in images]))
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self._device, non_blocking=True)

    def _infer(self, images: Sequence[Prepared], found: Sequence[Future[Detections]], batch: Any) -> None:
        import torch

        with self.meter, torch.inference_mode():
            pixels = batch.permute(0, 3, 1, 2).flip(1).to(self._dtype, memory_format=torch.channels_last).div_(255)
            output = self._network(pixels)
            rows = self._candidates((output[0] if isinstance(output, (list, tuple)) else output).float()).cpu().numpy()
        self._boxes.submit(self._guarded, self._answer, images, found, rows)

    def _candidates(self, output: Any) -> Any:
        """(candidates, 7) on the device, in the pictures' order: picture in the batch, box, score, class."""
        import torch

        confidence = self._model.confidence
        if self._end_to_end:  # (pictures, boxes, 6)
            picture, place = (output[..., 4] > confidence).nonzero(as_tuple=True)
            return torch.cat([picture[:, None], output[picture, place]], 1)
        boxes, scores = output.transpose(1, 2).split([4, output.shape[1] - 4], 2)
        if self._model.multi_label:
            picture, place, class_id = (scores > confidence).nonzero(as_tuple=True)
        else:
            best, best_class = scores.max(2)
            picture, place = (best > confidence).nonzero(as_tuple=True)
            class_id = best_class[picture, place]
        score = scores[picture, place, class_id]
        return torch.cat([picture[:, None], boxes[picture, place], score[:, None], class_id[:, None]], 1)

    def _answer(
        self, images: Sequence[Prepared], found: Sequence[Future[Detections]], rows: npt.NDArray[np.float32]
    ) -> None:
        """Suppress, picture by picture; ``rows`` as ``_candidates`` gives them."""
        model = self._model
        first = np.searchsorted(rows[:, 0], np.arange(len(images) + 1))
        for number, (prepared, future) in enumerate(zip(images, found, strict=True)):
            _, box, score, class_id = np.split(rows[first[number] : first[number + 1]], [1, 5, 6], axis=1)
            arrays = box, score.ravel(), class_id.ravel().astype(np.int32)
            if self._end_to_end:
                future.set_result(in_picture(*arrays, prepared, model.max_detections))
            else:
                future.set_result(suppress(*arrays, prepared, iou=model.iou, max_detections=model.max_detections))
        self._room.release()
