"""Gives ``samples`` its derived columns where it has none, or others: tables made before, or by another rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

from pyspark.sql import functions as F

from cortex_spark.schema import DERIVED, SAMPLES
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import complete, expressions, is_complete

#: Rows of one commit, about. A job that commits meanwhile makes us do it again, so it takes less than its batches.
_ROWS_AT_ONCE: Final = 400_000


def differs() -> str:
    """Whether a row's derived columns are not what follows from its boxes."""
    made = expressions("object_analysis", "width", "height")
    return " OR ".join(f"NOT ({name} <=> {text})" for name, text in made.items())


def upgrade(warehouse: Warehouse, say: Callable[[str], None] = lambda what: None) -> int:
    """Make the derived columns of ``samples`` complete; how many rows have changed. May be killed and called again.

    From the moment the columns are there, whoever commits fills them: a commit that began before conflicts with our
    adding them, and is made anew. So what is left are the rows of before, and the table is complete after one pass.
    """
    if is_complete(warehouse.properties("samples"), warehouse.version("samples")):
        return 0
    if not set(DERIVED) <= set(warehouse.read("samples").columns):
        say("adding columns to samples")
        nothing = warehouse.spark.createDataFrame([], SAMPLES).coalesce(1)
        writer = nothing.write.format("delta").mode("append").option("mergeSchema", "true")
        warehouse.retried(lambda: writer.save(warehouse.path("samples")))
    made = expressions("object_analysis", "width", "height")
    settings = ", ".join(f"{name} = {text}" for name, text in made.items())
    changed = 0
    parts = warehouse.retried(lambda: list(_parts(warehouse)))
    for number, part in enumerate(parts):
        say(f"derived columns of samples: part {number + 1} of {len(parts)}")
        done = warehouse.sql(f"UPDATE {{samples}} SET {settings} WHERE ({part}) AND ({differs()})").first()
        changed += 0 if done is None else done["num_affected_rows"]
    warehouse.set_properties("samples", complete(since=warehouse.version("samples")))
    return changed


def _parts(warehouse: Warehouse) -> Iterator[str]:
    """Conditions on ``landed_at`` that divide the rows: those of a commit, and mostly of a file, have one value."""
    counted = warehouse.read("samples").groupBy(F.unix_micros("landed_at").alias("at")).count()
    edges: list[int] = []
    rows = 0
    for row in counted.where("at IS NOT NULL").orderBy("at").collect():
        rows += row["count"]
        if rows >= _ROWS_AT_ONCE:
            edges.append(row["at"])
            rows = 0
    yield "landed_at IS NULL"
    for after, until in pairwise([None, *edges, None]):
        above = "true" if after is None else f"landed_at > timestamp_micros({after})"
        below = "true" if until is None else f"landed_at <= timestamp_micros({until})"
        yield f"landed_at IS NOT NULL AND {above} AND {below}"
