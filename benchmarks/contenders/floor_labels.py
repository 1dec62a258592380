"""The floor: all that the labelling job does to a picture, from memory, in one process (``benchmarks.floor``)."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import cv2

from benchmarks.contenders.contender import Done, Task, Work, compete, unpickled
from benchmarks.floor import run_once
from cortex_spark.detect import load_detector


def prepare(task: Task) -> Work:
    """Settings: ``distinct``, how many pictures there are; ``decoders``, threads; ``decode``, full or scaled."""
    settings = task.settings
    cv2.setNumThreads(1)
    bodies = []
    for url in task.urls[: settings["distinct"]]:
        with urllib.request.urlopen(url) as answer:
            bodies.append(answer.read())
    model = unpickled(task.model)
    detector = load_detector(model, threads=task.cores)
    scaled = settings["decode"] == "scaled"

    def run(count: int) -> Callable[[], Done]:
        pictures = (bodies * (count // len(bodies) + 1))[:count]
        done, boxes = run_once(pictures, model, detector, settings["decoders"], scaled)
        return lambda: Done(done, boxes=boxes)

    run(32)
    return lambda: run(len(task.urls))


if __name__ == "__main__":
    compete(prepare)
