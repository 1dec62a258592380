"""How a plan is cut into batches and tasks."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from cortex_spark.engine.plan import Batching, in_batches
from cortex_spark.schema import IMAGE_URLS, PLANS


def test_batches_tasks_and_caps(spark: SparkSession) -> None:
    """A skewed web: one host with half of all URLs, some with a few, many with one; and private pictures."""
    hosts = ["big"] * 100 + [f"middle{n}" for n in range(5) for _ in range(12)] + [f"small{n}" for n in range(30)]
    rows: list[tuple[Any, ...]] = [
        (f"{n:032x}", f"http://{host}/{n}", host, "public", "list", None, None, None, datetime(2026, 1, 1), [], 1)
        for n, host in enumerate([*hosts, *[None] * 10])
    ]
    wanted = (
        spark.createDataFrame(rows, IMAGE_URLS)
        .withColumn("tries", F.lit(0))
        .withColumn("labelled_hash", F.lit(None).cast("string"))
    )
    planned = in_batches(wanted, Batching(tasks=3, batch_urls=45, host_urls=15), "r").collect()
    assert planned[0].__fields__ == PLANS.names
    assert sorted(row["_id"] for row in planned) == sorted(row[0] for row in rows)  # each once

    batches = Counter(row["batch"] for row in planned)
    assert sorted(batches) == list(range(len(batches)))  # numbered without gaps
    assert max(batches.values()) < 45 + 15
    per_host: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
    counts: Counter[tuple[int, str]] = Counter()
    loads: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for row in planned:
        assert 0 <= row["task"] < 3
        loads[row["batch"]][row["task"]] += 1
        if row["host"] is not None:
            per_host[row["batch"], row["host"]].add(row["task"])
            counts[row["batch"], row["host"]] += 1
    assert all(len(tasks) == 1 for tasks in per_host.values())  # a host is one task's business
    assert max(counts.values()) == 15
    # A batch with hosts enough to deal out keeps all tasks busy.
    first = loads[0]
    assert set(first) == {0, 1, 2}
    assert max(first.values()) <= min(first.values()) + 15
