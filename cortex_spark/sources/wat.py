"""A WAT file to the pictures that its pages refer to, with what those pages permit.

What real WATs hold decides what can be found. Common Crawl's are written by ia-web-commons
(``ExtractingParseObserver``): of ``img`` the attributes ``src``, ``alt`` and ``title``, of ``source`` only ``src``, of
``meta`` the ``property`` (and so ``og:image``) in newer crawls only. ``srcset``, ``width`` and ``height`` are in none
of them; they are read here where another tool's WAT has them. See ``docs/extract.md`` for counts on real files.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import pcre2

from cortex_spark.directives import AGENTS, header_rules
from cortex_spark.sources.urls import Address, UrlError, address
from cortex_spark.sources.warc import Damage, Input, records

#: Robots directives that concern pictures, indexing or training; ``none`` is short for noindex and nofollow.
DIRECTIVES: Final = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex"})

#: Why a reference is dropped, beside the faults of ``urls``.
DROPS: Final[dict[str, str]] = {
    "empty": "no address at all",
    "data_uri": "the picture itself instead of an address",
    "not_http": "javascript:, blob:, file: and the like",
    "bad_url": "not parseable, or longer than 8,000 characters",
    "tracking_pixel": "declared to be one pixel wide or high",
    "icon": "favicons and touch icons, by rel or by name",
    "vector": "SVG: drawn, not photographed, and no decoder reads it",
}


class Reference(msgspec.Struct, frozen=True, gc=False):
    """A picture that a page refers to; ``kind`` is img, srcset, source, og:image or link."""

    kind: str
    address: Address
    alt: str | None


class Page(NamedTuple):
    """A page of HTML: when the crawler saw it, what it permits, its pictures in order, and what was dropped."""

    offset: int
    url: str
    seen: datetime | None
    directives: list[str]
    references: list[Reference]
    dropped: Counter[str]


# Only the fields that are used: what a structure does not name, the decoder skips without making objects of it.


class _Link(msgspec.Struct, gc=False):
    path: str | None = None
    url: str | None = None
    alt: str | None = None
    srcset: str | None = None
    width: Any = None
    height: Any = None


class _Meta(msgspec.Struct, gc=False):
    name: str | None = None
    property: str | None = None
    content: str | None = None


class _HeadLink(msgspec.Struct, gc=False):
    url: str | None = None
    rel: str | None = None


class _Head(msgspec.Struct, rename={"metas": "Metas", "links": "Link", "base": "Base"}):
    metas: list[_Meta] = []
    links: list[_HeadLink] = []
    base: str | None = None


class _Html(msgspec.Struct, rename={"head": "Head", "links": "Links"}):
    head: _Head = msgspec.field(default_factory=_Head)
    links: list[_Link] = []


class _Response(msgspec.Struct, rename={"html": "HTML-Metadata", "headers": "Headers"}):
    html: _Html | None = None
    headers: dict[str, Any] = {}


class _Info(msgspec.Struct, rename={"crawl": "isPartOf"}):
    crawl: str | None = None


class _Payload(msgspec.Struct, rename={"response": "HTTP-Response-Metadata", "info": "WARC-Info-Metadata"}):
    response: _Response | None = None
    info: _Info | None = None


class _Header(msgspec.Struct, rename={"uri": "WARC-Target-URI", "date": "WARC-Date"}):
    uri: str | None = None
    date: str | None = None


class _Envelope(msgspec.Struct, rename={"payload": "Payload-Metadata", "header": "WARC-Header-Metadata"}):
    payload: _Payload = msgspec.field(default_factory=_Payload)
    header: _Header = msgspec.field(default_factory=_Header)


class _Wat(msgspec.Struct, rename={"envelope": "Envelope"}):
    envelope: _Envelope


_decode: Final = msgspec.json.Decoder(_Wat).decode

_PICTURE_SUFFIXES: Final = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "avif", "bmp", "tif", "tiff"})

# Nine links of ten lead to pages. They are cut out before the JSON is read: as objects they took a third of the time,
# and ``re`` takes longer to find them than msgspec to read them. What is cut out is a whole element of an array, before
# another: no string has a bare ``{"`` with a letter behind it in it. What is written otherwise (blanks, escapes in the
# URL, values that are no strings) stays, and is judged when it has been read.
_FIELD: Final = rb'"(?!path"|url")\w++":"(?:[^"\\]++|\\.)*+"'
_TO_PAGES: Final = pcre2.compile(
    rb'(?<=[\[,])(?:\{(?:%(field)b,)*+"path":"A@/href","url":"[^"\\?#]*+(?<!(?i:%(suffixes)b))(?:[?#][^"\\]*+)?"'
    rb"(?:,%(field)b)*+\},(?=\{))++" % {b"field": _FIELD, b"suffixes": "|".join(sorted(_PICTURE_SUFFIXES)).encode()}
)


def _read(payload: bytes) -> _Envelope:
    """A record's envelope, without most of the links to pages."""
    try:
        return _decode(_TO_PAGES.sub(b"", payload)).envelope
    except (ValueError, pcre2.LibraryError):  # not JSON: all of it says where; or too much for one match
        return _decode(payload).envelope


class WatReader:
    """Iterates over a WAT file's pages and damages; the counts are complete when the iteration is."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self.records = 0
        self.pages = 0
        #: Bytes of the records' JSON, inflated.
        self.text_bytes = 0
        #: The crawl that the file says it is part of (``CC-MAIN-2024-22``).
        self.crawl: str | None = None

    def __iter__(self) -> Iterator[Page | Damage]:
        sound = False
        for record in records(self._source):
            if isinstance(record, Damage):
                sound = True  # damaged, and reported as such
                yield record
                continue
            if record.content_type != "application/json":  # a WARC's own metadata are of another type
                continue
            sound = True
            self.records += 1
            self.text_bytes += len(record.payload)
            try:
                envelope = _read(record.payload)
            except ValueError as error:
                yield Damage(record.offset, f"not the JSON of a WAT record: {error}")
                continue
            payload = envelope.payload
            if payload.info is not None:
                self.crawl = payload.info.crawl
            if payload.response is None or payload.response.html is None:
                continue
            self.pages += 1
            yield _page(
                record.offset,
                envelope.header.uri or record.uri,
                _time(envelope.header.date or record.date),
                payload.response.headers,
                payload.response.html,
            )
        if not sound:
            yield Damage(0, "no WAT record in it: is it a WARC or WET file?")


def _page(offset: int, url: str, seen: datetime | None, headers: dict[str, Any], page: _Html) -> Page:
    dropped: Counter[str] = Counter()
    references: list[Reference] = []
    base = _base(url, page.head.base)
    known: dict[str, Address | str] = {}  # a page repeats its spacers and stars

    def add(kind: str, reference: str | None, alt: str | None = None) -> None:
        text = reference or ""
        found = known.get(text)
        if found is None:
            known[text] = found = _address(text, base)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            references.append(Reference(kind, found, html.unescape(alt).strip() if alt else alt))

    # A page's links come before its og:image: of two references to one picture the first counts, and img has the alt.
    for link in page.links:
        path = link.path
        if path == "A@/href":
            if link.url and _names_picture(link.url):
                add("link", link.url, link.alt)
        elif path == "IMG@/src":
            if _is_one(link.width) or _is_one(link.height):
                dropped["tracking_pixel"] += 1
                continue
            add("img", link.url, link.alt)
            if link.srcset:
                for candidate in srcset(link.srcset):
                    add("srcset", candidate, link.alt)
        elif path == "IMG@/srcset":
            for candidate in srcset(link.url or ""):
                add("srcset", candidate, link.alt)
        elif path == "SOURCE@/srcset":
            for candidate in srcset(link.url or ""):
                add("source", candidate)
        elif path == "SOURCE@/src" and link.url and _names_picture(link.url):  # mostly it is video and audio
            add("source", link.url)
    for meta in page.head.metas:
        if (meta.property or meta.name or "").lower() in _PREVIEWS:
            add("og:image", meta.content)
    for head_link in page.head.links:
        rel = (head_link.rel or "").lower()
        if rel == "image_src":
            add("link", head_link.url)
        elif "icon" in rel:
            dropped["icon"] += 1
    return Page(offset, url, seen, _directives(headers, page.head.metas), references, dropped)


_PREVIEWS: Final = frozenset({"og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src"})


def _names_picture(url: str) -> bool:
    """Whether a link's path ends like a picture's; ``File:Cat.jpg`` of a wiki is a page about one."""
    if "?" in url or "#" in url:
        url = url.partition("?")[0].partition("#")[0]
    return url[url.rfind(".") + 1 :].lower() in _PICTURE_SUFFIXES and ":" not in url[url.rfind("/") + 1 :]


#: Entities of ``&`` only: crawls before 2016 kept those of the page's source; others would be guesses in a URL.
_AMPERSAND: Final = re.compile(r"&(?:amp|#0*38|#[xX]0*26);")

_ONE_WIDE: Final = re.compile(r"(?:^|[&;])w(?:idth)?=1(?:$|[&;])")
_ONE_HIGH: Final = re.compile(r"(?:^|[&;])h(?:eight)?=1(?:$|[&;])")


def _address(reference: str, base: str | None) -> Address | str:
    """The address, or the reason to drop the reference."""
    if "&" in reference:
        reference = _AMPERSAND.sub("&", reference)
    try:
        found = address(reference, base)
    except UrlError as error:
        return error.fault
    lower = found.url.lower()
    if "ico" in lower or "svg" in lower or "1x1" in lower or "=1" in lower:
        return _junk(found.url) or found
    return found


def _junk(url: str) -> str | None:
    """Why the picture at ``url`` is not worth having, if its address says so."""
    path, _, query = url.partition("#")[0].partition("?")
    name = path[path.rfind("/") + 1 :].lower()
    if name.startswith(("favicon", "apple-touch-icon")) or name.endswith(".ico"):
        return "icon"
    if name.endswith((".svg", ".svgz")):
        return "vector"
    # 1x1 elsewhere in a name, and in a JPEG's, is an aspect ratio.
    if name.endswith(("1x1.gif", "1x1.png")) and name[-8:-7] in ("", "_", "-"):
        return "tracking_pixel"
    if query and _ONE_WIDE.search(query) and _ONE_HIGH.search(query):
        return "tracking_pixel"
    return None


def _is_one(size: object) -> bool:
    """Whether a declared width or height is one pixel or none."""
    return size is not None and str(size).strip().removesuffix("px") in ("0", "1")


def _base(page: str, declared: str | None) -> str | None:
    """The URL that relative references start from; a ``base`` element that cannot be resolved counts for nothing."""
    for reference in (declared, page):
        if reference:
            try:
                return address(reference, page or None).url
            except UrlError:
                continue
    return None


# https://html.spec.whatwg.org/multipage/images.html#parsing-a-srcset-attribute
_CANDIDATE: Final = re.compile(r"[\s,]*(\S+)(?:\s+([^,(]*(?:\([^)]*\)[^,(]*)*))?,?")


def srcset(value: str) -> list[str]:
    """The URLs of a ``srcset`` attribute, without their widths and densities.

    >>> srcset("a.jpg 480w, b,c.jpg 2x , d.jpg")
    ['a.jpg', 'b,c.jpg', 'd.jpg']
    """
    urls: list[str] = []
    position = 0
    while match := _CANDIDATE.match(value, position):
        url = match[1]
        if url.endswith(","):  # no descriptor: the comma ends the candidate
            url, position = url.rstrip(","), match.end(1)
        else:
            position = match.end()
        if url:
            urls.append(url)
    return urls


def _directives(headers: dict[str, Any], metas: Sequence[_Meta]) -> list[str]:
    found: set[str] = set()
    for meta in metas:
        if meta.content and (meta.name or "").strip().lower() in AGENTS:
            found.update(_tokens(meta.content))
    for name, value in headers.items():
        if name.lower() == "x-robots-tag":
            for line in value if isinstance(value, list) else [value]:
                found.update(rule for rule, _ in header_rules(str(line)))
    if "none" in found:
        found.add("noindex")
    return sorted(found & DIRECTIVES)


def _tokens(text: str) -> list[str]:
    return [token for token in re.split(r"[\s,;]+", text.lower()) if token]


def _time(date: str) -> datetime | None:
    """A WARC-Date, in UTC; None if it is none."""
    try:
        time = datetime.fromisoformat(date)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
