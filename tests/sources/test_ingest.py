"""Lists in every form, and folders of pictures."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from cortex_spark.errors import CortexError
from cortex_spark.sources import ingest, store
from cortex_spark.sources.ingest import checked_source, ingest_files, ingest_urls
from cortex_spark.sources.lists import read_list
from cortex_spark.sources.staged import FINDING, REFERENCE, StagedFile
from cortex_spark.table import Warehouse
from cortex_spark.table.removal import remember

TEXT = b"""# a comment
https://example.com/a.jpg

  https://example.com/b.jpg\t
cat.jpg
https://example.com/a.jpg#again
data:image/gif;base64,AAAA
"""
CSV = (
    b"id,URL,Alt_Text,page_url\r\n"
    b'1,https://example.com/a.jpg,"A cat,\nasleep",https://example.com/\r\n'
    b"2,https://example.com/b.jpg,,\r\n"
    b"3,ftp://example.com/c.jpg,,\r\n"
    b"4\r\n"
)


def staged(path: Path) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]], Counter[str]]:
    """The references, the findings and the tally of a list."""
    collected = StagedFile(0, "public")
    for _ in read_list(str(path), collected):
        pass
    rows = [row for batch in collected.batches(end=True) for row in batch.to_pylist()]
    references = [row for row in rows if row["event"] == REFERENCE]
    findings = [(row["position"], row["name"], row["detail"]) for row in rows if row["event"] == FINDING]
    return references, findings, collected.tally


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["urls.txt", "urls.txt.gz", "urls.lst", "urls", "urls.gz", "urls.txt.misnamed"])
def test_text(tmp_path: Path, name: str) -> None:
    references, findings, tally = staged(written(tmp_path, name, TEXT))
    assert [row["url"] for row in references] == ["https://example.com/a.jpg", "https://example.com/b.jpg"]
    assert findings == [(5, "bad_url", "cat.jpg"), (7, "data_uri", "data:image/gif;base64,AAAA")]
    assert (tally["records"], tally["references"], tally["dropped:bad_url"]) == (5, 3, 1)


@pytest.mark.parametrize("name", ["urls.csv", "urls.CSV.gz", "urls.tsv"])
def test_csv(tmp_path: Path, name: str) -> None:
    data = CSV.replace(b",", b"\t") if name.endswith(".tsv") else CSV
    references, findings, tally = staged(written(tmp_path, name, b"\xef\xbb\xbf" + data))
    comma = "\t" if name.endswith(".tsv") else ","
    assert [(row["url"], row["alt_text"], row["page_url"]) for row in references] == [
        ("https://example.com/a.jpg", f"A cat{comma}\nasleep", "https://example.com/"),
        ("https://example.com/b.jpg", None, None),
    ]
    assert findings == [(5, "not_http", "ftp://example.com/c.jpg"), (6, "empty", "")]
    assert tally["records"] == 4


def test_parquet(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "page_url": ["https://example.com/", None, None],
        "URL": ["https://example.com/a.jpg", None, "https://example.com/b.jpg"],
        "width": [1, 2, 3],
    }
    pq.write_table(pa.table(columns), tmp_path / "urls.parquet")
    references, findings, _ = staged(tmp_path / "urls.parquet")
    assert [(row["url"], row["alt_text"], row["page_url"]) for row in references] == [
        ("https://example.com/a.jpg", None, "https://example.com/"),
        ("https://example.com/b.jpg", None, None),
    ]
    assert findings == [(2, "empty", "")]


def test_bytes_that_are_no_text_cost_one_url(tmp_path: Path) -> None:
    references, findings, _ = staged(written(tmp_path, "urls.txt", b"http://h/\xff.jpg\nhttp://h/b.jpg\n"))
    assert [row["url"] for row in references] == ["http://h/b.jpg"]
    assert findings == [(1, "bad_url", "http://h/?.jpg")]
    lines = b"url,alt_text\nhttp://h/\xff.jpg,a\nhttp://h/b.jpg,\xff\n"
    references, findings, _ = staged(written(tmp_path, "urls.csv", lines))
    assert [(row["url"], row["alt_text"]) for row in references] == [("http://h/b.jpg", "?")]
    assert findings == [(2, "bad_url", "http://h/?.jpg")]


def test_bytes_in_parquet_that_are_no_text_cost_one_url(tmp_path: Path) -> None:
    urls = pa.array([b"http://h/\xff.jpg", b"http://h/b.jpg", None], pa.binary())
    pq.write_table(pa.table({"url": urls}), tmp_path / "urls.parquet")
    references, findings, _ = staged(tmp_path / "urls.parquet")
    assert [row["url"] for row in references] == ["http://h/b.jpg"]
    assert findings == [(1, "bad_url", "http://h/?.jpg"), (3, "empty", "")]


def test_a_parquet_list_whose_columns_are_no_texts_is_unusable(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://h/a.jpg"], "alt_text": [["a", "b"]]}), tmp_path / "urls.parquet")
    with pytest.raises(CortexError, match="not a Parquet file of texts"):
        staged(tmp_path / "urls.parquet")


def test_a_file_with_many_pictures_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cortex_spark.sources.staged._REMEMBERED", 10)
    lines = "".join(f"http://h/{number % 25}.jpg\n" for number in range(1000))
    collected = StagedFile(0, "public")
    for _ in read_list(str(written(tmp_path, "urls.txt", lines.encode())), collected):
        assert len(collected._seen) <= 10
    assert collected.tally["references"] == 1000


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("urls.csv", b"link,text\nhttp://h/a,b\n", "no column 'url' among link, text"),
        ("urls.csv", b"", "no column 'url'"),
        ("urls.parquet", b"PAR1 not really", "not a Parquet file"),
    ],
)
def test_unusable_lists(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(CortexError, match=message):
        staged(written(tmp_path, name, data))


def test_a_list_that_is_cut_off_keeps_what_came_before(tmp_path: Path) -> None:
    lines = b"".join(b"https://example.com/%d.jpg\n" % number for number in range(20_000))
    path = tmp_path / "urls.txt.gz"
    path.write_bytes(gzip.compress(lines)[:-1000])
    collected = StagedFile(0, "public")
    with pytest.raises(CortexError, match="damaged"):
        for _ in read_list(str(path), collected):
            pass
    assert 10_000 < collected.tally["references"] < 20_000


def test_ingest_urls(spark: SparkSession, warehouse: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    written(lists, "b.txt", TEXT)
    written(lists, "a.csv.gz", CSV)
    written(lists, "c.csv", b"link\n")
    target = Warehouse(spark, str(warehouse))
    before = datetime.now(UTC)
    report = ingest_urls(target, [f"{lists}/b.txt", str(lists)], "crowdsourced")
    assert (report.files, report.unreadable, report.records) == (3, 1, 9)
    assert report.references == {"list": 5}
    assert report.dropped == {"bad_url": 1, "data_uri": 1, "empty": 1, "not_http": 1}
    assert (report.pictures, report.new) == (2, 2)
    assert report.findings_total == 5
    assert "b.txt, line 5: bad_url (cat.jpg)" in "".join(str(line) for line in report._finding_lines())
    rows = {row["url"]: row for row in target.read("image_urls").collect()}
    row = rows["https://example.com/a.jpg"]
    assert (row["source"], row["reference"], row["host"]) == ("crowdsourced", "list", "example.com")
    assert (row["alt_text"], row["crawl"], row["directives"]) == (None, None, [])  # b.txt came first
    assert abs(row["discovered_at"].replace(tzinfo=UTC) - before) < timedelta(minutes=10)
    assert len(rows) == 2


def picture(path: Path, colour: int, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path, kind)
    return path


def test_ingest_files(spark: SparkSession, warehouse: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    cat = picture(folder / "cat.jpg", 1)
    picture(folder / "deep" / "er" / "no extension", 2, "PNG")
    picture(folder / "deep" / "same as cat.webp", 1)
    picture(folder / "Ünï.txt", 3, "WEBP")
    (folder / "fake.jpg").write_bytes(b"<html>not a picture</html>")
    (folder / "empty.png").touch()
    (folder / "link.jpg").symlink_to(cat)
    (folder / "broken.jpg").symlink_to(folder / "nothing")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    target = Warehouse(spark, str(warehouse))
    report = ingest_files(target, str(folder))
    assert (report.files, report.references, report.pictures, report.new) == (9, {"file": 5}, 3, 3)
    assert report.dropped == {"not_an_image": 1, "empty": 1, "not_a_file": 2}
    rows = target.read("image_urls").collect()
    assert {(row["source"], row["host"], row["reference"], row["page_url"]) for row in rows} == {
        ("private", None, "file", None)
    }
    assert cat.read_bytes() in [store.read(str(warehouse), row["url"]) for row in rows]
    assert len([path for path in (warehouse / "store").rglob("*") if path.is_file()]) == 3
    again = ingest_files(target, str(folder), "synthetic")
    assert (again.pictures, again.new, again.known) == (3, 0, 3)


def test_what_is_taken_down_while_pictures_are_copied_does_not_stay(
    spark: SparkSession, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Warehouse(spark, str(warehouse))
    cats = [picture(tmp_path / "pictures" / f"{colour}.jpg", colour) for colour in (0, 200)]
    hashes = [hashlib.sha256(cat.read_bytes()).hexdigest() for cat in cats]
    keep = ingest._keep

    def late(root: str, refused: frozenset[str], path: Path) -> Any:
        if path == cats[0]:
            remember(target, [("hash", hashes[0])], None)
        return keep(root, refused, path)

    monkeypatch.setattr(ingest, "_keep", late)
    ingest_files(target, str(tmp_path / "pictures"))
    assert [store.store_path(str(warehouse), found).exists() for found in hashes] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nowhere",), "no such folder"), ((".", "public"), "give their URLs")],
)
def test_ingest_files_refuses(spark: SparkSession, warehouse: Path, arguments: Any, message: str) -> None:
    with pytest.raises(CortexError, match=message):
        ingest_files(Warehouse(spark, str(warehouse)), *arguments)


def test_a_store_in_a_bucket_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(CortexError, match="not in a bucket"):
        ingest_files(Warehouse(spark, "s3a://bucket/warehouse"), str(tmp_path))


def test_sources() -> None:
    assert checked_source("synthetic") == "synthetic"
    with pytest.raises(CortexError, match="public, private, crowdsourced, synthetic"):
        checked_source("commoncrawl")
