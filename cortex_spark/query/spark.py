"""The Spark back end: each primitive of the normal form as an expression that is true or false, never null.

Every null is met by IS NULL or IS NOT NULL beside the comparison, which Delta and Parquet skip files by; ``~`` of a
translated query is its complement.

Patterns are matched by RE2, whose time is bounded, in a Python worker: Java's own can be made to run for ever. A Python
function cannot stand inside a lambda; it gets the strings of the row's arrays outside, and the lambda its answer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import ArrayType, BooleanType, DataType, DoubleType, StringType, TimestampType

from cortex_spark.query.tree import (
    And,
    At,
    Comparison,
    Constant,
    HasSize,
    IsNan,
    IsNull,
    Mod,
    OneOf,
    Operand,
    Or,
    Regex,
    Some,
    Test,
    Tree,
)

_COMPARE: Final[dict[Comparison, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}

#: How an element is reached: the array, and the element's index, or None for each of them.
_Step: TypeAlias = tuple[Operand, int | None]
#: A pattern, of which strings, and how one comes to them.
_Pattern: TypeAlias = tuple[tuple[_Step, ...], Operand, str]


@dataclass(frozen=True)
class _Scope:
    """Where a condition stands: how a path becomes a column there, the way from the document, the answers of RE2."""

    at: Callable[[tuple[str, ...]], Column]
    way: tuple[_Step, ...] = ()
    answers: Mapping[_Pattern, Column] = field(default_factory=dict)

    def inside(self, element: Column, step: _Step) -> _Scope:
        return _Scope(partial(_fields, element), (*self.way, step), self.answers)


def to_column(tree: Tree) -> Column:
    """The predicate of a tree in normal form over the columns of ``samples``."""
    return _column(tree, _Scope(_document))


def _document(path: tuple[str, ...]) -> Column:
    assert path  # a document is no element
    return _fields(F.col(f"`{path[0]}`"), path[1:])


def _fields(value: Column, path: tuple[str, ...]) -> Column:
    for name in path:
        value = value.getField(name)
    return value


def _column(tree: Tree, scope: _Scope) -> Column:
    match tree:
        case And(children):
            # Spark asks in this order, and no further than the first that is false.
            return _balanced([_column(child, scope) for child in sorted(children, key=_cost)], operator.and_)
        case Or(children):
            return _balanced([_column(child, scope) for child in children], operator.or_)
        case Constant(negated):
            return F.lit(not negated)
        case IsNull(operand, negated):
            value = scope.at(operand.path)
            return value.isNotNull() if negated else value.isNull()
        case Some() | At() if not scope.way:
            return _answered(tree, scope)
        case _:
            return _present(tree, scope)


def _cost(tree: Tree) -> int:
    """How long a condition takes: of a column, of a field in it, of an array's elements, of a string in Python."""
    match tree:
        case And(children) | Or(children):
            return max(map(_cost, children), default=0)
        case Some(_, child) | At(_, _, child):
            return max(2, _cost(child))
        case Regex():
            return 3
        case IsNull(operand) | IsNan(operand) | Test(operand) | OneOf(operand) | HasSize(operand) | Mod(operand):
            return int(len(operand.path) > 1)
        case _:
            return 0


def _present(tree: Tree, scope: _Scope) -> Column:
    """A primitive that a null operand makes false, or true where it is negated."""
    assert isinstance(tree, IsNan | Test | OneOf | HasSize | Some | At | Regex | Mod), f"{tree} is not in normal form"
    value = scope.at(tree.operand.path)
    condition = _condition(tree, value, scope)
    return value.isNull() | ~condition if tree.negated else value.isNotNull() & condition


def _condition(tree: Tree, value: Column, scope: _Scope) -> Column:
    match tree:
        case IsNan():
            return F.isnan(value)
        case Test(operand, comparison, literal):
            return _COMPARE[comparison](value, _literal(operand, literal))  # type: ignore[no-any-return]
        case OneOf(_, values):
            return value.isin(list(values))
        case HasSize(_, size):
            return F.size(value) == size
        case Some(operand, child):
            return F.exists(value, lambda element: _column(child, scope.inside(element, (operand, None))))
        case At(operand, index, child):
            element = F.get(value, index)  # null beyond the end
            return (F.size(value) > index) & _column(child, scope.inside(element, (operand, index)))
        case Regex(operand, pattern) if not scope.way:
            return _matches(pattern)(value)
        case Regex(operand, pattern):
            return F.array_contains(scope.answers[scope.way, operand, pattern], value)
        case Mod(operand, divisor, remainder):
            whole = value.cast("bigint")
            if isinstance(operand.kind, DoubleType):
                # Cut off towards zero; null for NaN and what no 64-bit integer holds, but of 2**63 Spark makes 2**63-1.
                whole = F.when(value < 2.0**63, value.try_cast("bigint"))
            return F.coalesce(whole % F.lit(divisor).cast("bigint") == remainder, F.lit(False))
        case _:
            raise AssertionError(f"{tree} is not in normal form")


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


def _answered(tree: Some | At, scope: _Scope) -> Column:
    """A condition on an array of the document, the patterns in it answered outside of its lambdas."""
    patterns = tuple(dict.fromkeys(_patterns(tree, ())))
    if not patterns:
        return _present(tree, scope)
    strings = [F.array_distinct(_strings(scope.at, way, operand)) for way, operand, _ in patterns]
    found = [_matching(pattern)(texts) for (_, _, pattern), texts in zip(patterns, strings, strict=True)]
    answers = F.array(F.struct(*(column.alias(f"p{number}") for number, column in enumerate(found))))

    def with_answers(answer: Column) -> Column:
        known = {key: answer.getField(f"p{number}") for number, key in enumerate(patterns)}
        return _present(tree, replace(scope, answers=known))

    return F.exists(answers, with_answers)


def _patterns(tree: Tree, way: tuple[_Step, ...]) -> Iterator[_Pattern]:
    match tree:
        case And(children) | Or(children):
            for child in children:
                yield from _patterns(child, way)
        case Some(operand, child):
            yield from _patterns(child, (*way, (operand, None)))
        case At(operand, index, child):
            yield from _patterns(child, (*way, (operand, index)))
        case Regex(operand, pattern):
            yield way, operand, pattern


def _strings(at: Callable[[tuple[str, ...]], Column], way: tuple[_Step, ...], operand: Operand) -> Column:
    """All strings that ``operand`` is along ``way``, as one array, which is never null."""
    if not way:
        return F.array(at(operand.path))
    (array, index), rest = way[0], way[1:]
    value = at(array.path)
    if index is not None:
        return _strings(partial(_fields, F.get(value, index)), rest, operand)
    each = F.transform(value, lambda element: _strings(partial(_fields, element), rest, operand))
    return F.coalesce(F.flatten(each), F.array().cast(ArrayType(StringType())))


def _matches(pattern: str) -> Callable[[Column], Column]:
    def matches(strings: pa.Array) -> pa.Array:  # type: ignore[type-arg]  # Spark reads the hints
        return pc.match_substring_regex(strings, pattern)

    return _function(matches, BooleanType())


def _matching(pattern: str) -> Callable[[Column], Column]:
    """Of each array of strings, those that match."""

    def matching(arrays: pa.Array) -> pa.Array:  # type: ignore[type-arg]
        strings: Any = arrays.flatten()  # type: ignore[attr-defined]
        matches: Any = pc.fill_null(pc.match_substring_regex(strings, pattern), False)
        parents: Any = pc.list_parent_indices(arrays)
        ends = np.bincount(parents.filter(matches).to_numpy(), minlength=len(arrays)).cumsum()
        return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), strings.filter(matches))

    return _function(matching, ArrayType(StringType()))


def _function(function: Callable[[Any], Any], kind: DataType) -> Callable[[Column], Column]:
    make: Any = arrow_udf  # its overloads ask for what Spark reads from the function's hints
    return make(function, kind)  # type: ignore[no-any-return]
