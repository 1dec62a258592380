"""``cortex label``: the whole job, from ``image_urls`` to ``samples``."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self
from urllib.parse import urlsplit

from benchmarks.contenders.contender import Done, Task, Work, compete, unpickled
from cortex_spark.config import Settings
from cortex_spark.engine import label as label_module
from cortex_spark.engine.label import LabelJob, LabelReport
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.engine.progress import ProgressServer
from cortex_spark.schema import IMAGE_URLS
from cortex_spark.session import spark_session
from cortex_spark.sources.urls import URL_RULE, image_id
from cortex_spark.table import Warehouse


class RecordedProgress(ProgressServer):
    """Remembers how busy the detectors were so far, each half second."""

    timeline: Final[list[tuple[float, float]]] = []

    def __enter__(self) -> Self:
        super().__enter__()
        threading.Thread(target=self._record, daemon=True).start()
        return self

    def _record(self) -> None:
        while True:
            self.timeline.append((time.time(), self.busy_seconds))
            time.sleep(0.5)


def prepare(task: Task) -> Work:
    """Settings: those of ``cortex_spark.config.Settings``, and some of the command's.

    ``batch``: URLs per batch; ``host_cap``: those of one host in one; ``seconds`` after which it is enough: what has
    been committed by then counts.
    """
    given = dict(task.settings)
    batch, cap, seconds = (given.pop(name, None) for name in ("batch", "host_cap", "seconds"))
    for name, value in given.items():
        os.environ[f"CORTEX_{name.upper()}"] = str(value)
    started = time.perf_counter()
    slots = max(task.cores, 2)  # as the command has
    spark = spark_session("benchmark", master=f"local[{slots},4]", small_queries=True)
    spark_start = time.perf_counter() - started
    label_module.ProgressServer = RecordedProgress  # type: ignore[attr-defined]
    model = unpickled(task.model) if task.model is not None else None
    now = datetime.now(UTC)

    def discovered(urls: list[str]) -> Warehouse:
        warehouse = Warehouse(spark, tempfile.mkdtemp(prefix="benchmark-cortex-"))
        rows: list[tuple[object, ...]] = [
            (image_id(url), url, urlsplit(url).hostname, "public", "list", None, None, None, now, [], URL_RULE)
            for url in urls
        ]
        warehouse.insert_new(spark.createDataFrame(rows, IMAGE_URLS), "image_urls")
        return warehouse

    def label(warehouse: Warehouse, host_urls: int) -> Callable[[], Done]:
        begun = time.time()
        config = EngineConfig(Settings(), warehouse.root)
        job = LabelJob(warehouse, model, config, batch_urls=batch, host_urls=host_urls, show=False)
        failed: list[BaseException] = []
        reports: list[LabelReport] = []

        def work() -> None:
            try:
                reports.append(job.run())
            except BaseException as error:
                failed.append(error)

        working = threading.Thread(target=work, daemon=True)
        working.start()
        working.join(seconds)
        if failed:
            raise failed[0]

        def told() -> Done:
            attempts = _attempts(warehouse)
            landed = warehouse.read("samples").selectExpr("min(unix_micros(landed_at)) / 1e6").first()
            ok = [row for row in attempts if row[3] == "ok"]
            said = {
                "begun": begun,
                "spark_start": spark_start,
                "first_row": landed[0] if landed else None,
                "attempts": [row[:4] for row in attempts],
                "busy": RecordedProgress.timeline,
                "report": reports[0].as_json() if reports else None,
            }
            return Done(len(ok), [row[0] for row in ok], sum(row[4] or 0 for row in ok), said)

        return told

    if task.warm_urls:
        label(discovered(task.warm_urls), len(task.warm_urls))
    RecordedProgress.timeline.clear()
    warehouse = discovered(task.urls)
    return lambda: label(warehouse, cap or len(task.urls))


def _attempts(warehouse: Warehouse) -> list[tuple[float, int, str, str, int | None]]:
    """Time, batch, host, outcome and number of boxes of each."""
    hosts = warehouse.read("image_urls").select("_id", "host")
    rows = warehouse.read("attempts").join(hosts, "_id")
    chosen = rows.selectExpr(
        "unix_micros(attempted_at) / 1e6", "batch", "host", "outcome", "size(sample.object_analysis[0])"
    )
    return [tuple(row) for row in chosen.collect()]


if __name__ == "__main__":
    compete(prepare)
