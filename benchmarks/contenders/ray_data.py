"""Ray Data: a download by threads in ``map_batches``, then our function in a pool of actors.

As one actor for both, as two operators, or as three with the decode apart: ``fused``, ``apart`` or ``staged``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import ray
import requests

from benchmarks.contenders.analyse import Analyser, tally
from benchmarks.contenders.contender import Done, Task, Work, compete

_Batch = dict[str, Any]


class Download:
    """Keeps its connections."""

    def __init__(self, threads: int) -> None:
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=threads)
        self._session.mount("http://", adapter)
        self._threads = ThreadPoolExecutor(threads)

    def __call__(self, batch: _Batch) -> _Batch:
        """A batch."""
        bodies = list(self._threads.map(lambda url: self._session.get(url, timeout=60).content, batch["item"]))
        return {"body": np.array(bodies, dtype=object)}


def decode(batch: _Batch) -> _Batch:
    """Adds the pictures, RGB."""
    images = np.empty(len(batch["body"]), object)
    for place, body in enumerate(batch["body"]):
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        images[place] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return {"body": batch["body"], "image": images}


class Label:
    """Bytes to boxes, or what was decoded before."""

    def __init__(self, model: str, threads: int) -> None:
        self._analyse = Analyser(model, threads)

    def __call__(self, batch: _Batch) -> _Batch:
        """A batch."""
        rows = (
            self._analyse.decoded(batch["body"], batch["image"]) if "image" in batch else self._analyse(batch["body"])
        )
        return {"boxes": [boxes for boxes, _ in rows], "at": [at for _, at in rows]}


class Both:
    """Download and label in one actor: no picture goes through the object store."""

    def __init__(self, model: str, threads: int, connections: int) -> None:
        self._download, self._label = Download(connections), Label(model, threads)

    def __call__(self, batch: _Batch) -> _Batch:
        """A batch."""
        return self._label(self._download(batch))


def prepare(task: Task) -> Work:
    """Settings: ``workers`` and detector ``threads`` of each, ``batch``, ``connections``, ``form``."""
    settings = task.settings
    ray.init(num_cpus=task.cores, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run(urls: list[str]) -> Callable[[], Done]:
        blocks = max(settings["workers"] * 2, len(urls) // settings["block"])
        frame = ray.data.from_items(urls, override_num_blocks=blocks)
        workers, threads, batch = settings["workers"], settings["threads"], settings["batch"]
        if settings["form"] == "fused":
            frame = frame.map_batches(
                Both,
                fn_constructor_args=(task.model, threads, settings["connections"]),
                batch_size=batch,
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=task.cores / workers,
            )
        else:
            frame = frame.map_batches(
                Download,
                fn_constructor_args=(settings["connections"],),
                batch_size=batch,
                compute=ray.data.ActorPoolStrategy(size=1),
                num_cpus=0.1,
            )
            if settings["form"] == "staged":
                frame = frame.map_batches(decode, batch_size=batch, num_cpus=0.5)
            frame = frame.map_batches(
                Label,
                fn_constructor_args=(task.model, threads),
                batch_size=batch,
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=(task.cores - 0.7) / workers,
            )
        rows = frame.take_all()
        boxes, times = tally([(row["boxes"], row["at"]) for row in rows])
        return lambda: Done(len(times), times, boxes)

    run(task.warm_urls)
    return lambda: run(task.urls)


if __name__ == "__main__":
    compete(prepare)
