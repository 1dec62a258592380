"""The order of an answer's documents, and what comes behind one of them.

MongoDB's: missing before NaN before numbers; strings by their bytes; times in whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StringType, TimestampType

from cortex_spark.query.tree import And, Constant, IsNan, IsNull, Operand, Or, Test, Tree

#: What documents are sorted by: scalars, and of each whether the greatest comes first.
Order: TypeAlias = tuple[tuple[Operand, bool], ...]

LANDED: Final = Operand(("landed_at",), TimestampType())
_ID: Final = Operand(("_id",), StringType())

#: By the time of landing, then ``_id``: new rows come last, and no row moves while others land.
DEFAULT: Final[Order] = ((LANDED, False), (_ID, False))


def total(order: Order) -> Order:
    """``order``, and by ``_id`` where that leaves two documents equal."""
    return order if any(operand == _ID for operand, _ in order) else (*order, (_ID, False))


def after(order: Order, last: Sequence[Any]) -> Tree:
    """True of the documents behind the one whose sort keys are ``last``; times in milliseconds since 1970."""
    (operand, descending), *others = order
    beyond = _beyond(operand, descending, last[0])
    if not others:
        return beyond
    return Or((beyond, And((same(operand, last[0]), after(tuple(others), last[1:])))))


def between(operand: Operand, least: int | None, greatest: int | None) -> Tree:
    """True of times from the millisecond ``least`` through ``greatest``; None is missing, and comes first."""
    if greatest is None:
        return IsNull(operand)
    through = Test(operand, "lt", (greatest + 1) * 1000)
    return Or((IsNull(operand), through)) if least is None else And((Test(operand, "gte", least * 1000), through))


def to_columns(order: Order) -> list[Column]:
    """The order for Spark's ``orderBy``."""
    columns = []
    for operand, descending in order:
        value = to_key(operand)
        keys = [~F.isnan(value), value] if isinstance(operand.kind, DoubleType) else [value]
        if isinstance(operand.kind, DoubleType):  # isnan of NULL is false
            keys[0] = F.when(value.isNotNull(), keys[0])
        columns += [one.desc_nulls_last() if descending else one.asc_nulls_first() for one in keys]
    return columns


def to_key(operand: Operand) -> Column:
    """What rows are sorted by: the value, of times the whole milliseconds since 1970."""
    value = F.col(".".join(f"`{name}`" for name in operand.path))
    return F.unix_millis(value) if isinstance(operand.kind, TimestampType) else value


def _beyond(operand: Operand, descending: bool, last: Any) -> Tree:
    present, number = IsNull(operand, negated=True), IsNan(operand, negated=True)
    if last is None:
        return Constant(negated=True) if descending else present
    if isinstance(last, float) and math.isnan(last):
        return IsNull(operand) if descending else And((present, number))
    if isinstance(operand.kind, TimestampType):
        smaller, greater = Test(operand, "lt", last * 1000), Test(operand, "gte", (last + 1) * 1000)
    else:
        smaller, greater = Test(operand, "lt", last), Test(operand, "gt", last)
    if not isinstance(operand.kind, DoubleType):
        return Or((IsNull(operand), smaller)) if descending else greater
    return Or((IsNull(operand), IsNan(operand), smaller)) if descending else And((greater, number))


def same(operand: Operand, last: Any) -> Tree:
    """True of the documents with this sort key; of times, in this millisecond."""
    if last is None:
        return IsNull(operand)
    if isinstance(last, float) and math.isnan(last):
        return IsNan(operand)
    if isinstance(operand.kind, TimestampType):
        return between(operand, last, last)
    return Test(operand, "eq", last)
