"""WAT files for tests: pages described by what a page holds, and real files damaged in a known place."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cortex_spark.sources.warc import Damage, Input
from cortex_spark.sources.wat import Page, WatReader

SEEN = "2024-05-18T01:58:10Z"


def page(
    links: Sequence[dict[str, Any]] = (),
    *,
    url: str = "https://example.com/news/today.html",
    head: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    date: str = SEEN,
) -> bytes:
    """The envelope of one page, as JSON."""
    return json.dumps(
        {
            "Envelope": {
                "Payload-Metadata": {
                    "HTTP-Response-Metadata": {
                        "Headers": headers or {},
                        "HTML-Metadata": {"Head": head or {}, "Links": list(links)},
                    }
                },
                "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": url, "WARC-Date": date},
            }
        }
    ).encode()


def img(url: str, **attributes: Any) -> dict[str, Any]:
    """A link as an ``img`` element makes it."""
    return {"path": "IMG@/src", "url": url, **attributes}


def record(payload: bytes, *, newline: bytes = b"\r\n", length: int | None = None) -> bytes:
    """A WARC record around ``payload``."""
    lines = [
        b"WARC/1.0",
        b"WARC-Type: metadata",
        b"WARC-Target-URI: https://example.com/news/today.html",
        b"WARC-Date: 2024-05-31T01:17:49Z",
        b"Content-Type: application/json",
        b"Content-Length: %d" % (len(payload) if length is None else length),
    ]
    return newline.join(lines) + newline * 2 + payload + newline * 2


def numbered(count: int) -> list[bytes]:
    """Records of pages with one picture each: ``https://example.com/<n>.jpg``."""
    return [record(page([img(f"https://example.com/{number}.jpg")])) for number in range(count)]


def gz(records: Iterable[bytes]) -> bytes:
    """Records as gzip members."""
    return b"".join(gzip.compress(one) for one in records)


def input_of(data: bytes, read: Callable[[int], bytes] | None = None) -> Input:
    """``data`` as an input."""
    return Input(read or io.BytesIO(data).read)


def read(data: bytes | Path) -> tuple[list[Page], list[Damage], WatReader]:
    """Pages, damages and the reader with its counts."""
    reader = WatReader(input_of(data if isinstance(data, bytes) else data.read_bytes()))
    found = list(reader)
    pages = [one for one in found if isinstance(one, Page)]
    return pages, [one for one in found if isinstance(one, Damage)], reader


def numbers(pages: Iterable[Page]) -> list[int]:
    """Which pages of ``numbered`` these are."""
    return [int(page.references[0].address.url.removesuffix(".jpg").rpartition("/")[2]) for page in pages]
