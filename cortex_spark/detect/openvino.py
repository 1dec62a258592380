"""Runs OpenVINO and ONNX models on CPUs."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import openvino as ov

from cortex_spark.detect.base import Detections, Detector, Image, Meter, Prepared
from cortex_spark.detect.geometry import decode_end_to_end, decode_yolo, letterbox
from cortex_spark.detect.models import STRIDE, Model
from cortex_spark.errors import CortexError

_END_TO_END_COLUMNS: Final = 6


class OpenVINODetector(Detector):
    """One model on ``threads`` cores of this machine.

    Pictures go through one by one, several at a time: a picture's boxes do not depend on its neighbours.
    """

    batch_size = 1

    def __init__(self, model: Model, folder: Path, threads: int) -> None:
        self._model = model
        core = ov.Core()
        network = core.read_model(folder / model.entry)
        if len(network.inputs) != 1:
            raise CortexError(f"{model.name}: a detector takes one input, this model takes {len(network.inputs)}")
        height, width = model.imgsz
        sides = [-1, -1] if model.rectangular else [height, width]
        network.reshape({network.inputs[0]: [1, 3, *sides]})
        # The network takes the picture as OpenCV has it (uint8, BGR, rows first): no float copy is made in Python.
        prepost = ov.preprocess.PrePostProcessor(network)
        prepost.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        prepost.input().tensor().set_color_format(ov.preprocess.ColorFormat.BGR)
        prepost.input().model().set_layout(ov.Layout("NCHW"))
        prepost.input().preprocess().convert_element_type(ov.Type.f32)
        prepost.input().preprocess().convert_color(ov.preprocess.ColorFormat.RGB).scale(255.0)
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._compiled = core.compile_model(
            prepost.build(),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
                "INFERENCE_PRECISION_HINT": model.precision if native else "f32",
                # The machine is shared with other tasks, whose threads would be pinned to the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        shape = self._compiled.output(0).get_partial_shape()
        self._end_to_end = len(shape) == 3 and shape[2] == _END_TO_END_COLUMNS
        if not self._end_to_end and (len(shape) != 3 or shape[1] != 4 + len(model.names)):
            raise CortexError(
                f"{model.name}: output {shape} is neither [1, {4 + len(model.names)}, N] (YOLO, "
                f"{len(model.names)} classes) nor [1, N, 6] (end to end); is it an Ultralytics detection export?"
            )
        # One more than run at a time: while one picture's boxes are read, the next is in the network already.
        self._idle: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        for _ in range(threads + 1):
            self._idle.put(self._compiled.create_infer_request())
        self._workers = ThreadPoolExecutor(threads + 1, thread_name_prefix="detect")
        self.meter = Meter(threads)
        # OpenVINO's binding fills tables of its own on first use; two threads that do so at once wait for each other,
        # for ever. So the first picture goes through before there is a second thread.
        self._infer(self._idle.get(), self.prepare(np.zeros((height, width, 3), np.uint8)))
        self.meter = Meter(threads)

    def prepare(self, image: Image, size: tuple[int, int] | None = None) -> Prepared:
        """Letterbox to the network's input."""
        return letterbox(image, *self._model.imgsz, size, stride=STRIDE if self._model.rectangular else None)

    def submit(self, images: Sequence[Prepared]) -> list[Future[Detections]]:
        """Begin with the pictures, each as soon as a request of the network is free."""
        return [self._workers.submit(self._infer, self._idle.get(), prepared) for prepared in images]

    def _infer(self, request: ov.InferRequest, prepared: Prepared) -> Detections:
        try:
            with self.meter:
                request.start_async({0: prepared.tensor[np.newaxis]}, share_inputs=True)
                request.wait()
            return self._decode(request.get_output_tensor(0).data[0], prepared)
        finally:
            self._idle.put(request)

    def _decode(self, output: np.ndarray[tuple[int, int], np.dtype[np.float32]], prepared: Prepared) -> Detections:
        model = self._model
        if self._end_to_end:
            return decode_end_to_end(output, prepared, confidence=model.confidence, max_detections=model.max_detections)
        return decode_yolo(
            output,
            prepared,
            confidence=model.confidence,
            iou=model.iou,
            max_detections=model.max_detections,
            multi_label=model.multi_label,
        )
