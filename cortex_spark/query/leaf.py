"""What the condition at the end of a path says of a value of a known type, as primitives.

Literals are folded to the type they are compared with, never values: a comparison with an unlike type is never true;
numbers compare by their exact value whatever their type; a date is compared in whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from cortex_spark.query.errors import QueryError
from cortex_spark.query.parse import moment
from cortex_spark.query.regex import Pattern
from cortex_spark.query.tree import (
    And,
    Compare,
    Comparison,
    Constant,
    ElemMatch,
    Exists,
    HasSize,
    HasType,
    In,
    IsNan,
    IsNull,
    Leaf,
    Matches,
    Mod,
    Moment,
    OneOf,
    Operand,
    Or,
    Regex,
    Remainder,
    Size,
    Test,
    Tree,
    Value,
)

NEVER: Final = Constant(negated=True)
_INTEGERS: Final = {IntegerType(): (-(2**31), 2**31 - 1), LongType(): (-(2**63), 2**63 - 1)}
#: Of each type MongoDB's name, and ours for messages.
_NAMES: Final[dict[type[DataType], tuple[str, str]]] = {
    BooleanType: ("bool", "a boolean"),
    IntegerType: ("int", "a number"),
    LongType: ("long", "a number"),
    DoubleType: ("double", "a number"),
    StringType: ("string", "a string"),
    TimestampType: ("date", "a date"),
    ArrayType: ("array", "an array"),
    StructType: ("object", "an object"),
}
_MILLI: Final = 1000  # microseconds
#: Dates of one list: each is two bounds, which engines try one after the other.
_MAX_DATES: Final = 1_000

_Number: TypeAlias = int | float


#: Takes what is never matched by what, as a sentence without its place.
Warn: TypeAlias = Callable[[str], None]


def of_missing(leaf: Leaf) -> bool:
    """Whether the condition is true of a field that is not there."""
    match leaf:
        case Compare(comparison, value):
            return value is None and comparison in ("eq", "gte", "lte")
        case In(values):
            return None in values
        case _:
            return False


def of_null(leaf: Leaf) -> bool:
    """Whether the condition is true of null."""
    match leaf:
        case Exists():
            return True
        case HasType(types):
            return "null" in types
        case _:
            return of_missing(leaf)


def looks_inside(leaf: Leaf) -> bool:
    """Whether the condition, where it is about an array, is about each element as well."""
    return not isinstance(leaf, Exists | Size | ElemMatch)


def of_value(leaf: Leaf, operand: Operand, warn: Warn) -> Tree:
    """The condition on ``operand``, false where that is null; ``warn`` is told of unlike types."""
    kind = operand.kind
    name, told = _NAMES[type(kind)]
    match leaf:
        case Exists():
            return IsNull(operand, negated=True)
        case HasType(types) if name in types:
            return IsNull(operand, negated=True)
        case HasType(types):
            unlike = f"the type {' or '.join(types)}, it is {name}"
        case Size(size) if name == "array":
            return HasSize(operand, size)
        case Size():
            unlike = "an array"
        case Matches(pattern) if name == "string":
            return _matches(operand, pattern)
        case Matches():
            unlike = "a pattern"
        case Remainder(divisor, remainder) if told == "a number":
            return Mod(operand, divisor, remainder)
        case Remainder():
            unlike = "a remainder"
        case Compare(comparison, value):
            return _compare(operand, comparison, value, warn)
        case In(values, place):
            return _one_of(operand, values, place, warn)
        case _:
            raise AssertionError(f"{leaf} is about elements")
    warn(f"{told} is never matched by {unlike}")
    return NEVER


def _compare(operand: Operand, comparison: Comparison, value: Value, warn: Warn) -> Tree:
    if value is None:
        return NEVER  # but of what is not there, see of_missing
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match operand.kind:
        case BooleanType() if isinstance(value, bool):
            return Test(operand, comparison, value)
        case StringType() if isinstance(value, str):
            return Test(operand, comparison, value)
        case IntegerType() | LongType() if number:
            assert isinstance(value, int | float)
            return _integer(operand, comparison, value, *_INTEGERS[operand.kind])
        case DoubleType() if number:
            assert isinstance(value, int | float)
            return _double(operand, comparison, value)
        case ArrayType() if value == ():
            return HasSize(operand, 0)
        case TimestampType() if isinstance(value, Moment | str):
            # A string is our extension: MongoDB takes only dates for dates, and people write strings.
            date = moment(value) if isinstance(value, str) else value
            if date is not None:
                return _time(operand, comparison, date)
    warn(f"{_NAMES[type(operand.kind)][1]} is never matched by {_name(value)}")
    return NEVER


def _one_of(operand: Operand, values: tuple[Value, ...], place: str, warn: Warn) -> Tree:
    """The values' equalities, all but those of dates in one primitive."""
    literals: dict[bool | int | float | str, None] = {}
    others: dict[Tree, None] = {}
    for value in values:
        match _compare(operand, "eq", value, warn):
            case Test(value=literal):
                literals[literal] = None
            case other:  # a date, or a double's zero
                others[other] = None
    if len(others) > _MAX_DATES:
        raise QueryError(place, f"has {len(others):,} different dates, more than {_MAX_DATES:,}: give a range")
    if len(literals) == 1:
        others[Test(operand, "eq", next(iter(literals)))] = None
    elif literals:
        others[OneOf(operand, tuple(literals))] = None
    return Or(tuple(others))


def _matches(operand: Operand, pattern: Pattern) -> Tree:
    """The pattern, and what it begins with as bounds: strings compare by their characters' numbers."""
    parts: list[Tree] = []
    if pattern.prefix:
        parts.append(Test(operand, "gte", pattern.prefix))
        after = _after(pattern.prefix)
        if after is not None:
            parts.append(Test(operand, "lt", after))
    if pattern.re2 is not None:
        parts.append(Regex(operand, pattern.re2))
    return And(tuple(parts)) if parts else IsNull(operand, negated=True)


def _after(prefix: str) -> str | None:
    """The least string above all that begin with ``prefix``; None where there is none.

    >>> _after("http")
    'httq'
    """
    prefix = prefix.rstrip("\U0010ffff")
    if not prefix:
        return None
    number = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if number == 0xD800 else number)  # surrogates are no characters


def _integer(operand: Operand, comparison: Comparison, value: _Number, least: int, greatest: int) -> Tree:
    """A comparison with any number, by an integer that the column can hold.

    >>> _integer(Operand(("width",), IntegerType()), "gt", 99.5, -(2**31), 2**31 - 1).value
    99
    """
    present = IsNull(operand, negated=True)
    low, high = math.floor(value), math.ceil(value)
    match comparison:
        case "eq":
            return Test(operand, "eq", low) if low == high and least <= low <= greatest else NEVER
        case "gt" | "lte":  # above or not above the integer at or below the value
            positive: Tree = present if low < least else NEVER if low >= greatest else Test(operand, "gt", low)
            below: Tree = NEVER if low < least else present if low >= greatest else Test(operand, "lte", low)
            return positive if comparison == "gt" else below
        case "gte" | "lt":
            positive = present if high <= least else NEVER if high > greatest else Test(operand, "gte", high)
            below = NEVER if high <= least else present if high > greatest else Test(operand, "lt", high)
            return positive if comparison == "gte" else below


def _double(operand: Operand, comparison: Comparison, value: _Number) -> Tree:
    """A comparison with any number, by a double: an integer between two doubles is equal to neither."""
    double = float(value)
    if double == 0:
        return _zero(operand, comparison)
    if double != value:
        if comparison == "eq":
            return NEVER
        if double > value:
            comparison = "gte" if comparison in ("gt", "gte") else "lt"
        else:
            comparison = "gt" if comparison in ("gt", "gte") else "lte"
    test = Test(operand, comparison, double)
    # MongoDB takes NaN for no number's neighbour, Spark (and DuckDB) for the greatest of all.
    return And((test, IsNan(operand, negated=True))) if comparison in ("gt", "gte") else test


def _zero(operand: Operand, comparison: Comparison) -> Tree:
    """A comparison with zero, of which there are two: equal to each other, and not so for Parquet's dictionaries."""
    number = IsNan(operand, negated=True)
    from_zero, to_zero = Test(operand, "gte", -0.0), Test(operand, "lte", 0.0)
    bounds: dict[Comparison, Tree] = {
        "eq": And((from_zero, to_zero)),
        "gt": And((Test(operand, "gt", 0.0), number)),
        "gte": And((from_zero, number)),
        "lt": Test(operand, "lt", -0.0),
        "lte": to_zero,
    }
    return bounds[comparison]


def _time(operand: Operand, comparison: Comparison, date: Moment) -> Tree:
    """A comparison in whole milliseconds, put as bounds in microseconds, so that files can be skipped by them."""
    start = Test(operand, "gte", date.millis * _MILLI)
    after = Test(operand, "gte", (date.millis + 1) * _MILLI)
    before = Test(operand, "lt", date.millis * _MILLI)
    through = Test(operand, "lt", (date.millis + 1) * _MILLI)
    bounds: dict[Comparison, Tree] = {
        "eq": And((start, through)),
        "gt": after,
        "gte": start,
        "lt": before,
        "lte": through,
    }
    return bounds[comparison]


def _name(value: Value) -> str:
    match value:
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case Moment():
            return "a date"
        case ():
            return "an array"
        case _:
            return "a number"
