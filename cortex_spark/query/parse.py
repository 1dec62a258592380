"""From the text of a query to its tree.

What MongoDB accepts and this does not is refused with the place and a way out; nothing is guessed.
The rules are those of MongoDB 6's match expression parser; tests ask the server itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cortex_spark.query.errors import QueryError, inside, nearest, quoted
from cortex_spark.query.regex import PatternError, translate
from cortex_spark.query.text import INT64, describe, read
from cortex_spark.query.tree import (
    And,
    Compare,
    Comparison,
    ElemMatch,
    Exists,
    HasType,
    In,
    Leaf,
    Matches,
    Moment,
    Not,
    On,
    Or,
    Path,
    Remainder,
    Size,
    Tree,
    Value,
)

_COMPARISONS: Final[dict[str, Comparison]] = {"$eq": "eq", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_LOGICAL: Final = ("$and", "$or", "$nor")
# fmt: off
_NOT_YET: Final = frozenset({
    "$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet", "$comment", "$expr", "$geoIntersects",
    "$geoWithin", "$jsonSchema", "$near", "$nearSphere", "$sampleRate", "$text", "$where",
})
_EXTENDED: Final = frozenset({
    "$binary", "$code", "$dbPointer", "$id", "$maxKey", "$minKey", "$numberDecimal", "$numberDouble", "$numberInt",
    "$numberLong", "$oid", "$ref", "$regularExpression", "$scope", "$symbol", "$timestamp", "$undefined", "$uuid",
})
# fmt: on
#: MongoDB's types by name, each with its number.
TYPES: Final = {
    "double": 1,
    "string": 2,
    "object": 3,
    "array": 4,
    "binData": 5,
    "undefined": 6,
    "objectId": 7,
    "bool": 8,
    "date": 9,
    "null": 10,
    "regex": 11,
    "dbPointer": 12,
    "javascript": 13,
    "symbol": 14,
    "javascriptWithScope": 15,
    "int": 16,
    "timestamp": 17,
    "long": 18,
    "decimal": 19,
    "minKey": -1,
    "maxKey": 127,
}  # fmt: skip
_TYPE_NAMES: Final = {number: name for name, number in TYPES.items()}
_NUMBERS: Final = ("int", "long", "double", "decimal")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Milliseconds since 1970 of the years 1 to 9999.
_MILLIS: Final = range(-62_135_596_800_000, 253_402_300_800_000)
_MAX_SIZE: Final = 2**31 - 1


def parse(query: str | Mapping[str, Any]) -> Tree:
    """The tree of a query, as written; whether its fields are there is for ``normalise`` to say.

    Raises:
        QueryError: with the place of what is wrong or not supported.
    """
    return _document(read(query), "")


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


def _document(query: Mapping[str, Any], place: str) -> Tree:
    """The conditions of an object that names fields, joined."""
    return And(tuple(_condition(name, query[name], inside(place, name)) for name in query))


def _condition(name: str, argument: Any, place: str) -> Tree:
    if name in _LOGICAL:
        return _logical(name, argument, place)
    if name.startswith("$"):
        raise _not_here(name, place)
    path = tuple(name.split("."))
    if isinstance(argument, Mapping) and any(key.startswith("$") for key in argument) and "$date" not in argument:
        return And(tuple(_operators(path, argument, place, place)))
    return On(path, Compare("eq", _literal(argument, place), place), place)


def _logical(name: str, argument: Any, place: str) -> Tree:
    if not isinstance(argument, list) or not argument:
        given = "an empty array" if argument == [] else describe(argument)
        raise QueryError(place, f"needs an array of at least one query, not {given}")
    children = []
    for index, child in enumerate(argument):
        if not isinstance(child, Mapping):
            raise QueryError(f"{place}[{index}]", f"is a query, that is an object, not {describe(child)}")
        children.append(_document(child, f"{place}[{index}]"))
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


def _operators(path: Path, operators: Mapping[str, Any], place: str, field: str) -> Iterator[Tree]:
    """The conditions on what ``path`` leads to, which was named at ``field``."""
    for name, argument in operators.items():
        at = inside(place, name)
        match name:
            case "$not":
                yield Not(And(tuple(_operators(path, _negated(argument, at), at, field))))
            case "$ne" | "$nin":
                yield Not(On(path, _LEAVES[_COMPLEMENTS[name]](argument, at), field))
            case "$exists":
                there = On(path, Exists(at), field)
                yield there if _truth(argument, at) else Not(there)
            case "$all":
                every = tuple(On(path, leaf, field) for leaf in _all(argument, at))
                yield And(every) if every else Or(())
            case "$regex" | "$options":
                if name == "$regex":
                    yield On(path, _matches(argument, operators.get("$options", ""), place), field)
                elif "$regex" not in operators:
                    raise QueryError(at, 'needs a $regex beside it, as {"$regex": "cat", "$options": "i"}')
            case _ if name in _LEAVES:
                yield On(path, _LEAVES[name](argument, at), field)
            case _:
                raise _no_operator(name, at)


def _no_operator(name: str, place: str) -> QueryError:
    if not name.startswith("$"):
        return QueryError(place, f"stands beside operators and is none, the nearest is {nearest(name, _OPERATORS)}")
    if name in _LOGICAL:
        return QueryError(place, f'stands around fields, as {{"{name}": [{{"width": ...}}, ...]}}')
    return _unknown(name, place, _OPERATORS)


def _comparison(comparison: Comparison) -> Callable[[Any, str], Leaf]:
    return lambda argument, place: Compare(comparison, _literal(argument, place, comparison == "eq"), place)


def _in(argument: Any, place: str) -> Leaf:
    if not isinstance(argument, list):
        raise QueryError(place, f"needs an array of values, not {describe(argument)}")
    return In(tuple(_literal(item, f"{place}[{index}]") for index, item in enumerate(argument)), place)


def _truth(argument: Any, place: str) -> bool:
    if not isinstance(argument, bool | int | float):
        raise QueryError(place, f"needs true or false, not {describe(argument)}")
    return bool(argument)


def _size(argument: Any, place: str) -> Leaf:
    if isinstance(argument, bool) or not isinstance(argument, int | float) or argument != int(argument):
        raise QueryError(place, f"needs a whole number, not {describe(argument)}")
    if not 0 <= argument <= _MAX_SIZE:
        raise QueryError(place, f"needs a number from 0 to {_MAX_SIZE}, not {argument}")
    return Size(int(argument), place)


def _type(argument: Any, place: str) -> Leaf:
    many = isinstance(argument, list)
    if argument == []:
        raise QueryError(place, "needs at least one type, not an empty array")
    names: list[str] = []
    for index, item in enumerate(argument if many else [argument]):
        at = f"{place}[{index}]" if many else place
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise QueryError(at, f'needs the name or number of a type, as "string" or 2, not {describe(item)}')
        if isinstance(item, str) and item not in TYPES and item != "number":
            raise QueryError(
                at, f"there is no type {quoted(item)}, the nearest is {nearest(item, [*TYPES, 'number'])!r}"
            )
        if not isinstance(item, str) and item not in TYPES.values():
            hint = "; for a missing field use $exists" if item == 0 else ""
            raise QueryError(at, f"there is no type with the number {item}{hint}")
        if item == "number":
            names += _NUMBERS
        else:
            names.append(item if isinstance(item, str) else _TYPE_NAMES[int(item)])
    return HasType(tuple(dict.fromkeys(names)), place)


def _negated(argument: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(argument, Mapping) or not argument or "$date" in argument:
        given = "an empty one" if argument == {} else describe(argument)
        raise QueryError(place, f'needs an object of operators like {{"$gt": 100}}, not {given}; for a value use $ne')
    return argument


def _elem_match(argument: Any, place: str) -> Leaf:
    if not isinstance(argument, Mapping):
        raise QueryError(place, f"needs an object of conditions for one element, not {describe(argument)}")
    first = next(iter(argument), "")
    if first.startswith("$") and first not in _LOGICAL:
        return ElemMatch(And(tuple(_operators((), argument, place, place))), False, place)
    return ElemMatch(_document(argument, place), True, place)


def _all(argument: Any, place: str) -> Iterator[Leaf]:
    if not isinstance(argument, list):
        raise QueryError(place, f"needs an array of values or of $elemMatch, not {describe(argument)}")
    matching = [isinstance(item, Mapping) and "$elemMatch" in item for item in argument]
    for index, item in enumerate(argument):
        at = f"{place}[{index}]"
        if matching[index] != matching[0]:
            raise QueryError(at, "is one of values and $elemMatch mixed; $all takes either")
        if not matching[index]:
            yield Compare("eq", _literal(item, at), at)
        elif len(item) > 1:
            raise QueryError(at, "$elemMatch stands alone in its object")
        else:
            yield _elem_match(item["$elemMatch"], inside(at, "$elemMatch"))


def _matches(pattern: Any, options: Any, place: str) -> Leaf:
    at = inside(place, "$regex")
    if not isinstance(pattern, str):
        raise QueryError(at, f"needs a pattern, that is a string, not {describe(pattern)}")
    if not isinstance(options, str):
        raise QueryError(inside(place, "$options"), f'needs letters like "i", not {describe(options)}')
    for letter in options:
        if letter not in "ims":
            raise QueryError(inside(place, "$options"), f"there is no option {letter!r}; what there is: i m s")
    try:
        return Matches(translate(pattern, options), at)
    except PatternError as error:
        raise QueryError(at, f"the pattern {error}") from None


def _mod(argument: Any, place: str) -> Leaf:
    if not isinstance(argument, list) or len(argument) != 2:
        given = f"an array of {len(argument)}" if isinstance(argument, list) else describe(argument)
        raise QueryError(place, f"needs [divisor, remainder], not {given}")
    whole: list[int] = []
    for index, item in enumerate(argument):
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise QueryError(f"{place}[{index}]", f"needs a number, not {describe(item)}")
        if int(item) not in INT64:
            raise QueryError(f"{place}[{index}]", f"needs a number of 64 bits, not {item}")
        whole.append(int(item))  # cut off towards zero, as MongoDB does
    divisor, remainder = whole
    if divisor == 0:
        raise QueryError(f"{place}[0]", f"the divisor {argument[0]} is zero")
    return Remainder(divisor, remainder, place)


def _literal(value: Any, place: str, equality: bool = True) -> Value:
    if isinstance(value, datetime):
        return _dated(_moment(value), place)
    if value == [] and equality:
        return ()
    if isinstance(value, list):
        raise QueryError(place, "comparison with a whole array is not supported; use $elemMatch, $all, $size or $in")
    if not isinstance(value, Mapping):
        assert value is None or isinstance(value, bool | int | float | str)
        return value
    if "$date" in value:
        return _date(value, inside(place, "$date"))
    for name in value:
        if name.startswith("$"):
            if name in _OPERATORS or name in _LOGICAL:
                raise QueryError(inside(place, name), "an operator cannot stand in place of a value")
            raise _unknown(name, inside(place, name), _OPERATORS)
    hint = next((f"; did you mean ${name}?" for name in value if f"${name}" in _OPERATORS), "")
    raise QueryError(
        place, f"comparison with a whole object is not supported{hint or '; use operators like $gt or $elemMatch'}"
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


_LEAVES: Final[dict[str, Callable[[Any, str], Leaf]]] = {
    **{name: _comparison(comparison) for name, comparison in _COMPARISONS.items()},
    "$in": _in,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$elemMatch": _elem_match,
}
_COMPLEMENTS: Final = {"$ne": "$eq", "$nin": "$in"}
_OPERATORS: Final = (*_LEAVES, *_COMPLEMENTS, "$not", "$exists", "$all", "$regex", "$options")
