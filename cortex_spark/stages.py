"""A line that says what a long command is doing, and how far Spark's current step has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.sql import SparkSession
from rich.status import Status

from cortex_spark.console import err

_POLL_SECONDS: Final = 0.5
#: Steps with fewer tasks are over before anybody has read of them.
_FEW_TASKS: Final = 4


@contextmanager
def stage_status(spark: SparkSession, status: Status) -> Iterator[Callable[[str], None]]:
    """Gives a function that says what is being done; beside it, ``status`` counts the tasks of Spark's stages.

    Where nobody watches (standard error is no terminal), each thing that is said is a line of its own.
    """
    tracker = spark.sparkContext.statusTracker()
    finished = threading.Event()
    doing = ""

    def say(what: str) -> None:
        nonlocal doing
        doing = what
        status.update(what)
        if not err.is_terminal:
            err.print(what, markup=False)

    def watch() -> None:
        started: dict[int, float] = {}
        while not finished.wait(_POLL_SECONDS):
            stages = [info for stage in tracker.getActiveStageIds() if (info := tracker.getStageInfo(stage))]
            for info in stages:
                started.setdefault(info.stageId, time.monotonic())
            if stages:
                largest = max(stages, key=lambda info: info.numTasks)
                seconds = time.monotonic() - started[largest.stageId]
                status.update(doing + step(largest.numCompletedTasks, largest.numTasks, seconds))

    watcher = threading.Thread(target=watch, name="stage-status", daemon=True)
    watcher.start()
    try:
        yield say
    finally:
        finished.set()
        watcher.join()


def step(done: int, tasks: int, seconds: float) -> str:
    """How far a stage is after ``seconds``; nothing of one with few tasks.

    >>> step(30, 120, 20.0)
    ' · step: 30 of 120 tasks, 1.5/s, 60 s left'
    """
    if tasks < _FEW_TASKS:
        return ""
    said = f" · step: {done:,} of {tasks:,} tasks"
    if not done or not seconds:
        return said
    return f"{said}, {done / seconds:.1f}/s, {(tasks - done) * seconds / done:,.0f} s left"
