"""Fewer, larger files, in an order that lets filters skip most of them; and no files that nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final

from pyspark.sql import SparkSession
from rich.table import Table

from cortex_spark.engine.runs import Runs
from cortex_spark.errors import CortexError
from cortex_spark.query.cursor import LIFETIME
from cortex_spark.query.samples import Samples
from cortex_spark.schema import TABLES
from cortex_spark.sources import store
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import recall
from cortex_spark.table.index import prune_indexes
from cortex_spark.table.removal import data_files
from cortex_spark.table.warehouse import STATISTICS
from cortex_spark.upkeep.derive import upgrade

#: A walk by cursors may take a day, and so may an export; its last page is still being read then.
LEAST_RETENTION: Final = timedelta(seconds=LIFETIME) + timedelta(hours=1)
DEFAULT_RETENTION: Final = timedelta(days=7)

#: What VACUUM goes by, and for how long the log tells of a version: Delta's own 30 days, or more.
_RETENTION: Final = "delta.deletedFileRetentionDuration"
_LOG_RETENTION: Final = "delta.logRetentionDuration"
_LEAST_LOG: Final = timedelta(days=30)

#: What holds for a table that says nothing: a week, and 30 days.
_DEFAULTS: Final = {_RETENTION: "interval 604800 seconds", _LOG_RETENTION: "interval 2592000 seconds"}
#: By what ``samples`` is clustered: see docs/layout.md.
_CLUSTERED: Final = ("rarest_class", "landed_at")
#: Bytes of ``samples`` that are clustered together at most, tens of millions of rows, in a commit of their own. A part
#: that has come out at half of that or more is full: later calls leave it alone.
_PART_BYTES: Final = 8 * 2**30
#: Rows of a file lie in the order that files are cut from; those of one class and moment in the order they came in,
#: which is that of hosts, and not mixed by chance.
_IN_ORDER: Final = {
    "spark.databricks.io.skipping.mdc.sortWithinFiles": "true",
    "spark.databricks.io.skipping.mdc.addNoise": "false",
}
#: Rows of a file of ``samples``: files are what queries skip, and what they open.
_ROWS_PER_FILE: Final = 200_000
#: Rows of a row group of ``samples``. Filters pay for each row group, and pages for each of its rows.
_ROWS_PER_GROUP: Final = 50_000
#: Rows of a Parquet page of ``samples``. Spark reads of a row group the pages that may have what is looked for.
_ROWS_PER_PAGE: Final = 4_000
#: What single rows are looked for by, in row groups that have it: a few bits for each value. Of 25 rows in 25 files
#: all row groups would be decoded else (measured, 5 million rows, 2 cores: 4.5 s, with these 1.4).
_BLOOM_FILTERS: Final = ("_id", "label_quality_estimation")
#: Of row groups that have none of the 25 wanted values, one in eighty is decoded in vain.
_BLOOM_ERROR: Final = 0.0005
#: The other tables are read as a whole.
_FILE_BYTES: Final = 128 * 2**20
_LEAST_FILE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class TableCare:
    """What became of one table's newest version, and how many files of older ones went."""

    table: str
    files_before: int
    files: int
    bytes_before: int
    bytes: int
    vacuumed: int


@dataclass
class OptimizeReport:
    """What ``optimize`` did."""

    derived: int = 0  # rows whose derived columns were made
    indexes: int = 0  # made for look-ups of ids
    taken_down: bool = False  # whether anything was, meanwhile
    tables: list[TableCare] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

    def __rich__(self) -> Table:
        made = f"{self.derived:,} rows got derived columns, {self.indexes:,} files an index of ids"
        table = Table(caption=made, caption_justify="left")
        table.add_column("table")
        for name in ("files before", "files", "MB before", "MB", "old files deleted"):
            table.add_column(name, justify="right")
        for one in self.tables:
            megabytes = (f"{size / 1e6:,.1f}" for size in (one.bytes_before, one.bytes))
            table.add_row(one.table, f"{one.files_before:,}", f"{one.files:,}", *megabytes, f"{one.vacuumed:,}")
        return table


def optimize(
    warehouse: Warehouse,
    *,
    retain: timedelta = DEFAULT_RETENTION,
    say: Callable[[str], None] = lambda what: None,
) -> OptimizeReport:
    """Compact all tables, cluster ``samples``, and delete files that only versions older than ``retain`` have.

    Jobs, queries and exports may go on meanwhile: no row changes, and whoever loses a race for a commit tries again.
    Killed anywhere, the next call does the rest.

    Raises:
        CortexError: there is no table, or ``retain`` is less than cursors and exports need.
    """
    check_retention(retain)
    present = [table for table in TABLES if warehouse.has(table)]
    if not present:
        raise CortexError(f"{warehouse.root} is not a warehouse, it has no tables: is --warehouse right?")
    report = OptimizeReport()
    memory = recall(warehouse)
    if "samples" in present:
        report.derived = upgrade(warehouse, say)
    for table in present:
        before = _size(warehouse, table)
        say(f"{table}: {before[0]:,} files, {before[1] / 1e6:,.1f} MB")
        _compact(warehouse, table, before[1], say)
        files, size = _size(warehouse, table)
        say(f"{table}: deleting files that only old versions have")
        vacuumed = _vacuum(warehouse, table, retain, say)
        report.tables.append(TableCare(table, before[0], files, before[1], size, vacuumed))
    report.taken_down = recall(warehouse).values != memory.values
    if "samples" in present and store.is_local(warehouse.root):
        say("samples: index of ids")
        prune_indexes(warehouse.root, data_files(warehouse, "samples"))
        try:
            report.indexes = Samples(warehouse.root).index()
        except CortexError as error:  # of a table that DuckDB does not read, nobody asks for them
            say(f"samples: no index of ids: {error}")
    return report


def check_retention(retain: timedelta) -> None:
    """Raises CortexError if ``retain`` is less than cursors and exports need."""
    if retain < LEAST_RETENTION:
        raise CortexError(
            f"--retain {retain / timedelta(hours=1):g}: at least {LEAST_RETENTION / timedelta(hours=1):g} hours are "
            "kept, so that cursors and running exports find their files"
        )


def _compact(warehouse: Warehouse, table: str, size: int, say: Callable[[str], None]) -> None:
    _keep_properties(warehouse, table, {"delta.dataSkippingStatsColumns": STATISTICS[table]}, say)
    most = _FILE_BYTES
    if table == "samples":
        if _clustering(warehouse) != list(_CLUSTERED):
            warehouse.sql(f"ALTER TABLE {{samples}} CLUSTER BY ({', '.join(_CLUSTERED)})")
        rows = warehouse.read("samples").count()
        most = min(max(size * _ROWS_PER_FILE // max(rows, 1), _LEAST_FILE_BYTES), 8 * _FILE_BYTES)
    limits = {
        "spark.databricks.delta.optimize.maxFileSize": str(most),
        "spark.databricks.delta.optimize.minFileSize": str(most // 2),
    }
    if table == "samples":
        limits |= _IN_ORDER
        limits |= {
            "spark.databricks.delta.optimize.clustering.mergeStrategy.minCubeSize.threshold": str(_PART_BYTES // 2),
            "spark.databricks.delta.optimize.clustering.mergeStrategy.minCubeSize.targetCubeSize": str(_PART_BYTES),
            "spark.databricks.delta.optimize.batchSize": str(_PART_BYTES),
        }
        limits["spark.sql.files.maxRecordsPerFile"] = str(2 * _ROWS_PER_FILE)
        limits["parquet.block.row.count.limit"] = str(_ROWS_PER_GROUP)
        limits["parquet.page.row.count.limit"] = str(_ROWS_PER_PAGE)
        for column in _BLOOM_FILTERS:
            limits[f"parquet.bloom.filter.enabled#{column}"] = "true"
            limits[f"parquet.bloom.filter.expected.ndv#{column}"] = str(_ROWS_PER_GROUP)
            limits[f"parquet.bloom.filter.fpp#{column}"] = str(_BLOOM_ERROR)
    with _settings(warehouse.spark, limits):
        warehouse.sql(f"OPTIMIZE {{{table}}}")


def _clustering(warehouse: Warehouse) -> list[str]:
    found = warehouse.delta("samples").detail().select("clusteringColumns").first()
    assert found is not None
    return list(found["clusteringColumns"])


def _vacuum(warehouse: Warehouse, table: str, retain: timedelta, say: Callable[[str], None]) -> int:
    """How many files went."""
    kept = {_RETENTION: _interval(retain), _LOG_RETENTION: _interval(max(retain, _LEAST_LOG))}
    _keep_properties(warehouse, table, kept, say)
    before = data_files(warehouse, table)
    # A table is one folder; Spark would list it with 10,000 tasks.
    with _settings(warehouse.spark, {"spark.sql.sources.parallelPartitionDiscovery.parallelism": "2"}):
        warehouse.delta(table).vacuum()
    return len(before - data_files(warehouse, table))


def _keep_properties(
    warehouse: Warehouse, table: str, properties: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Set what differs; but not of ``attempts`` while a job is at work.

    Its append takes as long as a batch. To that a change of properties is a conflict, and all of it is labelled again.
    """
    if properties.items() <= (_DEFAULTS | warehouse.properties(table)).items():
        return
    if table == "attempts" and warehouse.has("runs") and any(run.alive for run in Runs(warehouse).open()):
        say("attempts: a job is at work, what is set for the table stays as it was")
    else:
        warehouse.set_properties(table, properties)


def _interval(time: timedelta) -> str:
    return f"interval {round(time / timedelta(seconds=1))} seconds"


def _size(warehouse: Warehouse, table: str) -> tuple[int, int]:
    """Files and bytes of the newest version."""
    found = warehouse.delta(table).detail().select("numFiles", "sizeInBytes").first()
    assert found is not None
    return found["numFiles"], found["sizeInBytes"]


@contextmanager
def _settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)
