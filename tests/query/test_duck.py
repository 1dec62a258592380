"""DuckDB answers what Spark answers, and MongoDB."""

import json
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyspark.sql import SparkSession

from cortex_spark.errors import CortexError
from cortex_spark.export.parquet import export
from cortex_spark.forget.requests import entries
from cortex_spark.forget.takedown import forget
from cortex_spark.query import page as page_module
from cortex_spark.query import samples
from cortex_spark.query.page import PAGE_SIZE, Engine, Page, page
from cortex_spark.query.samples import Samples
from cortex_spark.schema import DERIVED
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import is_complete
from cortex_spark.table.index import Indexes
from cortex_spark.table.snapshot import Table
from cortex_spark.upkeep.derive import upgrade
from tests.table.boxes import make_old

from .conftest import Stored, make_rows, to_frame
from .judge import as_pages
from .test_judge import CASES, compare, generate, in_mongo

#: Of the table, before other tests add to it.
VERSION = 1


def test_cases(stored: Stored) -> None:
    texts = [json.dumps(case) for case in CASES]
    compare(texts, [in_mongo(stored, text) for text in texts], as_pages(stored.warehouse.root, texts, VERSION))


def test_generated(stored: Stored) -> None:
    texts = generate(300, derandomize=True)
    compare(texts, [in_mongo(stored, text) for text in texts], as_pages(stored.warehouse.root, texts, VERSION))


SORTS: list[dict[str, int]] = [
    {},
    {"landed_at": -1},
    {"width": -1},
    {"label_quality_estimation": 1},
    {"label_quality_estimation": -1, "width": 1},
    {"datetime": 1, "bytes": -1},
    {"url": -1},
    {"face_analysis_processed": 1, "_id": -1},
    {"objects.cat.confidence": -1},
    {"_id": 1},
]


@pytest.mark.parametrize("sort", SORTS, ids=json.dumps)
def test_both_engines_walk_the_same_way(stored: Stored, sort: dict[str, int]) -> None:
    """By cursors and by numbers, Spark and DuckDB show the same documents in the same order, which is MongoDB's."""
    query = '{"width": {"$ne": 101}}'
    total = sort if "_id" in sort else {**(sort or {"landed_at": 1}), "_id": 1}
    expected = [found["_id"] for found in stored.collection.find(json.loads(query), {"_id": 1}).sort(total)]
    assert len(expected) > 75
    by_number = page(stored.warehouse, query, 3, version=VERSION, sort=sort, fields=["_id", "width"])
    by_spark = page(stored.warehouse, query, 3, version=VERSION, sort=sort, fields=["_id", "width"], engine="spark")
    assert (by_number.data, by_number.length) == (by_spark.data, by_spark.length)
    by_numbers = [
        document["_id"]
        for number in range(1, -(-len(expected) // PAGE_SIZE) + 1)
        for document in page(stored.warehouse, query, number, version=VERSION, sort=sort, fields=["_id"]).data
    ]
    assert by_numbers == expected
    found: list[str] = []
    cursor = None
    for number, engine in enumerate(["duckdb", "duckdb", "spark", "duckdb"], start=1):  # cursors are good for both
        one = page(
            stored.warehouse, query, version=VERSION, sort=sort, fields=["_id"], cursor=cursor, engine=as_engine(engine)
        )
        assert one.page == number
        found += [document["_id"] for document in one.data]
        if number == 3:
            assert [document["_id"] for document in by_number.data] == found[50:]
        cursor = one.cursor
        if cursor is None:
            break
    assert found == expected[: len(found)]
    assert len(found) in (100, len(expected))


def as_engine(name: str) -> Engine:
    return "spark" if name == "spark" else "duckdb"


def test_threads_share_a_reader(stored: Stored) -> None:
    """As a server's do: each gets the answer to its own question, whether others ask the same or something else."""
    ids = [json.dumps({"_id": row["_id"]}) for row in stored.collection.find({}, {"_id": 1}).limit(20)]
    texts = [*generate(80, derandomize=True), *ids] * 2
    reader = Samples(stored.warehouse.root)

    def first_page(text: str) -> tuple[int, list[str]]:
        found = reader.page(text, version=VERSION, fields=["_id"])
        return found.length, [document["_id"] for document in found.data]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(first_page, texts))
    for text, (length, shown) in zip(texts, found, strict=True):
        expected = in_mongo(stored, text)
        assert length == len(expected), text
        assert set(shown) <= expected, text
        assert len(shown) == min(length, PAGE_SIZE), text


@pytest.mark.parametrize("indexed", [False, True])
def test_ids(stored: Stored, indexed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the index and without one, together with other conditions, ids that are not there among them."""
    monkeypatch.setattr(samples, "_INDEXED_AT_ONCE", 10**6 if indexed else 0)
    shutil.rmtree(Path(stored.warehouse.root) / "_index", ignore_errors=True)
    reader = Samples(stored.warehouse.root)
    ids = sorted(row["_id"] for row in stored.collection.find({}, {"_id": 1}))
    queries: list[dict[str, Any]] = [
        {"_id": ids[3]},
        {"_id": "not there"},
        {"_id": {"$in": [*ids[:60], "nor this"]}},
        {"_id": {"$in": ids[:40]}, "width": {"$gt": 100}},
        {"_id": {"$in": []}},
    ]
    for query in queries:
        expected = {row["_id"] for row in stored.collection.find(query, {"_id": 1})}
        first = reader.page(query, version=VERSION)
        found = [row["_id"] for row in first.data]
        cursor = first.cursor
        while cursor:
            one = reader.page(query, cursor=cursor)
            found += [row["_id"] for row in one.data]
            cursor = one.cursor
        assert (set(found), first.length, len(found)) == (expected, len(expected), len(expected)), query
        for document in first.data:
            assert list(document)[:1] == ["_id"]
    assert (Path(stored.warehouse.root) / "_index").is_dir() == indexed


def test_files_of_before_the_derived_columns(spark: SparkSession, tmp_path: Path) -> None:
    """A table that lacks columns answers all the same, by both engines; what is not there is missing."""
    old = to_frame(spark, make_rows()[:40]).drop("objects", "rarest_class")
    old.repartition(2).write.format("delta").save(str(tmp_path / "samples"))
    warehouse = Warehouse(spark, str(tmp_path))
    boxes = {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat"}}}}
    for query in (boxes, {"objects.cat.count": {"$gte": 1}}, {"rarest_class": None}, {"$nor": [boxes]}):
        duck, by_spark = (page(warehouse, query, engine=engine, fields="all") for engine in ("duckdb", "spark"))
        assert repr(duck.data) == repr(by_spark.data)  # NaN is not equal to itself
        assert duck.length == by_spark.length
    assert page(warehouse, boxes).length > 0
    assert page(warehouse, {"objects.cat.count": {"$gte": 1}}).length == 0


HOSTS = ["a.example", "a.example.", "b.a.example", "c.b.a.example", "ba.example", "example", None]
#: What is asked, and whether it is this row.
ASKED: dict[str, tuple[dict[str, list[str]], Callable[[dict[str, Any]], bool]]] = {
    "url": ({"urls": ["http://b.example/7.jpg"]}, lambda row: row["_id"] == image_id("http://b.example/7.jpg")),
    "host": ({"hosts": ["a.example"]}, lambda row: row["host"] in ("a.example", "a.example.")),
    "domain": ({"hosts": ["*.a.example"]}, lambda row: row["host"] in ("b.a.example", "c.b.a.example")),
    "hash": ({"hashes": ["F" * 64]}, lambda row: row["hash"] == "f" * 64),
    "page": ({"pages": ["http://news.example/"]}, lambda row: row["page_url"] == "http://news.example/"),
}


def killed_while_removing(step: str) -> None:
    if step.startswith("removing"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ASKED)
def test_taken_down_under_an_open_cursor(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    """As soon as it is remembered neither engine shows it, whatever the reader has in memory; then the cursor ends."""
    rows = [
        row
        | {
            "_id": image_id(f"http://b.example/{number}.jpg"),
            "host": HOSTS[number % len(HOSTS)],
            "hash": None if number % 5 else ("f" if number % 2 else "e") * 64,
            "page_url": ["http://news.example/", "http://other.example/", None][number % 3],
        }
        for number, row in enumerate(make_rows())
    ]
    tables = Warehouse(spark, str(tmp_path))
    tables.append_once(to_frame(spark, rows), "samples", app_id="test", version=0)
    reader = Samples(tables.root)
    first = reader.page("{}")
    assert first.length == len(rows)
    assert page(tables, "{}", engine="spark").length == first.length  # it has counted, too
    asked, is_it = ASKED[kind]
    left = [row["_id"] for row in sorted(rows, key=lambda row: (row["landed_at"], row["_id"])) if not is_it(row)]
    assert len(left) < len(rows)

    with pytest.raises(KeyboardInterrupt):
        forget(tables, entries(**asked), say=killed_while_removing)
    seen = {document["_id"] for document in first.data}
    ask: list[Callable[..., Page]] = [reader.page, partial(page, tables, engine="spark")]
    for asked_of in ask:  # a walk comes to its end, and shows all that was not shown before
        ids, cursor = [document["_id"] for document in first.data], first.cursor
        while cursor is not None:
            answer = asked_of("{}", cursor=cursor, fields=["_id"])
            if cursor == first.cursor:
                shown = [document["_id"] for document in answer.data]
                assert shown == [one for one in left if one not in seen][:PAGE_SIZE]
            assert answer.length == len(left)
            ids, cursor = ids + [document["_id"] for document in answer.data], answer.cursor
        assert [one for one in ids if one in left] == left
        assert len(ids) == len(set(ids))
    if kind == "page":  # the removal itself is the same for all
        forget(tables, ())
        for asked_of in ask:
            with pytest.raises(CortexError, match="taken down"):
                asked_of("{}", cursor=first.cursor)


def test_a_long_walk_under_a_take_down(spark: SparkSession, tmp_path: Path) -> None:
    """What goes before the cursor is missing from every later length, and no reason to end early."""
    urls = [f"http://b.example/{number}.jpg" for number in range(200)]
    tables = Warehouse(spark, str(tmp_path))
    landed = datetime(2024, 1, 1, tzinfo=UTC)
    frame = to_frame(spark, [{"_id": image_id(url), "landed_at": landed} for url in urls])
    tables.append_once(frame, "samples", app_id="test", version=0)
    reader, shown, cursor = Samples(tables.root), list[str](), None
    while cursor is not None or not shown:
        if len(shown) == 2 * PAGE_SIZE:
            gone = [url for url in urls if image_id(url) in shown[:30]]
            with pytest.raises(KeyboardInterrupt):
                forget(tables, entries(urls=gone), say=killed_while_removing)
        answer = reader.page("{}", cursor=cursor, fields=["_id"])
        shown, cursor = shown + [document["_id"] for document in answer.data], answer.cursor
    assert answer.length == 170
    assert shown == sorted(map(image_id, urls))


def test_spark_asks_once_more_where_a_take_down_overtakes_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the newest version go at once, under the hands of who has begun with it."""
    rows = make_rows()[:60]
    tables = Warehouse(spark, str(tmp_path))
    tables.append_once(to_frame(spark, rows), "samples", app_id="test", version=0)
    count, gone = page_module._groups, [rows[0]["_id"]]

    def overtaken(*arguments: Any) -> Any:
        if gone:
            forget(tables, [("url", gone.pop())])
        return count(*arguments)

    monkeypatch.setattr(page_module, "_groups", overtaken)
    assert page(tables, {}, engine="spark").length == 59
    gone.append(rows[1]["_id"])
    with pytest.raises(CortexError, match="taken down"):
        page(tables, {"width": {"$ne": 1}}, version=tables.version("samples"), engine="spark")


def test_of_files_that_go_meanwhile_there_is_no_index(spark: SparkSession, tmp_path: Path) -> None:
    tables = Warehouse(spark, str(tmp_path))
    for number in range(2):
        frame = to_frame(spark, make_rows()[10 * number : 10 * number + 10]).coalesce(1)
        tables.append_once(frame, "samples", app_id="test", version=number)
    first, second = Table(tables.root, "samples").snapshot(None)[0].files
    Path(first.path).unlink()
    indexes = Indexes(tables.root)
    assert indexes.build(duckdb.connect(), [first, second]) == 1
    assert [indexes.opened(file) is not None for file in (first, second)] == [False, True]


def test_indexes_leave_descriptors_for_others(spark: SparkSession, tmp_path: Path) -> None:
    """Each that is mapped holds one, of the few that a process has."""
    tables = Warehouse(spark, str(tmp_path))
    rows = make_rows()[:12]
    tables.append_once(to_frame(spark, rows).repartition(6), "samples", app_id="test", version=0)
    files = Table(tables.root, "samples").snapshot(None)[0].files
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(files) * 2, before[1]))
    try:
        indexes = Indexes(tables.root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    indexes.build(duckdb.connect(), files)
    ids = [row["_id"] for row in rows]
    found, unknown = indexes.find(files, ids)
    assert (sum(map(len, found.values())), unknown) == (12, [])
    assert len(indexes._open) == len(files) // 2


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_a_vacuumed_version(spark: SparkSession, tmp_path: Path, engine: str) -> None:
    """Also where it is remembered what lies where; rows that are left are shown."""
    tables = Warehouse(spark, str(tmp_path))
    tables.append_once(to_frame(spark, make_rows()[:60]), "samples", app_id="test", version=0)
    asked: list[dict[str, Any]] = [{}, {"sort": {"label_quality_estimation": -1}}]
    first = [page(tables, "{}", engine=as_engine(engine), **words) for words in asked]
    tables.sql("UPDATE {samples} SET width = 7")
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    try:
        tables.delta("samples").vacuum(0)
    finally:
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    for old, words in zip(first, asked, strict=True):
        assert old.cursor is not None
        for again in ({"version": old.version}, {"cursor": old.cursor}):
            with pytest.raises(CortexError, match=f"version {old.version} .* its files are vacuumed"):
                page(tables, "{}", engine=as_engine(engine), **words, **again)
    with pytest.raises(CortexError, match="its files are vacuumed"):
        export(tables, "{}", str(tmp_path / "out"), version=first[0].version)
    assert {row["width"] for row in page(tables, "{}", engine=as_engine(engine)).data} == {7}


def test_deletion_vectors_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Rows that a file alone does not say are deleted would come back."""
    path = tmp_path / "samples"
    frame = to_frame(spark, make_rows()[:40]).coalesce(1)
    frame.write.format("delta").option("delta.enableDeletionVectors", "true").save(str(path))
    spark.sql(f"DELETE FROM delta.`{path}` WHERE width = 100")
    with pytest.raises(CortexError, match=r"deletionVectors.*--engine spark"):
        page(str(tmp_path), "{}")
    spark.sql(f"UPDATE delta.`{path}` SET width = 7 WHERE height = 99")
    expected = {row["_id"] for row in spark.read.format("delta").load(str(path)).collect()}
    assert 25 <= len(expected) < 40
    tables = Warehouse(spark, str(tmp_path))
    first = page(tables, "{}", engine="spark", fields=["_id"])
    second = page(tables, "{}", 2, engine="spark", fields=["_id"])
    assert sorted(row["_id"] for row in first.data + second.data) == sorted(expected)


def test_the_first_page_by_a_number_takes_one_scan(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting finds its places: widths to 59 in four files. Heights are all the same, and say nothing."""
    tables = Warehouse(spark, str(tmp_path))
    for number in range(4):
        rows = [{"_id": f"{row:032x}", "width": row or -(2**31), "height": 1} for row in range(number, 60, 4)]
        tables.append_once(to_frame(spark, rows).coalesce(1), "samples", app_id="test", version=number)
    scans: list[str] = []
    select = Samples._select

    def counted(self: Samples, *given: Any) -> Any:
        scans.append(given[3])
        return select(self, *given)

    monkeypatch.setattr(Samples, "_select", counted)
    reader, query = Samples(tables.root), {"width": {"$lt": 60}}
    for sort, widths in (({"width": -1}, range(59, 34, -1)), ({"width": 1}, [-(2**31), *range(1, 25)])):
        found = reader.page(query, sort=sort, fields=["width"])
        assert ([row["width"] for row in found.data], found.length, scans) == (list(widths), 60, [])
    assert [row["width"] for row in reader.page(query, sort={"height": -1}).data][1:] == list(range(1, 25))
    assert scans


def test_folders_are_no_columns(spark: SparkSession, tmp_path: Path) -> None:
    """A warehouse may lie below a folder with a name like ``crawl=x``, which readers take for a partition."""
    tables = Warehouse(spark, str(tmp_path / "crawl=x" / "_id=1" / "value=2"))
    rows = [{"_id": f"{number:032x}", "crawl": "CC-MAIN-2024-22", "width": number} for number in range(3)]
    tables.append_once(to_frame(spark, rows), "samples", app_id="test", version=0)
    forget(tables, entries(urls=["http://gone.example/"]))
    reader = Samples(tables.root)
    reader.index()
    for query in ({"crawl": "CC-MAIN-2024-22"}, {"_id": {"$in": [row["_id"] for row in rows]}}):
        found = reader.page(query, fields=["crawl"])
        assert [row["crawl"] for row in found.data] == ["CC-MAIN-2024-22"] * 3


def test_a_backup_that_is_put_back_is_another_table(spark: SparkSession, tmp_path: Path) -> None:
    """It has the same ids and numbers of versions, and may have the same inodes."""
    tables = Warehouse(spark, str(tmp_path / "warehouse"))

    def add(first: int, rows: int, version: int) -> None:
        made = [{"_id": f"{number:032x}"} for number in range(first, first + rows)]
        tables.append_once(to_frame(spark, made).coalesce(1), "samples", app_id="test", version=version)

    add(0, 10, 0)
    shutil.copytree(tables.root, tmp_path / "backup")
    add(10, 20, 1)
    reader = Samples(tables.root)
    assert (reader.page("{}").length, reader.page("{}").version) == (30, 2)
    cursors = [page(tables, "{}", engine=as_engine(engine)).cursor for engine in ("duckdb", "spark")]
    # The log's folder stays the same one.
    log = Path(tables.root, "samples", "_delta_log")
    for commit in [*log.glob("*.json"), *log.glob(".*.crc")]:
        commit.unlink()
    shutil.copytree(tmp_path / "backup", tables.root, dirs_exist_ok=True)
    spark.catalog.clearCache()
    DeltaLog = spark._jvm.org.apache.spark.sql.delta.DeltaLog  # type: ignore[union-attr]
    DeltaLog.clearCache()
    add(50, 5, 1)
    assert (reader.page("{}").length, reader.page("{}").version) == (15, 2)
    for engine in ("duckdb", "spark"):
        assert page(tables, "{}", engine=as_engine(engine)).length == 15
        for cursor in cursors:
            with pytest.raises(CortexError, match="no cursor of this warehouse"):
                page(tables, "{}", engine=as_engine(engine), cursor=cursor)


def test_many_ids_are_scanned_for_once(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Warehouse(spark, str(tmp_path))
    rows = make_rows()
    tables.append_once(to_frame(spark, rows).repartition(4), "samples", app_id="test", version=0)
    ids = [row["_id"] for row in rows[: 3 * PAGE_SIZE]]
    query = {"_id": {"$in": [*ids, "f" * 32]}, "width": {"$ne": 101}}

    def pages(reader: Samples) -> list[tuple[int, list[str]]]:
        found = [reader.page(query, number) for number in (1, 2)]
        return [(page.length, [row["_id"] for row in page.data]) for page in found]

    by_index = pages(Samples(tables.root))
    monkeypatch.setattr(samples, "_BY_INDEX", 10)
    scanned = Samples(tables.root)
    assert pages(scanned) == by_index
    monkeypatch.delattr(Samples, "_count")
    assert pages(scanned) == by_index
    with pytest.raises(AttributeError, match="_count"):
        scanned.page({"_id": {"$in": ids}})


def test_files_that_lack_columns_of_a_complete_table(spark: SparkSession, tmp_path: Path) -> None:
    """Where nothing has to be said of a row, as of one that was only measured, `optimize` leaves its file as it is."""
    tables = Warehouse(spark, str(tmp_path))
    make_old(tables)
    rows = [{"_id": f"{number:032x}", "width": number} for number in range(30)]
    old = to_frame(spark, rows).drop(*DERIVED).coalesce(1)
    tables.append_once(old, "samples", app_id="test", version=0)
    upgrade(tables)
    boxes = [[{"classname": "cat", "x1": 1}]]
    new = to_frame(spark, [{"_id": "f" * 32, "width": 1, "object_analysis": boxes}]).coalesce(1)
    tables.append_once(new, "samples", app_id="test", version=1)
    assert is_complete(tables.properties("samples"), tables.version("samples"))
    reader = Samples(tables.root)
    cat: dict[str, Any] = {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat"}}}}
    assert [row["_id"] for row in reader.page(cat).data] == ["f" * 32]
    assert reader.page({"$nor": [cat]}).length == 30
    assert reader.page({"objects.cat.count": {"$gte": 1}}, fields="all").length == 1
    assert reader.page({}, sort={"objects.cat.count": -1}).data[0]["_id"] == "f" * 32
    assert page(tables, {"$nor": [cat]}, engine="spark").length == 30
