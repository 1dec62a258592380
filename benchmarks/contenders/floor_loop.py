"""The floor of downloading and measuring: the same measures of pictures that lie in memory, a process for each core."""

from __future__ import annotations

import multiprocessing
import time
import urllib.request
from collections.abc import Callable

import cv2

from benchmarks.contenders.contender import Done, Task, Work, compete
from cortex_spark.measure import MEASURED_SIZE, measure

_bodies: list[bytes] = []


def _fetch(urls: list[str]) -> None:
    cv2.setNumThreads(1)
    for url in urls:
        with urllib.request.urlopen(url) as answer:
            _bodies.append(answer.read())


def _measure(share: tuple[int, str]) -> list[float]:
    count, decode = share
    times = []
    for place in range(count):
        measure(
            _bodies[place % len(_bodies)],
            max_pixels=100_000_000,
            fit=MEASURED_SIZE if decode == "scaled" else None,
        )
        times.append(time.time())
    return times


def prepare(task: Task) -> Work:
    """Settings: ``decode``, full or scaled; ``distinct``, how many pictures there are."""
    distinct = task.urls[: task.settings["distinct"]]
    pool = multiprocessing.get_context("spawn").Pool(task.cores, _fetch, (distinct,))
    share = -(-len(task.urls) // task.cores), task.settings["decode"]
    pool.map(_measure, [(len(distinct) // 2, share[1])] * task.cores, chunksize=1)

    def work() -> Callable[[], Done]:
        shares = [share] * (task.cores - 1) + [(len(task.urls) - share[0] * (task.cores - 1), share[1])]
        times = [at for times in pool.map(_measure, shares, chunksize=1) for at in times]
        return lambda: Done(len(times), times)

    return work


if __name__ == "__main__":
    compete(prepare)
