"""Hypothesis strategies for the accepted query language, its literals drawn from what is stored.

``queries`` draws whole queries; ``cells`` are all combinations of operator, shape of the path, type of the literal and
polarity, and ``of_cell`` draws a query that has one.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

from hypothesis import strategies as st
from pyspark.sql.types import ArrayType, DataType, StructType

from cortex_spark.schema import SAMPLES

from .conftest import ANNOTATOR_POOLS, BOX_POOLS, POOLS

T = TypeVar("T")
Query: TypeAlias = dict[str, Any]

COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
#: Literals by type, for fields of another type.
UNLIKE: Final[dict[str, list[Any]]] = {
    "int": [0, 1, 100, 2**31 - 1],
    "double": [0.5, -0.0, 100.0, 1.5],
    "string": ["cat", "", "image"],
    "date": [{"$date": "2023-01-04T09:58:14.082Z"}, {"$date": -1}],
    "bool": [True, False],
    "null": [None],
    "[]": [[]],
}
TYPES = ["int", "long", "double", "string", "date", "bool", "array", "object", "null", "number", 2, 16, ["int", "null"]]
REMAINDERS = [[2, 0], [2, 1], [3, 1], [3, -1], [-7, 2], [4.9, 0.5], [1, 0], [2**62, 0]]
PATTERNS = [
    *(
        "^http://a",
        "cat",
        "^c",
        "o",
        "[a-c]",
        "g$",
        "^$",
        "",
        "t\\.jpg$",
        "(?i)^HTTP",
        "\\s",
        "^\\S+$",
        "^(cat|dog|yolo)$",
    ),
    *(
        "^h.*n$",
        "a{1,2}",
        "[^a-z]",
        "\\bcat\\b",
        "^http://[ab]\\.",
        "1$",
        "m|o",
        "^.{3,4}$",
        "\\x{17f}",
        "(?s)http.*jpg",
    ),
]
OPTIONS = ["", "i", "m", "s", "im"]
REFUSED = [("^$", "m"), ("^$", "im")]


def _json(value: Any) -> list[Any]:
    """A stored value as literals: itself, and its neighbours."""
    if isinstance(value, bool | str):
        return [value]
    if isinstance(value, datetime):
        text = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [{"$date": text}]
    if isinstance(value, float):
        return [value] if math.isfinite(value) else []
    around = [value, float(value), value + 1, value - 0.5]
    return [number for number in around if isinstance(number, float) or -(2**63) <= number < 2**63]


def _type(literal: Any) -> str:
    """The type of a literal, as ``UNLIKE`` calls it."""
    match literal:
        case None:
            return "null"
        case bool():
            return "bool"
        case dict():
            return "date"
        case list():
            return "[]"
        case _:
            return {int: "int", float: "double", str: "string"}[type(literal)]


def weighted(times: int, usual: st.SearchStrategy[T], rare: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """``usual`` so many times as often as ``rare``."""
    return st.integers(0, times).flatmap(lambda roll: rare if roll == times else usual)


def literals(pool: list[Any]) -> st.SearchStrategy[Any]:
    like = [literal for value in pool for literal in _json(value)]
    rare = st.one_of(st.none(), st.sampled_from([value for some in UNLIKE.values() for value in some if value != []]))
    return weighted(24, st.sampled_from(like), rare) if like else rare


def pattern() -> st.SearchStrategy[Query]:
    made = [{"$regex": text} for text in PATTERNS]
    made += [
        {"$regex": text, "$options": letters}
        for text in PATTERNS
        for letters in OPTIONS
        if (text, letters) not in REFUSED
    ]
    return st.sampled_from(made)


def operators(kind: DataType, pool: list[Any], depth: int) -> st.SearchStrategy[Query]:
    """Objects of an operator or two for a field, or an element, of a kind."""
    literal = literals(pool)
    compare = st.tuples(st.sampled_from(COMPARISONS), literal)
    some = weighted(11, st.lists(literal, min_size=1, max_size=4), st.just([]))  # none of them finds nothing
    within = st.tuples(st.sampled_from(["$in", "$nin"]), some)
    every = st.tuples(st.just("$all"), st.lists(literal, min_size=1, max_size=2))
    exists = st.tuples(st.just("$exists"), st.booleans())
    size = st.tuples(st.just("$size"), st.integers(0, 3))
    of_type = st.tuples(st.just("$type"), st.sampled_from(TYPES))
    mod = st.tuples(st.just("$mod"), st.sampled_from(REMAINDERS))
    if isinstance(kind, ArrayType):
        matching = st.tuples(st.just("$elemMatch"), elem_match(kind, depth - 1))
        usual = [matching, matching, matching, size]
        rare = [compare, within, exists, of_type, every, mod]
    else:
        usual = [compare, compare, compare, within]
        rare = [exists, size, of_type, every, mod]
        if isinstance(pool[0], str):
            usual.append(pattern().map(lambda found: ("$regex", found)))
        elif isinstance(pool[0], int | float):
            usual.append(mod)
    if depth > 0:
        usual.append(st.tuples(st.just("$not"), st.deferred(lambda: operators(kind, pool, depth - 1))))
    one = weighted(11, st.one_of(usual), st.one_of(rare)).map(_operator)
    return weighted(3, one, st.tuples(one, one).map(lambda pair: pair[0] | pair[1]))


def _operator(pair: tuple[str, Any]) -> Query:
    name, argument = pair
    return argument if name == "$regex" else {name: argument}


def elem_match(kind: ArrayType, depth: int) -> st.SearchStrategy[Query]:
    inner = kind.elementType
    value_form = operators(inner, [0, 1, 2, 3], max(depth, 0))
    if isinstance(inner, StructType):
        pools = BOX_POOLS if "classname" in inner.names else ANNOTATOR_POOLS
        by_field = document(inner, pools, max(depth, 0))
        return weighted(9, by_field, value_form)
    return st.one_of(value_form, value_form, value_form, st.just({}))


def condition(name: str, kind: DataType, pool: list[Any], depth: int) -> st.SearchStrategy[Query]:
    by_operator = operators(kind, pool, depth)
    if isinstance(kind, ArrayType):
        return by_operator.map(lambda argument: {name: argument})
    return st.one_of(by_operator, by_operator, by_operator, literals(pool)).map(lambda argument: {name: argument})


def document(scope: StructType, pools: dict[str, list[Any]], depth: int) -> st.SearchStrategy[Query]:
    fields = [condition(name, _kind(scope, name), pool, depth) for name, pool in pools.items()]
    leaf = st.one_of(fields)
    both = st.tuples(leaf, leaf).map(lambda parts: parts[0] | parts[1])
    if depth <= 0:
        return weighted(3, leaf, both)
    deeper = st.deferred(lambda: document(scope, pools, depth - 1))
    joined = st.tuples(st.sampled_from(["$and", "$or", "$or", "$nor"]), st.lists(deeper, min_size=1, max_size=3))
    logical = joined.map(lambda pair: dict([pair]))
    beside = st.tuples(leaf, logical).map(lambda parts: parts[0] | parts[1])
    # Not one_of: it would flatten the many fields of a leaf into as many alternatives.
    return st.sampled_from([leaf, leaf, both, logical, logical, beside]).flatmap(lambda chosen: chosen)


def _kind(scope: StructType, path: str) -> DataType:
    """The type of what a path leads to, elements of arrays for arrays."""
    kind: DataType = scope
    for name in path.split("."):
        if isinstance(kind, StructType):
            kind = kind[name].dataType
            continue
        assert isinstance(kind, ArrayType)
        inner = kind.elementType
        kind = inner[name].dataType if isinstance(inner, StructType) and not name.isdigit() else inner
    return kind


ARRAYS: dict[str, list[Any]] = {"object_analysis": [1], "annotators": [1], "histogram": [1]}
DERIVED: dict[str, list[Any]] = {
    "objects.cat.count": [0, 1, 2],
    "objects.teddy_bear.count": [0, 1],
    "objects.person.confidence": [0.1, 0.5, 0.9],
    "objects.dog.share": [0.0, 0.25, 0.01],
}
DOTTED: dict[str, list[Any]] = {
    "annotators.name": ANNOTATOR_POOLS["name"],
    "annotators.model": ANNOTATOR_POOLS["model"],
    "annotators.0.name": ANNOTATOR_POOLS["name"],
    "object_analysis.0": [1],
    "object_analysis.1": [1],
    "histogram.0": [1],
    "histogram.0.1": [0, 1, 2, 3],
    "histogram.1.0": [0, 1, 2, 3],
    **{f"object_analysis.0.{name}": pool for name, pool in BOX_POOLS.items()},
    **{f"object_analysis.0.0.{name}": pool for name, pool in BOX_POOLS.items()},
    "object_analysis.1.0.classname": BOX_POOLS["classname"],
}


def queries() -> st.SearchStrategy[str]:
    """Texts of queries, most of them about arrays."""
    boxes = document(SAMPLES, {"object_analysis": [1]}, 3)
    paths = document(SAMPLES, DOTTED | DERIVED, 1)
    mixed = document(SAMPLES, POOLS | ARRAYS | DERIVED | DOTTED, 2)
    return st.one_of(boxes, paths, mixed).map(json.dumps)


# Cells.


@dataclass(frozen=True)
class Place:
    """Where a condition may stand: ``wrap`` puts operators there; ``pool`` are values stored there."""

    shape: str
    wrap: Callable[[Any], Query]
    kind: str  # scalar, object, array of scalars, of arrays, of boxes or of annotators
    pool: list[Any]


def _field(path: str) -> Callable[[Any], Query]:
    return lambda argument: {path: argument}


def _inside(path: str, *levels: str) -> Callable[[Any], Query]:
    """In a ``$elemMatch`` for each level, which is the name of a field, or empty for the element itself."""

    def wrap(argument: Any) -> Query:
        for level in reversed(levels):
            argument = {"$elemMatch": {level: argument} if level else argument}
        return {path: argument}

    return wrap


PLACES: Final = [
    *(Place("field", _field(name), "scalar", pool) for name, pool in POOLS.items()),
    *(Place("struct", _field(path), "scalar", pool) for path, pool in DERIVED.items()),
    Place("array", _field("annotators"), "array of annotators", []),
    Place("array", _field("histogram"), "array of arrays", []),
    Place("array", _field("object_analysis"), "array of arrays", []),
    *(Place("through array", _field(f"annotators.{name}"), "scalar", pool) for name, pool in ANNOTATOR_POOLS.items()),
    Place("element", _field("histogram.0"), "array of scalars", []),
    Place("element", _field("histogram.1"), "array of scalars", []),
    Place("element", _field("object_analysis.0"), "array of boxes", []),
    Place("element", _field("annotators.0"), "object", []),
    Place("element", _field("histogram.0.1"), "scalar", [0, 1, 2, 3]),
    Place("element's field", _field("annotators.0.name"), "scalar", ANNOTATOR_POOLS["name"]),
    Place("element's field", _field("object_analysis.0.0.classname"), "scalar", BOX_POOLS["classname"]),
    Place("element's field", _field("object_analysis.0.0.confidence"), "scalar", BOX_POOLS["confidence"]),
    *(
        Place("each of element", _field(f"object_analysis.0.{name}"), "scalar", pool)
        for name, pool in BOX_POOLS.items()
    ),
    Place("two arrays", _field("object_analysis.classname"), "scalar", BOX_POOLS["classname"]),
    Place("no such number", _field("annotators.0.0.name"), "scalar", ANNOTATOR_POOLS["name"]),
    Place("no such number", _field("width.0"), "scalar", POOLS["width"]),
    Place("$elemMatch value", _inside("histogram", "", ""), "scalar", [0, 1, 2, 3]),
    Place("$elemMatch value", _inside("histogram", ""), "array of scalars", []),
    Place("$elemMatch value", _inside("object_analysis", ""), "array of boxes", []),
    *(
        Place("$elemMatch field", _inside("object_analysis", "", name), "scalar", pool)
        for name, pool in BOX_POOLS.items()
    ),
    *(Place("$elemMatch field", _inside("annotators", name), "scalar", pool) for name, pool in ANNOTATOR_POOLS.items()),
    Place("array as object", _inside("object_analysis", "0.classname"), "scalar", BOX_POOLS["classname"]),
    Place("array as object", _inside("histogram", "1"), "scalar", [0, 1, 2, 3]),
    Place("array as object", _inside("object_analysis", "classname"), "scalar", BOX_POOLS["classname"]),
]
SHAPES: Final = list(dict.fromkeys(place.shape for place in PLACES))
VALUED: Final = [*COMPARISONS, "$in", "$nin", "$all"]
UNVALUED: Final = ["$exists", "$type", "$size", "$mod", "$regex", "$elemMatch"]


@dataclass(frozen=True)
class Cell:
    operator: str
    shape: str
    literal: str  # its type, or "-"
    negated: bool


def cells() -> list[Cell]:
    """All there can be."""
    found = []
    for shape in SHAPES:
        arrays = any(place.kind.startswith("array") for place in PLACES if place.shape == shape)
        for negated in (False, True):
            found += [
                Cell(operator, shape, literal, negated)
                for operator in VALUED
                for literal in UNLIKE
                if literal != "[]" or operator not in COMPARISONS[2:]
            ]
            found += [Cell(name, shape, "-", negated) for name in UNVALUED if arrays or name != "$elemMatch"]
    return found


def of_cell(cell: Cell) -> st.SearchStrategy[str]:
    """Texts of queries with a condition of a cell, alone or beside another one."""
    places = [place for place in PLACES if place.shape == cell.shape]
    if cell.operator == "$elemMatch":
        places = [place for place in places if place.kind.startswith("array")]
    elif cell.literal in UNLIKE:  # where there are such values, there
        places = [place for place in places if _likes(place, cell.literal)] or places
    elif cell.operator == "$regex":
        places = [place for place in places if _likes(place, "string")] or places
    return st.sampled_from(places).flatmap(lambda place: _condition(cell, place)).flatmap(_beside).map(json.dumps)


def _likes(place: Place, literal: str) -> list[Any]:
    return [one for value in place.pool for one in _json(value) if _type(one) == literal]


def _condition(cell: Cell, place: Place) -> st.SearchStrategy[Query]:
    argument: st.SearchStrategy[Any]
    if cell.literal != "-":
        one = st.sampled_from(_likes(place, cell.literal) or UNLIKE[cell.literal])
        argument = one
        if cell.operator not in COMPARISONS:
            others = st.lists(one if cell.operator == "$all" else literals(place.pool), max_size=2)
            argument = st.tuples(one, others).map(lambda parts: [parts[0], *parts[1]])
        made = argument.map(lambda value: {cell.operator: value})
    elif cell.operator == "$regex":
        made = pattern()
    else:
        argument = {
            "$exists": st.booleans(),
            "$type": st.sampled_from(TYPES),
            "$size": st.integers(0, 3),
            "$mod": st.sampled_from(REMAINDERS),
            "$elemMatch": _of_elements(place.kind),
        }[cell.operator]
        made = argument.map(lambda value: {cell.operator: value})
    if not cell.negated:
        return made.map(place.wrap)
    around = made.map(lambda condition: {"$nor": [place.wrap(condition)]})
    within = made.map(lambda condition: place.wrap({"$not": condition}))
    return st.one_of(within, around)


def _of_elements(kind: str) -> st.SearchStrategy[Query]:
    by_value: list[Query] = [
        {"$gt": 0},
        {"$exists": True},
        {"$in": [1, 2, None]},
        {"$not": {"$gt": 1}},
        {"$type": "null"},
        {"$size": 1},
    ]
    by_field: dict[str, list[Query]] = {
        "array of scalars": [],
        "array of arrays": [{}, {"0": {"$exists": True}}, {"1": None}, {"$nor": [{"0": None}]}],
        "array of boxes": [{}, {"classname": "cat"}, {"x1": {"$gt": 0}, "confidence": {"$exists": True}}],
        "array of annotators": [{}, {"name": "yolo"}, {"name": {"$ne": "yolo"}, "model": {"$regex": "1"}}],
    }
    return st.sampled_from(by_value + by_field.get(kind, []))


#: Conditions that match some documents, to stand beside others.
_SOME: Final[list[Query]] = [
    {"width": {"$gte": 100}},
    {"source": "private"},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat"}}}},
    {"height": {"$in": [1, 99]}},
    {"face_analysis_processed": True},
]


def _beside(query: Query) -> st.SearchStrategy[Query]:
    some = st.sampled_from(_SOME)
    return st.one_of(
        st.just(query),
        some.map(lambda other: {"$and": [query, other]}),
        some.map(lambda other: {"$or": [query, other]}),
        some.map(lambda other: {"$nor": [{"$nor": [query]}, other]}),
    )


_HOLE: Final = object()


def cells_in(text: str) -> set[Cell]:
    """The cells of a query's first condition, as it is written: not by what it was drawn for."""
    query, negated = json.loads(text), False
    match query:
        case {"$and": [inner, other]} | {"$or": [inner, other]} | {"$nor": [{"$nor": [inner]}, other]} if (
            other in _SOME
        ):
            query = inner
    match query:
        case {"$nor": [inner]}:
            query, negated = inner, True
    found = set()
    for place in PLACES:
        argument = _in_hole(place.wrap(_HOLE), query)
        match argument:
            case {"$not": inner}:
                argument, inverse = inner, True
            case _:
                inverse = False
        if not isinstance(argument, dict) or not argument:
            continue
        operator, value = next(iter(argument.items()))
        literal = "-"
        if operator in VALUED:
            literal = _type(value if operator in COMPARISONS else value[0])
        found.add(Cell(operator, place.shape, literal, negated != inverse))
    return found


def _in_hole(pattern: Any, query: Any) -> Any:
    """What stands in ``query`` where ``pattern`` has its hole; None where they differ otherwise."""
    if pattern is _HOLE:
        return query
    if isinstance(query, dict) and query.keys() == pattern.keys():
        ((name, inner),) = pattern.items()
        return _in_hole(inner, query[name])
    return None
