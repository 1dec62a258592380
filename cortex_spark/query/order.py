"""The order of an answer's documents, and what comes behind one of them.

MongoDB's: missing before NaN before numbers; strings by their bytes; times in whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StringType, TimestampType

from cortex_spark.query.leaf import of_value
from cortex_spark.query.tree import (
    And,
    Compare,
    Comparison,
    Constant,
    In,
    IsNan,
    IsNull,
    Leaf,
    Moment,
    Operand,
    Or,
    Tree,
    Value,
)

#: What documents are sorted by: scalars, and of each whether the greatest comes first.
Order: TypeAlias = tuple[tuple[Operand, bool], ...]

LANDED: Final = Operand(("landed_at",), TimestampType())
ID: Final = Operand(("_id",), StringType())

#: By the time of landing, then ``_id``: new rows come last, and no row moves while others land.
DEFAULT: Final[Order] = ((LANDED, False), (ID, False))


def total(order: Order) -> Order:
    """``order``, and by ``_id`` where that leaves two documents equal."""
    return order if any(operand == ID for operand, _ in order) else (*order, (ID, False))


def after(order: Order, last: Sequence[Any]) -> Tree:
    """True of the documents behind the one whose sort keys are ``last``; times in milliseconds since 1970."""
    (operand, descending), *others = order
    beyond = _beyond(operand, descending, last[0])
    if not others:
        return beyond
    return Or((beyond, And((_same(operand, last[0]), after(tuple(others), last[1:])))))


def compared(operand: Operand, comparison: Comparison, key: Any) -> Tree:
    """True of the documents whose sort key compares so with ``key``; missing and NaN do not."""
    return _of_key(operand, Compare(comparison, _literal(operand, key), place=""))


def one_of(operand: Operand, keys: Iterable[Any]) -> Tree:
    """True of the documents with one of these sort keys, none of which is missing or NaN."""
    return _of_key(operand, In(tuple(_literal(operand, key) for key in keys), place=""))


def landed_between(least: int | None, greatest: int | None) -> Tree:
    """True of what landed from the millisecond ``least`` through ``greatest``; None is missing, and comes first."""
    if greatest is None:
        return IsNull(LANDED)
    through = compared(LANDED, "lte", greatest)
    return Or((IsNull(LANDED), through)) if least is None else And((compared(LANDED, "gte", least), through))


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


def _literal(operand: Operand, key: Any) -> Value:
    return Moment(key) if isinstance(operand.kind, TimestampType) else key


def _of_key(operand: Operand, leaf: Leaf) -> Tree:
    """What a query says of this field: with bounds that skip files, of times in microseconds; of zero, of both."""

    def no_warning(what: str) -> None:
        raise AssertionError(what)  # a key has the type of its operand

    return of_value(leaf, operand, no_warning)


def _beyond(operand: Operand, descending: bool, last: Any) -> Tree:
    missing, nan = IsNull(operand), IsNan(operand)
    if last is None:
        return Constant(negated=True) if descending else replace(missing, negated=True)
    if _is_nan(last):
        return missing if descending else And((replace(missing, negated=True), replace(nan, negated=True)))
    if not descending:
        return compared(operand, "gt", last)
    before = (missing, nan) if isinstance(operand.kind, DoubleType) else (missing,)
    return Or((*before, compared(operand, "lt", last)))


def _same(operand: Operand, last: Any) -> Tree:
    """True of the documents with this sort key."""
    if last is None:
        return IsNull(operand)
    return IsNan(operand) if _is_nan(last) else compared(operand, "eq", last)


def _is_nan(key: Any) -> bool:
    return isinstance(key, float) and math.isnan(key)
