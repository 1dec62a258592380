"""The short ways of reading a WAT give what the long ways give: members, addresses and links, on whatever comes."""

from __future__ import annotations

import gzip
import html
import json
import re
import zlib
from collections import Counter
from typing import Any
from unittest.mock import patch

import ada_url
import pcre2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cortex_spark.sources import urls, warc, wat
from cortex_spark.sources.urls import Address, UrlError, address
from cortex_spark.sources.wat import srcset
from tests.sources.wats import gz, input_of, numbered, page, read, record

# Members: libdeflate, beside zlib-ng alone


def _named(text: bytes) -> bytes:
    """A member with a file name in its header, as the command gzip makes it."""
    plain = gzip.compress(text)
    return plain[:3] + b"\x08" + plain[4:10] + b"pages.wat\0" + plain[10:]


_RECORDS = numbered(4)
_MEMBERS = [*(gz([one]) for one in _RECORDS[:3]), _named(_RECORDS[3]), gz([b""]), gz([b"".join(_RECORDS)])]
_BETWEEN = [b"", b"", b"", b"\0" * 9, b"junk", b"\x1f\x8b\x08", b"\x1f\x8b\x08\x00junk", _MEMBERS[0][:-9]]
#: Each member once: the damaged copy of a sound one behind it would not be told apart.
_PARTS = st.lists(
    st.tuples(st.sampled_from(_MEMBERS), st.sampled_from(_BETWEEN)), min_size=1, unique_by=lambda part: part[0]
)


@settings(deadline=None, max_examples=300)
@given(_PARTS, st.data())
def test_members(parts: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    file = bytearray(b"".join(member + between for member, between in parts))
    for position in data.draw(st.lists(st.integers(0, len(file) - 1), max_size=2)):
        file[position] ^= data.draw(st.integers(1, 255))
    del file[data.draw(st.integers(len(file) // 2, len(file) + 200)) :]
    found = list(warc.records(input_of(bytes(file))))
    with patch.object(warc, "_inflated", lambda member: None):
        assert found == list(warc.records(input_of(bytes(file))))


@pytest.mark.parametrize(
    "following",
    [
        b"",
        b"\0\0\0\0",
        b"junk",
        (150).to_bytes(4, "little"),
        (10).to_bytes(4, "little"),
        (1 << 31).to_bytes(4, "little"),
    ],
)
def test_a_member_that_is_not_alone_is_not_taken(following: bytes) -> None:
    text = b"0123456789" * 10
    member = gzip.compress(text)
    assert bytes(warc._inflated(member + following) or b"") == (b"" if following else text)
    assert warc._inflated(member[:-8] + zlib.crc32(b"").to_bytes(4, "little") + member[-4:]) is None
    assert all(warc._inflated(member[:length]) is None for length in range(len(member)))


def test_a_spoilt_member_is_not_hidden_by_its_length() -> None:
    one, two = gzip.compress(b"one"), gzip.compress(b"two")
    assert bytes(warc._inflated(two) or b"") == b"two"
    assert warc._inflated(one + b"XX" + two[2:]) is None


# Addresses: what is plain by its looks, beside the parser and the rule

_PART = st.text("aB0-._~%2Ee/\\?#&=+:@;,'()!$*|^`{}[]<>\"ä\u2028\t ", max_size=8) | st.sampled_from(
    ["/", "..", "../", "./", "//", "%2e", "%2E/", "%41", "%E4%B8%AD", "%e4", "%20", "xn--", "xn--mnchen-3ya.example"]
)
_TAIL = st.lists(_PART, max_size=6).map("".join)
_HOSTS = """
    example.com a-b.c_d.example 1.2.3.4 1.2 a.0x1 0x1.a EXAMPLE.com localhost xn--a.com a..b -a-.com example.com. a.b:
    example.com:80 example.com:8080 u:p@example.com xn--mnchen-3ya.de
"""
_HOST = st.sampled_from(["", *_HOSTS.split(), "a" * 70 + ".com", "a." * 140 + "com"])
_SCHEME = st.sampled_from(["http://", "https://", "HTTP://", "http:", "http:/", "//", "ftp://", "data:", "ws://"])
_REFERENCE = _TAIL | st.tuples(_SCHEME, _HOST, st.just("/") | st.just(""), _TAIL).map("".join)
_PAGES = """
    http://example.com https://example.com/a/b/c.html?d=/e/#f http://example.com/%7e/%E4/ https://u@h.de:8/x/y
    http://EXAMPLE.com/A/../b/ http://münchen.example/ä/ö ftp://example.com/a/ urn:x nothing
"""
_PAGE = st.sampled_from(["", *_PAGES.split()])


def _by_the_parser(reference: str, base: str | None) -> Address | str:
    """The reference's address by the long way, or the fault."""
    with patch.object(urls, "_PLAIN", re.compile("(?!)")):
        return _address(reference, base)


def _address(reference: str, base: str | None) -> Address | str:
    try:
        return address(reference, base)
    except UrlError as error:
        return error.fault


@settings(deadline=None, max_examples=500)
@given(_REFERENCE, st.none() | _PAGE)
@example("http://xn--a.com/cat.jpg", None).via("Punycode that is none")
@example("http://example.com/a/../cat.jpg", None)
@example("b/../cat.jpg", "http://example.com/a/")
@example("http://example.com/a%2Dcat%2E.jpg", None)
@example("a/%2e%2E/cat.jpg", "http://example.com/")
@example("http://example.com/cat.jpg", "nothing").via("a broken base no longer matters to what needs none")
def test_addresses(reference: str, base: str | None) -> None:
    found = _address(reference, base)
    if base in ("nothing", "") and found != "bad_url":
        base = None
    assert found == _by_the_parser(reference, base)


@settings(deadline=None, max_examples=300)
@given(_REFERENCE, _PAGE)
def test_what_is_plain_is_normalised(reference: str, base: str) -> None:
    plain = urls._PLAIN.fullmatch(reference)
    if plain and "/." not in reference and "xn--" not in reference:
        assert urls.normalise(reference) == reference == ada_url.normalize_url(reference)
        assert plain[1] == ada_url.URL(reference).hostname


@pytest.mark.parametrize(
    ("reference", "base"),
    [
        ("http://example.com/a/b-c_d~e.jpg?x=1&y=%2f", None),
        ("https://cdn.example.com/%E4%B8%AD%20a.jpg", None),
        ("//cdn.example.com/cat.jpg", "https://example.com/"),
        ("/cat.jpg", "https://example.com/a/b"),
        ("cat.jpg", "https://example.com/a/b"),
        ("../../cat.jpg?v=2", "https://example.com/a/b/c"),
        ("./cat.jpg", "https://example.com/a/b/c"),
    ],
)
def test_the_common_forms_need_no_parser(reference: str, base: str | None) -> None:
    expected = address(reference, base)  # parses the base, once
    with patch.object(ada_url, "join_url", side_effect=AssertionError), patch.object(ada_url, "normalize_url", None):
        assert address(reference, base) == expected


# Pages: beside all of the JSON as Python objects, and one link after the other

_TEXT = st.text(max_size=12) | st.sampled_from(
    ['{"path":"IMG@/src","url":"x.jpg"}', '"},{"', "}]}", '\\"', "\u2028", "A@/href"]
)
_FOLDERS = ["", "/", "../", "/wiki/File:", "http://example.com/x/"]
_NAMES = """
    cat.jpg a.JPEG b.jpe c.JFIF d.png e.webp f.GiF g.avif h.bmp i.tif j.TIFF H.TIF K.WEBP k.ico favicon.png
    apple-touch-icon.png 1x1.gif a_1x1.png 21x1.gif l.svg m.svgz page.html jpg
"""
_TAILS = ["", "?w=1&h=1", "?a=b.png", "#c.png", "#x", "?x", "?w=1", "/", "?v=1&amp;width=1&amp;height=1"]
_PICTURE = st.tuples(*map(st.sampled_from, (_FOLDERS, _NAMES.split(), _TAILS))).map("".join)
_URL = _REFERENCE | _PICTURE
_FIELDS = {
    "path": st.sampled_from(
        ["A@/href", "IMG@/src", "SOURCE@/src", "IMG@/srcset", "SOURCE@/srcset", "FORM@/action", ""]
    ),
    "url": _URL,
    "alt": _TEXT | st.just("a &amp; b"),
    "text": _TEXT,
    "title": st.none()
    | st.integers()
    | st.lists(_TEXT, max_size=2)
    | st.dictionaries(_TEXT, _TEXT, max_size=2)
    | st.lists(st.sampled_from([{"path": "A@/href", "url": "a.html"}, {"path": "IMG@/src", "url": "a.jpg"}])),
    "srcset": st.just("a.jpg 1x, b.png 2x"),
    "width": st.sampled_from(["1", 1, "0", "1px", 20, None, 1.5, [1], {"a": "}"}]),
}
#: What a link may not hold: it costs the record.
_WRONG = st.tuples(st.sampled_from(["path", "url", "alt"]), st.sampled_from([1, True, ["a.jpg"], {"url": "a.jpg"}]))


@st.composite
def _link(draw: st.DrawFn) -> str:
    """A link as JSON: keys in any order, some missing, some twice, null or of a wrong type, blanks anywhere."""
    names = draw(st.lists(st.sampled_from([*_FIELDS, "path", "url", "url"]), max_size=7))
    pairs = [(name, draw(st.one_of(*[_FIELDS[name]] * 8, st.none()))) for name in names]
    if draw(st.integers(0, 60)) == 0:
        pairs.append(draw(_WRONG))
    ascii_only, blank = draw(st.booleans()), draw(st.sampled_from(["", "", " ", "\n\t"]))
    fields = (json.dumps(name) + ":" + blank + json.dumps(value, ensure_ascii=ascii_only) for name, value in pairs)
    return "{" + blank + ("," + blank).join(fields) + blank + "}"


_STRINGS = st.sampled_from(["alt", "text", "title", "target", "rel"])


@st.composite
def _to_page(draw: st.DrawFn) -> str:
    """A link as Common Crawl writes those to pages: without blanks, and all of its values strings."""
    url = draw(_URL | st.sampled_from(["/", "page.html", "/a?b=c.jpg", "a.jp\\u0067", "a.jpg\\/", "a.html\\u003f"]))
    pairs = [*draw(st.lists(st.tuples(_STRINGS, _TEXT), max_size=2)), ("path", "A@/href"), ("url", url)]
    pairs += draw(st.lists(st.tuples(_STRINGS | st.sampled_from(["path", "url", "p\\u0061th"]), _URL), max_size=2))
    ascii_only = draw(st.booleans())
    fields = (json.dumps(name) + ":" + json.dumps(value, ensure_ascii=ascii_only) for name, value in pairs)
    return ("{" + ",".join(fields) + "}").replace("\\\\u00", "\\u00").replace("\\\\/", "\\/")


class _Wrong(Exception):
    pass


def _text(holder: dict[str, Any], name: str) -> str | None:
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        raise _Wrong
    return value


def _expected(links: list[dict[str, Any]], base: str) -> tuple[list[tuple[str, Address, str | None]], Counter[str]]:
    """References and drops, by the rules of docs/extract.md."""
    found: list[tuple[str, Address, str | None]] = []
    dropped: Counter[str] = Counter()

    def add(kind: str, reference: str | None, alt: str | None) -> None:
        where = _by_the_parser(re.sub("&(?:amp|#0*38|#[xX]0*26);", "&", reference or ""), base)
        if isinstance(where, str):
            dropped[where] += 1
            return
        path, _, query = where.url.split("#")[0].partition("?")
        name = path.split("/")[-1].lower()
        if re.match(r"favicon|apple-touch-icon|.*\.ico$", name):
            dropped["icon"] += 1
        elif re.search(r"\.svgz?$", name):
            dropped["vector"] += 1
        elif re.search(r"(^|[_-])1x1\.(gif|png)$", name) or all(
            re.search(rf"(^|[&;]){side[0]}({side[1:]})?=1($|[&;])", query) for side in ("width", "height")
        ):
            dropped["tracking_pixel"] += 1
        else:
            found.append((kind, where, html.unescape(alt).strip() if alt else alt))

    def names_picture(url: str | None) -> bool:
        path = re.split("[?#]", url or "")[0]
        ends = re.search(r"(^|\.)(jpe?g|jpe|jfif|png|webp|gif|avif|bmp|tiff?)\Z", path.lower())
        return ends is not None and ":" not in path.split("/")[-1]

    for link in links:
        path, url, alt = _text(link, "path"), _text(link, "url"), _text(link, "alt")
        candidates = srcset(_text(link, "srcset") or "")
        if path == "A@/href" and names_picture(url):
            add("link", url, alt)
        elif path == "SOURCE@/src" and names_picture(url):
            add("source", url, None)
        elif path == "IMG@/src" and str(link.get("width")) in ("0", "1", "1px"):
            dropped["tracking_pixel"] += 1
        elif path == "IMG@/src":
            add("img", url, alt)
            for one in candidates:
                add("srcset", one, alt)
        elif path in ("IMG@/srcset", "SOURCE@/srcset"):
            for one in srcset(url or ""):
                add("srcset" if path == "IMG@/srcset" else "source", one, alt if path == "IMG@/srcset" else None)
    return found, dropped


def _payload(texts: list[str], url: str = "http://example.com/") -> bytes:
    """A page whose links are these, letter by letter."""
    return page([], url=url).replace(b'"Links": []', b'"Links": [' + ",".join(texts).encode() + b"]")


@settings(deadline=None, max_examples=300)
@given(st.lists(_link() | _to_page() | _to_page(), max_size=12), _PAGE.filter(lambda url: url.startswith("http")))
@example(['{"path":"A@/href","url":"cat.jpg#x"}', '{"path":"A@/href","url":"CAT.TIF"}'], "http://example.com/")
@example(['{"path":"A@/href","url":"cat.jpg?x"}', '{"path":"A@/href","url":"CAT.JPEG"}'], "http://example.com/")
@example(['{"path":"A@/href","url":"page.html"}'] * 5_000 + ['{"url":"cat.jpg","path":"IMG@/src"}'], "http://a.de/")
def test_pages(texts: list[str], url: str) -> None:
    links = [json.loads(text) for text in texts]
    payload = _payload(texts, url)
    pages, damages, _ = read(gz([record(payload)]))
    try:
        expected, dropped = _expected(links, url)
    except _Wrong:
        assert not pages
        assert "not the JSON" in damages[0].reason
        return
    assert damages == []
    assert pages[0].url == url
    assert [(one.kind, one.address, one.alt) for one in pages[0].references] == expected
    assert pages[0].dropped == dropped


_TO_A_PAGE = '{"path":"A@/href","url":"page.html","text":"a"}'
_TO_A_PICTURE = '{"path":"A@/href","url":"cat.jpg"}'


@pytest.mark.parametrize(
    "link",
    [
        _TO_A_PAGE,
        '{"path":"A@/href","url":""}',
        '{"path":"A@/href","url":"/jpg/?a=b.jpg#c.png","title":"a \\"cat\\" {},[]"}',
        '{"text":"\u00e4\\\\","target":"_blank","path":"A@/href","url":"http://example.com/"}',
        '{"path":"A@/href","url":"bmpx","alt":"\\ud83d\\ude00"}',
    ],
)
def test_links_to_pages_are_cut_out(link: str) -> None:
    both = [_TO_A_PICTURE, link, link, _TO_A_PICTURE, link]
    assert wat._TO_PAGES.sub(b"", _payload(both)) == _payload([_TO_A_PICTURE, _TO_A_PICTURE, link])


@pytest.mark.parametrize(
    "link",
    [
        _TO_A_PICTURE,
        '{"path":"A@/href","url":"cat.JpEg?b#c"}',
        '{"path":"A@/href","url":"tiff"}',
        '{"path":"A@/href","url":"cat.jp\\u0067"}',
        '{"path":"A@/href","url":"page.html","url":"cat.jpg"}',
        '{"path":"A@/href","url":"page.html","p\\u0061th":"IMG@/src"}',
        '{"path":"A@/href","url":"page.html","alt":1}',
        '{"path":"IMG@/src","url":"page.html"}',
        '{"path":"LINK@/href","url":"page.html","rel":"image_src"}',
        '{"title":{"path":"A@/href","url":"page.html"},"path":"A@/href"}',
        '{"path":"A@/href", "url":"page.html"}',
    ],
)
def test_what_may_matter_is_not(link: str) -> None:
    assert wat._TO_PAGES.sub(b"", _payload([link, "{}"])) == _payload([link, "{}"])


def test_json_that_is_wrong_is_not_put_right() -> None:
    wrong = [_TO_A_PAGE, ""], ["", _TO_A_PAGE], ['{"x":' + _TO_A_PAGE + ",{}}"], [_TO_A_PAGE, "{"]
    for payload in map(_payload, wrong):
        pages, damages, _ = read(gz([record(payload)]))
        assert (pages, len(damages)) == ([], 1)


def test_the_place_of_a_fault_is_that_in_the_record() -> None:
    payload = _payload([_TO_A_PAGE, _TO_A_PICTURE + "}"])
    _, damages, _ = read(gz([record(payload)]))
    assert f"(byte {payload.index(b'}}', payload.index(b'cat.jpg')) + 1})" in damages[0].reason


def test_links_that_the_expression_gives_up_on_are_read() -> None:
    payload = _payload([_TO_A_PAGE.replace('"a"', '"' + '\\"b' * 1_000 + '"'), _TO_A_PICTURE])
    limited = pcre2.compile(b"(*LIMIT_MATCH=100)" + wat._TO_PAGES.pattern)  # ten million otherwise
    with pytest.raises(pcre2.LibraryError):
        limited.sub(b"", payload)
    expected = read(gz([record(payload)]))[0]
    assert [one.address.url for one in expected[0].references] == ["http://example.com/cat.jpg"]
    with patch.object(wat, "_TO_PAGES", limited):
        assert read(gz([record(payload)]))[0] == expected


@pytest.mark.parametrize("text", [b"\xff", b"\\q", b"\n", b"\\ud800"])
def test_a_broken_text_of_a_link_to_a_page_costs_nothing(text: bytes) -> None:
    payload = _payload([_TO_A_PAGE.replace('"a"', '"TEXT"'), _TO_A_PICTURE]).replace(b"TEXT", text)
    pages, damages, _ = read(gz([record(payload)]))
    assert ([one.address.url for one in pages[0].references], damages) == (["http://example.com/cat.jpg"], [])
