"""What is derived from a query means the same: on rows of all kinds, and in both polarities."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType

from cortex_spark.query.derive import derive
from cortex_spark.query.mongo import compile_query
from cortex_spark.query.page import PAGE_SIZE, matching
from cortex_spark.query.samples import Samples
from cortex_spark.query.spark import to_column
from cortex_spark.query.tree import And, At, Constant, HasSize, IsNan, IsNull, OneOf, Operand, Or, Some, Test, Tree
from cortex_spark.schema import BOX, OF_CLASS, SAMPLES
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import with_derived
from cortex_spark.table.snapshot import Table
from tests.table.boxes import some_rows, to_frame

_ANNOTATORS = Operand(("object_analysis",), SAMPLES["object_analysis"].dataType)
_BOXES = Operand((), ArrayType(BOX))


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return with_derived(to_frame(spark, some_rows(1_500, seed=5))).localCheckpoint()


def boxes(condition: dict[str, Any]) -> dict[str, Any]:
    return {"object_analysis": {"$elemMatch": {"$elemMatch": condition}}}


def fields(tree: Tree) -> set[str]:
    """The columns that a tree reads."""
    match tree:
        case And(children) | Or(children):
            return set().union(*map(fields, children))
        case IsNull() | IsNan() | Test() | OneOf() | HasSize() | Some() | At():
            return {tree.operand.path[0]}
        case _:
            return set()


REPLACED: list[dict[str, Any]] = [
    boxes({"classname": "cat"}),
    boxes({"classname": "hot dog"}),
    boxes({"classname": {"$in": ["cat", "person", "hair drier"]}}),
    boxes({"classname": "cat", "confidence": {"$gte": 0.5}}),
    boxes({"classname": "person", "confidence": {"$gt": 0.5}}),
    boxes({"classname": "person", "confidence": {"$gte": -1, "$gt": 0}}),
    boxes({"classname": {"$in": ["cat", "person"]}, "confidence": {"$gt": 0.25}}),
    boxes({"$or": [{"classname": "cat"}, {"classname": "person", "confidence": {"$gt": 0.9}}]}),
    boxes({"$or": [{"classname": "cat"}, {"classname": "toothbrush"}], "confidence": {"$gte": 0.9}}),
    boxes({"classname": {"$in": ["cat", "unicorn"], "$ne": None, "$eq": "cat"}}) | {"width": 1},
    {"$or": [boxes({"classname": "cat"}), boxes({"classname": "person"})]},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat"}, "$ne": 5}}},
]
BESIDE: list[dict[str, Any]] = [
    boxes({"classname": "cat", "x1": {"$gt": 5}}),
    boxes({"classname": "cat", "confidence": 0.5}),
    boxes({"classname": "cat", "confidence": {"$lt": 0.5}}),
    boxes({"classname": "cat", "confidence": {"$gte": 0.25, "$lt": 0.5}}),
    boxes({"classname": "cat", "confidence": {"$not": {"$lt": 0.5}}}),
    boxes({"classname": "cat", "confidence": {"$ne": float(0)}}),
    boxes({"classname": "cat", "confidence": {"$exists": True}}),
    boxes({"classname": "cat", "confidence": None}),
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat"}, "$size": 2}}},
    {
        "object_analysis": {
            "$elemMatch": {
                "$elemMatch": {"classname": "cat"},
                "$not": {"$elemMatch": {"classname": "person"}},
            }
        }
    },
]
LEFT: list[dict[str, Any]] = [
    boxes({"classname": "unicorn"}),
    boxes({"classname": {"$in": ["cat", "unicorn"]}}),
    boxes({"classname": {"$ne": "cat"}}),
    boxes({"classname": {"$gte": "cat"}}),
    boxes({"confidence": {"$gte": 0.5}}),
    boxes({"$or": [{"classname": "cat"}, {"confidence": {"$gte": 0.5}}]}),
    boxes({"$or": [{"classname": "cat", "x1": number} for number in range(100)]}),
    {"object_analysis": {"$elemMatch": {"$not": {"$elemMatch": {"classname": "cat"}}}}},
    {"object_analysis": {"$size": 1}},
]


def nested(query: dict[str, Any], *, negated: bool = False) -> Tree:
    return compile_query({"$nor": [query]} if negated else query).tree


def differing(rows: DataFrame, trees: list[Tree]) -> list[tuple[int, int]]:
    """For each tree, how many rows it matches, and how many it does not mean the same of as what is derived from it."""
    columns = []
    for number, tree in enumerate(trees):
        before, after = to_column(tree), to_column(derive(tree))
        columns += [F.count_if(before).alias(f"n{number}"), F.count_if(~before.eqNullSafe(after)).alias(f"d{number}")]
    found = rows.agg(*columns).first()
    assert found is not None
    return [(found[f"n{number}"], found[f"d{number}"]) for number in range(len(trees))]


@pytest.mark.parametrize(
    ("queries", "reads"),
    [(REPLACED, {False}), (BESIDE, {True}), (LEFT, {True})],
    ids=["replaced", "beside", "left"],
)
def test_the_meaning_stays(rows: DataFrame, queries: list[dict[str, Any]], reads: set[bool]) -> None:
    trees = [nested(query, negated=negated) for query in queries for negated in (False, True)]
    assert {"object_analysis" in fields(derive(tree)) for tree in trees} == reads
    assert {"objects" in fields(derive(tree)) for tree in trees} == {queries is not LEFT}
    counts = differing(rows, trees)
    assert [differ for _, differ in counts] == [0] * len(trees)
    total = rows.count()
    for found, negated in zip(counts[::2], counts[1::2], strict=True):
        assert found[0] + negated[0] == total
    assert sum(1 for found, _ in counts if 0 < found < total) >= len(counts) * 0.6


def test_a_box_has_one_class() -> None:
    query = boxes({"classname": "cat", "$or": [{"classname": "person"}, {"classname": "hot dog"}]})
    assert [derive(nested(query, negated=negated)) for negated in (False, True)] == [Constant(True), Constant()]


def test_generated_trees(rows: DataFrame) -> None:
    """Normal forms that no query may ever have: any conditions on boxes, in any order and polarity."""
    dice = random.Random(11)

    def on_box(depth: int) -> Tree:
        kind = BOX["confidence"].dataType
        choice = dice.random()
        if depth and choice < 0.5:
            parts = tuple(on_box(depth - 1) for _ in range(dice.randint(1, 3)))
            return And(parts) if choice < 0.3 else Or(parts)
        negated = dice.random() < 0.15
        names = ("cat", "person", "hot dog", "unicorn")
        name, value = Operand(("classname",), StringType()), dice.choice((0.0, 0.25, 0.5, 0.9))
        if choice < 0.75:
            return Test(name, "eq", dice.choice(names), negated)
        if choice < 0.82:
            return OneOf(name, tuple(dice.sample(names[:3], 2)), negated)
        confidence = Operand(("confidence",), kind)
        if choice < 0.95:
            found = compile_query(boxes({"confidence": {dice.choice(("$gt", "$gte", "$lt", "$eq")): value}})).tree
            assert isinstance(found, Some)
            return _inside(_inside(found))
        return IsNull(confidence, negated)

    def on_annotator() -> Tree:
        some = Some(_BOXES, on_box(2), negated=dice.random() < 0.1)
        at = At(_BOXES, dice.randint(0, 1), on_box(1))
        other = Some(_BOXES, on_box(1))
        return dice.choice((some, some, some, at, And((some, other)), Or((some, at)), And((some, at))))

    trees: list[Tree] = []
    for _ in range(150):
        child, negated = on_annotator(), dice.random() < 0.5
        trees.append(
            Some(_ANNOTATORS, child, negated)
            if dice.random() < 0.8
            else At(_ANNOTATORS, dice.randint(0, 1), child, negated)
        )
    for first in range(0, len(trees), 50):
        counts = differing(rows, trees[first : first + 50])
        assert [differ for _, differ in counts] == [0] * 50
    assert sum("object_analysis" not in fields(derive(tree)) for tree in trees) >= 15


def _inside(tree: Tree) -> Tree:
    """The condition of a ``Some``, less that the element is there."""
    assert isinstance(tree, Some)
    parts = tree.child.children if isinstance(tree.child, And) else (tree.child,)
    rest = tuple(part for part in parts if not (isinstance(part, IsNull) and part.operand.path == ()))
    return rest[0] if len(rest) == 1 else And(rest)


def scalar(name: str, classname: str = "cat") -> Operand:
    return Operand(("objects", classname, name), OF_CLASS[name].dataType)


COUNT = scalar("count")


@pytest.mark.parametrize(
    ("tree", "skips"),
    [
        (Test(COUNT, "gte", 2), True),
        (Test(COUNT, "gt", 0), True),
        (Test(COUNT, "eq", 1), True),
        (Test(COUNT, "gte", 0), False),
        (Test(COUNT, "eq", 0), False),
        (Test(COUNT, "lt", 2), False),
        (Test(COUNT, "gte", 2, negated=True), False),
        (Test(scalar("share", classname="hot_dog"), "gt", 0.0), True),
        (Test(scalar("confidence"), "lt", 0.5), True),
        (IsNull(scalar("confidence")), False),
    ],
)
def test_scalars_that_people_ask_for_skip_files(rows: DataFrame, tree: Tree, skips: bool) -> None:
    assert ("rarest_class" in fields(derive(tree))) == skips
    assert derive(tree, ranks=False) == tree
    ((found, differ),) = differing(rows, [tree])
    assert (found > 0, differ) == (True, 0)


HEADLINE = boxes({"classname": "cat"}) | {"width": {"$gt": 100}}


def test_the_headline_query_reads_no_boxes(spark: SparkSession, rows: DataFrame, warehouse: Path) -> None:
    tables = Warehouse(spark, str(warehouse))
    tables.append_once(rows.select(*SAMPLES.names), "samples", app_id="test", version=0)
    found = spark.sql("SELECT _id FROM {found}", found=matching(tables, HEADLINE))
    plan = found._jdf.queryExecution().executedPlan().toString()
    assert "ReadSchema: struct<_id:string,width:int,objects:struct<cat:struct<count:int>>,rarest_class:int>" in plan
    assert "PushedFilters" in plan
    assert "object_analysis" not in plan
    assert "Python" not in plan
    assert found.count() == tables.read("samples").filter(to_column(nested(HEADLINE))).count() > 0


@pytest.mark.parametrize("sort", [None, {"width": -1}, {"datetime": 1}], ids=str)
def test_nor_does_duckdb(spark: SparkSession, rows: DataFrame, warehouse: Path, sort: dict[str, int] | None) -> None:
    """Before it knows the rows of the page: where the boxes cannot be read, it counts and shows all the same."""
    tables = Warehouse(spark, str(warehouse))
    tables.append_once(rows.select(*SAMPLES.names), "samples", app_id="test", version=0)
    wanted: dict[str, Any] = {"sort": sort, "fields": ["_id", "width"]}
    before = [Samples(tables.root).page(HEADLINE, number, **wanted) for number in (1, 2)]
    for file in Table(tables.root, "samples").snapshot()[0].files:
        spoil(Path(file.path), "object_analysis")
    reader = Samples(tables.root)
    after = [reader.page(HEADLINE, number, **wanted) for number in (1, 2)]
    assert [(one.data, one.length) for one in after] == [(one.data, one.length) for one in before]
    assert len(after[1].data) == PAGE_SIZE
    for asked in (lambda: reader.page(HEADLINE, sort=sort), lambda: reader.count(boxes({"classname": "unicorn"}))):
        with pytest.raises(duckdb.Error):  # these do read them
            asked()


def spoil(path: Path, column: str) -> None:
    """Overwrite the values of a column, and of what is inside it, in a Parquet file."""
    footer = pq.ParquetFile(path).metadata
    with path.open("r+b") as file:
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for chunk in map(group.column, range(group.num_columns)):
                if chunk.path_in_schema.split(".")[0] == column:
                    file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
                    file.write(b"\xff" * chunk.total_compressed_size)
