"""What both engines share of a page: what was asked, checked, and what is answered."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cortex_spark.errors import CortexError
from cortex_spark.query import order as orders
from cortex_spark.query.cursor import NOT_OURS, Cursor, Signer, question_digest
from cortex_spark.query.document import Projection, parse_fields, parse_sort, to_document
from cortex_spark.query.mongo import Query, compile_query

PAGE_SIZE: Final = 25


@dataclass(frozen=True, slots=True)
class Page:
    """``data`` are the documents of page ``page`` (from 1) among the ``length`` that match at table ``version``.

    ``cursor`` leads to the page behind; None on the last one.
    """

    page: int
    length: int
    version: int
    data: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A page that is asked for: of ``query`` in ``order``, with ``fields``; by ``number``, or behind ``after``."""

    query: Query
    order: orders.Order
    fields: Projection
    number: int
    version: int | None
    after: Cursor | None

    @property
    def question(self) -> str:
        """The digest that cursors carry."""
        return question_digest(self.query.tree, self.order)

    @property
    def offset(self) -> int:
        """How many documents stand before those that are asked for."""
        return self.after.shown if self.after else (self.number - 1) * PAGE_SIZE

    def check_table(self, table: str) -> None:
        """Whether the cursor, if there is one, is of this table and version, by its identity.

        Raises:
            CortexError: it is of another one.
        """
        if self.after is not None and self.after.table != table:
            raise CortexError(NOT_OURS)

    def check(self, length: int) -> None:
        """Whether the page is there, of ``length`` documents.

        Raises:
            CortexError: it is beyond the end.
        """
        pages = max(1, -(-length // PAGE_SIZE))
        if self.after is None and self.number > pages:
            raise CortexError(
                f"page {self.number} is beyond the end: {length:,} documents match, the last page is {pages}"
            )

    def answer(
        self,
        length: int,
        table: str,
        version: int,
        rows: Iterable[Mapping[str, Any]],
        last: Sequence[Any],
        signer: Signer,
    ) -> Page:
        """The page of ``rows``; ``last`` are the sort keys of the last one, ``table`` its version's identity."""
        data = [self.fields.project(to_document(row)) for row in rows]
        shown = self.offset + len(data)
        # Where something is missing by now, some of it may have been shown: only a page that is not full is the last.
        is_exact = self.after is None or self.after.length == length
        cursor = None
        if data and (shown < length if is_exact else len(data) == PAGE_SIZE):
            # What a walk began with goes along: of what was shown then some may have been taken down since.
            begun = self.after.begun if self.after else int(time.time())
            full = self.after.length if self.after else length
            cursor = signer.sign(Cursor(table, version, self.question, tuple(last), shown, full, begun))
        number = -(-shown // PAGE_SIZE) if self.after else self.number
        return Page(number, length, version, data, self.query.warnings, cursor)


def ask(
    query: str | Mapping[str, Any],
    page: int | str | None,
    *,
    version: int | None,
    fields: Any,
    sort: Any,
    cursor: str | None,
    signer: Signer,
) -> Request:
    """Check what is asked for.

    Raises:
        QueryError: the query is wrong or not supported.
        CortexError: there can be no such page, field or order, or the cursor is not of this question.
    """
    number = page_number(1 if page is None else page)
    compiled = compile_query(query)
    order = orders.total(parse_sort(sort) or orders.DEFAULT)
    request = Request(compiled, order, parse_fields(fields), number, version, None)
    if cursor is None:
        return request
    if page is not None:
        raise CortexError("a cursor says which page is next: give it, or the number of a page")
    found = signer.read(cursor, request.question)
    if version not in (None, found.version):
        raise CortexError(f"the cursor is of version {found.version} of the table, not of {version}")
    return replace(request, version=found.version, after=found)


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
