"""Pages of 25 documents, each with the exact length and the table version it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.query.cursor import Signer
from cortex_spark.query.mongo import Query
from cortex_spark.query.order import after, to_columns, to_key
from cortex_spark.query.request import PAGE_SIZE, Page, ask
from cortex_spark.query.samples import TAKEN_DOWN, Samples
from cortex_spark.query.spark import to_column
from cortex_spark.schema import SAMPLES
from cortex_spark.sources.store import is_local, local_path
from cortex_spark.table.derived import is_complete
from cortex_spark.table.forgotten import recall, without_forgotten
from cortex_spark.table.removal import is_whole
from cortex_spark.table.warehouse import Warehouse, is_gone

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
    samples, version = pinned(warehouse, request.version)
    matching = samples.filter(predicate(warehouse, request.query, version))
    columns = request.fields.columns
    keys = [to_key(operand).alias(f"__key_{number}") for number, (operand, _) in enumerate(request.order)]
    with reading(version):
        length = matching.count()
        request.check(length)
        # In two phases: sorting whole rows would read every column of every file that has one that matches.
        named = matching.withColumn("__file", F.input_file_name())  # before rows move
        if request.after is None:
            ordered = named.orderBy(*to_columns(request.order)).offset(request.offset)
        else:
            behind = to_column(after(request.order, request.after.last))
            ordered = named.filter(behind).orderBy(*to_columns(request.order))
        places = ordered.limit(PAGE_SIZE).select("_id", "__file", *keys).toArrow()
        rows = _rows(samples.sparkSession, places["_id"].to_pylist(), places["__file"].to_pylist(), columns)
    last = [places[f"__key_{number}"][-1].as_py() for number in range(len(keys))] if rows else []
    return request.answer(length, version, rows, last, signer)


def _rows(spark: SparkSession, ids: list[Any], files: list[Any], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of ``ids``, in that order, out of the data files that they are in."""
    if not ids:
        return []
    paths = sorted({unquote(file) for file in files})
    found = spark.read.schema(SAMPLES).parquet(*paths).where(F.col("_id").isin(ids))
    wanted = dict.fromkeys(["_id", *columns])
    by_id = {row["_id"]: row for row in found.select(*wanted).toArrow().to_pylist()}
    return [{name: by_id[one][name] for name in columns} for one in ids]


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
    return (samples if memory.is_settled else without_forgotten(samples, warehouse, memory)), version


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
