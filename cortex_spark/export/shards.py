"""Writes shards inside Spark's tasks, byte for byte the same however the rows were cut into partitions and batches.

A shard is a fixed range of ranks in the order of ``_id``. Ranks need no sort of the whole table: the driver gets one
count for each beginning that an ``_id`` has (``_id`` is a hash, so these are even), and within a beginning rows are
numbered.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import IO, Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import LongType, MapType, StringType, StructField, StructType

from cortex_spark.config import Settings
from cortex_spark.engine.download import fetch_same
from cortex_spark.export.columns import IMAGE, Columns
from cortex_spark.export.folder import Folder, shard_name
from cortex_spark.export.sizes import ROW_GROUP, ROW_GROUP_WITH_IMAGES

#: What a task says of a shard it wrote.
REPORT: Final = StructType(
    [
        StructField("shard", LongType()),
        StructField("rows", LongType()),
        StructField("bytes", LongType()),
        StructField("sha256", StringType()),
        StructField("left_out", MapType(StringType(), LongType())),
    ]
)

#: First characters of ``_id`` that are counted by: 4,096 counts for hexadecimal digits.
_BEGINNING: Final = 3
#: More tasks than this cost more than they bring; each then writes several shards.
_MAX_TASKS: Final = 4_096


@dataclass(frozen=True)
class Fetching:
    """What it takes to fetch the pictures' bytes again: limits, and the warehouse whose store holds private ones."""

    settings: Settings
    root: str


def beginning() -> Column:
    """The characters of ``_id`` that rows are counted by."""
    return F.substring("_id", 1, _BEGINNING)


def write_shards(
    rows: DataFrame,
    counts: dict[str, int],
    columns: Columns,
    folder: Folder,
    *,
    shard_rows: int,
    fetching: Fetching | None,
) -> DataFrame:
    """The plan whose execution writes all shards; its rows are ``REPORT``.

    Args:
        rows: rows of ``samples``, the same ones each time they are computed.
        counts: how many of them there are for each ``beginning``.
        columns: what of them is written.
        folder: where to.
        shard_rows: how many in a shard, the last one apart.
        fetching: for shards with the pictures' bytes.
    """
    spark = rows.sparkSession
    shards = -(-sum(counts.values()) // shard_rows)
    before, starts = 0, []
    for start in sorted(counts, key=str.encode):  # Spark's order of strings is that of their bytes
        starts.append((start, before))
        before += counts[start]
    offsets = F.broadcast(spark.createDataFrame(starts, "beginning string, before long"))
    numbered = rows.withColumn("beginning", beginning()).join(offsets, "beginning")
    rank = F.row_number().over(Window.partitionBy("beginning").orderBy("_id")) - 1 + F.col("before")
    cut = (
        numbered.withColumn("shard", F.floor(rank / F.lit(shard_rows)))
        .select("shard", "_id", "url", "hash", F.struct(*columns.select()).alias("row"))
        .repartitionById(min(shards, _MAX_TASKS), F.col("shard").cast("int"))
        .sortWithinPartitions("shard", "_id")
    )
    return cut.mapInArrow(_task(columns.schema, folder, fetching), REPORT)


def _task(
    schema: StructType, folder: Folder, fetching: Fetching | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for shard, parts in groupby(_by_shard(batches), key=lambda part: part[0]):
            yield _write(shard, (batch for _, batch in parts), schema, folder, fetching)

    return run


def _by_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batches, cut where another shard begins."""
    for batch in batches:
        if batch.num_rows == 0:
            continue
        shards = batch.column("shard").to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), batch.num_rows]
        for start, end in pairwise(starts):
            yield int(shards[start]), batch.slice(start, end - start)


def _write(
    shard: int,
    batches: Iterator[pa.RecordBatch],
    schema: StructType,
    folder: Folder,
    fetching: Fetching | None,
) -> pa.RecordBatch:
    """Write one shard; its line of ``REPORT``."""
    arrow = to_arrow_schema(schema, timezone="UTC")
    left_out: Counter[str] = Counter()
    if fetching is None:
        parts, group = _rows(batches, arrow), ROW_GROUP
    else:
        parts, group = _with_images(batches, arrow, fetching, left_out), ROW_GROUP_WITH_IMAGES
        arrow = arrow.append(pa.field(IMAGE.name, pa.binary()))
    written = 0
    with folder.writing(shard_name(shard)) as sink:
        file = pa.PythonFile(sink, mode="w")
        # Stated although most are pyarrow's defaults: those change.
        with pq.ParquetWriter(
            file, arrow, version="2.6", compression="zstd", compression_level=3, data_page_version="1.0"
        ) as writer:
            for table in _regrouped(parts, arrow, group):
                writer.write_table(table, row_group_size=group)
                written += table.num_rows
        sha256, size = sink.sha256, sink.size
    return pa.RecordBatch.from_pylist(
        [{"shard": shard, "rows": written, "bytes": size, "sha256": sha256, "left_out": list(left_out.items())}],
        to_arrow_schema(REPORT),
    )


def _regrouped(parts: Iterator[pa.Table], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``rows`` each, in one chunk: pages would end where chunks do."""
    waiting: list[pa.Table] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += part.num_rows
        while count >= rows:
            together = pa.concat_tables(waiting)
            yield together.slice(0, rows).combine_chunks()
            waiting, count = [together.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def _rows(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    for batch in batches:
        row = cast(pa.StructArray, batch.column("row"))
        yield pa.Table.from_arrays(row.flatten(), names=schema.names).cast(schema)


def _with_images(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, fetching: Fetching, left_out: Counter[str]
) -> Iterator[pa.Table]:
    """The rows whose picture is still the same, each with its bytes.

    Downloads end in any order, and a shard of them need not fit into memory: they wait in a file.
    """
    together = pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches])
    wanted = together.select(["_id", "url", "hash"]).to_pylist()
    with tempfile.TemporaryFile(prefix="cortex-export-") as spool:
        places: dict[str, tuple[int, int]] = {}
        for row, fetched in fetch_same(wanted, fetching.settings, fetching.root):
            if fetched.body is None:
                left_out[fetched.outcome] += 1
            else:
                places[row["_id"]] = (spool.tell(), len(fetched.body))
                spool.write(fetched.body)
        kept = together.filter(pc.is_in(together["_id"], value_set=pa.array(list(places), pa.string())))
        for start in range(0, kept.num_rows, ROW_GROUP_WITH_IMAGES):
            part = kept.slice(start, ROW_GROUP_WITH_IMAGES).combine_chunks()
            ids: list[Any] = part["_id"].to_pylist()
            images = pa.array([_read(spool, *places[_id]) for _id in ids], pa.binary())
            flat = next(_rows(iter(part.to_batches()), schema))
            yield flat.append_column(IMAGE.name, images)


def _read(spool: IO[bytes], start: int, size: int) -> bytes:
    spool.seek(start)
    return spool.read(size)
