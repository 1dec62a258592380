"""Writes shards inside Spark's tasks, byte for byte the same however the rows were cut into partitions and batches.

A shard is a fixed range of ranks in the order of ``_id``. Ranks need no sort of the whole table: the driver gets one
count for each beginning that an ``_id`` has (``_id`` is a hash, so these are even), and within a beginning rows are
numbered.

With pictures the rows go by another way first: all of a host into one task, which fetches them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, LongType, MapType, StringType, StructField, StructType

from cortex_spark.config import Settings
from cortex_spark.engine.download import Row, fetch_same
from cortex_spark.engine.plan import latest_hosts
from cortex_spark.engine.worker import attempt_number
from cortex_spark.export.columns import IMAGE, Columns
from cortex_spark.export.folder import Folder, shard_name
from cortex_spark.export.sizes import ROW_GROUP, ROW_GROUP_WITH_IMAGES
from cortex_spark.fetch import Fetched, HostState
from cortex_spark.fetch.state import Robots
from cortex_spark.schema import HOST
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import Memory, refused_hashes

#: What a task says of a shard it wrote.
REPORT: Final = StructType(
    [
        StructField("shard", LongType()),
        StructField("rows", LongType()),
        StructField("bytes", LongType()),
        StructField("sha256", StringType()),
        StructField("left_out", MapType(StringType(), LongType())),
        StructField("hosts", ArrayType(HOST)),  # what is to be remembered of them
    ]
)

#: First characters of ``_id`` that are counted by: 4,096 counts for hexadecimal digits.
_BEGINNING: Final = 3
#: More tasks than this cost more than they bring; each then writes several shards.
_MAX_TASKS: Final = 4_096
#: Bytes of pictures that go back to Spark at once.
_BATCH_BYTES: Final = 16 << 20

_Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Fetching:
    """What it takes to fetch pictures again: limits, the warehouse whose store has private ones, what is forgotten."""

    settings: Settings
    root: str
    memory: Memory


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
    tasks = min(shards, _MAX_TASKS)
    row = F.struct(*columns.select()).alias("row")
    cut = numbered.withColumn("shard", F.floor(rank / F.lit(shard_rows)))
    cut = cut.select("shard", "_id", "url", "hash", "host", row)
    if fetching is not None:
        cut = _with_images(cut, tasks, fetching)
    ordered = cut.repartitionById(tasks, F.col("shard").cast("int")).sortWithinPartitions("shard", "_id")
    return ordered.mapInArrow(_task(columns.schema, folder, with_images=fetching is not None), REPORT)


def _with_images(rows: DataFrame, tasks: int, fetching: Fetching) -> DataFrame:
    """``rows`` with the pictures' bytes, the outcomes of fetching them, and what hosts have asked for.

    All of a host is in one task, which knows what was remembered of it, so that its limits hold over all of them. Its
    robots.txt is read anew. The bytes go to their shards by Spark's shuffle.
    """
    spark = rows.sparkSession
    warehouse = Warehouse(spark, fetching.root)
    forbidden = spark.sparkContext.broadcast((refused_hashes(warehouse, fetching.settings), fetching.memory))
    state = F.struct(*HOST.names).withField("robots", F.lit(None).cast(HOST["robots"].dataType))
    if warehouse.has("hosts"):
        rows = rows.join(latest_hosts(warehouse).select("host", state.alias("state")), "host", "left")
    else:
        rows = rows.withColumn("state", F.lit(None).cast(HOST))
    rows = rows.repartition(tasks, F.coalesce("host", "_id"))  # pictures of the store have no host
    kept = [rows.schema[name] for name in ("shard", "_id", "row")]
    found = (IMAGE, StructField("outcome", StringType()), StructField("host_state", HOST))
    schema = StructType([*kept, *found])
    return rows.mapInArrow(
        _fetching_task(fetching.settings, fetching.root, forbidden, to_arrow_schema(schema, timezone="UTC")), schema
    )


def _fetching_task(
    settings: Settings, root: str, forbidden: Broadcast[tuple[frozenset[str], Memory]], schema: pa.Schema
) -> _Task:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = [pa.Table.from_batches([batch]) for batch in batches]
        if not parts:
            return
        together = pa.concat_tables(parts).combine_chunks()
        rows: list[Row] = together.select(["url", "hash", "state"]).to_pylist()
        hosts = {row["state"]["host"]: HostState.from_row(row["state"]) for row in rows if row["state"] is not None}
        refused, memory = forbidden.value
        wanted: list[Row] = []
        found: list[tuple[int, Fetched]] = []
        for number, row in enumerate(rows):
            if row["hash"] in refused:
                found.append((number, Fetched("forgotten")))
            else:
                wanted.append(row | {"number": number})
        size, again = 0, attempt_number() > 0
        for row, fetched in fetch_same(wanted, settings, root, hosts, retried=again):
            if memory.has_url(fetched.final_url):  # where a redirect led
                fetched = replace(fetched, outcome="forgotten", body=None)
            found.append((row["number"], fetched))
            size += len(fetched.body or b"")
            if size >= _BATCH_BYTES:
                yield from _joined(together, found, schema)
                found, size = [], 0
        yield from _joined(together, found, schema)

    return run


def _joined(rows: pa.Table, found: list[tuple[int, Fetched]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """What was ``found`` for rows with these numbers, beside them."""
    columns: dict[str, list[Any]] = {
        "image": [fetched.body for _, fetched in found],
        "outcome": [fetched.outcome for _, fetched in found],
        "host_state": [_without_rules(fetched.host_state) for _, fetched in found],
    }
    table = rows.select(schema.names[: -len(columns)]).take(pa.array([number for number, _ in found], pa.int64()))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, schema.field(name).type))
    yield from table.cast(schema).combine_chunks().to_batches()


def _without_rules(state: HostState | None) -> Row | None:
    """A row of HOST with no more of robots.txt than where one answered: all of them would come to the driver."""
    if state is None:
        return None
    return replace(state, robots=tuple(Robots(robots.origin, robots.fetched_at) for robots in state.robots)).as_row()


def _task(schema: StructType, folder: Folder, *, with_images: bool) -> _Task:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for shard, parts in groupby(_by_shard(batches), key=lambda part: part[0]):
            yield _write(shard, (batch for _, batch in parts), schema, folder, with_images)

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
    with_images: bool,
) -> pa.RecordBatch:
    """Write one shard; its line of ``REPORT``."""
    arrow = to_arrow_schema(schema, timezone="UTC")
    left_out: Counter[str] = Counter()
    hosts: list[Row] = []
    group = ROW_GROUP
    if with_images:
        batches, group = _found(batches, left_out, hosts), ROW_GROUP_WITH_IMAGES
        arrow = arrow.append(pa.field(IMAGE.name, pa.binary()))
    parts = _rows(batches, arrow)
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
    report = {"shard": shard, "rows": written, "bytes": size, "sha256": sha256}
    report |= {"left_out": list(left_out.items()), "hosts": hosts}
    return pa.RecordBatch.from_pylist([report], to_arrow_schema(REPORT, timezone="UTC"))


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
        columns = [*row.flatten(), *([batch.column(IMAGE.name)] if IMAGE.name in schema.names else [])]
        yield pa.Table.from_arrays(columns, names=schema.names).cast(schema)


def _found(batches: Iterator[pa.RecordBatch], left_out: Counter[str], hosts: list[Row]) -> Iterator[pa.RecordBatch]:
    """The rows whose picture is still the same; the others are counted, and ``hosts`` gets what is known of hosts."""
    for batch in batches:
        states: list[Any] = batch.column("host_state").drop_null().to_pylist()
        hosts += states
        there = pc.is_valid(batch.column(IMAGE.name))
        outcomes: list[Any] = batch.filter(pc.invert(there)).column("outcome").to_pylist()
        left_out.update(outcomes)
        yield batch.filter(there)
