"""Gives a tree its one meaning: literals folded to the type they are compared with, negation pushed to the leaves.

MongoDB's semantics live here and nowhere else. A comparison with an unlike type is never true, and everything where it
is negated; numbers compare by their exact value whatever their type; a date is compared in whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
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

from cortex_spark.query.parse import moment
from cortex_spark.query.tree import (
    And,
    Compare,
    Comparison,
    Constant,
    ElemMatch,
    Exists,
    HasSize,
    In,
    IsNan,
    IsNull,
    Moment,
    Not,
    OneOf,
    Operand,
    Or,
    Size,
    Some,
    Test,
    Tree,
    Value,
)

_INTEGERS: Final = {IntegerType(): (-(2**31), 2**31 - 1), LongType(): (-(2**63), 2**63 - 1)}
_NAMES: Final[dict[type[DataType], str]] = {
    BooleanType: "a boolean",
    IntegerType: "a number",
    LongType: "a number",
    DoubleType: "a number",
    StringType: "a string",
    TimestampType: "a date",
    ArrayType: "an array",
    StructType: "an object",
}
_NEVER: Final = Constant(negated=True)
_MILLI: Final = 1000  # microseconds

_Number: TypeAlias = int | float


def normalise(tree: Tree) -> tuple[Tree, tuple[str, ...]]:
    """The normal form of a tree, and warnings of comparisons that can never be true."""
    normaliser = _Normaliser()
    return normaliser.tree(tree, negated=False), tuple(dict.fromkeys(normaliser.warnings))


class _Normaliser:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def tree(self, tree: Tree, negated: bool) -> Tree:
        match tree:
            case And(children) | Or(children):
                made = [self.tree(child, negated) for child in children]
                return _join(made, conjunction=isinstance(tree, And) != negated)
            case Not(child):
                return self.tree(child, not negated)
            case Compare() | In() | Exists() | Size() | ElemMatch():
                return self.tree(self.leaf(tree), negated)
            case Some(operand, child):
                return Some(operand, self.tree(child, negated=False), tree.negated != negated)
            case _:
                return replace(tree, negated=tree.negated != negated)

    def leaf(self, tree: Compare | In | Exists | Size | ElemMatch) -> Tree:
        operand = tree.operand
        match tree:
            case Exists():
                # An element of an array exists, be it null.
                return Constant() if not operand.path else IsNull(operand, negated=True)
            case Size():
                if isinstance(operand.kind, ArrayType):
                    return HasSize(operand, tree.size)
                self.warn(tree.place, operand, "an array")
                return _NEVER
            case ElemMatch():
                assert isinstance(operand.kind, ArrayType)  # the parser saw to it
                if not tree.documents:
                    return Some(operand, tree.child)
                if not isinstance(operand.kind.elementType, ArrayType | StructType):
                    return _NEVER
                element = Operand((), operand.kind.elementType)
                return Some(operand, And((IsNull(element, negated=True), tree.child)))
            case Compare():
                return self.on_elements_too(
                    operand, lambda one: self.compare(one, tree.comparison, tree.value, tree.place)
                )
            case In():
                return self.on_elements_too(operand, lambda one: self.one_of(one, tree.values, tree.place))

    def on_elements_too(self, operand: Operand, leaf: Callable[[Operand], Tree]) -> Tree:
        """A field that is an array matches as a whole or by one of its elements, an element only as a whole."""
        if not operand.path or not isinstance(operand.kind, ArrayType):
            return leaf(operand)
        return Or((leaf(operand), Some(operand, leaf(Operand((), operand.kind.elementType)))))

    def compare(self, operand: Operand, comparison: Comparison, value: Value, place: str) -> Tree:
        if value is None:
            return IsNull(operand) if comparison in ("eq", "gte", "lte") else _NEVER
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
            case TimestampType() if isinstance(value, Moment | str):
                # A string is our extension: MongoDB takes only dates for dates, and people write strings.
                date = moment(value) if isinstance(value, str) else value
                if date is not None:
                    return _time(operand, comparison, date)
        self.warn(place, operand, _name(value))
        return _NEVER

    def one_of(self, operand: Operand, values: tuple[Value, ...], place: str) -> Tree:
        """The values' equalities, those of integers, strings and booleans in one primitive."""
        literals: dict[bool | int | str, None] = {}
        others: dict[Tree, None] = {}
        for value in values:
            match self.compare(operand, "eq", value, place):
                case Test(value=bool() | int() | str() as literal):
                    literals[literal] = None
                case other:
                    others[other] = None
        if len(literals) == 1:
            others[Test(operand, "eq", next(iter(literals)))] = None
        elif literals:
            others[OneOf(operand, tuple(literals))] = None
        return Or(tuple(others))

    def warn(self, place: str, operand: Operand, other: str) -> None:
        if operand.path and isinstance(operand.kind, ArrayType) and other != "an array":
            return  # its elements are asked too, and warn where they are unlike as well
        self.warnings.append(f"{place}: {_NAMES[type(operand.kind)]} is never matched by {other}")


def _join(children: Iterable[Tree], conjunction: bool) -> Tree:
    kind = And if conjunction else Or
    kept: list[Tree] = []
    for child in children:
        match child:
            case Constant(negated) if negated == conjunction:
                return Constant(negated)  # one false decides "and", one true decides "or"
            case Constant():
                pass
            case And(parts) | Or(parts) if isinstance(child, kind):
                kept.extend(parts)
            case _:
                kept.append(child)
    if not kept:
        return Constant(negated=not conjunction)
    return kept[0] if len(kept) == 1 else kind(tuple(kept))


def _integer(operand: Operand, comparison: Comparison, value: _Number, least: int, greatest: int) -> Tree:
    """A comparison with any number, by an integer that the column can hold.

    >>> _integer(Operand(("width",), IntegerType()), "gt", 99.5, -(2**31), 2**31 - 1).value
    99
    """
    present = IsNull(operand, negated=True)
    low, high = math.floor(value), math.ceil(value)
    match comparison:
        case "eq":
            return Test(operand, "eq", low) if low == high and least <= low <= greatest else _NEVER
        case "gt" | "lte":  # above or not above the integer at or below the value
            positive: Tree = present if low < least else _NEVER if low >= greatest else Test(operand, "gt", low)
            below: Tree = _NEVER if low < least else present if low >= greatest else Test(operand, "lte", low)
            return positive if comparison == "gt" else below
        case "gte" | "lt":
            positive = present if high <= least else _NEVER if high > greatest else Test(operand, "gte", high)
            below = _NEVER if high <= least else present if high > greatest else Test(operand, "lt", high)
            return positive if comparison == "gte" else below


def _double(operand: Operand, comparison: Comparison, value: _Number) -> Tree:
    """A comparison with any number, by a double: an integer between two doubles is equal to neither."""
    double = float(value) + 0.0  # no negative zero: sets and statistics may tell it from zero
    if double != value:
        if comparison == "eq":
            return _NEVER
        if double > value:
            comparison = "gte" if comparison in ("gt", "gte") else "lt"
        else:
            comparison = "gt" if comparison in ("gt", "gte") else "lte"
    test = Test(operand, comparison, double)
    # MongoDB takes NaN for no number's neighbour, Spark (and DuckDB) for the greatest of all.
    return And((test, IsNan(operand, negated=True))) if comparison in ("gt", "gte") else test


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
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    return "a date" if isinstance(value, Moment) else "a number"
