"""The tree of a query: as it was written, and in the normal form that back ends translate.

Normal form: ``And`` and ``Or`` over primitives. No ``Not`` is left; each primitive has a negated form that is its
exact complement, true where the positive form is false for want of a value. Literals have the type of what they are
compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyspark.sql.types import DataType

from cortex_spark.query.regex import Pattern

#: Names of fields, one inside the other.
Path: TypeAlias = tuple[str, ...]
Comparison: TypeAlias = Literal["eq", "gt", "gte", "lt", "lte"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A date as MongoDB has it: whole milliseconds since 1970, UTC."""

    millis: int


#: A literal; ``()`` is the empty array.
Value: TypeAlias = bool | int | float | str | Moment | tuple[()] | None


@dataclass(frozen=True, slots=True)
class Operand:
    """What a condition is about: a field of the document or array element at hand, through structs, or (``()``) itself.

    A NULL anywhere on the path makes it null.
    """

    path: Path
    kind: DataType


@dataclass(frozen=True, slots=True)
class And:
    """All of the children; of none, true."""

    children: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some of the children; of none, false."""

    children: tuple[Tree, ...]


# As written only.


@dataclass(frozen=True, slots=True)
class Not:
    """The complement of the child."""

    child: Tree


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison with a literal of whatever type."""

    comparison: Comparison
    value: Value
    place: str


@dataclass(frozen=True, slots=True)
class In:
    """Equal to one of the literals."""

    values: tuple[Value, ...]
    place: str


@dataclass(frozen=True, slots=True)
class Exists:
    """There, be it null."""

    place: str


@dataclass(frozen=True, slots=True)
class HasType:
    """Of one of the types, by MongoDB's names for them."""

    types: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True)
class Size:
    """An array of so many elements."""

    size: int
    place: str


@dataclass(frozen=True, slots=True)
class ElemMatch:
    """Some element matches ``child``; with ``documents``, only elements that are objects or arrays are looked at."""

    child: Tree
    documents: bool
    place: str


@dataclass(frozen=True, slots=True)
class Matches:
    """A string of which a part matches."""

    pattern: Pattern
    place: str


@dataclass(frozen=True, slots=True)
class Remainder:
    """A number that has this remainder."""

    divisor: int
    remainder: int
    place: str


Leaf: TypeAlias = Compare | In | Exists | HasType | Size | ElemMatch | Matches | Remainder


@dataclass(frozen=True, slots=True)
class On:
    """``leaf`` is true of something that ``path`` leads to, or (``()``) of the element at hand."""

    path: Path
    leaf: Leaf
    place: str


# Primitives of the normal form. A null operand makes the positive form false and the negated one true, but for IsNull.


@dataclass(frozen=True, slots=True)
class Constant:
    """True, or false when ``negated``."""

    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    """A NULL column, a field that is missing or a null element."""

    operand: Operand
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNan:
    """Of doubles only."""

    operand: Operand
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Test:
    """A comparison with a literal of the operand's type; of times, in microseconds since 1970.

    ``gt`` and ``gte`` of doubles come with a negated ``IsNan``: engines take NaN for the greatest number.
    """

    __test__ = False  # no test case, pytest

    operand: Operand
    comparison: Comparison
    value: bool | int | float | str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to one of at least two literals of the operand's type, none of which is a double's zero."""

    operand: Operand
    values: tuple[bool | int | float | str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class HasSize:
    """An array of exactly so many elements."""

    operand: Operand
    size: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Some:
    """An array with an element, null ones included, of which ``child`` is true."""

    operand: Operand
    child: Tree
    negated: bool = False


@dataclass(frozen=True, slots=True)
class At:
    """An array that has an element at ``index`` (from 0), be it null, of which ``child`` is true."""

    operand: Operand
    index: int
    child: Tree
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Regex:
    """A string of which some part matches ``pattern``, in RE2's syntax with its flags in front, as ``(?i)cat``.

    Where the pattern begins with plain text, two ``Test`` stand beside it, by which Parquet's row groups are skipped.
    """

    operand: Operand
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Mod:
    """A number whose remainder by ``divisor`` is ``remainder``, as C's ``%`` of 64-bit integers has it (-7 % 3 == -1).

    Doubles are cut off towards zero first; NaN, infinities and what no 64-bit integer holds have no remainder.
    """

    operand: Operand
    divisor: int
    remainder: int
    negated: bool = False


Primitive: TypeAlias = Constant | IsNull | IsNan | Test | OneOf | HasSize | Some | At | Regex | Mod
Tree: TypeAlias = And | Or | Not | On | Primitive
