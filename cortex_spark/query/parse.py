"""From the text of a query to its tree, against the schema of ``samples``.

What MongoDB accepts and this does not is refused with the place and a way out; nothing is guessed.
The rules are those of MongoDB 6's match expression parser; tests ask the server itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pyspark.sql.types import ArrayType, DataType, StructType

from cortex_spark.query.errors import QueryError, inside, nearest
from cortex_spark.query.text import describe, read
from cortex_spark.query.tree import (
    And,
    Compare,
    Comparison,
    ElemMatch,
    Exists,
    In,
    Moment,
    Not,
    Operand,
    Or,
    Size,
    Tree,
    Value,
)
from cortex_spark.schema import SAMPLES

_COMPARISONS: Final[dict[str, Comparison]] = {"$eq": "eq", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_LOGICAL: Final = ("$and", "$or", "$nor")
# fmt: off
_NOT_YET: Final = frozenset({
    "$all", "$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet", "$comment", "$expr", "$geoIntersects",
    "$geoWithin", "$jsonSchema", "$mod", "$near", "$nearSphere", "$options", "$regex", "$sampleRate", "$text",
    "$type", "$where",
})
_EXTENDED: Final = frozenset({
    "$binary", "$code", "$dbPointer", "$id", "$maxKey", "$minKey", "$numberDecimal", "$numberDouble", "$numberInt",
    "$numberLong", "$oid", "$ref", "$regularExpression", "$scope", "$symbol", "$timestamp", "$undefined", "$uuid",
})
# fmt: on
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Milliseconds since 1970 of the years 1 to 9999.
_MILLIS: Final = range(-62_135_596_800_000, 253_402_300_800_000)
_MAX_SIZE: Final = 2**31 - 1


def parse(query: str | Mapping[str, Any], schema: StructType = SAMPLES) -> Tree:
    """The tree of a query, as written.

    Raises:
        QueryError: with the place of what is wrong or not supported.
    """
    return _document(read(query), schema, "")


def moment(text: str) -> Moment | None:
    """The date that an ISO 8601 text means, UTC where it has no offset; None where it means none.

    >>> moment("2023-01-04 09:58:14.082248")
    Moment(millis=1672826294082)
    """
    try:
        return _moment(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _moment(time: datetime) -> Moment | None:
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    passed = aware - _EPOCH
    return _from_millis(passed // timedelta(milliseconds=1))


def _document(query: Mapping[str, Any], scope: DataType, place: str) -> Tree:
    """The conditions of an object that names fields of ``scope``, joined."""
    return And(tuple(_condition(name, query[name], scope, inside(place, name)) for name in query))


def _condition(name: str, argument: Any, scope: DataType, place: str) -> Tree:
    if name in _LOGICAL:
        return _logical(name, argument, scope, place)
    if name.startswith("$"):
        raise _not_here(name, place)
    operand = Operand((name,), _kind(name, scope, place))
    if isinstance(argument, Mapping) and any(key.startswith("$") for key in argument) and "$date" not in argument:
        return And(tuple(_operators(operand, argument, place)))
    return Compare(operand, "eq", _literal(argument, place), place)


def _logical(name: str, argument: Any, scope: DataType, place: str) -> Tree:
    if not isinstance(argument, list) or not argument:
        given = "an empty array" if argument == [] else describe(argument)
        raise QueryError(place, f"needs an array of at least one query, not {given}")
    children = []
    for index, child in enumerate(argument):
        if not isinstance(child, Mapping):
            raise QueryError(f"{place}[{index}]", f"is a query, that is an object, not {describe(child)}")
        children.append(_document(child, scope, f"{place}[{index}]"))
    if name == "$and":
        return And(tuple(children))
    return Or(tuple(children)) if name == "$or" else Not(Or(tuple(children)))


def _not_here(name: str, place: str) -> QueryError:
    if name in _OPERATORS:
        return QueryError(place, f'belongs inside a field, as {{"width": {{"{name}": ...}}}}')
    return _unknown(name, place, _LOGICAL)


def _unknown(name: str, place: str, valid: tuple[str, ...]) -> QueryError:
    if name in _NOT_YET:
        return QueryError(place, f"{name} is not supported; what is: {' '.join(valid)}")
    if name == "$date":
        return QueryError(place, 'is a value, which belongs in an operator like {"$gt": {"$date": ...}}')
    if name in _EXTENDED:
        return QueryError(place, f"the extended JSON type {name} is not supported; write a plain value or $date")
    return QueryError(place, f"there is no operator {name}, the nearest is {nearest(name, valid)}")


def _kind(name: str, scope: DataType, place: str) -> DataType:
    if isinstance(scope, StructType):
        if name in scope.names:
            return scope[name].dataType
        if "." in name:
            raise _dotted(name, scope, place)
        ways = list(_ways(name, scope))
        if ways:
            raise QueryError(place, f"is a field of an array's elements, write {ways[0]}")
        raise QueryError(place, f"there is no field {name!r}, the nearest is {nearest(name, scope.names)!r}")
    if isinstance(scope, ArrayType):
        raise QueryError(
            place, f"the element is itself an array, which has no field {name!r}: put one more $elemMatch around"
        )
    raise QueryError(place, f"the element is no object, which has no field {name!r}: use an operator like $gt")


def _dotted(name: str, scope: StructType, place: str) -> QueryError:
    root, last = name.split(".")[0], name.split(".")[-1]
    if root not in scope.names:
        return QueryError(place, f"there is no field {root!r}, the nearest is {nearest(root, scope.names)!r}")
    ways = [way for way in _ways(last, scope) if way.startswith(f"{root}.")]
    instead = f", write {ways[0]}" if ways else f"; {root} has no field {last!r}" if not last.isdigit() else ""
    return QueryError(place, f"paths with dots are not supported{instead}")


def _ways(name: str, scope: StructType) -> Iterator[str]:
    """The ways in ``$elemMatch`` by which a field called ``name`` is reached inside the arrays of ``scope``."""
    for field in scope.fields:
        way, kind = field.name, field.dataType
        while isinstance(kind, ArrayType):
            way, kind = f"{way}.$elemMatch", kind.elementType
        if isinstance(kind, StructType) and name in kind.names:
            yield f"{way}.{name}"


def _operators(operand: Operand, operators: Mapping[str, Any], place: str) -> Iterator[Tree]:
    for name, argument in operators.items():
        at = inside(place, name)
        if name not in _OPERATORS:
            if not name.startswith("$"):
                raise QueryError(at, f"stands beside operators and is none, the nearest is {nearest(name, _OPERATORS)}")
            if name in _LOGICAL:
                raise QueryError(at, f'stands around fields, as {{"{name}": [{{"width": ...}}, ...]}}')
            raise _unknown(name, at, tuple(_OPERATORS))
        yield _OPERATORS[name](operand, name, argument, at)


def _compare(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    return Compare(operand, _COMPARISONS[name], _literal(argument, place), place)


def _not_equal(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    return Not(Compare(operand, "eq", _literal(argument, place), place))


def _in(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    if not isinstance(argument, list):
        raise QueryError(place, f"needs an array of values, not {describe(argument)}")
    found = In(operand, tuple(_literal(item, f"{place}[{index}]") for index, item in enumerate(argument)), place)
    return found if name == "$in" else Not(found)


def _exists(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    if not isinstance(argument, bool | int | float):
        raise QueryError(place, f"needs true or false, not {describe(argument)}")
    return Exists(operand) if argument else Not(Exists(operand))


def _size(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    if isinstance(argument, bool) or not isinstance(argument, int | float) or argument != int(argument):
        raise QueryError(place, f"needs a whole number, not {describe(argument)}")
    if not 0 <= argument <= _MAX_SIZE:
        raise QueryError(place, f"needs a number from 0 to {_MAX_SIZE}, not {argument}")
    return Size(operand, int(argument), place)


def _negation(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    if not isinstance(argument, Mapping) or not argument or "$date" in argument:
        given = "an empty one" if argument == {} else describe(argument)
        raise QueryError(place, f'needs an object of operators like {{"$gt": 100}}, not {given}; for a value use $ne')
    return Not(And(tuple(_operators(operand, argument, place))))


def _elem_match(operand: Operand, name: str, argument: Any, place: str) -> Tree:
    if not isinstance(argument, Mapping):
        raise QueryError(place, f"needs an object of conditions for one element, not {describe(argument)}")
    if not isinstance(operand.kind, ArrayType):
        what = ".".join(operand.path) or "the element"
        raise QueryError(place, f"{what} is no array, so that $elemMatch has no elements to look at")
    element = operand.kind.elementType
    first = next(iter(argument), "")
    if first.startswith("$") and first not in _LOGICAL:
        child: Tree = And(tuple(_operators(Operand((), element), argument, place)))
        return ElemMatch(operand, child, documents=False)
    return ElemMatch(operand, _document(argument, element, place), documents=True)


def _literal(value: Any, place: str) -> Value:
    if isinstance(value, datetime):
        return _dated(_moment(value), place)
    if isinstance(value, list):
        raise QueryError(place, "equality with a whole array is not supported; use $elemMatch, $size or $in")
    if not isinstance(value, Mapping):
        assert value is None or isinstance(value, bool | int | float | str)
        return value
    if "$date" in value:
        return _date(value, inside(place, "$date"))
    for name in value:
        if name.startswith("$"):
            if name in _OPERATORS or name in _LOGICAL:
                raise QueryError(inside(place, name), "an operator cannot stand in place of a value")
            raise _unknown(name, inside(place, name), tuple(_OPERATORS))
    hint = next((f"; did you mean ${name}?" for name in value if f"${name}" in _OPERATORS), "")
    raise QueryError(
        place, f"equality with a whole object is not supported{hint or '; use operators like $gt or $elemMatch'}"
    )


def _date(value: Mapping[str, Any], place: str) -> Moment:
    if len(value) > 1:
        raise QueryError(place, "stands alone in its object")
    date = value["$date"]
    return _dated(moment(date) if isinstance(date, str) else _from_millis(date), place)


def _dated(found: Moment | None, place: str) -> Moment:
    if found is None:
        raise QueryError(
            place, 'needs a date of the years 1 to 9999 like "2023-01-04T09:58:14.082Z", or milliseconds since 1970'
        )
    return found


def _from_millis(date: Any) -> Moment | None:
    if isinstance(date, Mapping) and list(date) == ["$numberLong"] and isinstance(date["$numberLong"], str):
        digits = date["$numberLong"]
        date = int(digits) if re.fullmatch(r"-?\d{1,15}", digits, re.ASCII) else None
    if isinstance(date, bool) or not isinstance(date, int) or date not in _MILLIS:
        return None
    return Moment(date)


_OPERATORS: Final[dict[str, Callable[[Operand, str, Any, str], Tree]]] = {
    **dict.fromkeys(_COMPARISONS, _compare),
    "$ne": _not_equal,
    "$in": _in,
    "$nin": _in,
    "$not": _negation,
    "$exists": _exists,
    "$size": _size,
    "$elemMatch": _elem_match,
}
