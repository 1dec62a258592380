"""From WARC to WAT, as Common Crawl derives one from the other.

A WARC file holds what was exchanged; a WAT file holds, for each of its records, one JSON envelope: the record's place
in the WARC, its headers, and of an HTML page the head and every link with the element it came from.

Source: ia-web-commons' ``ExtractingParseObserver`` (which elements and attributes become links) and real WAT files of
2015, 2023 and 2024 (the layout). Only fields that occur in those files are written: ``srcset`` is not in any WAT, the
attribute ``property`` of a meta element and the base address are in none of those at hand.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from fastwarc.warc import WarcRecord, WarcRecordType

from cortex_spark.demo.warc import FORMAT, fields, gzip_record, record_id, sha1

_DERIVED_AT: Final = "2026-11-02T00:00:00Z"
_DERIVED: Final = (WarcRecordType.warcinfo, WarcRecordType.request, WarcRecordType.response)
_MAX_TEXT: Final = 128  # characters of a link's text, as ia-web-commons cuts it


#: Element -> the attribute that holds its address and the attributes that go with it.
_LINKS: Final[dict[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "img": (("src", ("alt", "title")), ("longdesc", ())),
    "area": (("href", ()),),
    "embed": (("src", ()),),
    "form": (("action", ("target", "method")),),
    "frame": (("src", ()),),
    "iframe": (("src", ()),),
    "input": (("src", ()),),
    "object": (("data", ()),),
    "video": (("src", ()), ("poster", ())),
    "audio": (("src", ()),),
    "track": (("src", ()),),
    "source": (("src", ()),),
    "q": (("cite", ()),),
    "blockquote": (("cite", ()),),
}
_ANCHOR: Final = ("target", "title")
_META: Final = ("name", "content", "http-equiv")
_GLOBAL: Final = ("background", "data-href", "data-uri")
_CSS_URL: Final = re.compile(r"url\s*\(\s*['\"]?([^)\s'\"]{1,8000})['\"]?\s*\)")


@dataclass
class _Anchor:
    link: dict[str, str] | None
    text: list[str] = field(default_factory=list)


class _Observer(HTMLParser):
    """Collects head and links of one page, in the order of the page (a link with text: where it ends)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.metas: list[dict[str, str]] = []
        self.styles: list[dict[str, str]] = []
        self.scripts: list[dict[str, str]] = []
        self.links: list[dict[str, str]] = []
        self._anchors: list[_Anchor] = []
        self._inside = ""  # title or style

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values: dict[str, str] = {}
        for name, value in attrs:  # of attributes that stand twice the first counts
            if value is not None:
                values.setdefault(name, value)
        for name in _GLOBAL:
            if name in values:
                self.links.append({"path": f"{tag.upper()}@/{name}", "url": values[name]})
        if tag in ("title", "style"):
            self._inside = tag
        elif tag == "html" and "lang" in values:
            self.metas.append({"name": "HTML@/lang", "content": values["lang"]})
        elif tag == "meta":
            meta: dict[str, str] = {name: values[name] for name in _META if name in values}
            if meta:
                self.metas.append(meta)
        elif tag == "link" and "href" in values:
            self.styles.append(self._link("link", "href", values, ("rel", "type")))
        elif tag == "script" and "src" in values:
            self.scripts.append(self._link("script", "src", values, ("type",)))
        elif tag == "a":
            link = self._link("a", "href", values, _ANCHOR) if "href" in values else None
            self._anchors.append(_Anchor(link))
        for name, beside in _LINKS.get(tag, ()):
            if name in values:
                self.links.append(self._link(tag, name, values, beside))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""
        elif tag == "a" and self._anchors:
            anchor = self._anchors.pop()
            if anchor.link is not None:
                text = " ".join("".join(anchor.text).split())[:_MAX_TEXT]
                self.links.append(anchor.link | ({"text": text} if text else {}))

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title += data
        elif self._inside == "style":
            self.links += [{"path": "STYLE/#text", "href": url} for url in _CSS_URL.findall(data)]
        for anchor in self._anchors:
            anchor.text.append(data)

    @staticmethod
    def _link(tag: str, name: str, values: dict[str, str], beside: tuple[str, ...]) -> dict[str, str]:
        link = {"path": f"{tag.upper()}@/{name}", "url": values[name]}
        return link | {other: values[other] for other in beside if other in values}


def html_metadata(page: str) -> dict[str, Any]:
    """The ``HTML-Metadata`` of a page: ``Head`` and ``Links``, empty parts left out."""
    observer = _Observer()
    observer.feed(page)
    observer.close()
    head = {
        "Metas": observer.metas,
        "Title": " ".join(observer.title.split()),
        "Link": observer.styles,
        "Scripts": observer.scripts,
    }
    parts = {"Head": {name: part for name, part in head.items() if part}, "Links": observer.links}
    return {name: part for name, part in parts.items() if part}


@dataclass(frozen=True)
class _Member:
    offset: int
    deflated: int  # bytes in the file
    data: bytes


def _members(path: Path) -> Iterator[_Member]:
    """The gzip members of a file: a WARC has one per record."""
    whole = path.read_bytes()
    offset = 0
    while offset < len(whole):
        stream = zlib.decompressobj(wbits=31)
        data = stream.decompress(whole[offset:])
        deflated = len(whole) - offset - len(stream.unused_data)
        yield _Member(offset, deflated, data)
        offset += deflated


def _signed(crc: int) -> int:
    return crc - (1 << 32) if crc >= 1 << 31 else crc


def _http(record: WarcRecord, block: bytes) -> dict[str, Any]:
    """The payload's metadata of a request or a response."""
    head, _, entity = block.partition(b"\r\n\r\n")
    record.parse_http()
    headers = dict(record.http_headers.astuples())
    request = record.record_type == WarcRecordType.request
    sizes = {
        "Headers-Length": str(len(head) + (2 if request else 4)),  # as real WATs count
        "Headers": headers,
        "Entity-Length": str(len(entity)),
        "Entity-Digest": sha1(entity),
        "Entity-Trailing-Slop-Length": "0",
    }
    first, second, third = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if request:
        return {
            "HTTP-Request-Metadata": {"Request-Message": {"Method": first, "Path": second, "Version": third}} | sizes
        }
    message = {"Response-Message": {"Status": second, "Version": first, "Reason": third}}
    html = {}
    if (record.http_content_type or "") in ("text/html", "application/xhtml+xml"):
        page = entity.decode(record.http_charset or "utf-8", errors="replace")
        html = {"HTML-Metadata": html_metadata(page)}
    return {"HTTP-Response-Metadata": message | sizes | html}


def _payload(record: WarcRecord, block: bytes) -> dict[str, Any]:
    """What the payload of a record is, by its type."""
    if record.record_type in (WarcRecordType.request, WarcRecordType.response):
        return {"Actual-Content-Type": record.headers["Content-Type"]} | _http(record, block)
    lines = [line.split(": ", 1) for line in block.decode("utf-8").splitlines() if ": " in line]
    return {
        "Actual-Content-Type": "application/warc-fields",
        "WARC-Info-Metadata": {line[0]: line[1] for line in lines},
    }


def _envelope(member: _Member, source: str) -> tuple[WarcRecord, dict[str, Any]]:
    head, _, rest = member.data.partition(b"\r\n\r\n")
    record = WarcRecord.from_bytes(member.data)
    block = rest[: record.content_length]
    payload = _payload(record, block) | {
        "Actual-Content-Length": str(len(block)),
        "Block-Digest": sha1(block),
        "Trailing-Slop-Length": str(len(rest) - len(block)),
    }
    container = {
        "Filename": source,
        "Compressed": True,
        "Offset": str(member.offset),
        "Gzip-Metadata": {
            "Deflate-Length": str(member.deflated),
            "Header-Length": "10",
            "Footer-Length": "8",
            "Inflated-CRC": str(_signed(zlib.crc32(member.data))),
            "Inflated-Length": str(len(member.data)),
        },
    }
    envelope = {
        "Payload-Metadata": payload,
        "Format": "WARC/1.0",
        "WARC-Header-Length": str(len(head) + 4),
        "WARC-Header-Metadata": dict(record.headers.astuples()),
    }
    return record, {"Container": container, "Envelope": envelope}


def derive_wat(warc: Path, wat: Path) -> int:
    """Writes the WAT file of a WARC file with a gzip member per record; gives the number of its metadata records.

    Records other than warcinfo, request and response are left out.
    Memory: the whole WARC, since this is for files of a demo's or a test's size.
    """
    records = 0
    with wat.open("wb") as out:
        out.write(
            gzip_record(
                (
                    ("WARC-Type", "warcinfo"),
                    ("WARC-Date", _DERIVED_AT),
                    ("WARC-Filename", wat.name),
                    ("WARC-Record-ID", record_id("warcinfo", wat.name)),
                    ("Content-Type", "application/warc-fields"),
                ),
                fields({"Software-Info": "cortex demo", "Extracted-Date": _DERIVED_AT, **FORMAT}.items()),
            )
        )
        for member in _members(warc):
            record, content = _envelope(member, warc.name)
            if record.record_type not in _DERIVED:
                continue
            target = record.headers.get("WARC-Target-URI") or warc.name
            out.write(
                gzip_record(
                    (
                        ("WARC-Type", "metadata"),
                        ("WARC-Target-URI", target),
                        ("WARC-Date", _DERIVED_AT),
                        ("WARC-Record-ID", record_id("metadata", target, str(member.offset))),
                        ("WARC-Refers-To", str(record.record_id)),
                        ("Content-Type", "application/json"),
                    ),
                    json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
                )
            )
            records += 1
    return records
