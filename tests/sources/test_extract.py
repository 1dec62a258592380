"""``extract`` as a Spark job: real files, damaged ones, every kind of address, and races."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from cortex_spark.errors import CortexError
from cortex_spark.schema import IMAGE_URLS
from cortex_spark.sources.extract import extract
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse
from tests.sources.conftest import Bucket, Server
from tests.sources.wats import gz, img, numbered, page, record


def rows(warehouse: Warehouse) -> dict[str, Row]:
    """The rows of image_urls by URL."""
    found = warehouse.read("image_urls").collect()
    assert len({row["_id"] for row in found}) == len(found)
    return {row["url"]: row for row in found}


def test_real_files(spark: SparkSession, warehouse: Path, shared: Path) -> None:
    target = Warehouse(spark, str(warehouse))
    crawl = shared / "crawl"
    files = [f"{crawl}/webindex-wat-18.wat", f"{crawl}/CC-MAIN-sample*.warc.wat.gz"]
    report = extract(target, files)
    assert report.references == {"img": 108 + 4 * 27, "link": 2 + 1 + 5}
    assert report.dropped == {"icon": 5}
    assert (report.files, report.records, report.pages, report.unreadable) == (5, 21, 8, 0)
    # 7 pictures are in all four variants of one page; the variants' links are 1 and 2 more.
    assert (report.pictures, report.new, report.known) == (49 + 7 + 3, 59, 0)
    assert [(Path(finding.file).name, finding.position) for finding in report.findings] == [
        ("CC-MAIN-sample.warc.wat.gz", 0),
        ("CC-MAIN-sample3.warc.wat.gz", 0),
    ]
    sizes = [path.stat().st_size for path in [crawl / "webindex-wat-18.wat", *crawl.glob("CC-MAIN-sample*")]]
    assert report.megabytes == pytest.approx(sum(sizes) / 1e6)
    assert 0 < report.task_seconds < report.seconds * os.cpu_count()  # type: ignore[operator]

    found = rows(target)
    assert target.read("image_urls").schema.names == IMAGE_URLS.names
    assert len(found) == 59
    url = "http://0x20.be/smw/skins/vector/images/search-ltr.png?303"
    assert found[url].asDict() == {
        "_id": image_id(url),
        "url": url,
        "host": "0x20.be",
        "source": "commoncrawl",
        "reference": "img",
        "page_url": "http://0x20.be/smw/index.php?title=Special:WhatLinksHere/Game_Night&hideredirs=1",
        "alt_text": "Search",
        "crawl": "CC-MAIN-2015-18",
        "discovered_at": datetime(2015, 4, 18, 3, 28, 35),
        "directives": ["noindex"],
        "url_rule": 1,
    }
    assert list(warehouse.glob("_staging/*")) == []

    again = extract(target, files)
    assert (again.pictures, again.new, again.known) == (59, 0, 59)
    assert again.references == report.references
    assert rows(target) == found


def test_first_seen_wins_and_damage_costs_no_more_than_it_must(
    spark: SparkSession, warehouse: Path, tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    cat = "https://example.com/cat.jpg"
    (tmp_path / "b.wat").write_bytes(record(page([img(cat, alt="first"), img(cat + "#again", alt="again")])))
    (tmp_path / "a.wat").write_bytes(record(page([img("HTTPS://EXAMPLE.com/cat.jpg", alt="later")])))
    members = [gzip.compress(one) for one in numbered(4)]
    server.bodies["/crawl-data/CC-MAIN-2024-22/cut.wat.gz"] = b"".join(members)[:-100]
    server.announced["/crawl-data/CC-MAIN-2024-22/cut.wat.gz"] = sum(map(len, members))
    broken = bytearray(b"".join(members))
    broken[len(members[0]) + 40] ^= 0xFF
    bucket.put("broken.wat.gz", bytes(broken))
    # Spark's workers may be older than the fixture, and so without its environment: all of it can stand in the URI.
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    s3 = f"s3://test:test@{bucket.name}/broken.wat.gz?scheme=http&endpoint_override={endpoint}&region=us-east-1"
    cut, missing = server.url + "crawl-data/CC-MAIN-2024-22/cut.wat.gz", server.url + "missing.wat.gz"
    target = Warehouse(spark, str(warehouse))
    report = extract(target, [f"{tmp_path}/b.wat", f"{tmp_path}/a.wat", cut, missing, s3])
    found = rows(target)
    assert (found[cat]["alt_text"], found[cat]["crawl"]) == ("first", None)
    assert found[cat]["discovered_at"] == datetime(2024, 5, 18, 1, 58, 10)
    assert found["https://example.com/0.jpg"]["crawl"] == "CC-MAIN-2024-22"
    assert sorted(found) == [f"https://example.com/{name}.jpg" for name in ("0", "1", "2", "3", "cat")]
    assert (report.files, report.unreadable, report.pictures) == (5, 1, 5)
    assert sum(report.references.values()) == 3 + 3 + 3
    assert [(finding.file, finding.position, finding.reason[:9]) for finding in report.findings] == [
        (cut, sum(map(len, members)) - 100, "broken of"),
        (missing, 0, "cannot be"),
        (s3, len(members[0]), "corrupt g"),
    ]


def test_what_one_page_forbids_is_forbidden(spark: SparkSession, warehouse: Path, tmp_path: Path) -> None:
    cat, dog = "https://example.com/cat.jpg", "https://example.com/dog.jpg"
    target = Warehouse(spark, str(warehouse))

    def load(*pages: tuple[str, str]) -> int:
        """One file with a page for each (picture, what the page says to robots); the number of new pictures."""
        payloads = [page([img(url, alt=said or "first")], headers={"X-Robots-Tag": said}) for url, said in pages]
        (tmp_path / "pages.wat").write_bytes(b"".join(map(record, payloads)))
        return extract(target, [f"{tmp_path}/pages.wat"]).new

    assert load((cat, ""), (cat, "noml"), (cat, "noai"), (cat, "noai"), (dog, "")) == 2
    found = rows(target)
    assert (found[cat]["directives"], found[dog]["directives"]) == (["noai", "noml"], [])
    assert load((dog, "noindex"), (cat, "noai"), (dog, "noai")) == 0
    assert rows(target) == {cat: found[cat], dog: Row(**found[dog].asDict() | {"directives": ["noai", "noindex"]})}
    version = target.version("image_urls")
    assert load((dog, "noai"), (cat, "")) == 0
    assert target.version("image_urls") == version


def test_nothing_to_read(spark: SparkSession, warehouse: Path, tmp_path: Path) -> None:
    target = Warehouse(spark, str(warehouse))
    with pytest.raises(CortexError, match="no such file"):
        extract(target, [f"{tmp_path}/nothing.wat"])
    with pytest.raises(CortexError, match="no WAT file"):
        extract(target, [])


def test_jobs_that_merge_at_the_same_moment_double_nothing(
    spark: SparkSession, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = 3
    for job in range(jobs):  # each knows ten pictures of its own, and ten that all know
        pictures = [*range(10), *range(100 * (job + 1), 100 * (job + 1) + 10)]
        links = [img(f"https://example.com/{number}.jpg") for number in pictures]
        (tmp_path / f"{job}.wat.gz").write_bytes(gz([record(page(links))]))
    target = Warehouse(spark, str(warehouse))
    target.read("image_urls")
    barrier = threading.Barrier(jobs)
    insert_new = Warehouse.insert_new

    def together(self: Warehouse, *arguments: Any) -> int:
        barrier.wait(60)
        return insert_new(self, *arguments)

    monkeypatch.setattr(Warehouse, "insert_new", together)
    new: list[int] = []

    def run(job: int) -> None:
        new.append(extract(target, [f"{tmp_path}/{job}.wat.gz"]).new)

    threads = [threading.Thread(target=run, args=(job,)) for job in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(target)) == 40
    assert sum(new) == 40


@pytest.fixture
def cortex(warehouse: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command in a process of its own."""

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cortex_spark.cli", *arguments, "--warehouse", str(warehouse), "--json"],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.soak
def test_two_processes_read_one_crawl(
    spark: SparkSession, warehouse: Path, server: Server, cortex: Callable[..., subprocess.Popen[str]]
) -> None:
    names = [f"crawl-data/CC-MAIN-2024-22/wat/{number}.warc.wat.gz" for number in range(3)]
    server.bodies["/crawl-data/CC-MAIN-2024-22/wat.paths.gz"] = gzip.compress("\n".join(names).encode())
    for number, name in enumerate(names):
        links = [img(f"https://example.com/{picture}.jpg") for picture in range(number * 10, number * 10 + 15)]
        server.bodies["/" + name] = gz([record(page(links))])
    processes = [
        cortex("extract", "--crawl", "CC-MAIN-2024-22", "--files", "2", CORTEX_CRAWL_BASE_URL=server.url)
        for _ in range(2)
    ]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(err for _, err in results)
    reports = [json.loads(out) for out, _ in results]
    assert [(report["files"], report["references"], report["pictures"]) for report in reports] == [
        (2, {"img": 30}, 25)
    ] * 2
    assert sum(report["new"] for report in reports) == 25
    found = rows(Warehouse(spark, str(warehouse)))
    assert len(found) == 25
    assert {row["crawl"] for row in found.values()} == {"CC-MAIN-2024-22"}
    assert {row["discovered_at"].replace(tzinfo=UTC) for row in found.values()} == {
        datetime(2024, 5, 18, 1, 58, 10, tzinfo=UTC)
    }
