"""Writes WARC records, each a gzip member of its own, as Common Crawl does."""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CRAWLED_AT: Final = "2026-11-01T00:00:00Z"  # fixed: the same pages make the same file
FORMAT: Final = {
    "format": "WARC File Format 1.0",
    "conformsTo": "http://bibnum.bnf.fr/WARC/WARC_ISO_28500_version1_latestdraft.pdf",
}


@dataclass(frozen=True)
class Capture:
    """One page as a crawler got it."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int = 200
    reason: str = "OK"


def record_id(*parts: str) -> str:
    """A record's identifier, the same for the same parts."""
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(parts))}>"


def sha1(data: bytes) -> str:
    """The digest of ``data`` as WARC headers write it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii")


def fields(pairs: Iterable[tuple[str, str]]) -> bytes:
    """``Name: value`` lines, of a WARC header, an HTTP header or a warcinfo record."""
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("utf-8")


def gzip_record(head: Iterable[tuple[str, str]], block: bytes) -> bytes:
    """One WARC record as one gzip member, bytes in, bytes out."""
    lines = fields((*head, ("Content-Length", str(len(block)))))
    return gzip.compress(b"WARC/1.0\r\n" + lines + b"\r\n" + block + b"\r\n\r\n", mtime=0)


def write_warc(captures: Iterable[Capture], path: Path, crawl: str) -> None:
    """Writes a WARC file, a gzip member per record: a warcinfo record, then request and response of each capture."""
    info_id = record_id(crawl, path.name)
    info = {
        "isPartOf": crawl,
        "publisher": "Cortex on Spark",
        "description": "Pages of the demo's small web",
        "robots": "classic",
        "software": "cortex demo",
        "format": FORMAT["format"],
    }
    with path.open("wb") as out:
        out.write(
            gzip_record(
                (
                    ("WARC-Type", "warcinfo"),
                    ("WARC-Date", _CRAWLED_AT),
                    ("WARC-Record-ID", info_id),
                    ("WARC-Filename", path.name),
                    ("Content-Type", "application/warc-fields"),
                ),
                fields(info.items()),
            )
        )
        for capture in captures:
            scheme_end = capture.url.index("://") + 3
            host, _, rest = capture.url[scheme_end:].partition("/")
            common = (
                ("WARC-Date", _CRAWLED_AT),
                ("WARC-Warcinfo-ID", info_id),
                ("WARC-IP-Address", "127.0.0.1"),
                ("WARC-Target-URI", capture.url),
            )
            request_id, response_id = record_id("request", capture.url), record_id("response", capture.url)
            request = f"GET /{rest} HTTP/1.1\r\n".encode() + fields(
                (
                    ("User-Agent", "cortex-demo"),
                    ("Accept", "text/html,*/*;q=0.8"),
                    ("Host", host),
                    ("Connection", "Keep-Alive"),
                )
            )
            out.write(
                gzip_record(
                    (
                        ("WARC-Type", "request"),
                        ("WARC-Record-ID", request_id),
                        ("Content-Type", "application/http; msgtype=request"),
                        *common,
                    ),
                    request + b"\r\n",
                )
            )
            head = f"HTTP/1.1 {capture.status} {capture.reason}\r\n".encode() + fields(capture.headers)
            block = head + b"\r\n" + capture.body
            out.write(
                gzip_record(
                    (
                        ("WARC-Type", "response"),
                        ("WARC-Record-ID", response_id),
                        ("Content-Type", "application/http; msgtype=response"),
                        ("WARC-Concurrent-To", request_id),
                        ("WARC-Payload-Digest", sha1(capture.body)),
                        ("WARC-Block-Digest", sha1(block)),
                        *common,
                    ),
                    block,
                )
            )
