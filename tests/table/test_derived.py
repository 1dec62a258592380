"""The derived columns: as defined, on rows of all kinds, and at the door."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from cortex_spark.schema import DERIVED, SAMPLE, SAMPLES
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import complete, is_complete, with_derived
from cortex_spark.table.samples import commit_samples
from tests.table.boxes import Row, box, make_old, oracle, record, sample, some_rows, to_frame


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    return Warehouse(spark, str(warehouse))


def derived(tables: Warehouse) -> dict[str, Row]:
    rows = tables.read("samples").orderBy("_id").toArrow().to_pylist()
    for row in rows:
        assert {name: row[name] for name in DERIVED} == oracle(row), row["_id"]
    return {row["_id"][-1]: row for row in rows}


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_columns_are_as_defined(spark: SparkSession, ansi: str) -> None:
    rows = some_rows(600)
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    try:
        found = with_derived(to_frame(spark, rows)).orderBy("_id").toArrow().to_pylist()
    finally:
        spark.conf.set("spark.sql.ansi.enabled", str(before))
    expected = [oracle(row) for row in rows]
    assert [{name: row[name] for name in DERIVED} for row in found] == expected
    # The rows are such that much of it is seen.
    shares = [row["objects"]["cat"]["share"] for row in expected if row["objects"]]
    assert {None, 0.0} < set(shares)
    assert len(set(shares)) > 5
    assert {row["rarest_class"] for row in expected} == {None, 0, 5, 6, 57, 79, 80}


def test_schema() -> None:
    assert tuple(SAMPLES.names[-2:]) == DERIVED
    assert [*SAMPLE.names, "landed_at", *DERIVED] == SAMPLES.names
    objects = SAMPLES["objects"].dataType
    assert isinstance(objects, StructType)
    assert (len(objects), objects.names[-2:]) == (80, ["hair_drier", "toothbrush"])


def test_complete_from_a_version_on() -> None:
    assert is_complete(complete(since=0), 0)
    assert is_complete(complete(since=7), 7)
    assert not is_complete(complete(since=7), 6)
    assert not is_complete({}, 3)
    assert not is_complete(complete(since=0) | {"cortex.derived.rule": "0"}, 3)


def test_rows_have_them_from_the_door_on(tables: Warehouse) -> None:
    """Labelled; measured only, and labelled later; by a second model; and again, which changes nothing."""
    record(tables, "first", [sample(1, "a", [box("cat"), box("dog", 0.7)]), sample(2, None, [])])
    assert commit_samples(tables, "first", [0]) == 2
    rows = derived(tables)
    assert rows["1"]["objects"]["cat"] == {"count": 1, "share": 100 / 8000, "confidence": 0.5}
    assert (rows["2"]["objects"], rows["2"]["object_analysis"], rows["2"]["annotators"]) == (None, None, None)

    more = [box("cat", 0.9, (0, 0, 100, 40)), box("cat", 0.3)]
    record(tables, "second", [sample(1, "b", more), sample(2, "b", [box("hair drier")]), sample(3, "b", [])])
    assert commit_samples(tables, "second", [0]) == 1
    rows = derived(tables)
    assert rows["1"]["objects"]["cat"] == {"count": 2, "share": 0.5, "confidence": 0.9}
    assert [boxes[0]["classname"] for boxes in rows["1"]["object_analysis"]] == ["cat", "cat"]
    assert [one["name"] for one in rows["1"]["annotators"]] == ["a", "b"]
    assert rows["2"]["object_analysis"] == [[box("hair drier")]]
    assert [one["name"] for one in rows["2"]["annotators"]] == ["b"]
    assert rows["2"]["object_analysis_processed"]
    assert [rows[number]["rarest_class"] for number in ("2", "3")] == [0, 80]

    # Another picture under the same address is left alone, and what was committed before as well.
    record(tables, "third", [sample(3, "c", [box("cat")], content="f" * 64)])
    for run in ("third", "second"):
        assert commit_samples(tables, run, [0]) == 0
    assert derived(tables) == rows


def test_who_is_wrong_about_what_is_new_loses_nothing(tables: Warehouse) -> None:
    """As when a job with another model comes in between a plan and its commit; and when a commit is done again."""
    record(tables, "first", [sample(1, "a", [box("cat")]), sample(2, "a", [])])
    assert commit_samples(tables, "first", [0], new=2) == 2
    record(tables, "second", [sample(1, "b", [box("dog")]), sample(3, "b", [box("dog")])])
    assert commit_samples(tables, "second", [0], new=2) == 1
    rows = derived(tables)
    assert {number: len(row["object_analysis"]) for number, row in rows.items()} == {"1": 2, "2": 1, "3": 1}
    assert commit_samples(tables, "second", [0], new=2) == 0
    assert derived(tables) == rows
    # A batch without a picture commits nothing.
    version = tables.version("samples")
    assert commit_samples(tables, "third", [0], new=0) == 0
    assert tables.version("samples") == version


def test_a_table_made_before_takes_rows_as_it_is(tables: Warehouse) -> None:
    make_old(tables)
    record(tables, "first", [sample(1, "a", [box("cat")]), sample(2, None, [])])
    record(tables, "second", [sample(1, "b", [box("cat")]), sample(2, "b", [])])
    assert [commit_samples(tables, run, [0]) for run in ("first", "second")] == [2, 0]
    samples = tables.read("samples")
    assert not set(DERIVED) & set(samples.columns)
    assert not is_complete(tables.properties("samples"), tables.version("samples"))
    assert samples.where("size(object_analysis) = 2").count() == 1
