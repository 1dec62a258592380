"""The one way by which discovered pictures get into ``image_urls``: stage, count, merge.

What a source yields is written down once, as Parquet beside the tables, and both the counts and the merge read that.
So a file is parsed (and downloaded) once, and a merge that lost a race against another job looks again at the same
rows, as ``Warehouse.insert_new`` asks for.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from delta.tables import DeltaMergeBuilder
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cortex_spark.errors import CortexError
from cortex_spark.schema import IMAGE_URLS
from cortex_spark.sources.staged import FINDING, REFERENCE, STAGED, TALLY
from cortex_spark.table.forgotten import MARK, marked, recall
from cortex_spark.table.removal import files_below, remove
from cortex_spark.table.warehouse import Warehouse, plain_files

#: Findings in a report; all are counted.
_FINDINGS: Final = 1000
#: Seconds after which a staging folder cannot belong to a job that still runs.
_ABANDONED: Final = 7 * 24 * 3600


class Finding(NamedTuple):
    """Something wrong with an input: where (offset in bytes, or line), what, and an excerpt."""

    file: str
    position: int | None
    reason: str
    detail: str | None


@dataclass(frozen=True)
class Landed:
    """What became of staged rows."""

    tally: Counter[str]
    findings: list[Finding]
    distinct: int  # pictures, by _id
    new: int  # of them, those that image_urls did not have


def land(warehouse: Warehouse, files: Sequence[str], stage: Callable[[str], None]) -> Landed:
    """Let ``stage`` write rows of ``STAGED`` into a folder, and merge them into ``image_urls``.

    Of several references to a picture the first counts, in the order of ``files`` and then of the file, but the
    directives of all: what one page forbids is forbidden, also for a picture that is there already. References to what
    was taken down, or from pages that were, do not count at all.

    Raises:
        CortexError: what was staged of some file is not there any more.
    """
    spark = warehouse.spark
    with _staging(warehouse) as folder:
        stage(folder)
        memory = recall(warehouse)
        staged = marked(plain_files(spark, STAGED).parquet(folder), memory)
        tally: Counter[str] = Counter()
        distinct = 0
        read = 0
        counts = (
            F.sum("count").alias("count"),
            F.count_distinct("_id").alias("pictures"),
            F.count("*").alias("rows"),
        )
        for row in staged.groupBy("event", "name", MARK).agg(*counts).collect():
            if row["event"] == TALLY:
                tally[row["name"]] = row["count"]
                read = max(read, row["rows"])  # of some, as the time that it took, each file has one
            elif row[MARK]:
                tally["dropped:forgotten"] = row["rows"]
            elif row["event"] == REFERENCE:
                distinct = row["pictures"]
        if read != len(files):
            raise CortexError(
                f"what was found in {len(files) - read:,} of {len(files):,} files is gone from {folder}: did somebody "
                "delete that while it was written? Nothing was added; the same command does it again"
            )
        findings = []
        if tally["findings"]:
            findings = staged.where(F.col("event") == FINDING).orderBy("file", "position").limit(_FINDINGS).collect()
        first = _first(staged.where((F.col("event") == REFERENCE) & ~F.col(MARK)))
        new = warehouse.insert_new(first, "image_urls") if distinct else 0
        if new < distinct:
            _add_directives(warehouse, first)
    if recall(warehouse).values != memory.values:  # something was taken down meanwhile, and may have come in after it
        remove(warehouse)
    return Landed(
        tally,
        [Finding(files[row["file"]], row["position"], row["name"], row["detail"]) for row in findings],
        distinct,
        new,
    )


def _first(references: DataFrame) -> DataFrame:
    """One row per ``_id``, that of the first reference, with the directives of all."""
    row = F.struct(*(name for name in IMAGE_URLS.names if name != "_id"))
    first = F.min_by(row, F.struct("file", "position"))
    directives = F.sort_array(F.array_distinct(F.flatten(F.collect_set("directives"))))
    return references.groupBy("_id").agg(first.withField("directives", directives).alias("row")).select("_id", "row.*")


def _add_directives(warehouse: Warehouse, rows: DataFrame) -> None:
    """Give pictures that ``image_urls`` has the directives of ``rows`` that they lack; no commit where none does."""
    strict = rows.where(F.size("directives") > 0).select("_id", "directives")
    known = F.coalesce("t.directives", F.array().cast("array<string>"))
    lacking = F.size(F.array_except("s.directives", known)) > 0
    both = F.sort_array(F.array_union(known, "s.directives"))

    def merge() -> DeltaMergeBuilder:
        there = warehouse.delta("image_urls").alias("t").merge(strict.alias("s"), "t._id = s._id")
        return there.whenMatchedUpdate(lacking, {"directives": both})

    warehouse.merge(merge)


@contextmanager
def _staging(warehouse: Warehouse) -> Iterator[str]:
    """A folder beside the tables that is gone afterwards."""
    spark, root = warehouse.spark, warehouse.root
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    above = jvm.org.apache.hadoop.fs.Path(f"{root}/_staging")
    filesystem = above.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
    if filesystem.exists(above):  # what killed jobs left
        for entry in filesystem.listStatus(above):
            # In a bucket a folder's time is the present, and elsewhere says nothing of what is far below it.
            below = [file.modified for file in files_below(warehouse, entry.getPath())]
            if max(below, default=entry.getModificationTime() / 1000) < time.time() - _ABANDONED:
                filesystem.delete(entry.getPath(), True)
    name = f"{root}/_staging/{uuid.uuid4().hex}"
    try:
        yield name
    finally:
        filesystem.delete(jvm.org.apache.hadoop.fs.Path(name), True)
