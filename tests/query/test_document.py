"""What is shown of documents, and in which order, is what MongoDB shows; what is refused of either."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import strategies as st
from pyspark.sql.types import ArrayType, DataType, StructType

from cortex_spark.query.document import DEFAULT_FIELDS, parse_fields, parse_sort, to_document
from cortex_spark.query.duck import ROWS as DUCK_ROWS
from cortex_spark.query.duck import to_order
from cortex_spark.query.errors import QueryError
from cortex_spark.query.order import Order, to_columns, total
from cortex_spark.query.page import PAGE_SIZE, Engine, page
from cortex_spark.schema import SAMPLES

from .conftest import ROWS, Stored
from .grammar import DERIVED, queries
from .judge import draw, in_bson

#: Of the table, before other tests add to it.
VERSION = 1
ENGINES: tuple[Engine, ...] = ("duckdb", "spark")
SCALARS = [name for name in SAMPLES.names if not isinstance(SAMPLES[name].dataType, ArrayType | StructType)]


def by_spark(stored: Stored, order: Order) -> list[str]:
    return [row["_id"] for row in stored.cached.orderBy(*to_columns(order)).select("_id").collect()]


def by_duckdb(stored: Stored, order: Order) -> list[str]:
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("samples", stored.table)
        found = database.sql(f"SELECT _id FROM samples AS {DUCK_ROWS} ORDER BY {to_order(order)}")
        assert found is not None
        return [_id for (_id,) in found.fetchall()]


BACKENDS = {"Spark": by_spark, "DuckDB": by_duckdb}


def sorts() -> st.SearchStrategy[dict[str, int]]:
    key = st.tuples(st.sampled_from([*SCALARS, *DERIVED]), st.sampled_from([1, -1]))
    return st.lists(key, min_size=1, max_size=3).map(dict)


SORTS: list[dict[str, int]] = [
    {"label_quality_estimation": -1},  # NaN is below all numbers, missing below that
    {"label_quality_estimation": 1},
    {"datetime": 1},  # whole milliseconds: what is equal then goes by the next key
    {"datetime": -1, "width": 1},
    {"url": 1},
    {"url": -1, "_id": -1},
    {"objects.person.confidence": -1, "_id": 1},
    {"face_analysis_processed": -1, "bytes": 1},
]


def test_sorted(stored: Stored) -> None:
    wrong = []
    for sort in [*SORTS, *draw(sorts(), 24)]:
        order = total(parse_sort(sort))
        keys = sort if "_id" in sort else sort | {"_id": 1}
        expected = [found["_id"] for found in stored.collection.find({}, {"_id": 1}).sort(list(keys.items()))]
        wrong += [f"{who}: {json.dumps(sort)}" for who, ids in BACKENDS.items() if ids(stored, order) != expected]
    assert wrong == []


def paths(kind: DataType, path: str = "") -> list[str]:
    """Every path through objects and arrays, but few of the classes'."""
    while isinstance(kind, ArrayType):
        kind = kind.elementType
    if not isinstance(kind, StructType):
        return []
    names = ["cat", "person", "teddy_bear"] if path == "objects" else kind.names
    found = []
    for name in names:
        found += [f"{path}.{name}".lstrip("."), *paths(kind[name].dataType, f"{path}.{name}".lstrip("."))]
    return found


PATHS = paths(SAMPLES)


def projections() -> st.SearchStrategy[dict[str, Any]]:
    chosen = st.lists(st.sampled_from(PATHS), min_size=1, max_size=5, unique=True).map(_apart)
    marked = st.tuples(chosen, st.sampled_from([0, 1, True, False])).map(lambda pair: dict.fromkeys(*pair))
    return st.tuples(marked, st.sampled_from([{}, {"_id": 0}, {"_id": 1}])).map(lambda pair: pair[0] | pair[1])


def _apart(chosen: list[str]) -> list[str]:
    """Without those that are inside of others."""
    return [one for one in chosen if not any(one.startswith(f"{other}.") for other in chosen)]


PROJECTIONS: list[dict[str, Any]] = [
    {},
    {"_id": 0},
    {"_id": 1},
    {"width": 0, "_id": 1},
    {"width": 1, "url": 1, "_id": 1},  # the table's order, not this one
    {"object_analysis.classname": 1, "annotators.name": 1},
    {"object_analysis.confidence": 0, "annotators.model": 0, "histogram": 0},
    {"objects": {"cat": {"count": 1}, "dog": 1}},
    {"histogram": 1, "_id": 0},
]


def plain(value: Any) -> Any:
    """A document with its order, its times in whole milliseconds, and NaN that is equal to itself."""
    match value:
        case dict():
            return [(name, plain(one)) for name, one in value.items()]
        case list():
            return ["array", *map(plain, value)]
        case datetime():
            aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
            return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        case _:
            return repr(value) if isinstance(value, float) else value


def test_projected(stored: Stored) -> None:
    """The same parts of documents, and their keys in the same order."""
    wrong, stored_rows = [], stored.table.to_pylist()
    for fields in [*PROJECTIONS, *draw(projections(), 150)]:
        projection = parse_fields(fields)
        columns = projection.columns
        rows = [{name: row[name] for name in columns} for row in stored_rows] if columns else []
        found = sorted(str(plain(projection.project(to_document(row)))) for row in rows)
        if found != sorted(str(plain(one)) for one in stored.collection.find({}, fields)):
            wrong.append(json.dumps(fields))
    assert wrong == []


def test_answered(stored: Stored) -> None:
    """Generated queries, in generated orders, of which generated parts are shown: first pages as a client gets them."""
    drawn = draw(st.tuples(queries(), sorts(), projections()), 200)
    wrong, seen = [], 0
    for number, (query, sort, fields) in enumerate(drawn):
        keys = sort if "_id" in sort else sort | {"_id": 1}
        found = stored.collection.find(in_bson(query), fields).sort(list(keys.items()))
        expected = list(found)
        for engine in ENGINES if number % 40 == 0 else ENGINES[:1]:
            answer = page(stored.warehouse, query, sort=sort, fields=fields, version=VERSION, engine=engine)
            if (answer.length, plain(answer.data)) != (len(expected), plain(expected[:PAGE_SIZE])):
                wrong.append(f"{engine}: {query} {json.dumps(sort)} {json.dumps(fields)}")
        seen += 0 < len(expected) < ROWS
    assert wrong == []
    assert seen >= 0.6 * len(drawn)


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        (None, DEFAULT_FIELDS),
        ("all", tuple(SAMPLES.names)),
        ("width, url", ("_id", "url", "width")),
        (["object_analysis.classname"], ("_id", "object_analysis")),
        ('{"width": 1, "_id": 0}', ("width",)),
        ({"objects.cat": 0}, tuple(SAMPLES.names)),
        ({"objects": 0}, tuple(name for name in SAMPLES.names if name != "objects")),
    ],
)
def test_columns(fields: Any, columns: tuple[str, ...]) -> None:
    assert parse_fields(fields).columns == columns


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ("widht", "fields", "the nearest is 'width'"),
        (["object_analysis.x3"], "fields", "the nearest is 'x1'"),
        (5, "fields", "not the number 5"),
        ('{"width": 1', "", "is not JSON"),
        ('{"width": 1, "width": 1}', "fields.width", "stands twice"),
        ({"widht": 1}, "fields.widht", "the nearest is 'width'"),
        ({"width": 1, "url": 0}, "fields", "some are shown and others left out"),
        ({"width": "x"}, "fields.width", "expressions are not supported"),
        ({"width": {"$add": [1, 2]}}, "fields.width.$add", "expressions are not supported"),
        ({"histogram": {"$slice": 1}}, "fields.histogram.$slice", "expressions are not supported"),
        ({"object_analysis.0": 1}, "fields.object_analysis.0", "there is no field '0'"),
        ({"objects": 1, "objects.cat": 1}, "fields.objects.cat", "part of another field"),
        ({"objects.cat": 1, "objects": 1}, "fields.objects", "or a part of it is"),
    ],
)
def test_fields_that_are_refused(fields: Any, place: str, says: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_fields(fields)
    assert refused.value.place == place
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("sort", "place", "says"),
    [
        ("width", "", "is not JSON"),
        ({"widht": 1}, "sort.widht", "the nearest is 'width'"),
        ({"width": 0}, "sort.width", "needs 1 (least first) or -1 (greatest first), not the number 0"),
        ({"width": True}, "sort.width", "not true"),
        ({"width": "asc"}, "sort.width", "needs 1"),
        ({"object_analysis.0.0.confidence": 1}, "sort.object_analysis.0.0.confidence", "like objects.cat.confidence"),
        ({"annotators.name": 1}, "sort.annotators.name", "many values"),
        ({"histogram": 1}, "sort.histogram", "many values"),
        ({"objects.cat": 1}, "sort.objects.cat", "like objects.cat.count"),
        ({"width.x": 1}, "sort.width.x", "no field"),
        ([["width", 1], ["width", -1]], "sort.width", "twice"),
        ('{"width": 1, "width": -1}', "sort.width", "stands twice"),
        ([1], "sort", "needs an object"),
    ],
)
def test_sorts_that_are_refused(sort: Any, place: str, says: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_sort(sort)
    assert refused.value.place == place
    assert says in str(refused.value)


def test_sorts_in_many_forms() -> None:
    written: list[Any] = ['{"width": -1, "_id": 1}', {"width": -1.0, "_id": 1}, [["width", -1], ("_id", 1)]]
    assert len({parse_sort(one) for one in written}) == 1
    assert parse_sort(None) == parse_sort({}) == ()
