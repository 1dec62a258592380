"""The WAT file: the layout of real ones, and nothing that they do not have."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator

from cortex_spark.demo.warc import Capture, write_warc
from cortex_spark.demo.wat import derive_wat, html_metadata


def envelopes(path: Path) -> list[dict[str, Any]]:
    """The JSON records of a WAT file, plain or gzip; a cut-off record ends a file's list."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return [json.loads(line) for line in data.decode("utf-8").splitlines() if line.startswith("{")]


def json_paths(value: Any, path: str = "") -> Iterator[str]:
    """Every path to a leaf: indices folded to ``[]``, names of HTTP headers to ``*``."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from json_paths(part, f"{path}.{'*' if path.endswith('.Headers') else name}")
    elif isinstance(value, list):
        for part in value:
            yield from json_paths(part, f"{path}[]")
    else:
        yield path


@pytest.fixture
def captured(tmp_path: Path) -> Path:
    page = b"<html><head><title>One &amp; two</title></head><body><img src='a.png?x=1&amp;y=2' alt='A'></body></html>"
    headers = (("Content-Type", "text/html"), ("X-Robots-Tag", "noai"))
    write_warc([Capture("http://a.localhost:1/p/1.html", headers, page)], tmp_path / "one.warc.gz", "CC-TEST-1")
    return tmp_path / "one.warc.gz"


def test_records_of_a_warc(captured: Path) -> None:
    with captured.open("rb") as stream:
        records = [
            (record.headers["WARC-Type"], record.headers.get("WARC-Target-URI"), record.reader.read())
            for record in ArchiveIterator(stream, parse_http=True)
        ]
    assert [record[:2] for record in records] == [
        ("warcinfo", None),
        ("request", "http://a.localhost:1/p/1.html"),
        ("response", "http://a.localhost:1/p/1.html"),
    ]
    assert records[2][2].startswith(b"<html>")


def test_wat_says_where_and_what(captured: Path, tmp_path: Path) -> None:
    wat = tmp_path / "one.warc.wat.gz"
    assert derive_wat(captured, wat) == 3
    response = envelopes(wat)[2]
    offset = int(response["Container"]["Offset"])
    size = int(response["Container"]["Gzip-Metadata"]["Deflate-Length"])
    assert b"One &amp; two" in gzip.decompress(captured.read_bytes()[offset : offset + size])
    http = response["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    assert http["Headers"]["X-Robots-Tag"] == "noai"
    assert http["HTML-Metadata"] == {
        "Head": {"Title": "One & two"},
        "Links": [{"path": "IMG@/src", "url": "a.png?x=1&y=2", "alt": "A"}],
    }


def test_every_record_is_a_gzip_member(captured: Path, tmp_path: Path) -> None:
    wat = tmp_path / "one.warc.wat.gz"
    derive_wat(captured, wat)
    with wat.open("rb") as stream:
        kinds = [(record.headers["WARC-Type"], record.http_content_type) for record in ArchiveIterator(stream)]
    assert [kind for kind, _ in kinds] == ["warcinfo", "metadata", "metadata", "metadata"]
    assert wat.read_bytes().count(b"\x1f\x8b\x08") >= 4


@pytest.mark.parametrize(
    ("page", "links"),
    [
        ("", None),
        ("<img src=a.jpg>", [{"path": "IMG@/src", "url": "a.jpg"}]),
        ("<IMG SRC='a.jpg' ALT='' TITLE=t>", [{"path": "IMG@/src", "url": "a.jpg", "alt": "", "title": "t"}]),
        ("<img srcset='a.jpg 2x'>", None),  # no WAT has srcset
        ("<img src=''>", [{"path": "IMG@/src", "url": ""}]),
        ("<td background=b.gif>", [{"path": "TD@/background", "url": "b.gif"}]),
        ("<video poster=p.jpg></video>", [{"path": "VIDEO@/poster", "url": "p.jpg"}]),
        ("<style>i { background: url('c.png') }</style>", [{"path": "STYLE/#text", "href": "c.png"}]),
        # A link comes where it ends, with its text.
        (
            "<a href=b.jpg target=_blank><img src=s.jpg> big\n one</a>",
            [
                {"path": "IMG@/src", "url": "s.jpg"},
                {"path": "A@/href", "url": "b.jpg", "target": "_blank", "text": "big one"},
            ],
        ),
        ("<a name=here>text</a>", None),
        (f"<a href=b>{'x' * 200}</a>", [{"path": "A@/href", "url": "b", "text": "x" * 128}]),
    ],
)
def test_links(page: str, links: list[dict[str, str]] | None) -> None:
    assert html_metadata(page).get("Links") == links


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("<meta name=robots content=noai>", {"Metas": [{"name": "robots", "content": "noai"}]}),
        # The attribute "property" is in no WAT at hand: its address stands there without its name.
        ("<meta property='og:image' content=o.jpg>", {"Metas": [{"content": "o.jpg"}]}),
        ("<html lang=de>", {"Metas": [{"name": "HTML@/lang", "content": "de"}]}),
        ("<link rel=icon href=f.ico>", {"Link": [{"path": "LINK@/href", "url": "f.ico", "rel": "icon"}]}),
        ("<script src=a.js></script>", {"Scripts": [{"path": "SCRIPT@/src", "url": "a.js"}]}),
        ("<base href=/b/><title> a\n b </title>", {"Title": "a b"}),
    ],
)
def test_head(head: str, expected: dict[str, Any]) -> None:
    assert html_metadata(head).get("Head") == expected


def test_derives_what_common_crawl_derived(shared: Path, tmp_path: Path) -> None:
    """The one record of which both the WARC and the real WAT are at hand, a request."""
    real = envelopes(shared / "crawl" / "whirlwind.warc.wat.gz")[0]
    wat = tmp_path / "whirlwind.warc.wat.gz"
    derive_wat(shared / "crawl" / "whirlwind.warc.gz", wat)
    ours = next(
        record
        for record in envelopes(wat)
        if record["Envelope"]["WARC-Header-Metadata"]["WARC-Record-ID"]
        == real["Envelope"]["WARC-Header-Metadata"]["WARC-Record-ID"]
    )
    # The WARC at hand was written again since: its records got two more digests each, and another place.
    assert ours["Envelope"]["Payload-Metadata"] == real["Envelope"]["Payload-Metadata"]
    headers = ours["Envelope"]["WARC-Header-Metadata"]
    assert {name: headers[name] for name in real["Envelope"]["WARC-Header-Metadata"]} == (
        real["Envelope"]["WARC-Header-Metadata"]
    )
    assert set(json_paths(ours["Container"])) == set(json_paths(real["Container"]))
    assert list(ours["Envelope"]) == list(real["Envelope"])


def test_paths_of_the_demo_are_paths_of_real_files(shared: Path, demo_wat: Path) -> None:
    real = {
        path
        for file in sorted((shared / "crawl").glob("*.wat*"))
        for record in envelopes(file)
        for path in json_paths(record)
    }
    ours = {path for record in envelopes(demo_wat) for path in json_paths(record)}
    assert len(ours) > 40
    assert ours - real == set()
