"""Files on disk, on a local S3 server, and behind http."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cortex_spark.errors import CortexError
from cortex_spark.sources.files import crawl_files, crawl_of, expand, open_stream, total_size
from tests.sources.conftest import Bucket, Server

WATS = (".wat", ".wat.gz")


def content(path: str) -> bytes:
    with open_stream(path) as read:
        return b"".join(iter(lambda: read(3), b""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ["b.wat", "a.wat.gz", "deep/er/c.wat", "notes.txt", "_temporary/d.wat", ".hidden.wat", "[1].wat"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("b.wat", ["b.wat"]),
        ("notes.txt", ["notes.txt"]),  # a file that is named is taken, whatever it is called
        ("", ["[1].wat", "a.wat.gz", "b.wat", "deep/er/c.wat"]),
        ("*.wat*", ["[1].wat", "a.wat.gz", "b.wat"]),
        ("**/*.wat", ["[1].wat", "b.wat", "deep/er/c.wat"]),
        ("deep/*/?.wat", ["deep/er/c.wat"]),
        ("[ab].*", ["a.wat.gz", "b.wat"]),
        ("[1].wat", ["[1].wat"]),
    ],
)
def test_expand(folder: Path, pattern: str, names: list[str]) -> None:
    assert expand([f"{folder}/{pattern}"], WATS) == [f"{folder}/{name}" for name in names]


def test_expand_keeps_the_given_order_and_takes_nothing_twice(folder: Path) -> None:
    assert expand([f"{folder}/b.wat", f"{folder}/*.wat"], WATS) == [f"{folder}/b.wat", f"{folder}/[1].wat"]


def test_relative_paths_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand(["b.wat"], WATS) == [f"{folder}/b.wat"]


@pytest.mark.parametrize("pattern", ["nothing.wat", "*.zip", "nowhere/*.wat", "gopher://example.com/a.wat"])
def test_what_names_nothing_is_an_error(folder: Path, pattern: str) -> None:
    with pytest.raises(CortexError, match=r"no such file|Unrecognized"):
        expand([pattern if "://" in pattern else f"{folder}/{pattern}"], WATS)


def test_local_files(folder: Path) -> None:
    assert content(f"{folder}/a.wat.gz") == b"a.wat.gz"  # as it is stored: nothing is decompressed here
    assert total_size([f"{folder}/a.wat.gz", f"{folder}/b.wat"]) == pytest.approx(13e-6)
    assert total_size(["http://example.com/a.wat"]) is None


def test_s3(bucket: Bucket) -> None:
    bucket.put("crawl/b.wat.gz", b"bbbb")
    bucket.put("crawl/deep/a.wat", b"aaaa")
    bucket.put("crawl/notes.txt", b"")
    files = [f"s3://{bucket.name}/crawl/b.wat.gz", f"s3://{bucket.name}/crawl/deep/a.wat"]
    assert expand([f"s3://{bucket.name}/crawl"], WATS) == files
    assert expand([f"s3://{bucket.name}/crawl/**/*.wat*"], WATS) == files
    assert expand([f"s3a://{bucket.name}/crawl/b.wat.gz"], WATS) == [f"s3a://{bucket.name}/crawl/b.wat.gz"]
    assert content(files[0]) == content(f"s3a://{bucket.name}/crawl/b.wat.gz") == b"bbbb"
    with pytest.raises(CortexError, match="no such file"):
        expand([f"s3://{bucket.name}/nothing/*.wat"], WATS)
    with pytest.raises(OSError, match="nothing"):
        content(f"s3://{bucket.name}/nothing.wat")


def test_http(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_spark.sources.files._PAUSES", (0.0, 0.0))
    server.bodies["/a.wat"] = b"aaaaa"
    server.busy["/a.wat"] = 2
    assert expand([server.url + "a.wat"], WATS) == [server.url + "a.wat"]
    assert content(server.url + "a.wat") == b"aaaaa"
    with pytest.raises(OSError, match="404"):
        content(server.url + "b.wat")
    server.busy["/a.wat"] = 3
    with pytest.raises(OSError, match="503"):
        content(server.url + "a.wat")


def test_retry_after_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    server.bodies["/a.wat"] = b"aaaaa"
    server.busy["/a.wat"], server.retry_after = 2, "30"
    assert content(server.url + "a.wat") == b"aaaaa"
    assert waited == [30.0, 30.0]
    server.busy["/a.wat"], server.retry_after = 1, "3600"
    with pytest.raises(OSError, match="503"):
        content(server.url + "a.wat")


def test_proxies_of_the_environment_are_not_obeyed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.bodies["/a.wat"] = b"aaaaa"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert content(server.url + "a.wat") == b"aaaaa"


def test_an_http_answer_that_ends_early_is_an_error(server: Server) -> None:
    server.bodies["/a.wat"] = b"aaaaa"
    server.announced["/a.wat"] = 9
    with pytest.raises(OSError, match="4 bytes before"):
        content(server.url + "a.wat")


PATHS = [f"crawl-data/CC-MAIN-2024-22/segments/{number}/wat/x-{number}.warc.wat.gz" for number in range(5)]


def test_crawl_files(server: Server) -> None:
    listing = gzip.compress("\n".join(PATHS).encode())
    server.bodies["/crawl-data/CC-MAIN-2024-22/wat.paths.gz"] = listing
    found = crawl_files("CC-MAIN-2024-22", 2, server.url)
    assert found == [server.url + path for path in PATHS[:2]]
    assert crawl_of(found[0]) == "CC-MAIN-2024-22"
    assert len(crawl_files("CC-MAIN-2024-22", 100, server.url.rstrip("/"))) == 5
    assert crawl_files("CC-MAIN-2024-22", 2, server.url, skip=2) == [server.url + path for path in PATHS[2:4]]
    with pytest.raises(CortexError, match="--skip 5: the crawl CC-MAIN-2024-22 has 5 files"):
        crawl_files("CC-MAIN-2024-22", 1, server.url, skip=5)
    with pytest.raises(CortexError, match="404"):
        crawl_files("CC-MAIN-2024-23", 1, server.url)
    server.bodies["/crawl-data/CC-MAIN-2024-22/wat.paths.gz"] = listing[:-9]
    with pytest.raises(CortexError, match="cannot be read"):
        crawl_files("CC-MAIN-2024-22", 1, server.url)
    with pytest.raises(CortexError, match="names like"):
        crawl_files("../secret", 1, server.url)


def test_crawl_files_from_a_bucket(bucket: Bucket) -> None:
    bucket.put("crawl-data/CC-MAIN-2024-22/wat.paths.gz", gzip.compress(PATHS[0].encode()))
    assert crawl_files("CC-MAIN-2024-22", 1, f"s3://{bucket.name}/") == [f"s3://{bucket.name}/{PATHS[0]}"]
