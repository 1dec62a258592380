"""How a plan is cut into batches and tasks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import ada_url
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from cortex_spark.engine.plan import LANES, Batching, in_batches, place
from cortex_spark.schema import IMAGE_URLS, PLANS


def _wanted(spark: SparkSession, hosts: Sequence[str | None], delays: dict[str, float] | None = None) -> DataFrame:
    rows: list[tuple[Any, ...]] = [
        (f"{n:032x}", f"http://{host}/{n}", host, "public", "list", None, None, None, datetime(2026, 1, 1), [], 1)
        for n, host in enumerate(hosts)
    ]
    delay = F.lit(None).cast("double")
    for host, seconds in (delays or {}).items():
        delay = F.when(F.col("host") == host, F.lit(seconds)).otherwise(delay)
    columns = {
        "tries": F.lit(0),
        "hops": F.lit(0),
        "labelled_hash": F.lit(None).cast("string"),
        "location": F.lit(None).cast("string"),
        "etag": F.lit(None).cast("string"),
        "last_modified": F.lit(None).cast("string"),
        "place": F.col("host"),
        "delay": delay,
    }
    return spark.createDataFrame(rows, IMAGE_URLS).withColumns(columns)


def test_batches_tasks_and_caps(spark: SparkSession) -> None:
    """A skewed web: one host with half of all URLs, some with a few, many with one; and private pictures."""
    hosts = ["big"] * 100 + [f"middle{n}" for n in range(5) for _ in range(12)] + [f"small{n}" for n in range(30)]
    everything = [*hosts, *[None] * 10]
    batching = Batching(tasks=3, batch_urls=45, host_urls=15, host_delay=0.5)
    planned = in_batches(_wanted(spark, everything), batching, "r", len(everything)).collect()
    assert planned[0].__fields__ == PLANS.names
    assert sorted(row["_id"] for row in planned) == [f"{n:032x}" for n in range(len(everything))]  # each once

    batches = Counter(row["batch"] for row in planned)
    for lane in range(LANES):  # numbered without gaps
        numbers = sorted(batch for batch in batches if batch % LANES == lane)
        assert numbers == list(range(lane, lane + LANES * len(numbers), LANES))
    assert max(batches.values()) < 45 + 15
    per_host: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
    counts: Counter[tuple[int, str]] = Counter()
    loads: defaultdict[int, Counter[int]] = defaultdict(Counter)
    lanes: defaultdict[str, set[int]] = defaultdict(set)
    for row in planned:
        assert 0 <= row["task"] < 3
        loads[row["batch"]][row["task"]] += 1
        if row["host"] is not None:
            per_host[row["batch"], row["host"]].add(row["task"])
            counts[row["batch"], row["host"]] += 1
            lanes[row["host"]].add(row["batch"] % LANES)
    assert all(len(tasks) == 1 for tasks in per_host.values())  # a host is one task's business
    assert all(len(of_host) == 1 for of_host in lanes.values())  # and never in two batches that run at once
    assert max(counts.values()) == 15
    # A batch with hosts enough to deal out keeps all tasks busy.
    first = loads[0]
    assert set(first) == {0, 1, 2}
    assert max(first.values()) <= min(first.values()) + 15


@pytest.mark.parametrize(
    "location",
    [
        "https://new.example/x.jpg",
        "HTTPS://New.Example:8443/x.jpg",
        "https://new.example/x.jpg?x=a|b&at=10:30/",
        "http://my_pictures.new.example?x",
        "http://my_pictures.new.example:81/x^y.jpg",
        "http://bücher.example/ä.jpg",
        "http://[2001:db8::1]:81/x.jpg",
        "http://[2001:db8::1]/x.jpg",
    ],
)
def test_what_has_moved_is_at_its_new_host(spark: SparkSession, location: str) -> None:
    url = ada_url.URL(location)
    moved = _wanted(spark, ["old.example"]).withColumn("location", F.lit(url.href))
    assert [row[0] for row in moved.select(place()).collect()] == [url.hostname]


def test_what_has_not_moved_is_at_its_own_host_or_nowhere(spark: SparkSession) -> None:
    assert [row[0] for row in _wanted(spark, ["old.example", None]).select(place()).collect()] == ["old.example", None]


def test_a_slow_host_gets_few_urls_into_a_batch(spark: SparkSession) -> None:
    hosts = ["slow"] * 20 + ["usual"] * 20
    batching = Batching(tasks=1, batch_urls=1000, host_urls=12, host_delay=0.5)
    planned = in_batches(_wanted(spark, hosts, {"slow": 2.0, "usual": 0.1}), batching, "r", len(hosts)).collect()
    most = {host: max(Counter(row["batch"] for row in planned if row["host"] == host).values()) for host in set(hosts)}
    assert most == {"slow": 3, "usual": 12}
    assert {row["batch"] % LANES for row in planned} == {0}  # what fits into one batch does not become two at once
