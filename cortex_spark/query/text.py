"""Reads a query strictly: what JSON lets pass and MongoDB would see differently is an error.

Of a key that stands twice, Python keeps the last and MongoDB the first; NaN and Infinity are no JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn

from cortex_spark.query.errors import QueryError, inside

#: Characters of a query's text; ``$in`` with 10,000 ids has 360,000.
MAX_LENGTH: Final = 1_000_000
#: Characters of one name; what it should have been is looked for among ours.
MAX_NAME: Final = 1_000
#: Objects and arrays inside each other. Python and Catalyst recurse; no sensible query comes near.
MAX_DEPTH: Final = 50
#: Objects, arrays and values together: a plan of more takes Spark's optimizer minutes.
MAX_NODES: Final = 20_000

#: What an integer of a query may be.
INT64: Final = range(-(2**63), 2**63)


class _Repeating(dict[str, Any]):
    """An object of the text in which ``key`` stands more than once."""

    key: str


def read(query: str | Mapping[str, Any]) -> dict[str, Any]:
    """The query as plain dicts, lists and scalars.

    Raises:
        QueryError: it is no JSON object, or not one that has exactly one meaning.
    """
    checked = plain(query)
    if not isinstance(checked, dict):
        raise QueryError("", f'a query is a JSON object like {{"width": {{"$gt": 100}}}}, not {describe(checked)}')
    return checked


def plain(value: Any, place: str = "") -> Any:
    """JSON, or what Python has for it, as plain dicts, lists and scalars.

    Raises:
        QueryError: it is not JSON, or has not exactly one meaning.
    """
    return _Check().value(_parse(value, place or "the query") if isinstance(value, str) else value, place, 1)


def describe(value: object) -> str:
    """A value of a query in the words of JSON, for messages."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"the string {json.dumps(value[:40], ensure_ascii=False)}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    return f"a {type(value).__name__}"


def _parse(text: str, what: str) -> Any:
    if len(text) > MAX_LENGTH:
        raise QueryError("", f"{what} has {len(text):,} characters, at most {MAX_LENGTH:,} are taken")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise QueryError(
            "",
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno} (character {error.pos})",
        ) from None
    except RecursionError:
        raise QueryError("", f"{what} is too deep: at most {MAX_DEPTH} levels are taken") from None
    except ValueError:  # Python's own limit to the digits of an integer
        raise QueryError("", f"{what} has a number of thousands of digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeating = _Repeating(made)
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            repeating.key = name
            break
        seen.add(name)
    return repeating


def _constant(name: str) -> NoReturn:
    raise QueryError("", f"{name} is no JSON number, and no comparison with it is supported")


class _Check:
    """Copies a query while it looks at every value of it."""

    def __init__(self) -> None:
        self.nodes = 0

    def value(self, value: Any, place: str, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise QueryError("", f"the query has more than {MAX_NODES:,} values")
        if isinstance(value, Mapping | list | tuple) and depth > MAX_DEPTH:
            raise QueryError(place, f"too deep: at most {MAX_DEPTH} levels are taken")
        if isinstance(value, _Repeating):
            raise QueryError(
                inside(place, value.key), "stands twice in one object; of conditions, join the two with $and"
            )
        if isinstance(value, Mapping):
            return {
                self.name(name, place): self.value(value[name], inside(place, str(name)), depth + 1) for name in value
            }
        if isinstance(value, list | tuple):
            return [self.value(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
        return self.scalar(value, place)

    def name(self, name: object, place: str) -> str:
        if not isinstance(name, str):
            raise QueryError(place, f"a name is a string, not {describe(name)}")
        if len(name) > MAX_NAME:
            raise QueryError(place, f"has a name of {len(name):,} characters, at most {MAX_NAME:,} are taken")
        return _unicode(name, place)

    def scalar(self, value: Any, place: str) -> Any:
        if value is None or isinstance(value, bool | datetime):
            return value
        if isinstance(value, str):
            return _unicode(value, place)
        if isinstance(value, int):
            if value not in INT64:
                raise QueryError(place, "integers have 64 bits")
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise QueryError(place, f"{value} cannot be compared with; numbers are finite")
            return float(value)
        raise QueryError(
            place, f"{describe(value)} is no value of a query: use null, true, false, numbers, strings or dates"
        )


def _unicode(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QueryError(place, "has half of a surrogate pair in it, which is no character") from None
    return text
