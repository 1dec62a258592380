"""``cortex label``: the whole job, from ``image_urls`` to ``samples``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from benchmarks.contenders.contender import Done, Task, Work, compete, unpickled
from cortex_spark.config import Settings
from cortex_spark.engine.label import LabelJob
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.schema import IMAGE_URLS
from cortex_spark.session import spark_session
from cortex_spark.sources.urls import URL_RULE, image_id
from cortex_spark.table import Warehouse


def prepare(task: Task) -> Work:
    """Settings: ``batch``, URLs per batch; and those of ``cortex_spark.config.Settings``."""
    given = dict(task.settings)
    batch = given.pop("batch", None)
    for name, value in given.items():
        os.environ[f"CORTEX_{name.upper()}"] = str(value)
    spark = spark_session("benchmark", master=f"local[{task.cores},4]")
    model = unpickled(task.model) if task.model is not None else None
    warehouses = []
    for urls in (task.warm_urls, task.urls):
        warehouse = Warehouse(spark, tempfile.mkdtemp(prefix="benchmark-cortex-"))
        now = datetime.now(UTC)
        rows: list[tuple[object, ...]] = [
            (image_id(url), url, urlsplit(url).hostname, "public", "list", None, None, None, now, [], URL_RULE)
            for url in urls
        ]
        warehouse.insert_new(spark.createDataFrame(rows, IMAGE_URLS), "image_urls")
        warehouses.append(warehouse)

    def label(warehouse: Warehouse, urls: int) -> Callable[[], Done]:
        config = EngineConfig(Settings(), warehouse.root)
        job = LabelJob(warehouse, model, config, batch_urls=batch, host_urls=urls, show=False)
        report = job.run()

        def told() -> Done:
            attempts = warehouse.read("attempts").where("outcome = 'ok'")
            times = [row[0] for row in attempts.selectExpr("unix_micros(attempted_at) / 1e6").collect()]
            boxes = attempts.selectExpr("sum(size(sample.object_analysis[0]))").first()
            return Done(len(times), times, (boxes[0] if boxes else 0) or 0, report.as_json())

        return told

    label(warehouses[0], len(task.warm_urls))
    return lambda: label(warehouses[1], len(task.urls))


if __name__ == "__main__":
    compete(prepare)
