import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_spark.sources.urls import UrlError, address, image_id, normalise

# One line per rule: this in, that out.
NORMALISED = [
    # WHATWG parsing and serialising
    ("HTTP://Example.COM/Cat.JPG", "http://example.com/Cat.JPG"),
    ("http://example.com:80/a", "http://example.com/a"),
    ("https://example.com:443/a", "https://example.com/a"),
    ("http://example.com:8080/a", "http://example.com:8080/a"),
    ("https://example.com:80/a", "https://example.com:80/a"),
    ("http://example.com", "http://example.com/"),
    ("http://example.com?q", "http://example.com/?q"),
    ("http://example.com/a/./b/../c", "http://example.com/a/c"),
    ("http://example.com/a/%2e%2E/c", "http://example.com/c"),
    ("http://example.com/../../c", "http://example.com/c"),
    ("http:\\\\example.com\\a", "http://example.com/a"),
    ("http://example.com/a b", "http://example.com/a%20b"),
    ("http://exam\nple.com/a\tb", "http://example.com/ab"),
    ("  http://example.com/a  ", "http://example.com/a"),
    ("http://münchen.example/ä", "http://xn--mnchen-3ya.example/%C3%A4"),
    ("http://192.0.2.1/a", "http://192.0.2.1/a"),
    ("http://0xC0.0.2.1/a", "http://192.0.2.1/a"),
    ("http://[2001:DB8::0:1]/a", "http://[2001:db8::1]/a"),
    # fragment
    ("http://example.com/a#top", "http://example.com/a"),
    ("http://example.com/a?b#c?d", "http://example.com/a?b"),
    ("http://example.com/a#", "http://example.com/a"),
    # escapes in the path
    ("http://example.com/%7euser/%41%2d%2E%5f", "http://example.com/~user/A-._"),
    ("http://example.com/%e2%82%ac%2f", "http://example.com/%E2%82%AC%2F"),
    ("http://example.com/%2541", "http://example.com/%2541"),
    ("http://example.com/100%/%7e", "http://example.com/100%/%7e"),
    ("http://example.com/%%34%31", "http://example.com/%%34%31"),
    # what stays
    ("http://example.com/a?b=2&a=1", "http://example.com/a?b=2&a=1"),
    ("http://example.com/a?sig=%2f%7e+x", "http://example.com/a?sig=%2f%7e+x"),
    ("http://example.com/a?", "http://example.com/a?"),
    ("http://example.com/a/", "http://example.com/a/"),
    ("http://example.com//a", "http://example.com//a"),
    ("http://www.example.com/a", "http://www.example.com/a"),
    ("http://example.com./a", "http://example.com./a"),
    ("http://user:Pass@example.com/a", "http://user:Pass@example.com/a"),
    ("cortex-store:sha256/ab12", "cortex-store:sha256/ab12"),
]


@pytest.mark.parametrize(("url", "expected"), NORMALISED)
def test_normalise(url: str, expected: str) -> None:
    assert normalise(url) == expected


@pytest.mark.parametrize(
    "url", ["", "cat.jpg", "//example.com/a", "http://", "http://a b/", "http://h:99999/", "\ud800"]
)
def test_normalise_refuses_what_is_no_absolute_url(url: str) -> None:
    with pytest.raises(UrlError):
        normalise(url)


@given(st.text(alphabet="aZ09%2eEf7~./\\?#&= :@[]ä\t", max_size=30))
def test_normalising_twice_changes_nothing(tail: str) -> None:
    try:
        once = normalise("http://example.com/" + tail)
    except UrlError:
        return
    assert normalise(once) == once


def test_image_id_is_stable() -> None:
    # sha256 of "http://example.com/cat.jpg": if this fails, every table that exists has other ids; raise URL_RULE.
    assert image_id("HTTP://example.com:80/cat.jpg#x") == "02177d6749c5fb3f3f6227ea8e8183b2"


BASE = "https://example.com/news/today.html"


@pytest.mark.parametrize(
    ("reference", "url", "host"),
    [
        ("cat.jpg", "https://example.com/news/cat.jpg", "example.com"),
        ("../cat.jpg", "https://example.com/cat.jpg", "example.com"),
        ("/cat.jpg?w=1", "https://example.com/cat.jpg?w=1", "example.com"),
        ("//img.example.com/cat.jpg", "https://img.example.com/cat.jpg", "img.example.com"),
        ("?id=1", "https://example.com/news/today.html?id=1", "example.com"),
        # an absolute reference stays as it was written: signatures cover every character
        ("http://CDN.example.com:80/a/../%7e?sig=%2f", "http://CDN.example.com:80/a/../%7e?sig=%2f", "cdn.example.com"),
        (" http://example.com/cat.jpg\n", "http://example.com/cat.jpg", "example.com"),
        ("http://user:pw@example.com:8080/cat.jpg", "http://user:pw@example.com:8080/cat.jpg", "example.com"),
        ("http://[::1]:8080/cat.jpg", "http://[::1]:8080/cat.jpg", "[::1]"),
        ("http://example.com.:80/cat.jpg", "http://example.com.:80/cat.jpg", "example.com"),
        # but a browser's repairs are needed
        ("http://example.com/c\nat.jpg", "http://example.com/cat.jpg", "example.com"),
        ("http:\\\\example.com\\cat.jpg", "http://example.com/cat.jpg", "example.com"),
        ("https:cat.jpg", "https://example.com/news/cat.jpg", "example.com"),
    ],
)
def test_address(reference: str, url: str, host: str) -> None:
    found = address(reference, BASE)
    assert (found.url, found.host) == (url, host)
    assert found.id == image_id(url)


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("data:image/gif;base64,R0lGOD", "data_uri"),
        ("DATA:image/gif;base64,R0lGOD", "data_uri"),
        ("javascript:void(0)", "not_http"),
        ("ftp://example.com/cat.jpg", "not_http"),
        ("blob:https://example.com/1", "not_http"),
        ("android-app://x/y", "not_http"),
        ("http://exa mple.com/", "bad_url"),
        ("http://example.com:port/", "bad_url"),
        ("https://example.com/" + "a" * 8000, "bad_url"),
        ("http://example.com/\ud800", "bad_url"),
    ],
)
def test_faults(reference: str, fault: str) -> None:
    with pytest.raises(UrlError) as raised:
        address(reference, BASE)
    assert raised.value.fault == fault


def test_a_relative_reference_needs_a_base() -> None:
    with pytest.raises(UrlError, match="bad_url"):
        address("cat.jpg")
    with pytest.raises(UrlError, match="bad_url"):
        address("cat.jpg", "not a url")
