"""The engine as Spark runs it: an Arrow iterator over the rows of one task."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa
from pyspark import Broadcast, TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.detect import Model
from cortex_spark.detect.models import Device
from cortex_spark.engine.download import Row
from cortex_spark.engine.journal import Journal
from cortex_spark.engine.pipeline import EngineConfig, Pipeline, Visits
from cortex_spark.engine.progress import Address, ProgressClient
from cortex_spark.fetch import Hosts, HostState
from cortex_spark.schema import ATTEMPTS

#: Rows that go back to Spark at once: few, so that a task's first row does not wait for its last.
_BATCH_ROWS: Final = 128
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
#: Where the driver shares the cores (a laptop, one machine), its commit of one batch does not queue behind the pictures
#: of the next: a few seconds of one core that a lane waits for.
_NICENESS: Final = 10

ArrowIterator = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

ATTEMPTS_ARROW: Final[pa.Schema] = to_arrow_schema(ATTEMPTS, timezone="UTC")


def labeller(
    model: Broadcast[Model | None],
    refused: Broadcast[frozenset[str]],
    config: EngineConfig,
    progress: Address | None,
    canaries: Sequence[str],
    *,
    retried: bool,
) -> ArrowIterator:
    """The function for ``mapInArrow`` over one batch of a plan; gives rows of ATTEMPTS.

    Takes rows of PLANS with one more column, ``host_state``, that is set on rows which are no URLs but tell what is
    known of a host.
    """

    def label(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows: list[Row] = [row for batch in batches for row in batch.to_pylist()]
        urls = [row for row in rows if row["host_state"] is None]
        if not urls:
            return
        with contextlib.suppress(OSError):  # of this thread and all that it starts, as long as Spark keeps the worker
            os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICENESS))
        first, attempt = urls[0], attempt_number()
        states = [HostState.from_row(row["host_state"]) for row in rows if row["host_state"] is not None]
        with Journal(f"{first['run']}-{first['batch']}-{first['task']}") as journal:
            # A later job may have asked a host since the death that left the journal behind.
            latest = sorted([*states, *journal.hosts.values()], key=lambda state: state.at or _NEVER)
            visits = Visits(
                hosts=Hosts(latest, journal.learned),
                across_hosts=False,
                retried=retried or attempt > 0,
                canaries=canaries,
            )
            pipeline = Pipeline(on_device(config), model.value, journal, attempt, visits=visits, refused=refused.value)
            told = ProgressClient(progress, first["batch"], pipeline.meter)
            finished: list[Row] = []
            for row in pipeline.run(urls):
                told.add(row["outcome"])
                finished.append(row)
                if len(finished) == _BATCH_ROWS:
                    yield pa.RecordBatch.from_pylist(finished, schema=ATTEMPTS_ARROW)
                    finished = []
            told.close()
            if finished:
                yield pa.RecordBatch.from_pylist(finished, schema=ATTEMPTS_ARROW)
            journal.remove()

    return label


def attempt_number() -> int:
    """How often this task was tried before; 0 outside of Spark."""
    context = TaskContext.get()
    return context.attemptNumber() if context is not None else 0


def on_device(config: EngineConfig) -> EngineConfig:
    """``config`` with the GPU that Spark gave to this task, where it runs on GPUs."""
    if config.device != "cuda":
        return config
    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context is not None else None
    return replace(config, device=f"cuda:{gpus.addresses[0]}" if gpus else "cuda:0")


def spark_device(spark: SparkSession) -> Device:
    """Where this session's tasks run their detector: on GPUs if Spark hands some out to tasks, else on CPUs."""
    return "cuda" if float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0) > 0 else "cpu"
