"""A walk through many pages while the table is written to, relabelled and optimised under it."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from cortex_spark.query.mongo import mongo
from cortex_spark.query.page import PAGE_SIZE, page
from cortex_spark.table import Warehouse
from cortex_spark.table.samples import commit_samples
from cortex_spark.upkeep.optimize import optimize
from tests.table.boxes import box, record, sample

from .conftest import make_rows, to_frame

QUERY = {"width": {"$ne": 101}}
COMMITS = 3


def append(tables: Warehouse, number: int, rows: int) -> None:
    """A commit of so many rows that landed together; their ids are in no order."""
    landed = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=number)
    stored = make_rows()
    made = [
        {**stored[one % len(stored)], "_id": f"{one * 7919 % 1_000_003:06x}{number:04x}", "landed_at": landed}
        for one in range(rows)
    ]
    tables.append_once(to_frame(tables.spark, made), "samples", app_id=f"walk/{number}", version=0)


@contextmanager
def writing(tables: Warehouse) -> Iterator[threading.Barrier]:
    """Until left: rows land, get boxes of another model, change; files are put together, and their indexes made anew.

    Who waits at the barrier sees each once more.
    """
    stop = threading.Event()
    barrier = threading.Barrier(2)

    def write() -> None:
        number = 100
        try:
            while not stop.is_set():
                append(tables, number, 50)
                for model, boxes in {"a": [box("cat")], "b": [box("dog")]}.items():
                    record(tables, f"{model}/{number}", [sample(number, model, boxes)])
                    commit_samples(tables, f"{model}/{number}", [0])
                tables.sql("UPDATE {samples} SET width = 7 WHERE height = 99 AND landed_at > '2024'")
                optimize(tables)
                number += 1
                barrier.wait(120)
        except threading.BrokenBarrierError:
            pass
        finally:
            barrier.abort()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield barrier
    finally:
        stop.set()
        barrier.abort()
        thread.join()


@pytest.mark.soak
@pytest.mark.parametrize(("rows", "jumps"), [(2_000, 20), pytest.param(42_000, 200, marks=pytest.mark.timeout(1200))])
def test_pages_of_a_version_fit_together(spark: SparkSession, tmp_path: Path, rows: int, jumps: int) -> None:
    """By cursors and by numbers: each row that Spark finds at that version once, in order; ``length`` is its count."""
    tables = Warehouse(spark, str(tmp_path))
    for number in range(COMMITS):
        append(tables, number, rows // COMMITS)
    dice = random.Random(5)
    with writing(tables) as barrier:
        first = page(tables.root, QUERY, fields=["_id"])
        walked, one = [first], first
        while one.cursor is not None:
            if len(walked) in (3, rows // PAGE_SIZE // 2):
                barrier.wait(120)  # raises where the writer has failed
            one = page(tables.root, QUERY, cursor=one.cursor, fields=["_id"])
            walked.append(one)
        pages = len(walked)
        numbers = [dice.randint(1, pages) for _ in range(jumps)]
        jumped = [page(tables.root, QUERY, number, version=first.version, fields=["_id"]) for number in numbers]
        newest = page(tables.root, QUERY)
    assert newest.version >= first.version + 10
    expected: list[Any] = (
        tables.read("samples", first.version).filter(mongo(QUERY)).orderBy("landed_at", "_id").select("_id").collect()
    )
    assert pages == -(-len(expected) // PAGE_SIZE) >= 0.6 * rows / PAGE_SIZE
    assert [document["_id"] for one in walked for document in one.data] == [row["_id"] for row in expected]
    relabelled = tables.read("samples").where(
        "size(annotators) = 2 AND objects.cat.count = 1 AND objects.dog.count = 1"
    )
    assert relabelled.count() >= 2
    assert {(one.length, one.version) for one in walked + jumped} == {(len(expected), first.version)}
    for number, found in zip(numbers, jumped, strict=True):
        assert (found.page, found.data) == (number, walked[number - 1].data)
