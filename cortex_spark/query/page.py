"""Pages of 25 documents, each with the exact length and the table version it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote

import numpy as np
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.query.cursor import Signer
from cortex_spark.query.groups import NO_TIME, NUMBER, Groups, RememberedGroups, sign
from cortex_spark.query.mongo import Query
from cortex_spark.query.order import between, to_columns, to_key
from cortex_spark.query.request import PAGE_SIZE, Page, Request, ask
from cortex_spark.query.samples import TAKEN_DOWN, Samples
from cortex_spark.query.spark import to_column
from cortex_spark.query.tree import And, Operand
from cortex_spark.schema import SAMPLES
from cortex_spark.sources.store import is_local, local_path
from cortex_spark.table.derived import is_complete
from cortex_spark.table.forgotten import Memory, recall, without_forgotten
from cortex_spark.table.removal import is_whole
from cortex_spark.table.warehouse import Warehouse, is_gone, plain_files

__all__ = [
    "PAGE_SIZE",
    "Engine",
    "Page",
    "check_question",
    "default_engine",
    "page",
    "pinned",
    "predicate",
    "reading",
    "samples_at",
]

Engine: TypeAlias = Literal["duckdb", "spark"]

_REMEMBERED: Final = RememberedGroups()


def page(
    warehouse: Warehouse | str,
    query: str | Mapping[str, Any],
    page: int | str | None = None,
    *,
    version: int | None = None,
    fields: Any = None,
    sort: Any = None,
    cursor: str | None = None,
    engine: Engine | None = None,
) -> Page:
    """One page of the documents that match ``query``, by default page 1 in the order of landing.

    Page 1 of nothing is empty; any other page beyond the end is an error, as are 0, negative numbers and what is no
    number. With the ``version`` of an earlier answer, pages fit together whatever is written meanwhile. An answer's
    ``cursor`` leads to the page behind it, for the same query and sort.

    Args:
        warehouse: with Spark, or its folder alone, which DuckDB reads.
        query: a MongoDB filter.
        page: its number, from 1; not beside a ``cursor``, which says it.
        version: of the table, by default the newest.
        fields: see ``parse_fields``.
        sort: see ``parse_sort``.
        cursor: of an earlier page.
        engine: ``duckdb`` answers while one waits and is the default where the warehouse is a folder of this machine;
            ``spark`` where it is not. The answers are the same.

    Raises:
        QueryError: the query is wrong or not supported.
        CortexError: the page, version, field or table does not exist, or the cursor cannot be used.
    """
    root = warehouse if isinstance(warehouse, str) else warehouse.root
    if (engine or default_engine(root)) == "duckdb":
        return samples_at(root).page(query, page, version=version, fields=fields, sort=sort, cursor=cursor)
    if isinstance(warehouse, str):
        raise CortexError(f"{warehouse}: pages by Spark are asked for with a Warehouse, which has a Spark session")
    return _by_spark(warehouse, query, page, version=version, fields=fields, sort=sort, cursor=cursor)


def default_engine(root: str) -> Engine:
    """Who reads the warehouse ``root`` where nobody says."""
    return "duckdb" if is_local(root) else "spark"


def check_question(root: str, query: str | Mapping[str, Any], page: int | str | None, **wanted: Any) -> None:
    """What ``page`` raises before it has read anything."""
    ask(query, page, signer=Signer(root, Settings().cursor_key), **wanted)


def samples_at(root: str) -> Samples:
    """What this process reads the warehouse ``root`` with; it is kept.

    Raises:
        CortexError: the warehouse is not a folder.
    """
    return _samples_at(str(local_path(root).absolute()))


@lru_cache(maxsize=8)
def _samples_at(root: str) -> Samples:
    return Samples(root)


def _by_spark(warehouse: Warehouse, query: str | Mapping[str, Any], page: int | str | None, **wanted: Any) -> Page:
    signer = Signer(warehouse.root, Settings().cursor_key)
    request = ask(query, page, signer=signer, **wanted)
    samples, version, memory = _pinned(warehouse, request.version)
    matching = samples.filter(predicate(warehouse, request.query, version))
    operand, descending = request.order[0]
    hidden = None if memory.is_settled else memory.digest
    key = (warehouse.table_id("samples"), version, repr((request.query.tree, request.order[0])), hidden)
    with reading(version):
        groups = _REMEMBERED.get(key, lambda: _groups(matching, operand, sign(descending)))
        request.check(groups.length)
        places = _places(matching, request, groups) if groups.length else []
        rows = _rows(samples, places, request)
    last = [places[-1][f"__key_{number}"] for number in range(len(request.order))] if places else []
    return request.answer(groups.length, version, rows, last, signer)


def _groups(matching: DataFrame, operand: Operand, direction: int) -> Groups:
    """Counts by the first sort key, as far as that tells which files a page is in: by its milliseconds, if a time."""
    by = F.coalesce(to_key(operand), F.lit(NO_TIME)) if isinstance(operand.kind, TimestampType) else F.lit(NUMBER)
    found = matching.groupBy(by.cast("bigint").alias("code")).agg(F.count("*").alias("n")).toArrow()
    codes, counts = (np.asarray(found[name], np.int64) for name in ("code", "n"))
    return Groups.of(direction * codes, np.zeros_like(codes), counts)


def _places(matching: DataFrame, request: Request, groups: Groups) -> list[dict[str, Any]]:
    """The ids, files and sort keys of the page, in its order."""
    part = groups.part(request)
    keys = [to_key(operand).alias(f"__key_{number}") for number, (operand, _) in enumerate(request.order)]
    # Delta skips the files that have none of these times.
    near = matching.filter(to_column(And((part.within, part.behind))))
    named = near.withColumn("__file", F.input_file_name())  # before rows move
    ordered = named.orderBy(*to_columns(request.order)).offset(part.skipped).limit(PAGE_SIZE)
    return ordered.select("_id", "__file", *keys).toArrow().to_pylist()


def _rows(samples: DataFrame, places: Sequence[Mapping[str, Any]], request: Request) -> list[dict[str, Any]]:
    """The rows at ``places``, in that order, out of the data files that they are in."""
    if not places:
        return []
    paths = sorted({unquote(place["__file"]) for place in places})
    wanted = F.col("_id").isin([place["_id"] for place in places])
    operand = request.order[0][0]
    if isinstance(operand.kind, TimestampType):  # Parquet skips row groups and pages that have none of these times
        times = [place["__key_0"] for place in places]
        known = [time for time in times if time is not None]
        if len(known) == len(times):
            wanted &= to_column(between(operand, min(known), max(known)))
    columns = request.fields.columns
    found = plain_files(samples.sparkSession, SAMPLES).parquet(*paths).where(wanted)
    by_id = {row["_id"]: row for row in found.select(*dict.fromkeys(["_id", *columns])).toArrow().to_pylist()}
    return [{name: by_id[place["_id"]][name] for name in columns} for place in places]


def predicate(warehouse: Warehouse, query: Query, version: int) -> Column:
    """The filter over ``samples`` at ``version``: on derived columns, where they are complete."""
    return to_column(query.derived if is_complete(warehouse.properties("samples"), version) else query.tree)


def pinned(warehouse: Warehouse, version: int | None = None) -> tuple[DataFrame, int]:
    """``samples`` at one version, by default the newest, and that version.

    Without what was taken down. Comparing rows takes columns that the query may not need, so it is done only while a
    row may still be there: until the removal is complete, and for an hour, in which a job that did not know of it may
    commit. After that the table itself has none, in any version that can still be read.

    Raises:
        CortexError: there is no such table, or no longer such a version.
    """
    return _pinned(warehouse, version)[:2]


def _pinned(warehouse: Warehouse, version: int | None) -> tuple[DataFrame, int, Memory]:
    """``pinned``, and what was taken down."""
    if not warehouse.has("samples"):
        raise CortexError(f"{warehouse.root} has no samples yet: is --warehouse right, and has `cortex label` run?")
    newest = warehouse.version("samples")
    if version is None:
        version = newest
    if not 0 <= version <= newest:
        raise CortexError(f"samples has no version {version}, the newest is {newest}")
    try:
        samples = warehouse.read("samples", version)
    except PySparkException as error:
        raise CortexError(f"version {version} of samples cannot be read any more, the newest is {newest}") from error
    memory = recall(warehouse)
    if memory and version < newest and not is_whole(warehouse, "samples", samples):
        raise CortexError(TAKEN_DOWN.format(version=version))
    added = [part for part in SAMPLES.fields if part.name not in samples.columns]  # of before it had this column
    samples = samples.select("*", *(F.lit(None).cast(part.dataType).alias(part.name) for part in added))
    return (samples if memory.is_settled else without_forgotten(samples, warehouse, memory)), version, memory


@contextmanager
def reading(version: int) -> Iterator[None]:
    """Tells what it means that files of ``version`` go while they are read.

    Raises:
        CortexError: a take-down has removed them.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if not is_gone(error):
            raise
        raise CortexError(TAKEN_DOWN.format(version=version)) from error
