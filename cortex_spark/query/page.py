"""Pages of 25 documents, each with the exact length and the table version it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote

import numpy as np
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.query.cursor import Signer, question_digest
from cortex_spark.query.errors import warn
from cortex_spark.query.groups import MISSING, NAN, NO_TIME, NUMBER, Found, Groups, RememberedGroups, has_first, sign
from cortex_spark.query.mongo import Query, compile_query
from cortex_spark.query.order import ID, LANDED, landed_between, one_of, to_columns, to_key
from cortex_spark.query.request import PAGE_SIZE, Page, Request, ask
from cortex_spark.query.samples import TAKEN_DOWN, VACUUMED, Samples
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
    "matching",
    "page",
    "pinned",
    "predicate",
    "reading",
    "samples_at",
]

Engine: TypeAlias = Literal["duckdb", "spark"]

_REMEMBERED: Final = RememberedGroups()

#: Where a row is: its file, and what the rows of a file lie by.
_WHERE: Final = ("__file", "__landed")
#: Its first sort key.
_KEY: Final = "__key_0"


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
    if not is_local(root):
        raise CortexError(f"{root}: DuckDB reads a warehouse in a folder of this machine; ask Spark (--engine spark)")
    return _samples_at(str(local_path(root).absolute()))


@lru_cache(maxsize=8)
def _samples_at(root: str) -> Samples:
    return Samples(root)


def _by_spark(warehouse: Warehouse, query: str | Mapping[str, Any], page: int | str | None, **wanted: Any) -> Page:
    signer = Signer(warehouse.root, Settings().cursor_key)
    request = ask(query, page, signer=signer, **wanted)
    try:
        return _answer(warehouse, request, signer)
    except CortexError as error:
        # Without a version, the newest may change under our hands: files that a take-down removes go at once.
        if request.version is not None or error.__cause__ is None or not is_gone(error.__cause__):
            raise
    return _answer(warehouse, request, signer)


def _answer(warehouse: Warehouse, request: Request, signer: Signer) -> Page:
    samples, version, memory = _pinned(warehouse, request.version)
    table = warehouse.identity("samples", version)
    request.check_table(table)
    operand, descending = request.order[0]
    hidden = None if memory.is_settled else memory.digest
    key = (warehouse.root, table, version, question_digest(request.query.tree, request.order[:1]), hidden)
    condition = predicate(warehouse, request.query, version)
    matching = samples.filter(condition)
    with reading(warehouse, version):
        groups = _REMEMBERED.get(key, lambda: _groups(matching, operand, descending))
        request.check(groups.length)
        # The data files have what is hidden, too.
        places: Sequence[Mapping[str, Any]] = groups.first_page(request) if memory.is_settled else []
        if groups.length and not places:
            places = _places(matching, request, groups)
        rows, last = _rows(warehouse, samples, condition, places, request)
    return request.answer(groups.length, table, version, rows, last, signer)


def _groups(matching: DataFrame, operand: Operand, descending: bool) -> Groups:
    """Counts by the first sort key: landings by the millisecond, others by missing, NaN or number.

    And where it is a number or another time, the places of the first ones, which saves the scan that looks for them.
    """
    value = to_key(operand)
    counted = [F.count("*").alias("n")]
    if operand == LANDED:
        code = F.coalesce(F.unix_micros("landed_at"), F.lit(NO_TIME))  # cheaper than milliseconds of each
    else:
        is_nan = F.isnan(value) if isinstance(operand.kind, DoubleType) else F.lit(False)
        code = F.when(value.isNull(), MISSING).when(is_nan, NAN).otherwise(NUMBER).cast("bigint")
    if has_first(operand):
        matching = _with_files(matching)
        place = F.struct(*_WHERE, value.alias(_KEY))
        counted.append((F.max_by if descending else F.min_by)(place, value, PAGE_SIZE + 1).alias("first"))
    found = matching.groupBy(code.alias("code")).agg(*counted).toArrow()
    codes, counts = (np.asarray(found[name], np.int64) for name in ("code", "n"))
    first: list[Found] = []
    if operand == LANDED:
        codes = np.where(codes == NO_TIME, NO_TIME, codes // 1000)
    elif NUMBER in codes and "first" in found.column_names:
        rows = found["first"][codes.tolist().index(NUMBER)].as_py()
        first = sorted((Found(row[_KEY], row) for row in rows), key=attrgetter("key"), reverse=descending)
    return Groups.of(sign(descending) * codes, np.zeros_like(codes), counts, first)


def _with_files(rows: DataFrame) -> DataFrame:
    """With what ``_WHERE`` names. Not ``input_file_name``: above a filter in Python that is another row's file."""
    return rows.withColumns({"__file": F.col("_metadata.file_path"), "__landed": F.unix_millis("landed_at")})


def _places(matching: DataFrame, request: Request, groups: Groups) -> Sequence[Mapping[str, Any]]:
    """Where the rows of the page are, and their ids."""
    part = groups.part(request)
    # Delta skips the files in which nothing landed then.
    near = _with_files(matching.filter(to_column(And((part.within, part.behind)))))
    ordered = near.orderBy(*to_columns(request.order)).offset(part.skipped).limit(PAGE_SIZE)
    found: list[dict[str, Any]] = ordered.select("_id", *_WHERE).toArrow().to_pylist()
    return found


def _rows(
    warehouse: Warehouse,
    samples: DataFrame,
    condition: Column,
    places: Sequence[Mapping[str, Any]],
    request: Request,
) -> tuple[list[dict[str, Any]], Sequence[Any]]:
    """The rows of the page in order, out of the data files that they are in, and the sort keys of the last one."""
    if not places:
        return [], ()
    if not warehouse.beside_files("samples"):
        paths = sorted({unquote(place["__file"]) for place in places})
        samples = plain_files(warehouse.spark, SAMPLES).parquet(*paths)
    # Parquet skips the row groups that have no such value (in files of `cortex optimize`, by their Bloom filters), that
    # landed at other times, and in which nothing matches.
    operand, key = (ID, "_id") if "_id" in places[0] else (request.order[0][0], _KEY)
    wanted = one_of(operand, [place[key] for place in places])
    times = {place["__landed"] for place in places}
    near = landed_between(None if None in times else min(times), max(times - {None}, default=None))
    last = F.struct(*(to_key(operand).alias(f"k{number}") for number, (operand, _) in enumerate(request.order)))
    found = samples.where(to_column(And((wanted, near))) & condition)
    ordered = found.orderBy(*to_columns(request.order)).limit(PAGE_SIZE)
    rows: list[dict[str, Any]] = ordered.select(*request.fields.columns, last.alias("__last")).toArrow().to_pylist()
    keys = [row.pop("__last") for row in rows]
    return rows, tuple(keys[-1].values())


def matching(warehouse: Warehouse, query: str | Mapping[str, Any], version: int | None = None) -> DataFrame:
    """The rows of ``samples`` that match: ``spark.sql("SELECT ... FROM {s}", s=matching(warehouse, {...}))``.

    At one version, by default the newest, without what was taken down; on derived columns where they are complete.
    Warns (``QueryWarning``) of conditions that can never be true.

    Raises:
        QueryError: the query is wrong or not supported.
        CortexError: there is no such table, or no longer such a version.
    """
    compiled = compile_query(query)
    warn(compiled.warnings)
    samples, version = pinned(warehouse, version)
    return samples.filter(predicate(warehouse, compiled, version))


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
def reading(warehouse: Warehouse, version: int) -> Iterator[None]:
    """Tells what it means that files of ``version`` are gone when they are read.

    Raises:
        CortexError: a take-down has removed them, or vacuum.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if not is_gone(error):
            raise
        raise CortexError((TAKEN_DOWN if recall(warehouse) else VACUUMED).format(version=version)) from error
