"""What a task does with its rows, without Spark."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType

from cortex_spark.export import shards
from cortex_spark.export.folder import Folder

SCHEMA = StructType([StructField("_id", StringType()), StructField("width", IntegerType())])
ROWS = 25_000  # two row groups and a half


def batches(size: int, shard_rows: int) -> list[pa.RecordBatch]:
    """The rows of a task in batches of one size."""
    row = StructType([StructField("shard", LongType()), StructField("row", SCHEMA)])
    table: list[Any] = [
        {"shard": number // shard_rows, "row": {"_id": f"{number:08d}", "width": number % 97}} for number in range(ROWS)
    ]
    return pa.Table.from_pylist(table, to_arrow_schema(row)).to_batches(max_chunksize=size)


@pytest.mark.parametrize("size", [ROWS, 10_001, 777])
@pytest.mark.parametrize("shard_rows", [ROWS, 9_999])
def test_batches_do_not_matter(tmp_path: Path, size: int, shard_rows: int) -> None:
    run = shards._task(SCHEMA, Folder.at(str(tmp_path)), with_images=False)
    reports = [report for batch in run(iter(batches(size, shard_rows))) for report in batch.to_pylist()]
    assert [report["rows"] for report in reports] == ([ROWS] if shard_rows == ROWS else [9_999, 9_999, 5_002])
    paths = sorted(tmp_path.iterdir())
    assert [report["sha256"] for report in reports] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    groups = pq.ParquetFile(paths[0]).metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == (
        [10_000, 10_000, 5_000] if shard_rows == ROWS else [9_999]
    )
    ids = pa.concat_tables([pq.read_table(path) for path in paths])["_id"].to_pylist()
    assert ids == [f"{number:08d}" for number in range(ROWS)]
    assert (reports[0]["sha256"], size) == (_expected(tmp_path, shard_rows), size)


def _expected(folder: Path, shard_rows: int) -> str:
    """The hash of the first shard when its rows come in one batch."""
    other = folder / "other"
    other.mkdir()
    run = shards._task(SCHEMA, Folder.at(str(other)), with_images=False)
    [first, *_] = [report for batch in run(iter(batches(ROWS, shard_rows))) for report in batch.to_pylist()]
    return str(first["sha256"])
