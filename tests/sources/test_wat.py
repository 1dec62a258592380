"""From a WAT record to its references: one line per rule, and exact counts on real files."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cortex_spark.sources.wat import Page, srcset
from tests.sources.wats import gz, img, page, read, record

BASE = "https://example.com/news/"


def one(payload: bytes) -> Page:
    pages, damages, _ = read(gz([record(payload)]))
    assert damages == []
    return pages[0]


SRCSET = [("srcset", BASE + "b.jpg"), ("srcset", BASE + "c.jpg")]

LINKS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (img("cat.jpg"), [("img", BASE + "cat.jpg")]),
    (img("/cat"), [("img", "https://example.com/cat")]),
    (img("//cdn.example.com/cat.jpg"), [("img", "https://cdn.example.com/cat.jpg")]),
    (img("/a.php?x=1&amp;y=2&#038;z=3&copy=4"), [("img", "https://example.com/a.php?x=1&y=2&z=3&copy=4")]),
    (img("a.jpg", srcset="b.jpg 1x, c.jpg 2x"), [("img", BASE + "a.jpg"), *SRCSET]),
    ({"path": "IMG@/srcset", "url": "b.jpg 480w, c.jpg 800w"}, SRCSET),
    ({"path": "SOURCE@/srcset", "url": "a.webp"}, [("source", BASE + "a.webp")]),
    ({"path": "SOURCE@/src", "url": "a.webp"}, [("source", BASE + "a.webp")]),
    ({"path": "SOURCE@/src", "url": "film.mp4"}, []),
    ({"path": "A@/href", "url": "cat.JPG"}, [("link", BASE + "cat.JPG")]),
    ({"path": "A@/href", "url": "cat.jpeg?size=large#top"}, [("link", BASE + "cat.jpeg?size=large#top")]),
    ({"path": "A@/href", "url": "page.html"}, []),
    ({"path": "A@/href", "url": "page.html?from=cat.jpg"}, []),
    ({"path": "A@/href", "url": "/wiki/File:Cat.jpg"}, []),
    ({"path": "A@/href", "url": None}, []),
    ({"path": "TD@/background", "url": "wall.jpg"}, []),
    ({"path": "STYLE/#text", "href": "wall.jpg"}, []),
    ({"path": "FORM@/action", "url": "cat.jpg"}, []),
    ({"url": "cat.jpg"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("link", "expected"), LINKS)
def test_references(link: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = one(page([link]))
    assert [(reference.kind, reference.address.url) for reference in found.references] == expected
    assert found.dropped == Counter()


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (img(""), "empty"),
        (img(None), "empty"),  # type: ignore[arg-type]
        (img("data:image/gif;base64,R0lGODlhAQABAAAAACw="), "data_uri"),
        (img("javascript:void(0)"), "not_http"),
        (img("http://exa mple.com/cat.jpg"), "bad_url"),
        (img("/favicon.png"), "icon"),
        (img("/apple-touch-icon-180x180.png?v=2"), "icon"),
        (img("/site.ico"), "icon"),
        (img("/logo.svg?v=1"), "vector"),
        (img("/cat.jpg", width="1", height="1"), "tracking_pixel"),
        (img("/cat.jpg", height=0), "tracking_pixel"),
        (img("/cat.jpg", width="1px"), "tracking_pixel"),
        (img("/1x1.gif?cb=17"), "tracking_pixel"),
        (img("/t/pixel_1x1.png"), "tracking_pixel"),
        (img("/track?w=1&h=1&u=2"), "tracking_pixel"),
        ({"path": "A@/href", "url": "http://exa mple.com/cat.jpg"}, "bad_url"),
    ],
)
def test_drops(link: dict[str, Any], reason: str) -> None:
    found = one(page([link]))
    assert found.references == []
    assert found.dropped == Counter({reason: 1})


@pytest.mark.parametrize(
    "url", ["/crop/cat_1x1.jpg", "/cat_16x9.jpg?w=10&h=1", "/11x1.gif", "/icons/cat.png", "/cat.jpg?width=1"]
)
def test_what_only_looks_like_junk_is_kept(url: str) -> None:
    assert len(one(page([img(url)])).references) == 1


def test_head() -> None:
    head = {
        "Metas": [
            {"property": "og:image", "content": "/og.jpg"},
            {"name": "Twitter:Image", "content": "/tw.jpg"},
            {"property": "og:title", "content": "/title.jpg"},
            {"content": "/nameless.jpg"},
        ],
        "Link": [
            {"path": "LINK@/href", "rel": "image_src", "url": "/src.jpg"},
            {"path": "LINK@/href", "rel": "shortcut icon", "url": "/favicon.ico"},
            {"path": "LINK@/href", "rel": "stylesheet", "url": "/style.css"},
        ],
    }
    found = one(page([img("/img.jpg", alt="x")], head=head))
    assert [(reference.kind, reference.address.url[19:]) for reference in found.references] == [
        ("img", "/img.jpg"),
        ("og:image", "/og.jpg"),
        ("og:image", "/tw.jpg"),
        ("link", "/src.jpg"),
    ]
    assert found.dropped == Counter(icon=1)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, "https://example.com/news/cat.jpg"),
        ("/pictures/", "https://example.com/pictures/cat.jpg"),
        ("//cdn.example.com/p/", "https://cdn.example.com/p/cat.jpg"),
        ("http://", "https://example.com/news/cat.jpg"),
        ("javascript:x", "https://example.com/news/cat.jpg"),
        ("", "https://example.com/news/cat.jpg"),
    ],
)
def test_base(base: str | None, expected: str) -> None:
    assert one(page([img("cat.jpg")], head={"Base": base})).references[0].address.url == expected


@pytest.mark.parametrize(
    ("alt", "expected"), [(None, None), ("", ""), (" A cat\n", "A cat"), ("Tom &amp; Jerry &eacute;", "Tom & Jerry é")]
)
def test_alt(alt: str | None, expected: str | None) -> None:
    assert one(page([img("cat.jpg", alt=alt)])).references[0].alt == expected


def test_a_page_without_a_usable_url_keeps_its_absolute_references() -> None:
    found = one(page([img("cat.jpg"), img("http://example.com/dog.jpg")], url="urn:x"))
    assert [reference.address.url for reference in found.references] == ["http://example.com/dog.jpg"]
    assert found.dropped == Counter(bad_url=1)


ROBOTS: list[tuple[list[dict[str, str]], dict[str, Any], list[str]]] = [
    ([], {}, []),
    ([{"name": "robots", "content": "NoAI, noimageai"}], {}, ["noai", "noimageai"]),
    ([{"name": "ROBOTS", "content": "noindex,nofollow"}], {}, ["noindex"]),
    ([{"name": "robots", "content": "none"}], {}, ["noindex"]),
    ([{"name": "robots", "content": "index, follow"}], {}, []),
    ([{"name": "googlebot", "content": "noindex"}], {}, []),
    ([{"name": "cortex-spark", "content": "noimageindex"}], {}, ["noimageindex"]),
    ([{"name": "description", "content": "noai"}], {}, []),
    ([], {"X-Robots-Tag": "noai"}, ["noai"]),
    ([], {"x-robots-tag": "noml, NOINDEX"}, ["noindex", "noml"]),
    ([], {"X-Robots-Tag": ["noai", "noimageai"]}, ["noai", "noimageai"]),
    ([], {"X-Robots-Tag": "googlebot: noindex, noai"}, []),
    ([], {"X-Robots-Tag": "noai, googlebot: noindex"}, ["noai"]),
    ([], {"X-Robots-Tag": "googlebot: noindex, cortex-spark: noai"}, ["noai"]),
    ([], {"X-Robots-Tag": "unavailable_after: 25 Jun 2010 15:00:00 PST, noai"}, ["noai"]),
    ([{"name": "robots", "content": "noai"}], {"X-Robots-Tag": "noindex"}, ["noai", "noindex"]),
]


@pytest.mark.parametrize(("metas", "headers", "expected"), ROBOTS)
def test_directives(metas: list[dict[str, str]], headers: dict[str, Any], expected: list[str]) -> None:
    assert one(page(head={"Metas": metas}, headers=headers)).directives == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2024-05-18T01:58:10Z", datetime(2024, 5, 18, 1, 58, 10, tzinfo=UTC)),
        ("2024-05-18T03:58:10+02:00", datetime(2024, 5, 18, 1, 58, 10, tzinfo=UTC)),
        ("2024-05-18", datetime(2024, 5, 18, tzinfo=UTC)),
        ("yesterday", None),
    ],
)
def test_when_the_crawler_saw_it(date: str, expected: datetime | None) -> None:
    assert one(page(date=date)).seen == expected


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("", []),
        ("a.jpg", ["a.jpg"]),
        ("a.jpg 1x, b.jpg 2x", ["a.jpg", "b.jpg"]),
        ("a.jpg,b.jpg", ["a.jpg,b.jpg"]),
        ("a.jpg, b.jpg", ["a.jpg", "b.jpg"]),
        ("  ,a.jpg 100w ,\n b.jpg 200w,", ["a.jpg", "b.jpg"]),
        ("/i/w_300,h_200/a.jpg 300w, /i/w_600,h_400/a.jpg 600w", ["/i/w_300,h_200/a.jpg", "/i/w_600,h_400/a.jpg"]),
        ("data:image/gif;base64,AAA= 1x, b.jpg 2x", ["data:image/gif;base64,AAA=", "b.jpg"]),
    ],
)
def test_srcset(value: str, urls: list[str]) -> None:
    assert srcset(value) == urls


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (page([img("cat.jpg")])[:-30], "not the JSON"),
        (page([img("\u00e9.jpg")]).replace(b"\\u00e9", b"\xe9"), "not the JSON"),
        (page([]).replace(b"[]", b"7"), "not the JSON"),
        (b"[]", "not the JSON"),
    ],
)  # fmt: skip
def test_a_record_that_does_not_parse_costs_only_itself(payload: bytes, reason: str) -> None:
    good = record(page([img("cat.jpg")]))
    pages, damages, reader = read(gz([good, record(payload), good]))
    assert len(pages) == 2
    assert [damage.offset for damage in damages] == [len(gz([good]))]
    assert reason in damages[0].reason
    assert reader.records == 3


# Counted before by a few lines of json and urllib that share nothing with the package; docs/extract.md says the same.
REAL_FILES: list[tuple[str, int, int, dict[str, int], dict[str, int], int, int]] = [
    ("webindex-wat-18.wat", 17, 4, {"img": 108, "link": 2}, {"icon": 5}, 49, 0),
    ("CC-MAIN-sample.warc.wat.gz", 1, 1, {"img": 27, "link": 1}, {}, 8, 1),
    ("CC-MAIN-sample2.warc.wat.gz", 1, 1, {"img": 27}, {}, 7, 0),
    ("CC-MAIN-sample3.warc.wat.gz", 1, 1, {"img": 27, "link": 5}, {}, 9, 1),
    ("CC-MAIN-sample4.warc.wat.gz", 1, 1, {"img": 27}, {}, 7, 0),
    ("whirlwind.warc.wat.gz", 1, 0, {}, {}, 0, 0),
]


@pytest.mark.parametrize(("name", "records", "pages", "kinds", "dropped", "pictures", "damages"), REAL_FILES)
def test_real_files(
    shared: Path,
    name: str,
    records: int,
    pages: int,
    kinds: dict[str, int],
    dropped: dict[str, int],
    pictures: int,
    damages: int,
) -> None:
    found, found_damages, reader = read(shared / "crawl" / name)
    references = [reference for one_page in found for reference in one_page.references]
    assert (reader.records, reader.pages) == (records, pages)
    assert Counter(reference.kind for reference in references) == kinds
    assert sum((one_page.dropped for one_page in found), Counter()) == dropped
    assert len({reference.address.id for reference in references}) == pictures
    assert len(found_damages) == damages


def test_a_real_page(shared: Path) -> None:
    found, _, reader = read(shared / "crawl" / "webindex-wat-18.wat")
    assert reader.crawl == "CC-MAIN-2015-18"
    assert [len(one_page.references) for one_page in found] == [11, 3, 80, 16]
    assert [one_page.directives for one_page in found] == [[], ["noindex"], [], []]
    first = found[1].references[0]
    assert (first.kind, first.alt, first.address.host) == ("img", "Search", "0x20.be")
    assert first.address.url == "http://0x20.be/smw/skins/vector/images/search-ltr.png?303"
    assert found[1].seen == datetime(2015, 4, 18, 3, 28, 35, tzinfo=UTC)
    # Crawls before 2016 keep the entities of the page's source.
    assert "&amp;" not in " ".join(reference.address.url for reference in found[2].references)


@pytest.mark.parametrize(
    "name",
    [
        "resiliparse-clipped.warc.gz",
        "resiliparse-warcfile.warc.gz",
        "iawc-double-single-inflate-error.gz",
        "iawc-IAH-urls-wget.warc.gz",
        "iawc-link-extraction-test.warc",
        "iawc-multiple-headers.warc",
        "whirlwind.warc.gz",
        "whirlwind.warc.wet.gz",
        "CC-MAIN-2024-22.warc.paths.gz",
    ],
)
def test_real_files_that_are_no_wat_say_so(shared: Path, name: str) -> None:
    found, damages, _ = read(shared / "crawl" / name)
    assert found == []
    assert damages
