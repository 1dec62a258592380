"""Answers sorted by a time with as many values as rows: `datetime`, in MongoDB's whole milliseconds."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from cortex_spark.query import groups as groups_module
from cortex_spark.query.groups import Groups, RememberedGroups
from cortex_spark.query.page import PAGE_SIZE, Engine, page
from cortex_spark.query.samples import Samples
from cortex_spark.table import Warehouse

from .conftest import Row, to_frame

ROWS = 230
START = datetime(1969, 12, 31, 23, 59, 59, 900_000, UTC)  # some are before 1970
MILLISECOND = timedelta(milliseconds=1)
EVERY: dict[str, Any] = {}
TIMED: dict[str, Any] = {"datetime": {"$type": "date"}}
WIDE: dict[str, Any] = {"width": {"$gte": 2}, "datetime": {"$type": "date"}}


def make_rows() -> list[Row]:
    """Of which one in ten has no time, and others share a millisecond with some, though no microsecond."""
    dice = random.Random(3)
    rows: list[Row] = []
    for number in range(ROWS):
        row: Row = {"_id": f"{number * 7919 % 997:032x}", "width": dice.randint(0, 5), "landed_at": START}
        if dice.random() > 0.1:
            row["datetime"] = START + dice.randrange(150) * MILLISECOND + timedelta(microseconds=number)
        rows.append(row)
    # The last row of page 1 of those that are timed and the first behind it share a millisecond, from either end.
    times = sorted(range(ROWS), key=lambda number: rows[number].get("datetime", START - MILLISECOND))
    timed = [number for number in times if "datetime" in rows[number]]
    for one, other in ((timed[24], timed[25]), (timed[-26], timed[-25])):
        moment = rows[one]["datetime"]
        rows[other]["datetime"] = moment + timedelta(microseconds=1 if moment.microsecond % 1000 < 999 else -1)
    return rows


def key_of(row: Row) -> int:
    """Whole milliseconds, rounded down; missing comes first."""
    return (row["datetime"] - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND if "datetime" in row else -(2**63)


def in_order(query: dict[str, Any], sort: dict[str, int]) -> list[str]:
    rows = [row for row in make_rows() if query is EVERY or "datetime" in row]
    rows = [row for row in rows if query is not WIDE or row["width"] >= 2]
    rows.sort(key=lambda row: str(row["_id"]))
    for name, direction in reversed(sort.items()):
        rows.sort(key=key_of if name == "datetime" else lambda row: int(row["width"]), reverse=direction < 0)
    return [row["_id"] for row in rows]


@pytest.fixture(scope="module")
def timed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    tables = Warehouse(spark, str(tmp_path_factory.mktemp("times")))
    for number in range(3):
        frame = to_frame(spark, make_rows()[number::3]).coalesce(1)
        tables.append_once(frame, "samples", app_id="test", version=number)
    return tables


def ids_of(tables: Warehouse, query: dict[str, Any], engine: Engine, **wanted: Any) -> tuple[list[str], str | None]:
    found = page(tables, query, engine=engine, fields=["_id"], **wanted)
    return [document["_id"] for document in found.data], found.cursor


@pytest.mark.parametrize(
    ("query", "sort"),
    [
        (EVERY, {"datetime": 1}),
        (EVERY, {"datetime": -1}),
        (TIMED, {"datetime": 1}),
        (TIMED, {"datetime": -1, "width": 1}),
        (WIDE, {"datetime": 1, "width": -1}),
    ],
    ids=str,
)
def test_pages_by_number_and_by_cursor(timed: Warehouse, query: dict[str, Any], sort: dict[str, int]) -> None:
    """Both engines agree with a plain sort; what shares a millisecond goes by the next key."""
    expected = in_order(query, sort)
    pages = [expected[start : start + PAGE_SIZE] for start in range(0, len(expected), PAGE_SIZE)]
    assert len(pages) >= 5
    walked: list[list[str]] = []
    cursor: str | None = None
    while cursor is not None or not walked:
        ids, cursor = ids_of(timed, query, "duckdb", sort=sort, cursor=cursor)
        walked.append(ids)
    assert walked == pages
    assert [ids_of(timed, query, "duckdb", sort=sort, page=number + 1)[0] for number in range(len(pages))] == pages
    for number in (1, 2, len(pages) - 1):
        ids, cursor = ids_of(timed, query, "spark", sort=sort, page=number)
        assert ids == pages[number - 1]
        assert ids_of(timed, query, "spark", sort=sort, cursor=cursor)[0] == pages[number]


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
@pytest.mark.parametrize("direction", [1, -1])
def test_there_are_two_groups(
    timed: Warehouse, engine: Engine, direction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing and there: of millions of rows each has a millisecond of its own."""
    made: list[Groups] = []
    get = RememberedGroups.get

    def seen(self: RememberedGroups, *given: Any) -> Groups:
        made.append(get(self, *given))
        return made[-1]

    monkeypatch.setattr(RememberedGroups, "get", seen)
    for query, groups in ((EVERY, 2), (TIMED, 1)):
        ids_of(timed, query, engine, sort={"datetime": direction})
        assert len(made[-1].codes) == groups
        assert len(made[-1].files) <= groups * 3  # of which there are as many


def test_the_first_page_takes_one_scan(timed: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting finds its places, where the first key says which rows they are."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("scanned again")

    monkeypatch.setattr(Samples, "_select", refuse)
    reader = Samples(timed.root)
    query = {"width": {"$gte": 2}}
    found = reader.page(query, sort={"datetime": -1}, fields=["_id"])
    assert [row["_id"] for row in found.data] == in_order(WIDE, {"datetime": -1})[:PAGE_SIZE]
    with pytest.raises(AssertionError, match="scanned again"):  # the border of the page is within a millisecond
        reader.page(TIMED, sort={"datetime": -1})


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes of all answers together; one that alone has more is made each time, and others stay."""
    monkeypatch.setattr(groups_module, "_REMEMBERED_BYTES", 10_000)
    remembered = RememberedGroups()
    made: list[str] = []

    def ask(name: str, groups: int) -> int:
        def make() -> Groups:
            made.append(name)
            numbers = np.arange(groups)
            return Groups.of(numbers, numbers, numbers)

        return remembered.get(name, make).bytes

    sizes = {"a": 100, "b": 100, "c": 150, "large": 400}
    assert [ask(name, sizes[name]) for name in "abac"] == [3_208, 3_208, 3_208, 4_808]
    assert ask("large", 400) == 12_808
    for name in ("a", "c", "large", "b"):
        ask(name, sizes[name])
    assert made == ["a", "b", "c", "large", "large", "b"]
