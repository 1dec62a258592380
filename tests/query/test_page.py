"""Pages, documents and the command."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from cortex_spark.errors import CortexError
from cortex_spark.query import page as page_module
from cortex_spark.query.cli import query as query_command
from cortex_spark.query.document import DEFAULT_FIELDS, to_document, to_json
from cortex_spark.query.errors import QueryError, QueryWarning
from cortex_spark.query.mongo import mongo
from cortex_spark.query.page import PAGE_SIZE, Engine, Page, matching, page, samples_at
from cortex_spark.query.text import MAX_DEPTH
from cortex_spark.query.view import page_table
from cortex_spark.schema import SAMPLES
from cortex_spark.table import Warehouse

from .conftest import ROWS, Stored, make_rows, to_frame
from .test_judge import as_columns

WIDE = '{"width": {"$gte": 100}}'


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return [row["_id"] for row in sorted(rows, key=lambda row: (row["landed_at"], row["_id"]))]


def test_pages_are_the_table_in_order(stored: Stored) -> None:
    """Pages at a pinned version fit together while rows land, and a new first page sees them."""
    expected = in_order([row for row in make_rows() if row.get("width", 0) >= 100])
    first = page(stored.warehouse, WIDE)
    late = {"_id": "late", "width": 100, "landed_at": datetime(2020, 1, 1, tzinfo=UTC)}
    stored.warehouse.append_once(to_frame(stored.samples.sparkSession, [late]), "samples", app_id="late", version=0)
    try:
        second = page(stored.warehouse, json.loads(WIDE), "2", version=first.version)
        assert [row["_id"] for row in first.data + second.data] == expected[:50]
        assert (first.length, second.length, second.version) == (len(expected), len(expected), first.version)
        now = page(stored.warehouse, WIDE, fields=["width"])
        assert (now.length, now.version) == (len(expected) + 1, first.version + 1)
        assert now.data[0] == {"_id": "late", "width": 100}
        assert tuple(first.data[0]) == tuple(name for name in DEFAULT_FIELDS if name in first.data[0])
    finally:
        stored.warehouse.delta("samples").delete("_id = 'late'")  # other tests read this table, too


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, "there is no page 0: pages are counted from 1"),
        (-3, "there is no page -3"),
        ("two", "page 'two' is not a number"),
        ("1.5", "page '1.5' is not a number"),
        ("٣", "is not a number"),
        (True, "is not a number"),
        (99, "beyond the end"),
    ],
)
def test_pages_that_are_none(stored: Stored, number: Any, says: str) -> None:
    with pytest.raises(CortexError, match=says):
        page(stored.warehouse, WIDE, number)


def test_other_refusals(stored: Stored, spark: SparkSession) -> None:
    refusals: list[tuple[Callable[[], Page], str]] = [
        (lambda: page(stored.warehouse, "{}", version=99), "no version 99"),
        (lambda: page(stored.warehouse, "{}", fields=["widht"]), "nearest is 'width'"),
        (lambda: page(Warehouse(spark, stored.warehouse.root + "-not"), "{}"), "has no samples yet"),
    ]
    for call, says in refusals:
        with pytest.raises(CortexError, match=says):
            call()
    nothing = page(stored.warehouse, '{"width": "wide"}')
    assert (nothing.length, nothing.data) == (0, [])
    assert nothing.warnings == ("width: a number is never matched by a string",)


def test_the_largest_queries_run(stored: Stored) -> None:
    """What the limits let through, Catalyst can plan."""
    deep = '{"$nor": [' * (MAX_DEPTH // 2 - 1) + "{}" + "]}" * (MAX_DEPTH // 2 - 1)
    many = json.dumps({"$or": [{"width": {"$gt": number}} for number in range(1_500)]})
    ids = json.dumps({"_id": {"$in": [f"{number:032x}" for number in range(9_000)]}})
    found = as_columns(stored.samples.coalesce(1), [deep, many, ids, "{}"])
    assert len(found[2]) == ROWS
    assert found[0] in (frozenset(), found[3])
    assert found[1] == as_columns(stored.samples, ['{"width": {"$gt": 0}}'])[0]


@pytest.mark.parametrize("sort", [None, {"label_quality_estimation": -1}])
def test_spark_counts_once(stored: Stored, sort: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a question's later pages, by number and by cursor, the length is known, and which files they can be in."""
    query = {"width": {"$ne": 103}}
    first = page(stored.warehouse, query, sort=sort, engine="spark")
    assert first.length > 2 * PAGE_SIZE

    def refuse(*_: Any) -> Any:
        raise AssertionError("counted again")

    monkeypatch.setattr(page_module, "_groups", refuse)
    by_cursor = page(stored.warehouse, query, sort=sort, cursor=first.cursor, engine="spark")
    by_number = page(stored.warehouse, query, 2, version=first.version, sort=sort, engine="spark")
    assert [row["_id"] for row in by_cursor.data] == [row["_id"] for row in by_number.data]
    assert by_cursor.length == by_number.length == first.length
    with pytest.raises(AssertionError, match="counted again"):
        page(stored.warehouse, {"width": {"$ne": 102}}, sort=sort, engine="spark")


@pytest.mark.parametrize("name", ["label_quality_estimation", "width", "bytes", "objects.cat.share", "host"])
@pytest.mark.parametrize("direction", [1, -1])
def test_first_pages_by_a_number(stored: Stored, name: str, direction: int) -> None:
    """The count brings their places along, but where missing values, NaN or equal ones are on them."""
    for query in ({}, {"width": {"$gt": 100}}, {name: {"$type": "number"}}):
        pages = [page(stored.warehouse, query, sort={name: direction}, engine=one) for one in ("spark", "duckdb")]
        ids = [[row["_id"] for row in one.data] for one in pages]
        assert ids[0] == ids[1]
        assert pages[0].length == pages[1].length
        if pages[0].cursor is not None:  # each goes on from the other's
            engines: tuple[Engine, ...] = ("duckdb", "spark")
            behind = [
                page(stored.warehouse, query, sort={name: direction}, cursor=one.cursor, engine=engine)
                for one, engine in zip(pages, engines, strict=True)
            ]
            assert [row["_id"] for row in behind[0].data] == [row["_id"] for row in behind[1].data]


@pytest.fixture(scope="module")
def escaped(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Widths 0 to 59, each in one of four files, in a folder whose name URLs escape."""
    tables = Warehouse(spark, str(tmp_path_factory.mktemp("escaped") / "a b%20ü"))
    for number in range(4):
        rows = [{"_id": f"{row:032x}", "url": f"http://a.example/{row}", "width": row} for row in range(number, 60, 4)]
        frame = to_frame(spark, [row | {"landed_at": datetime(2024, 1, 1, tzinfo=UTC)} for row in rows])
        tables.append_once(frame.coalesce(1), "samples", app_id="test", version=number)
    return tables


@pytest.mark.parametrize("sort", [None, {"width": -1}])
def test_spark_knows_the_files_of_what_python_filters(
    escaped: Warehouse, compiled: None, sort: dict[str, int] | None
) -> None:
    """RE2 runs in Python, and batches of rows go there across the borders of files."""
    query = {"url": {"$regex": "[13579]$"}}
    pages = [page(escaped, query, number, sort=sort, engine="spark", fields=["width"]) for number in (1, 2)]
    assert [row["width"] for one in pages for row in one.data] == sorted(range(1, 60, 2), reverse=sort is not None)
    assert [one.length for one in pages] == [30, 30]
    with pytest.raises(CortexError, match="cannot be read without Spark"):  # by a fault of the library that reads it
        page(escaped, query)


def test_complement(stored: Stored) -> None:
    """A predicate is true or false, so that Spark's ~ is its complement, as $nor is."""
    query = {"width": {"$gt": 100}}
    assert stored.samples.filter(~mongo(query)).count() == stored.samples.filter(mongo({"$nor": [query]})).count()


def test_documents() -> None:
    """NULL is missing but in arrays, where it is null; [] stays; times are UTC; the order is the row's."""
    local = datetime(2023, 1, 4, 10, 58, 14, 82248, timezone(timedelta(hours=1)))
    boxes = [[], None, [None, Row(x1=1, classname=None, confidence=float("nan"))]]
    row = Row(_id="a", url=None, datetime=local, width=0, object_analysis=boxes, annotators=[])
    document = to_document(row)
    assert list(document) == ["_id", "datetime", "width", "object_analysis", "annotators"]
    assert document["object_analysis"][:2] == [[], None]
    assert list(document["object_analysis"][2][1]) == ["x1", "confidence"]
    assert to_json(document) == {
        "_id": "a",
        "datetime": "2023-01-04 09:58:14.082248",
        "width": 0,
        "object_analysis": [[], None, [None, {"x1": 1, "confidence": None}]],
        "annotators": [],
    }


def test_rows_of_spark_and_of_arrow_are_the_same_document(stored: Stored) -> None:
    some = stored.samples.orderBy("_id").limit(8)
    of_arrow = [to_json(to_document(row)) for row in some.toArrow().to_pylist()]
    assert [to_json(to_document(row)) for row in some.collect()] == of_arrow
    assert all(list(row) == [name for name in SAMPLES.names if name in row] for row in of_arrow)


app = Typer()
app.command()(query_command)


def test_command(stored: Stored) -> None:
    arguments = ["--warehouse", stored.warehouse.root, "--q", '{"width": {"$gte": 100}}', "--version", "1"]
    told = CliRunner().invoke(app, [*arguments, "--json", "--page", "2"], catch_exceptions=False)
    answer = json.loads(told.stdout)
    assert list(answer) == ["page", "length", "version", "data", "cursor", "warnings"]
    expected = in_order([row for row in make_rows() if row.get("width", 0) >= 100])
    assert [document["_id"] for document in answer["data"]] == expected[25:50]
    assert (answer["page"], answer["length"], answer["warnings"]) == (2, len(expected), [])
    with pytest.raises(QueryError, match="line 1, column 2"):
        CliRunner().invoke(app, ["--q", "{'a'"], catch_exceptions=False)


def test_warnings_go_wherever_the_answer_goes(stored: Stored) -> None:
    """Into the JSON and to stderr; from Python as a warning at the line that asks."""
    query, says = {"width": "640"}, "width: a number is never matched by a string"
    arguments = ["--warehouse", stored.warehouse.root, "--q", json.dumps(query), "--json"]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(told.stdout)["warnings"] == [says]
    assert f"warning: {says}" in told.stderr
    with pytest.warns(QueryWarning) as heard:
        found = [
            stored.samples.filter(mongo(query)).count(),
            matching(stored.warehouse, query).count(),
            samples_at(stored.warehouse.root).count(query),
        ]
    assert found == [0, 0, 0]
    assert [(str(one.message), one.filename) for one in heard] == [(says, __file__)] * 3


def test_how_many_match(stored: Stored) -> None:
    expected = len([row for row in make_rows() if row.get("width", 0) >= 100])
    assert samples_at(stored.warehouse.root).count(WIDE) == matching(stored.warehouse, WIDE).count() == expected > 0


def test_table_is_readable() -> None:
    """Objects are counted, URLs shortened, and what a URL contains cannot steer the terminal."""
    boxes = [{"classname": name, "confidence": 0.5} for name in ("dog", "cat", "cat")]
    document = {
        "_id": "0123456789abcdef",
        "url": "http://a.example/[red]\x1b[2J" + "long" * 50,
        "host": "a.example",
        "width": 640,
        "height": 480,
        "object_analysis": [[{**boxes[0], "confidence": 0.91}, *boxes[1:]]],
    }
    console = Console(width=100, record=True, force_terminal=False)
    console.print(page_table(Page(1, 2, 7, [document, {"_id": "b", "object_analysis": [[]]}]), 0.123))
    text = console.export_text()
    caption = "page 1 of 1 - 2 match - version 7 - 0.1 s"
    for part in ("0123456789", "640x480", "2 cat, 1 dog (0.91)", "none", "a.example", "/[red]", caption):
        assert part in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
