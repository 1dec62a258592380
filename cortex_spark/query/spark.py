"""The Spark back end: each primitive of the normal form as an expression that is true or false, never null.

Every null is met by IS NULL or IS NOT NULL beside the comparison, which Delta and Parquet skip files by; ``~`` of a
translated query is its complement.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from cortex_spark.query.tree import (
    And,
    Comparison,
    Constant,
    HasSize,
    IsNan,
    IsNull,
    OneOf,
    Operand,
    Or,
    Some,
    Test,
    Tree,
)

#: From the name of a field, or None for the element at hand, to its column.
Scope: TypeAlias = Callable[[str | None], Column]

_COMPARE: Final[dict[Comparison, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def to_column(tree: Tree) -> Column:
    """The predicate of a tree in normal form over the columns of ``samples``."""
    return _column(tree, _document)


def _document(name: str | None) -> Column:
    assert name is not None  # a document is no element
    return F.col(f"`{name}`")


def _element(element: Column, name: str | None) -> Column:
    return element if name is None else element.getField(name)


def _column(tree: Tree, scope: Scope) -> Column:
    match tree:
        case And(children):
            return _balanced([_column(child, scope) for child in children], operator.and_)
        case Or(children):
            return _balanced([_column(child, scope) for child in children], operator.or_)
        case Constant(negated):
            return F.lit(not negated)
        case IsNull(operand, negated):
            value = scope(operand.name)
            return value.isNotNull() if negated else value.isNull()
        case IsNan(operand, negated):
            return _present(operand, negated, scope, F.isnan)
        case Test(operand, comparison, literal, negated):
            return _present(
                operand, negated, scope, lambda value: _COMPARE[comparison](value, _literal(operand, literal))
            )
        case OneOf(operand, values, negated):
            return _present(operand, negated, scope, lambda value: value.isin(list(values)))
        case HasSize(operand, size, negated):
            return _present(operand, negated, scope, lambda value: F.size(value) == size)
        case Some(operand, child, negated):
            return _present(
                operand,
                negated,
                scope,
                lambda value: F.exists(value, lambda element: _column(child, partial(_element, element))),
            )
        case _:
            raise AssertionError(f"{tree} is not in normal form")


def _present(operand: Operand, negated: bool, scope: Scope, condition: Callable[[Column], Column]) -> Column:
    value = scope(operand.name)
    if negated:
        return value.isNull() | ~condition(value)
    return value.isNotNull() & condition(value)


def _literal(operand: Operand, value: bool | int | float | str) -> Column:
    if isinstance(operand.kind, TimestampType):
        return F.timestamp_micros(F.lit(value))  # exact, whatever the time zones of driver and session
    return F.lit(value)


def _balanced(columns: Sequence[Column], join: Callable[[Column, Column], Column]) -> Column:
    """Joined as a tree of little depth: Catalyst recurses, and a chain of thousands overflows its stack."""
    if len(columns) == 1:
        return columns[0]
    middle = len(columns) // 2
    return join(_balanced(columns[:middle], join), _balanced(columns[middle:], join))
