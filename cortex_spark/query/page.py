"""Pages of 25 documents, each with the exact length and the table version it speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from cortex_spark.errors import CortexError
from cortex_spark.query.document import choose_fields, to_document
from cortex_spark.query.mongo import compile_query
from cortex_spark.table.forgotten import recall, without_forgotten
from cortex_spark.table.removal import is_whole
from cortex_spark.table.warehouse import Warehouse, is_gone

PAGE_SIZE: Final = 25

#: By the time of landing, then ``_id``: new rows come last, and no row moves while others land. NULLs come first.
ORDER: Final = ("landed_at", "_id")

_TAKEN_DOWN: Final = (
    "version {version} of samples cannot be read any more: pictures in it were taken down; begin again with the newest"
)


@dataclass(frozen=True, slots=True)
class Page:
    """``data`` are the documents of page ``page`` (from 1) among the ``length`` that match at table ``version``."""

    page: int
    length: int
    version: int
    data: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()


def page(
    warehouse: Warehouse,
    query: str | Mapping[str, Any],
    page: int | str = 1,
    *,
    version: int | None = None,
    fields: Sequence[str] | None = None,
) -> Page:
    """One page of the documents that match ``query``, in the order of ``ORDER``.

    Page 1 of nothing is empty; any other page beyond the end is an error, as are 0, negative numbers and what is no
    number. With the ``version`` of an earlier answer, pages fit together whatever is written meanwhile.

    Raises:
        QueryError: the query is wrong or not supported.
        CortexError: the page, version, field or table does not exist.
    """
    number = page_number(page)
    compiled = compile_query(query)
    columns = choose_fields(fields)
    samples, version = pinned(warehouse, version)
    matching = samples.filter(compiled.column)
    with reading(version):
        length = matching.count()
        pages = max(1, -(-length // PAGE_SIZE))
        if number > pages:
            raise CortexError(f"page {number} is beyond the end: {length:,} documents match, the last page is {pages}")
        chosen = matching.orderBy(*ORDER).offset((number - 1) * PAGE_SIZE).limit(PAGE_SIZE).select(*columns)
        data = [to_document(row) for row in chosen.toArrow().to_pylist()]
    return Page(number, length, version, data, compiled.warnings)


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
        raise CortexError(_TAKEN_DOWN.format(version=version))
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
        raise CortexError(_TAKEN_DOWN.format(version=version)) from error


def page_number(page: int | str) -> int:
    """The number of a page, checked.

    Raises:
        CortexError: it is no number, or below 1.
    """
    if isinstance(page, str) and re.fullmatch(r"[+-]?\d{1,18}", page, re.ASCII):
        page = int(page)
    if isinstance(page, bool) or not isinstance(page, int):
        raise CortexError(f"page {page!r} is not a number: pages are counted from 1")
    if page < 1:
        raise CortexError(f"there is no page {page}: pages are counted from 1")
    return page
