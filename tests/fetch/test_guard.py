"""Nothing is asked that is not public, however it is written, resolved or redirected to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from cortex_spark.errors import CortexError
from cortex_spark.fetch.guard import is_public
from tests.dns import NXDOMAIN, SERVFAIL, SILENCE, NameServer
from tests.fetch.web import RawWeb, Reply, fetch, redirect, states


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("1.1.1.1", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),  # carriers' own
        ("127.0.0.1", False),
        ("169.254.169.254", False),  # link-local: the metadata of clouds
        ("172.16.0.1", False),
        ("192.0.2.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("2606:4700::1111", True),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),  # NAT64
        ("64:ff9b::101:101", True),
        ("64:ff9b:1::101:101", False),
        ("2002:7f00:1::", False),  # 6to4
        ("2002:101:101::", True),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", False),  # Teredo
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("fc00::1", False),  # unique local
        ("fd12:3456::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


INSIDE = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[fe80::1]",
    "[fd00::1]",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "a.localhost",
]


@pytest.mark.parametrize("host", INSIDE)
@pytest.mark.parametrize("way", ["asked", "redirected", "userinfo"])
def test_no_way_inside(web: RawWeb, host: str, way: str) -> None:
    """The server listens on loopback, and nobody gets through to it but by the redirect's first hop."""
    address = f"http://{'example.org@' if way == 'userinfo' else ''}{host}:{web.port}/x.jpg"
    web.answers = {"/x.jpg": Reply(), "/to.jpg": redirect(address), "/robots.txt": Reply()}
    asked = web.url("/to.jpg", "door.localhost") if way == "redirected" else address
    (fetched,) = fetch(asked, allow_private_hosts=("door.localhost",))
    assert fetched.outcome == "blocked_address"
    assert {line.host for line in web.log} <= {"door.localhost"}
    assert len(web.pictures()) == (way == "redirected")


@pytest.mark.parametrize(
    ("to", "outcome"),
    [
        ("http://169.254.169.254/latest/meta-data", "blocked_address"),
        ("//169.254.169.254/", "blocked_address"),
        ("https://[::ffff:a9fe:a9fe]/", "blocked_address"),
        ("ftp://example.org/x.jpg", "bad_url"),
        ("file:///etc/passwd", "bad_url"),
        ("gopher://127.0.0.1/", "bad_url"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "bad_url"),
        ("http://example.org:25/x.jpg", "bad_url"),
        ("http://", "bad_url"),
        ("http://a b/", "bad_url"),
    ],
)
@pytest.mark.parametrize("across_hosts", [True, False])
def test_redirects_are_checked(web: RawWeb, to: str, outcome: str, across_hosts: bool) -> None:
    web.answers = {"/x.jpg": redirect(to)}
    assert fetch(web.url(), across_hosts=across_hosts)[0].outcome == outcome


def test_ten_redirects(web: RawWeb) -> None:
    web.answers = {"/10": Reply(), **{f"/{hop}": redirect(f"/{hop + 1}") for hop in range(10)}}
    (fetched,) = fetch(web.url("/0"))
    assert (fetched.outcome, fetched.final_url) == ("ok", web.url("/10"))
    web.answers |= {"/10": redirect("/11"), "/11": Reply()}
    assert fetch(web.url("/0"))[0].outcome == "too_many_redirects"


def test_credentials_of_addresses_are_not_sent(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply(), "/to.jpg": redirect(web.url("/x.jpg").replace("//", "//me:secret@"))}
    asked = [web.url("/x.jpg").replace("//", "//me:secret@"), web.url("/to.jpg")]
    for fetched in fetch(*asked):
        assert (fetched.outcome, fetched.final_url) == ("ok", web.url("/x.jpg"))
    assert not [line for line in web.log if "authorization" in line.headers]


@pytest.mark.parametrize("port", [0, 22, 25, 6667, 10080])
def test_ports_of_other_services(port: int) -> None:
    assert fetch(f"http://h.localhost:{port}/x.jpg")[0].outcome == "bad_url"


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer(lambda name: NXDOMAIN) as server:
        yield server


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],  # one public address is not enough
        ["127.0.0.1", "93.184.215.14"],
        ["93.184.215.14", "fd00::1"],
    ],
)
def test_names_of_private_addresses(web: RawWeb, names: NameServer, found: Sequence[str]) -> None:
    names.resolve = lambda name: found
    fetched = fetch(web.url(host="inside.test"), web.url("/y.jpg", "inside.test"), nameservers=(names.address,))
    assert [each.outcome for each in fetched] == ["blocked_address"] * 2
    assert names.asked
    assert web.log == []
    assert states(fetched)["inside.test"].failures == 0


def test_the_connection_goes_to_the_address_that_was_checked(
    web: RawWeb, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: a name that is public when it is checked and loopback when it is asked for again."""
    monkeypatch.setattr("cortex_spark.fetch.resolver._LEAST_TTL", 0.0)
    asked = 0

    def resolve(name: str) -> list[str]:
        nonlocal asked
        asked += 1
        return ["192.88.99.1"] if asked <= 2 else ["127.0.0.1"]  # A and AAAA of the first time

    names.resolve = resolve
    urls = [web.url(f"/{number}.jpg", "rebinding.test") for number in range(3)]
    fetched = fetch(*urls, nameservers=(names.address,), connect_timeout=0.3, obey_robots=False, host_connections=1)
    assert fetched[0].outcome in ("timeout", "connection_error")
    assert [each.outcome for each in fetched[1:]] == ["blocked_address"] * 2
    assert asked > 2
    assert web.log == []


def test_the_delay_counts_from_the_sending(web: RawWeb, names: NameServer) -> None:
    """A name that takes long to resolve does not bring the first two requests together."""
    web.answers = {"/1.jpg": Reply(), "/2.jpg": Reply()}

    def slow(name: str) -> list[str]:
        time.sleep(0.4)
        return ["127.0.0.1"]

    names.resolve = slow
    urls = [web.url(path, "slow.test") for path in ("/1.jpg", "/2.jpg")]
    options = {"nameservers": (names.address,), "allow_private_hosts": ("*.test",), "host_delay": 0.3}
    assert [each.outcome for each in fetch(*urls, obey_robots=False, **options)] == ["ok"] * 2  # type: ignore[arg-type]
    first, second = sorted(asked.began for asked in web.log)
    assert second - first >= 0.28


def test_an_allowed_host_may_be_private(web: RawWeb, names: NameServer) -> None:
    web.answers = {"/x.jpg": Reply()}
    names.resolve = lambda name: ["127.0.0.1"]
    options = {"nameservers": (names.address,), "allow_private_hosts": ("*.intranet.test",), "contact": None}
    urls = [web.url(host=f"{name}.intranet.test") for name in ("a", "b", "a")]
    assert [each.outcome for each in fetch(*urls, **options)] == ["ok"] * 3  # type: ignore[arg-type]
    assert sorted(names.asked) == ["a.intranet.test", "b.intranet.test"]  # once each: there is a cache


@pytest.mark.parametrize("how", [NXDOMAIN, SERVFAIL, SILENCE, []])
def test_names_that_do_not_resolve(names: NameServer, how: str | list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_spark.fetch.resolver._PATIENCE", 0.1)
    names.resolve = lambda name: how
    urls = ["http://nowhere.test/x.jpg", "http://nowhere.test/y.jpg", "https://nowhere.test/z.jpg"]
    fetched = fetch(*urls, nameservers=(names.address,), connect_timeout=1.0)
    assert {each.outcome for each in fetched} == {"dns_error", "host_down"}


@pytest.mark.parametrize(
    "url", ["http://example.org/x.jpg", "https://93.184.215.14/x.jpg", "http://a.localhost.evil/x"]
)
def test_the_public_web_is_not_visited_without_a_contact(web: RawWeb, url: str) -> None:
    with pytest.raises(CortexError, match="CORTEX_CONTACT"):
        fetch(web.url(), url, contact=None)
    assert web.log == []


@pytest.mark.parametrize("across_hosts", [True, False])
def test_nor_by_a_redirect(web: RawWeb, across_hosts: bool) -> None:
    """It is not put off either, or no later plan could be made without a contact."""
    web.answers = {"/x.jpg": redirect("http://example.org/x.jpg")}
    (fetched,) = fetch(web.url(), contact=None, across_hosts=across_hosts)
    assert fetched.outcome == "blocked_address"
    assert "CORTEX_CONTACT" in (fetched.detail or "")
