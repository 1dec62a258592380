"""The benchmark of filters, on a table of a few hundred rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.query import mongodb
from benchmarks.query.__main__ import stored_values
from benchmarks.query.engines import DuckDb, MongoDb, files
from benchmarks.query.filters import FILTERS, Literals, Stored
from benchmarks.query.make import make
from benchmarks.query.reads import Watched
from benchmarks.query.rows import samples
from cortex_spark.coco import CLASSES
from cortex_spark.query.mongo import compile_query
from cortex_spark.schema import SAMPLE
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse

ROWS = 600


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    make(spark, made, ROWS - 300, 300, seed=5)
    make(spark, made, ROWS, 300, seed=5)  # goes on
    return made


def test_rows_are_like_a_crawl(spark: SparkSession) -> None:
    frame = samples(spark, 100, 400, 20_000_000, seed=5)
    assert [(field.name, field.dataType) for field in frame.schema] == [(f.name, f.dataType) for f in SAMPLE]
    rows = frame.collect()
    assert rows == samples(spark, 100, 400, 20_000_000, seed=5).collect()
    assert rows != samples(spark, 100, 400, 20_000_000, seed=6).collect()
    assert len({row._id for row in rows}) == 300
    assert all(image_id(row.url) == row._id for row in rows)
    assert [row.host for row in rows] == sorted(row.host for row in rows)
    assert {row.object_analysis is None for row in rows} == {True, False}
    entries = [boxes for row in rows for boxes in row.object_analysis or ()]
    assert {len(boxes) for boxes in entries} > {0, 1, 5}
    for row in rows:
        for boxes in row.object_analysis or ():
            assert [box.confidence for box in boxes] == sorted((box.confidence for box in boxes), reverse=True)
            for box in boxes:
                assert 0 <= box.x1 < box.x2 <= row.width
                assert 0 <= box.y1 < box.y2 <= row.height
                assert box.classname in CLASSES
                assert 0.25 <= box.confidence <= 1


def test_table_is_made_by_commits(spark: SparkSession, folder: Path) -> None:
    table = Warehouse(spark, str(folder / "warehouse")).read("samples")
    landed = table.groupBy("landed_at").agg(F.count("*").alias("rows"), F.min("host"), F.max("host"))
    commits = landed.orderBy("landed_at").collect()
    assert [commit["rows"] for commit in commits] == [300, 300]
    assert all(earlier["max(host)"] <= later["min(host)"] for earlier, later in pairwise(commits))


def test_every_run_asks_something_new() -> None:
    for which in FILTERS:
        draw = Literals(Stored([f"{number:04d}.example" for number in range(100)], []), "any")
        queries = [which.make(draw) for _ in range(8)]
        assert len({str(compile_query(query).tree) for query in queries}) >= 7, which.name


def test_what_a_question_reads(folder: Path) -> None:
    watched = Watched(str(folder / "warehouse"))
    watched.profiles = []
    found = watched.page({"width": {"$gt": 100}}, sort={"label_quality_estimation": -1})
    assert watched.profiles[0]["query"]["total_rows_scanned"] == found.length > 0
    assert watched.profiles[0]["io"]["total_bytes_read"] > 0


def test_all_who_are_asked_find_the_same(folder: Path) -> None:
    root = str(folder / "warehouse")
    stored = stored_values(root, seed=1)
    found = set()
    with mongodb.server(0.25) as client:
        mongodb.load(client.cortex.samples, files(root), ROWS)
        engines = [
            DuckDb(root),
            MongoDb(client.cortex.samples, lambda query: query),
            MongoDb(client.cortex.samples, mongodb.best_form),
        ]
        for which in FILTERS:
            draw = Literals(stored, "test")
            for query in (which.make(draw) for _ in range(5)):
                lengths = [engine.first(which, query) for engine in engines]
                assert len(set(lengths)) == 1, (which.name, query, lengths)
                if lengths[0]:
                    found.add(which.name)
    assert found > {"a class, width", "person, width", "two classes", "host", "no person", "anchored URL"}
