"""What a row of ``samples`` is as a document: for JSON, and for loading MongoDB alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pyspark.sql import Row
from pyspark.sql.types import ArrayType, DataType, LongType, StructType

from cortex_spark.query.errors import QueryError, inside, nearest, quoted
from cortex_spark.query.text import describe, plain
from cortex_spark.query.tree import Operand
from cortex_spark.schema import DERIVED, SAMPLES

#: Shown where nobody says otherwise: all but what follows from the boxes, and the histogram, whose 96 numbers bury the
#: rest of a page.
DEFAULT_FIELDS: Final = tuple(name for name in SAMPLES.names if name not in ("histogram", *DERIVED))

#: Fields to sort by, as many as MongoDB takes.
MAX_KEYS: Final = 32
_INSTEAD: Final = "objects.cat.confidence, the highest of the cats"


@dataclass(frozen=True, slots=True)
class Projection:
    """Which parts of a document are shown: those of ``tree`` (``include``), or all but them.

    ``tree`` has the parts of a path inside each other; None at its end. ``columns`` are those of ``samples`` that it
    takes to show them, in their order.
    """

    include: bool
    tree: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of ``samples`` that have something to show, in their order."""
        if self.include:
            return tuple(name for name in SAMPLES.names if name in self.tree)
        return tuple(name for name in SAMPLES.names if self.tree.get(name, ()) is not None)

    def project(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with what is shown of it, in its own order; as MongoDB does, through arrays of any depth."""
        found = _included(document, self.tree) if self.include else _excluded(document, self.tree)
        assert isinstance(found, dict)
        return found


def _included(value: Any, tree: Mapping[str, Any] | None) -> Any:
    if isinstance(value, list) and tree is not None:  # scalars have no fields to show
        return [_included(one, tree) for one in value if isinstance(one, dict | list)]
    if not isinstance(value, dict) or tree is None:
        return value
    shown = {name: (one, tree[name]) for name, one in value.items() if name in tree}
    return {
        name: _included(one, inner)
        for name, (one, inner) in shown.items()
        if inner is None or isinstance(one, dict | list)
    }


def _excluded(value: Any, tree: Mapping[str, Any] | None) -> Any:
    if isinstance(value, list) and tree:
        return [_excluded(one, tree) for one in value]
    if not isinstance(value, dict) or not tree:
        return value
    return {name: _excluded(one, tree.get(name)) for name, one in value.items() if tree.get(name, ()) is not None}


def parse_fields(fields: str | Sequence[str] | Mapping[str, Any] | None) -> Projection:
    """What to show of documents: None, the default fields; names, which ``_id`` joins; or a MongoDB projection.

    Of names (a list, or a text with commas), ``all`` is every field. A projection (a mapping, or JSON) shows what has
    1 or true, and ``_id`` unless that has 0; or all but what has 0 or false. ``{}`` shows everything.

    >>> parse_fields({"width": 1, "_id": 0}).columns
    ('width',)
    >>> parse_fields({"object_analysis.classname": True}).columns
    ('_id', 'object_analysis')

    Raises:
        CortexError: for a field that is not there, and for what is neither shown nor left out.
    """
    if fields is None:
        return Projection(True, dict.fromkeys(DEFAULT_FIELDS))
    if isinstance(fields, str):
        fields = plain(fields, "fields") if fields.lstrip().startswith("{") else fields.split(",")
    if isinstance(fields, Mapping):
        return _projection(plain(fields, "fields"))
    if not isinstance(fields, list | tuple) or not all(isinstance(name, str) for name in fields):
        raise QueryError("fields", f'are names, or an object like {{"width": 1}}, not {describe(fields)}')
    names = [name.strip() for name in fields if name.strip()]
    for name in names:
        if name != "all":
            _check_path(name, "fields")
    return Projection(True, _nested(SAMPLES.names if "all" in names else dict.fromkeys(["_id", *names])))


def _projection(written: Mapping[str, Any]) -> Projection:
    marks = dict(_marks(written, ""))
    shown = marks.pop("_id", None)
    wanted = set(marks.values())
    if len(wanted) == 2:
        raise QueryError("fields", "some are shown and others left out, either takes the whole object (but for _id)")
    include = wanted == {True} or (not wanted and shown is True)
    if include != (shown is False):  # _id is shown unless it is said not to be
        marks = {"_id": include, **marks}
    return Projection(include, _nested(marks))


def _marks(written: Mapping[str, Any], path: str) -> Iterator[tuple[str, bool]]:
    """Each path that is marked as shown or left out."""
    for name, mark in written.items():
        place = inside("fields", inside(path, name))
        if name.startswith("$") or isinstance(mark, str | list) or mark is None or mark == {}:
            raise QueryError(place, "is 1 to be shown or 0 to be left out; expressions are not supported")
        if isinstance(mark, Mapping):
            yield from _marks(mark, inside(path, name))
        else:
            _check_path(inside(path, name), place)
            yield inside(path, name), bool(mark)


def _nested(paths: Iterable[str]) -> dict[str, Any]:
    """Paths as objects inside each other."""
    tree: dict[str, Any] = {}
    for path in paths:
        *parents, last = path.split(".")
        inside_of = tree
        for name in parents:
            inside_of = inside_of.setdefault(name, {})
            if inside_of is None:
                raise QueryError(inside("fields", path), "is part of another field that is named as well")
        if last in inside_of:
            raise QueryError(inside("fields", path), "is named twice, or a part of it is")
        inside_of[last] = None
    return tree


def _check_path(path: str, place: str) -> None:
    """Whether there is such a field, through arrays of any depth."""
    kind: DataType = SAMPLES
    for name in path.split("."):
        while isinstance(kind, ArrayType):
            kind = kind.elementType
        if not isinstance(kind, StructType):
            raise QueryError(place, f"{path} is no field: what is before {name!r} has none")
        if name not in kind.names:
            raise QueryError(place, f"there is no field {quoted(name)}, the nearest is {nearest(name, kind.names)!r}")
        kind = kind[name].dataType


def parse_sort(sort: str | Mapping[str, Any] | Sequence[Sequence[Any]] | None) -> tuple[tuple[Operand, bool], ...]:
    """What to sort by, and of each whether the greatest comes first: ``{"width": -1, "_id": 1}``, or a list of pairs.

    Scalars only, through structs. Of JSON, an object or an array of pairs. None and ``{}`` say nothing, and are ``()``.

    >>> [(operand.path, descending) for operand, descending in parse_sort('{"objects.cat.share": -1}')]
    [(('objects', 'cat', 'share'), True)]

    Raises:
        CortexError: for what is no scalar field, or another direction than 1 and -1.
    """
    written = [] if sort is None else plain(sort, "sort")
    pairs = list(written.items()) if isinstance(written, dict) else written
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise QueryError("sort", f'needs an object like {{"width": -1}} or pairs like [["width", -1]], not {written!r}')
    found: dict[Operand, bool] = {}
    for name, direction in pairs:
        if not isinstance(name, str):
            raise QueryError("sort", f"a field is a string, not {describe(name)}")
        place = inside("sort", name)
        if isinstance(direction, bool) or direction not in (1, -1):
            raise QueryError(place, f"needs 1 (least first) or -1 (greatest first), not {describe(direction)}")
        operand = _scalar(name, place)
        if operand in found:
            raise QueryError(place, "is sorted by twice")
        found[operand] = direction == -1
    if len(found) > MAX_KEYS:
        raise QueryError("sort", f"by more than {MAX_KEYS} fields")
    return tuple(found.items())


def _scalar(path: str, place: str) -> Operand:
    kind: DataType = SAMPLES
    for name in path.split("."):
        if isinstance(kind, StructType):
            if name not in kind.names:
                raise QueryError(
                    place, f"there is no field {quoted(name)}, the nearest is {nearest(name, kind.names)!r}"
                )
            kind = kind[name].dataType
        elif not isinstance(kind, ArrayType):
            raise QueryError(place, f"{path} is no field: what is before {name!r} has none")
    if isinstance(kind, ArrayType):
        raise QueryError(place, f"has many values in a document; sort by one, like {_INSTEAD}")
    if isinstance(kind, StructType):
        raise QueryError(place, f"is an object; sort by a field of it, like {path}.{_first(kind)}")
    return Operand(tuple(path.split(".")), kind)


def _first(kind: StructType) -> str:
    """A way to a scalar of a struct."""
    field = kind.fields[0]
    return f"{field.name}.{_first(field.dataType)}" if isinstance(field.dataType, StructType) else field.name


def to_document(row: Row | Mapping[str, Any]) -> dict[str, Any]:
    """The document of a row: a NULL column or box field is missing, a NULL array element is None, ``[]`` stays ``[]``.

    Fields keep the order of the row; times are aware, in UTC. ``row`` is one of Spark's, or of Arrow's ``to_pylist``.
    """
    fields = row.asDict() if isinstance(row, Row) else row
    return {name: _value(value) for name, value in fields.items() if value is not None}


def to_json(document: Any) -> Any:
    """A document with JSON's types only: times as ``2023-01-04 09:58:14.082248``, UTC; NaN and infinities as null."""
    match document:
        case dict():
            return {name: to_json(value) for name, value in document.items()}
        case list():
            return [to_json(value) for value in document]
        case datetime():
            return document.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        case float() if not math.isfinite(document):
            return None
        case _:
            return document


def to_bson(document: Any, kind: DataType = SAMPLES) -> Any:
    """A document as it is put into MongoDB: integers as wide as in the schema. Takes pymongo, which only tests need."""
    from bson.int64 import Int64

    match kind:
        case StructType() if isinstance(document, dict):
            return {name: to_bson(value, kind[name].dataType) for name, value in document.items()}
        case ArrayType(elementType=element) if isinstance(document, list):
            return [to_bson(value, element) for value in document]
        case LongType() if isinstance(document, int):
            return Int64(document)
        case _:
            return document


def _value(value: Any) -> Any:
    match value:
        case Row() | dict():
            return to_document(value)
        case list():
            return [_value(item) for item in value]
        case datetime():
            return value.astimezone(UTC)  # a naive one is of Spark's Row, in this machine's time zone
        case _:
            return value
