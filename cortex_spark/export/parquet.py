"""An export: Parquet shards for a filter at one version of ``samples``, and a manifest that says what they are."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import StructType
from rich.console import Group
from rich.table import Table

from cortex_spark import __version__
from cortex_spark.config import NO_CONTACT, Settings
from cortex_spark.engine.plan import forbidden, latest_hosts
from cortex_spark.engine.runs import Runs
from cortex_spark.errors import CortexError
from cortex_spark.export.columns import IMAGE, Columns, choose_columns
from cortex_spark.export.folder import MANIFEST, Folder, shard_name
from cortex_spark.export.progress import watching
from cortex_spark.export.shards import Fetching, beginning, write_shards
from cortex_spark.export.sizes import DEFAULT_SHARD_ROWS
from cortex_spark.query.mongo import compile_query
from cortex_spark.query.page import pinned, predicate, reading
from cortex_spark.query.text import read
from cortex_spark.schema import HOST, HOSTS
from cortex_spark.table.forgotten import MARK, marked, recall, without_forgotten
from cortex_spark.table.removal import remove
from cortex_spark.table.warehouse import Warehouse

#: Sources of pictures that are not online.
PRIVATE_SOURCES: Final = ("private", "crowdsourced", "synthetic")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote, and what it left out by reason."""

    out: str
    version: int
    rows: int
    shards: int
    bytes: int
    left_out: dict[str, int]
    seconds: float
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The report with JSON's types."""
        return {name: getattr(self, name) for name in self.__slots__} | {"warnings": list(self.warnings)}

    def __rich__(self) -> Group:
        table = Table(show_header=False)
        table.add_row("out", self.out)
        table.add_row("table version", str(self.version))
        table.add_row("rows", f"{self.rows:,}")
        table.add_row("shards", f"{self.shards:,}")
        table.add_row("megabytes", f"{self.bytes / 1e6:,.1f}")
        table.add_row("seconds", f"{self.seconds:.1f}")
        for reason, count in self.left_out.items():
            table.add_row(f"left out: {reason}", f"{count:,}")
        return Group(table)


def export(
    warehouse: Warehouse,
    query: str | Mapping[str, Any],
    out: str,
    *,
    shard_rows: int = DEFAULT_SHARD_ROWS,
    columns: str = "all",
    with_bytes: bool = False,
    private: bool = False,
    overwrite: bool = False,
    version: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write the samples that match ``query`` as ``shard-00000.parquet``, ... and ``_manifest.json`` into ``out``.

    Rows are in the order of ``_id``. One version of the table gives the same bytes, whatever the cluster; where
    pictures are fetched again, as long as the web gives the same pictures.

    Args:
        warehouse: whose ``samples`` are exported.
        query: a MongoDB filter.
        out: a folder, or a URI that ``pyarrow.fs`` opens; on a cluster, one that all workers see.
        shard_rows: rows of a shard, the last one apart. Pictures that are left out leave their shard shorter.
        columns: see ``choose_columns``.
        with_bytes: fetch the pictures again, as column ``image``; what is gone or has another hash is left out.
        private: also pictures that are not online.
        overwrite: replace an earlier export.
        version: of the table, by default the newest.
        progress: is told now and then how many shards are written, of how many.

    Raises:
        QueryError: the query is wrong or not supported.
        CortexError: the columns, the version or the folder cannot be used.
    """
    started = time.monotonic()
    compiled = compile_query(query)
    chosen = choose_columns(columns)
    if shard_rows < 1:
        raise CortexError(f"--shard-rows {shard_rows}: a shard has at least one row")
    memory = recall(warehouse)
    samples, version = pinned(warehouse, version)
    warnings = [*compiled.warnings, *(_beside_labelling(warehouse) if with_bytes else ())]
    folder = Folder.at(out)
    folder.check(overwrite)
    matching = samples.filter(predicate(warehouse, compiled, version))
    hidden = F.lit(False) if private else _is_private()
    settings = Settings()
    if with_bytes and settings.contact is None:
        with reading(warehouse, version):
            _check_contact(matching.filter(~hidden), settings)
    counted = matching.groupBy(beginning().alias("beginning")).agg(
        F.count_if(~hidden).alias("kept"), F.count_if(hidden).alias("hidden")
    )
    with reading(warehouse, version):
        by_beginning = counted.collect()
    folder.prepare(overwrite)  # not before it is known that the version can be read
    counts = {row["beginning"]: row["kept"] for row in by_beginning if row["kept"]}
    left_out = Counter(private=sum(row["hidden"] for row in by_beginning))
    shards: list[Row] = []
    if counts:
        fetching = Fetching(settings, warehouse.root, memory) if with_bytes else None
        plan = write_shards(matching.filter(~hidden), counts, chosen, folder, shard_rows=shard_rows, fetching=fetching)
        expected = -(-sum(counts.values()) // shard_rows)
        try:
            with reading(warehouse, version), watching(folder, expected, progress):
                shards = sorted(plan.collect(), key=lambda shard: shard["shard"])
        except CortexError:
            if recall(warehouse).values != memory.values:
                folder.prepare(overwrite=True)  # shards that are whole may have what was taken down
            raise
        left_out = reduce(lambda total, shard: total + Counter(shard["left_out"]), shards, left_out)
        _check(shards, expected, sum(counts.values()))
        if recall(warehouse).values != memory.values:
            _check_meanwhile(warehouse, query, version, private, sum(counts.values()), folder)
    left_out += Counter()  # forgets what is zero
    report = ExportReport(
        out=folder.uri,
        version=version,
        rows=sum(shard["rows"] for shard in shards),
        shards=len(shards),
        bytes=sum(shard["bytes"] for shard in shards),
        left_out=dict(sorted(left_out.items())),
        seconds=time.monotonic() - started,
    )
    wanted = {"query": read(query), "private": private, "columns": columns, "shard_rows": shard_rows}
    with folder.writing(MANIFEST) as sink:
        sink.write(_manifest(wanted, compiled.warnings, report, shards, _schema(chosen, with_bytes)))
    return replace(report, warnings=(*warnings, *_remember_hosts(warehouse, shards)))


def _beside_labelling(warehouse: Warehouse) -> list[str]:
    """Who asks hosts at the same time: a job keeps a limit over all its requests, but knows nothing of an export's."""
    runs = Runs(warehouse).open() if warehouse.has("runs") else []
    return [
        f"run {run.run} of {run.owner} was labelling beside this: hosts may have been asked by both, each within limits"
        for run in runs
        if run.alive
    ]


def _remember_hosts(warehouse: Warehouse, shards: list[Row]) -> list[str]:
    """What hosts have asked for (429, Retry-After) holds for the jobs that come after; warnings, if it does not."""
    states = [state for shard in shards for state in shard["hosts"]]
    if not states:
        return []
    try:
        visited = without_forgotten(warehouse.spark.createDataFrame(states, HOST), warehouse)
        known = latest_hosts(warehouse).select("host", F.col("robots").alias("known"))
        robots = F.when(F.size("known") > 0, F.col("known")).otherwise(F.col("robots"))
        run = f"export-{secrets.token_hex(6)}"
        rows = visited.join(known, "host", "left").withColumns({"robots": robots, "run": F.lit(run), "batch": F.lit(0)})
        warehouse.append_once(rows.select(*HOSTS.names), "hosts", app_id=run, version=0)
        memory = recall(warehouse)  # of a host that was taken down since it was asked for above
        if memory and not marked(visited.select("host"), memory).where(MARK).isEmpty():
            remove(warehouse)
    except (CortexError, PySparkException, Py4JJavaError) as error:
        said = str(error).strip().splitlines()[0]
        return [f"what hosts asked for could not be written into {warehouse.path('hosts')}: {said}"]
    return []


def _check_contact(rows: DataFrame, settings: Settings) -> None:
    """Raises CortexError where pictures would be fetched from the public web, and nobody is named."""
    host = forbidden(F.col("host"), settings)
    found = rows.select(host.alias("host")).where("host IS NOT NULL").first()
    if found is not None:
        raise CortexError(f"--bytes: {found['host']} is on the public web: {NO_CONTACT}")


def _is_private() -> Column:
    return F.coalesce(F.col("source").isin(*PRIVATE_SOURCES) | F.col("url").startswith("cortex-store:"), F.lit(False))


def _check(shards: list[Row], expected: int, rows: int) -> None:
    """Every shard once, every row accounted for."""
    numbers = [shard["shard"] for shard in shards]
    accounted = sum(shard["rows"] + sum(shard["left_out"].values()) for shard in shards)
    if numbers != list(range(expected)) or accounted != rows:
        raise CortexError(
            f"the export is not complete: {accounted:,} of {rows:,} rows in {len(numbers):,} of {expected:,} shards;"
            " the folder has no manifest, please report this"
        )


def _check_meanwhile(
    warehouse: Warehouse, query: str | Mapping[str, Any], version: int, private: bool, rows: int, folder: Folder
) -> None:
    """Something was taken down since the export began: raises CortexError, and leaves nothing, if it was in there."""
    hidden = F.lit(False) if private else _is_private()
    try:
        samples, _ = pinned(warehouse, version)
        with reading(warehouse, version):
            left = samples.filter(predicate(warehouse, compile_query(query), version)).filter(~hidden).count()
        if left != rows:
            raise CortexError(f"{rows - left:,} of {rows:,} rows were taken down while they were exported; begin again")
    except CortexError:
        folder.prepare(overwrite=True)
        raise


def _schema(columns: Columns, with_bytes: bool) -> StructType:
    return StructType([*columns.schema.fields, *([IMAGE] if with_bytes else [])])


def _manifest(
    wanted: dict[str, Any], warnings: tuple[str, ...], report: ExportReport, shards: list[Row], schema: StructType
) -> bytes:
    """Says nothing that differs between two exports of the same: no times, no paths, the query's ``warnings`` alone."""
    manifest = {
        "tool": f"cortex-spark {__version__}",
        "format": "parquet",
        "table": "samples",
        "version": report.version,
        **wanted,
        "warnings": warnings,
        "order": "_id",
        "rows": report.rows,
        "left_out": report.left_out,
        "schema": [{"name": field.name, "type": field.dataType.simpleString()} for field in schema.fields],
        "shards": [
            {
                "file": shard_name(shard["shard"]),
                "rows": shard["rows"],
                "bytes": shard["bytes"],
                "sha256": shard["sha256"],
            }
            for shard in shards
        ],
    }
    return (json.dumps(manifest, indent=2, default=_extended) + "\n").encode()


def _extended(value: object) -> dict[str, str]:
    """A date of a query that came from Python."""
    assert isinstance(value, datetime)
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return {"$date": aware.isoformat()}
