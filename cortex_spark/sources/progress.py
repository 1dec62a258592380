"""A line that shows how far a Spark job over files has come."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.sql import SparkSession
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EndColumn

from cortex_spark.console import err

_POLL_SECONDS: Final = 0.5


@contextmanager
def files_progress(spark: SparkSession, verb: str, files: int, megabytes: float | None) -> Iterator[None]:
    """Shows files done of ``files``, the rate and an estimated end, while a job with a task per file runs inside.

    ``megabytes`` is the size of all files, None where that is not known.
    """
    context = spark.sparkContext
    group = uuid.uuid4().hex
    finished = threading.Event()
    tracker = context.statusTracker()

    def done() -> int:
        tasks = 0
        for job in tracker.getJobIdsForGroup(group):
            info = tracker.getJobInfo(job)
            for stage in info.stageIds if info is not None else ():
                stage_info = tracker.getStageInfo(stage)
                tasks += stage_info.numCompletedTasks if stage_info is not None else 0
        return min(tasks, files)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files  {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        EndColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(verb, total=files, rate="")

        def watch() -> None:
            started = time.monotonic()
            while not finished.wait(_POLL_SECONDS):
                completed = done()
                # By the share of files: how far a task has come within its file, Spark does not tell.
                speed = (megabytes or 0) * completed / files / (time.monotonic() - started)
                progress.update(task, completed=completed, rate=f"{speed:.1f} MB/s " if speed else "")

        watcher = threading.Thread(target=watch, name="files-progress", daemon=True)
        context.setJobGroup(group, verb, interruptOnCancel=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
            for name in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel"):
                context.setLocalProperty(name, None)  # type: ignore[arg-type]
