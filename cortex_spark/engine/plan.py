"""A run's work as a query: wanted (``image_urls``) minus done (``attempts``), written down before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from cortex_spark.outcomes import MODEL_BOUND, OK, PASSING_PATTERN, UNCOUNTED
from cortex_spark.schema import PLANS
from cortex_spark.table import Warehouse

#: Tasks' worth of rows per file of a written plan; a run reads it batch by batch.
_ROWS_PER_FILE: Final = 500_000


@dataclass(frozen=True)
class Batching:
    """How a plan is cut: a batch is a few minutes' work."""

    tasks: int  # per batch
    batch_urls: int
    host_urls: int  # of one host in one batch: the others should not wait for the slowest


def url_states(warehouse: Warehouse, model: str, *, retry: bool = False, version: int | None = None) -> DataFrame:
    """Every row of ``image_urls`` with its state for ``model``, from what ``attempts`` recorded.

    Adds ``tries`` (that failed for a passing reason), ``outcome`` (final, or NULL), ``retry_at`` and ``labelled_hash``
    (of an earlier sample, by any model). With ``retry``, outcomes that may pass are not final and need not wait.
    """
    attempts = warehouse.read("attempts").withColumn("passes", F.col("outcome").rlike(PASSING_PATTERN))
    final = F.col("final") & (~F.col("outcome").isin(*MODEL_BOUND) | (F.col("model") == model))
    if retry:
        final &= ~F.col("passes")
    history = attempts.groupBy("_id").agg(
        F.sum((F.col("passes") & ~F.col("outcome").isin(*UNCOUNTED)).cast("int")).alias("tries"),
        F.max_by("outcome", F.when(final, F.col("attempted_at"))).alias("outcome"),
        F.max_by("retry_at", "attempted_at").alias("retry_at"),
        F.min_by("sample.hash", F.when(F.col("outcome") == OK, F.col("attempted_at"))).alias("labelled_hash"),
    )
    if retry:
        history = history.withColumn("retry_at", F.lit(None).cast("timestamp")).withColumn("tries", F.lit(0))
    return warehouse.read("image_urls", version).join(history, "_id", "left").fillna({"tries": 0})


def wanted(states: DataFrame, claimed: DataFrame | None, limit: int | None) -> DataFrame:
    """The rows of ``states`` that are to be tried now: no final outcome, due, and not planned by a run at work."""
    due = F.col("retry_at").isNull() | (F.col("retry_at") <= F.current_timestamp())
    rows = states.where(F.col("outcome").isNull() & due)
    if claimed is not None:
        rows = rows.join(claimed.select("_id"), "_id", "left_anti")
    # Any order will do, as long as it is one: the same query picks the same rows.
    return rows if limit is None else rows.orderBy("discovered_at", "_id").limit(limit)


def in_batches(rows: DataFrame, batching: Batching, run: str) -> DataFrame:
    """``rows`` of ``wanted`` as rows of PLANS.

    All URLs of a host in a batch are in one task, so that politeness needs no coordinator. What a host has beyond the
    cap comes in later batches. Hosts are dealt out to tasks by size. Pictures of the store have no host: they lie
    anywhere.
    """
    host = F.coalesce("host", F.concat(F.lit("#"), F.col("_id").substr(1, 2)))
    order = Window.partitionBy("place").orderBy("_id")
    numbered = rows.withColumn("place", host).withColumn(
        "round", ((F.row_number().over(order) - 1) / F.lit(batching.host_urls)).cast("int")
    )
    # Everything from here on is about a host's URLs in one round: few rows, however many URLs there are.
    groups = numbered.groupBy("round", "place").agg(F.count("*").alias("urls"))
    so_far = F.sum("urls").over(Window.partitionBy("round").orderBy("place")) - F.col("urls")
    groups = groups.withColumn("part", (so_far / F.lit(batching.batch_urls)).cast("int"))
    groups = groups.withColumn("batch", F.dense_rank().over(Window.orderBy("round", "part")) - 1)
    dealt = F.row_number().over(Window.partitionBy("batch").orderBy(F.desc("urls"), "place")) - 1
    groups = groups.withColumn("task", _back_and_forth(dealt, batching.tasks))
    planned = numbered.join(groups.select("round", "place", "batch", "task"), ["round", "place"])
    columns = {
        "run": F.lit(run),
        "location": F.lit(None).cast("string"),
        "etag": F.lit(None).cast("string"),
        "last_modified": F.lit(None).cast("string"),
        "expected_hash": F.col("labelled_hash"),
        "tries": F.col("tries").cast("int"),
        "batch": F.col("batch").cast("int"),
        "task": F.col("task").cast("int"),
    }
    return planned.select(*(columns.get(name, F.col(name)).alias(name) for name in PLANS.names))


def _back_and_forth(position: Column, tasks: int) -> Column:
    """0, 1, 2, 2, 1, 0, 0, ...: dealing from the largest on this way keeps the tasks' sizes close."""
    place = position % F.lit(2 * tasks)
    return F.when(place < tasks, place).otherwise(F.lit(2 * tasks - 1) - place)


def sorted_by_batch(plan: DataFrame, urls: int) -> DataFrame:
    """``plan`` in files that hold whole batches as far as possible, so that reading a batch skips the others."""
    files = max(1, -(-urls // _ROWS_PER_FILE))
    return plan.repartitionByRange(files, "batch").sortWithinPartitions("batch", "task")
