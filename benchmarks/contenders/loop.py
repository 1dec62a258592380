"""What one writes first: ``requests`` and Ultralytics' ``predict``, one picture after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import requests

from benchmarks.contenders.contender import Done, Task, Work, compete


def prepare(task: Task) -> Work:
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(task.cores)
    yolo = YOLO(task.weights)
    session = requests.Session()

    def label(urls: list[str]) -> Callable[[], Done]:
        times, boxes = [], 0
        for url in urls:
            body = session.get(url, timeout=60).content
            image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
            boxes += len(yolo.predict(image, verbose=False, device="cpu")[0].boxes)
            times.append(time.time())
        return lambda: Done(len(times), times, boxes)

    label(task.warm_urls)
    return lambda: label(task.urls)


if __name__ == "__main__":
    compete(prepare)
