"""Take-downs down to the bytes on disk: real jobs make a warehouse, and of what is taken down nothing is left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from cortex_spark.config import Settings
from cortex_spark.demo.server import Answer, Server
from cortex_spark.engine.label import LabelJob
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.errors import CortexError
from cortex_spark.export.parquet import export
from cortex_spark.forget.requests import Entry, entries
from cortex_spark.forget.takedown import forget, would_go
from cortex_spark.query.page import page, reading
from cortex_spark.sources import store
from cortex_spark.sources.datasource import UrlListDataSource, files_of
from cortex_spark.sources.ingest import ingest_files, ingest_urls
from cortex_spark.sources.landing import land
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse, removal
from cortex_spark.table.forgotten import MARK, Memory, hashed, marked, recall, without_forgotten
from cortex_spark.table.samples import _merged
from tests.web import JPEG, discover, photographs

SETTINGS = Settings(allow_private_hosts=("*.localhost",), obey_robots=False, host_delay=0)


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    """In a folder with characters that Spark's readers expand in paths."""
    return Warehouse(spark, str(warehouse.with_name("warehouse [1] {a,b}*")))


@pytest.fixture
def web() -> Iterator[Server]:
    with Server() as server:
        yield server


def listed(path: Path, *rows: tuple[str, str]) -> list[str]:
    """A list for ``cortex ingest`` of URLs and the pages where they were found."""
    path.write_text("url,page_url\n" + "".join(f"{url},{page_url}\n" for url, page_url in rows))
    return [str(path)]


def label(tables: Warehouse, job: type[LabelJob] = LabelJob) -> dict[str, int]:
    return dict(job(tables, None, EngineConfig(SETTINGS, tables.root), show=False).run().outcomes)


def ids(tables: Warehouse, table: str) -> set[str]:
    return {row["_id"] for row in tables.read(table).select("_id").collect()}


def left_on_disk(folder: Path, needles: set[str]) -> dict[str, set[str]]:
    """Which of ``needles`` stand in which files: in values and footers of Parquet, and anywhere in others."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.name
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            content += str(file.read().to_pylist()) + json.dumps(file.metadata.to_dict(), default=str)
        else:
            content += path.read_bytes().decode("latin-1")
        held = {needle for needle in needles if needle in content}
        # The memory itself is made of hashes; names must not stand there either.
        if path.relative_to(folder).parts[0] == "forgotten":
            held = {needle for needle in held if "." in needle}
        if held:
            found[str(path.relative_to(folder))] = held
    return found


@pytest.mark.timeout(600)  # some minutes on a machine with other things to do
def test_down_to_the_bytes(tables: Warehouse, web: Server, shared: Path, tmp_path: Path) -> None:
    photos = [answer.body for answer in photographs(shared, 8).values()]
    page_url = "http://news.localhost/scandal"

    def at(host: str, path: str) -> str:
        return f"http://{host}.localhost:{web.port}/{path}.jpg"

    redirect = Answer(status=301, headers=(("Location", at("gone", "target")),))
    web.publish(
        {
            ("kept.localhost", "/kept.jpg"): Answer(photos[0], JPEG),
            ("kept.localhost", "/by-url.jpg"): Answer(photos[1], JPEG),
            ("kept.localhost", "/by-hash.jpg"): Answer(photos[2], JPEG),
            ("copies.localhost", "/same-hash.jpg"): Answer(photos[2], JPEG),
            ("kept.localhost", "/by-page.jpg"): Answer(photos[3], JPEG),
            ("gone.localhost", "/by-host.jpg"): Answer(photos[4], JPEG),
            ("a.below.localhost", "/by-domain.jpg"): Answer(photos[5], JPEG),
            ("below.localhost", "/kept-too.jpg"): Answer(photos[6], JPEG),
            ("kept.localhost", "/redirected.jpg"): redirect,
            ("gone.localhost", "/target.jpg"): Answer(photos[7], JPEG),
        }
    )
    kept = {at("kept", "kept"), at("below", "kept-too")}
    gone = {
        *(at("kept", name) for name in ("by-url", "by-hash", "by-page", "redirected")),
        *(at("gone", "by-host"), at("gone", "missing"), at("a.below", "by-domain"), at("copies", "same-hash")),
    }
    urls = [(url, page_url if "by-page" in url else "http://kept.localhost/") for url in sorted(kept | gone)]
    lists = listed(tmp_path / "urls.csv", *urls)
    private = tmp_path / "private"
    private.mkdir()
    mine = sorted((shared / "photos" / "images" / "train").glob("*.jpg"))[:2]
    for photo in mine:
        (private / photo.name).write_bytes(photo.read_bytes())
    ingest_urls(tables, lists)
    ingest_files(tables, str(private))
    assert label(tables) == {"ok": 11, "moved": 1, "http_404": 1}
    before = tables.version("samples")
    hashes = {row["url"]: row["hash"] for row in tables.read("samples").collect()}
    assert set(hashes) == (kept | gone) - {at("gone", "missing")} | {url for url in hashes if store.is_stored(url)}
    stored = sorted(url for url in hashes if store.is_stored(url))
    assert len(stored) == 2

    asked = entries(
        urls=[at("kept", "by-url").replace("http://kept", "HTTP://Kept") + "#top", stored[0]],
        hosts=["gone.localhost", "*.below.localhost"],
        hashes=[hashes[at("kept", "by-hash")]],
        pages=[page_url],
    )
    gone_ids = {image_id(url) for url in {*gone, stored[0]}}
    kept_ids = {image_id(url) for url in {*kept, stored[1]}}
    counts = would_go(tables, asked)
    assert (counts["samples"], counts["image_urls"]) == (len(gone), len(gone_ids))
    assert recall(tables).values == {}

    # Killed before one step after the other: nobody sees what is half removed, and each call goes on.
    def killed_before(step: str, requested: Iterable[Entry] = ()) -> None:
        def die(now: str) -> None:
            if now == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            forget(tables, requested, say=die)

    killed_before("removing rows of attempts", asked)
    assert ids(tables, "samples") == kept_ids | gone_ids - {image_id(at("gone", "missing"))}
    assert {row["_id"] for row in page(tables, {}).data} == kept_ids
    assert export(tables, {}, str(tmp_path / "export"), private=True).rows == len(kept_ids)
    killed_before("removing rows of image_urls")
    killed_before("removing files")
    report = forget(tables, ())
    assert report.removal.waiting == []
    assert report.removal.pictures == 1
    assert recall(tables).is_removed

    needles = {
        *gone_ids,
        *gone,
        *(hashes[url] for url in {*gone, stored[0]} & set(hashes)),
        *("gone.localhost", "a.below.localhost", page_url, at("gone", "target")),
    }
    assert left_on_disk(Path(tables.root), needles) == {}
    assert hashed("gone.localhost") in recall(tables).of("host")
    for table in ("samples", "image_urls", "plans", "attempts"):
        assert ids(tables, table) == kept_ids, table
    with pytest.raises(CortexError, match="taken down"):
        page(tables, {}, version=before)
    with pytest.raises(CortexError, match="taken down"), reading(tables, before):
        tables.read("samples", before).collect()  # as where it happens in the middle
    with pytest.raises(CortexError, match="taken down"):
        export(tables, {}, str(tmp_path / "old"), version=before)

    # Whatever is tried, it does not come back.
    web.publish({("new.localhost", "/copy.jpg"): Answer(photos[2], JPEG)})
    requests = len(web.requests())
    again = ingest_urls(tables, lists)
    assert (again.new, again.dropped["forgotten"], again.pictures) == (0, len(gone), len(kept))
    assert ingest_files(tables, str(private)).dropped["forgotten"] == 1
    ingest_urls(tables, listed(tmp_path / "new.csv", (at("new", "copy"), "")))
    assert label(tables) == {"forgotten": 1}
    assert len(web.requests()) == requests + 1
    assert ids(tables, "samples") == kept_ids
    assert not store.store_path(tables.root, hashes[stored[0]]).exists()
    # Another page's picture is its own affair.
    back = ingest_urls(tables, listed(tmp_path / "other.csv", (at("kept", "by-page"), "http://other.localhost/")))
    assert back.new == 1


@pytest.mark.timeout(120)
def test_where_redirects_lead_is_compared_in_compiled_queries_too(
    spark: SparkSession, compiled: None, tmp_path: Path
) -> None:
    """As `cortex forget` runs them, above a scan of files: the URL rule is Python."""
    names = ("final_url", "location")
    urls = {name: f"concat('http://{name}', id, '.example/') AS {name}" for name in names}
    rows = spark.range(100).selectExpr("CAST(id AS string) AS _id", "'kept.example' AS host", *urls.values())
    rows.write.format("delta").save(str(tmp_path))
    memory = Memory({"host": frozenset({hashed("final_url7.example"), hashed("location8.example")})})
    found = marked(spark.read.format("delta").load(str(tmp_path)), memory).where(MARK)
    assert {row["_id"] for row in found.collect()} == {"7", "8"}


@pytest.mark.soak
def test_a_job_at_work_brings_nothing_back(
    tables: Warehouse, web: Server, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = photographs(shared, 4, hosts=4)
    web.publish(answers)
    urls = [f"http://{host}:{web.port}{path}" for host, path in answers]
    taken: list[str] = []

    def take_down(host: str) -> None:
        if host not in taken:
            taken.append(host)
            forget(tables, entries(hosts=[host]))

    def between(step: Callable[..., Any], host: str) -> Callable[..., Any]:
        def then(*arguments: Any, **named: Any) -> Any:
            result = step(*arguments, **named)
            take_down(host)
            return result

        return then

    def before(step: Callable[..., Any], host: str) -> Callable[..., Any]:
        def first(*arguments: Any, **named: Any) -> Any:
            take_down(host)
            return step(*arguments, **named)

        return first

    # An ingest has compared its rows and is about to merge them; a batch is about to be appended to attempts; a commit
    # has read what is forgotten and is about to merge.
    ingest_urls(tables, listed(tmp_path / "first.csv", (urls[3], "")))
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "insert_new", before(Warehouse.insert_new, "h0.localhost"))
        ingest_urls(tables, listed(tmp_path / "urls.csv", *((url, "") for url in urls)))
    assert len(ids(tables, "image_urls")) == 3

    class Raced(LabelJob):
        _checked = between(LabelJob._checked, "h1.localhost")

    with monkeypatch.context() as patch:
        door = "cortex_spark.table.samples.without_forgotten"
        patch.setattr(door, between(without_forgotten, "h2.localhost"))
        label(tables, Raced)
    assert taken == ["h0.localhost", "h1.localhost", "h2.localhost"]
    for table in ("image_urls", "plans", "attempts", "samples"):
        assert ids(tables, table) == {image_id(urls[3])}, table
    needles = {needle for url in urls[:3] for needle in (url, image_id(url))} | set(taken)
    assert left_on_disk(Path(tables.root), needles) == {}
    assert recall(tables).is_removed


def test_a_take_down_while_a_batch_is_merged(
    tables: Warehouse, web: Server, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the row in ``attempts`` and not yet in ``samples``: the merge has read it, and commits later."""
    answers = photographs(shared, 2, hosts=2)
    web.publish(answers)
    urls = [f"http://{host}:{web.port}{path}" for host, path in answers]
    discover(tables.spark, tables, urls)

    def late(warehouse: Warehouse, fresh: DataFrame, *, update: bool) -> int:
        read = fresh.localCheckpoint()
        if "attempts" not in taken:
            forget(tables, entries(hosts=["h0.localhost"]))
            taken.append("attempts")
            assert ids(tables, "attempts") == {image_id(urls[1])}
        return _merged(warehouse, read, update=update)

    taken: list[str] = []
    monkeypatch.setattr("cortex_spark.table.samples._merged", late)
    label(tables)
    assert taken
    for table in ("image_urls", "plans", "attempts", "samples"):
        assert ids(tables, table) == {image_id(urls[1])}, table


def test_files_of_jobs_that_run_are_left_to_them(tables: Warehouse, tmp_path: Path, spark: SparkSession) -> None:
    url = "http://a.example/1.jpg"
    ingest_urls(tables, listed(tmp_path / "urls.csv", (url, ""), ("http://b.example/2.jpg", "")))
    (committed,) = Path(tables.root, "image_urls").glob("*.parquet")
    # What a job has written and not committed yet, and what one is writing.
    written, harmless, torn = (committed.with_name(f"part-{name}.parquet") for name in ("written", "harmless", "torn"))
    written.write_bytes(committed.read_bytes())
    rows = pq.read_table(committed)
    pq.write_table(rows.filter(pc.field("url") != url), harmless)
    report = forget(tables, entries(urls=[url]))
    assert report.removal.waiting == ["image_urls/part-written.parquet"]
    assert not committed.exists()
    assert written.exists()
    assert not recall(tables).is_removed

    torn.write_bytes(b"PAR1")
    waiting = forget(tables, ()).removal.waiting
    assert sorted(waiting) == ["image_urls/part-torn.parquet", "image_urls/part-written.parquet"]
    # A killed job's, in the end: nobody can still be writing it, or commit it.
    old = time.time() - removal.UNFINISHED.total_seconds() - 60
    for path in (written, torn, harmless):
        os.utime(path, (old, old))
    last = forget(tables, ()).removal
    assert (last.waiting, last.files) == ([], 2)
    assert [path.exists() for path in (written, torn, harmless)] == [False, False, True]
    assert recall(tables).is_removed


def test_what_is_no_warehouse_does_not_become_one(tables: Warehouse, warehouse: Path) -> None:
    with pytest.raises(CortexError, match="is not a warehouse"):
        forget(tables, entries(hashes=["ab" * 32]))
    with pytest.raises(CortexError, match="is not a warehouse"):
        would_go(tables, ())
    assert not warehouse.exists()


def test_a_running_extracts_files_are_left_to_it(tables: Warehouse, tmp_path: Path) -> None:
    """It writes far below its folder, whose own time does not tell."""
    url = "http://a.example/1.jpg"
    ingest_urls(tables, listed(tmp_path / "urls.csv", (url, "")))
    old = time.time() - removal.UNFINISHED.total_seconds() - 60
    runs, killed = (Path(tables.root, "_staging", name) for name in ("runs", "killed"))
    for folder in (runs, killed):
        task = folder / "_temporary" / "0" / "task_1"
        task.mkdir(parents=True)
        (task / "part-0.parquet").write_bytes(b"PAR1")
        times = [old, old] if folder == killed else [time.time()] * 2
        os.utime(task / "part-0.parquet", (times[0], times[1]))
        for above in (task, *task.parents[:3]):
            os.utime(above, (old, old))
    assert forget(tables, entries(urls=[url])).removal.waiting == ["_staging/runs"]
    assert (runs.exists(), killed.exists()) == (True, False)


def test_staged_rows_that_are_gone_are_noticed(tables: Warehouse, tmp_path: Path) -> None:
    lists = [listed(tmp_path / f"{number}.csv", (f"http://a.example/{number}.jpg", ""))[0] for number in range(3)]

    def stage(folder: str) -> None:
        frame = files_of(tables.spark, UrlListDataSource, lists, source="public")
        frame.where("file <> 1").write.parquet(folder)

    with pytest.raises(CortexError, match="1 of 3 files is gone"):
        land(tables, lists, stage)
    assert not tables.has("image_urls")


def test_who_clears_image_urls_by_hand_loses_no_picture(tables: Warehouse, web: Server, shared: Path) -> None:
    answers = photographs(shared, 3, hosts=3)
    web.publish(answers)
    urls = [f"http://{host}:{web.port}{path}" for host, path in answers]
    discover(tables.spark, tables, urls)
    label(tables)
    tables.sql("DELETE FROM {image_urls} WHERE host <> 'h0.localhost'")
    forget(tables, entries(urls=urls[1:2]))
    assert ids(tables, "samples") == {image_id(urls[0]), image_id(urls[2])}
    assert ids(tables, "attempts") == {image_id(urls[0])}


def test_two_take_downs_at_once(tables: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One removes files that the other is about to read; and those of a merge that died before it had looked."""
    rows = [(f"http://{host}.example/{number}.jpg", "") for host in "ab" for number in range(3)]
    ingest_urls(tables, listed(tmp_path / "urls.csv", *rows))
    written = Path(tables.path("image_urls"), "part-written.parquet")
    written.write_bytes(next(Path(tables.path("image_urls")).glob("*.parquet")).read_bytes())
    holding = removal._rows

    def late(warehouse: Warehouse, path: Any) -> int | None:
        found = holding(warehouse, path)
        written.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(removal, "_rows", late)
    report = forget(tables, entries(hosts=["a.example"])).removal
    assert (report.rows["image_urls"], report.waiting) == (3, [])
    assert len(ids(tables, "image_urls")) == 3
