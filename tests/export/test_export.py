"""Shards that are the same bytes whoever wrote them, and folders that never look complete when they are not."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.errors import CortexError
from cortex_spark.export.columns import choose_columns
from cortex_spark.export.folder import Folder
from cortex_spark.export.parquet import export
from cortex_spark.export.shards import write_shards
from cortex_spark.forget.takedown import forget
from cortex_spark.query.errors import QueryError
from cortex_spark.schema import DERIVED, SAMPLES
from cortex_spark.table import Warehouse

from .conftest import ROWS, contents, make_row

#: Of an export of all columns: those that follow from others are left out.
COLUMNS = [name for name in SAMPLES.names if name not in DERIVED]


def test_shards_and_manifest(table: Warehouse, tmp_path: Path) -> None:
    """What lies there is what was asked for, in the order of _id, and as the manifest says."""
    seen: list[tuple[int, int]] = []
    query = '{"width": {"$gte": 500}}'
    report = export(table, query, str(tmp_path / "out"), shard_rows=170, progress=lambda *now: seen.append(now))
    expected = sorted(
        (row for row in map(make_row, range(500, ROWS)) if row["source"] != "private"), key=lambda row: row["_id"]
    )
    assert (report.rows, report.shards, report.left_out) == (len(expected), 4, {"private": 70})
    assert seen[-1] == (4, 4)

    shards = [tmp_path / "out" / f"shard-{number:05d}.parquet" for number in range(4)]
    tables = [pq.read_table(shard) for shard in shards]
    assert [table.num_rows for table in tables] == [170, 170, 170, 120]
    together = pa.concat_tables(tables)
    assert pq.read_table(tmp_path / "out").num_rows == len(expected)  # the manifest is in no reader's way
    assert together.schema.names == COLUMNS
    assert together.schema.field("datetime").type == pa.timestamp("us", "UTC")
    for found, row in zip(together.to_pylist(), expected, strict=True):
        assert {name: value for name, value in found.items() if value is not None} == {
            name: value for name, value in row.items() if value is not None
        }

    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["version"] == report.version == table.version("samples")
    assert manifest["query"] == json.loads(query)
    assert (manifest["rows"], manifest["left_out"]) == (len(expected), {"private": 70})
    assert [field["name"] for field in manifest["schema"]] == COLUMNS
    for said, shard in zip(manifest["shards"], shards, strict=True):
        data = shard.read_bytes()
        assert said["file"] == shard.name
        assert (said["bytes"], said["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_same_bytes_from_other_partitions_and_batches(table: Warehouse, spark: SparkSession, tmp_path: Path) -> None:
    """One core, small Arrow batches and other shuffles than the default change no byte, nor does a later commit."""
    export(table, "{}", str(tmp_path / "a"), shard_rows=500, private=True)
    settings = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": "37",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.files.maxPartitionBytes": "32768",
        "spark.sql.adaptive.enabled": "false",
    }
    before = {key: spark.conf.get(key) for key in settings}
    version = table.version("samples")
    late = make_row(ROWS + 1)
    frame = spark.createDataFrame(pa.Table.from_pylist([late], to_arrow_schema(SAMPLES, timezone="UTC")))
    table.append_once(frame, "samples", app_id="late", version=0)
    try:
        for key, value in settings.items():
            spark.conf.set(key, value)
        export(table, "{}", str(tmp_path / "b"), shard_rows=500, private=True, version=version)
    finally:
        for key, old in before.items():
            spark.conf.set(key, str(old))
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert list(a) == ["_manifest.json", "shard-00000.parquet", "shard-00001.parquet", "shard-00002.parquet"]
    assert a == b


def test_flat_columns_are_scalars(table: Warehouse, tmp_path: Path) -> None:
    """Every type is one that petastorm 0.12 reads, no name begins with an underscore, nothing is lost."""
    export(table, '{"width": {"$lt": 50}}', str(tmp_path / "out"), columns="flat", private=True)
    flat = pq.read_table(tmp_path / "out" / "shard-00000.parquet")
    scalars = {pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", "UTC")}
    assert set(flat.schema.types) <= scalars
    assert flat.schema.names[0] == "id"
    assert not [name for name in flat.schema.names if name.startswith("_")]
    boxes = {row["_id"]: row["object_analysis"] for row in map(make_row, range(50))}
    assert {row["id"]: json.loads(row["object_analysis"]) for row in flat.to_pylist()} == boxes


def test_nothing_matches(table: Warehouse, tmp_path: Path) -> None:
    """An export of nothing is complete: a manifest without shards."""
    report = export(table, '{"width": -1}', str(tmp_path / "out"))
    assert (report.rows, report.shards, report.left_out) == (0, 0, {})
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert (manifest["shards"], manifest["warnings"], report.as_json()["warnings"]) == ([], [], [])


def test_warnings_stand_in_the_report_and_the_manifest(table: Warehouse, tmp_path: Path) -> None:
    report = export(table, '{"width": "640"}', str(tmp_path / "out"))
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert report.as_json()["warnings"] == manifest["warnings"] == ["width: a number is never matched by a string"]


def test_killed_export_looks_incomplete(table: Warehouse, tmp_path: Path) -> None:
    """A writer that dies in the middle leaves no shard and no manifest, and what a kill leaves is not in the way."""
    out = tmp_path / "out"
    assert not Folder.at(str(out)).is_begun()
    out.mkdir()
    left: list[str] = []

    def die() -> None:
        with Folder.at(str(out)).writing("shard-00000.parquet") as sink:
            sink.write(b"half a shard")
            left.extend(contents(out))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    assert contents(out) == {}
    assert not Folder.at(str(out)).is_begun()
    assert len(left) == 1
    assert left[0].startswith(".")
    (out / left[0]).write_bytes(b"half a shard")  # as SIGKILL leaves it
    (out / "shard-00007.parquet").write_bytes(b"of an earlier export")
    assert Folder.at(str(out)).is_begun()
    with pytest.raises(CortexError, match="is not empty"):
        export(table, '{"width": 1}', str(out))
    export(table, '{"width": 1}', str(out), overwrite=True)
    assert list(contents(out)) == ["_manifest.json", "shard-00000.parquet"]
    assert not Folder.at(str(out)).is_begun()


def test_an_export_that_a_take_down_breaks_off_leaves_nothing(
    spark: SparkSession, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that are whole by then have what was taken down."""
    tables, out = Warehouse(spark, str(warehouse)), tmp_path / "out"
    rows = pa.Table.from_pylist([make_row(number) for number in range(20)], to_arrow_schema(SAMPLES, timezone="UTC"))
    tables.append_once(spark.createDataFrame(rows), "samples", app_id="test", version=0)

    def overtaken(*arguments: Any, **options: Any) -> Any:
        forget(tables, [("url", make_row(0)["_id"])])
        (out / "shard-00000.parquet").write_bytes(b"whole")
        return write_shards(*arguments, **options)

    monkeypatch.setattr("cortex_spark.export.parquet.write_shards", overtaken)
    with pytest.raises(CortexError, match="taken down"):
        export(tables, {}, str(out))
    assert contents(out) == {}


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_stay(table: Warehouse, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "shard-00000.parquet").write_text("")
    with pytest.raises(CortexError, match=r"is not empty|thesis\.tex"):
        export(table, "{}", str(tmp_path), overwrite=overwrite)
    assert list(contents(tmp_path)) == ["shard-00000.parquet", "thesis.tex"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": "widht"}, "no column 'widht', the nearest is 'width'"),
        ({"columns": ","}, "no columns are named"),
        ({"shard_rows": 0}, "at least one row"),
        ({"version": 99}, "no version 99, the newest is"),
        ({"version": -1}, "no version -1"),
        ({"query": '{"width": {"$foo": 1}}'}, "width.\\$foo: there is no operator"),
    ],
)
def test_refused_before_anything_is_written(
    table: Warehouse, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"query": "{}", **options}
    with pytest.raises((CortexError, QueryError), match=message):
        export(table, out=str(tmp_path / "out"), **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("width,_id,url", ["_id", "url", "width"]),
        ("flat,width", ["id", "width"]),
        ("all", COLUMNS),
        ("all,objects", [*COLUMNS, "objects"]),
        ("all,flat", ["id", *COLUMNS[1:]]),
    ],
)
def test_columns(wanted: str, names: list[str]) -> None:
    assert choose_columns(wanted).schema.names == names
