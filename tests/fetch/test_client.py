"""What servers do to a client, each with its named outcome."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.fetch import Fetched, Fetcher, Request
from tests.fetch.web import BODY, Asked, Raw, RawWeb, Reply, fetch, settings, states

LIMIT = 10_000


def raw(*pieces: bytes, pause: float = 0.0, stay: float = 0.0) -> Raw:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        await asyncio.sleep(stay)

    return answer


async def endless(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 1000)
        await writer.drain()


async def endless_chunks(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await writer.drain()


OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(Reply(), "ok", id="plain"),
        pytest.param(Reply(headers={"Content-Type": "text/html"}), "ok", id="lying Content-Type"),
        pytest.param(Reply(b""), "empty", id="empty"),
        pytest.param(Reply(b"x" * LIMIT), "ok", id="at the limit"),
        pytest.param(Reply(b"x" * (LIMIT + 1)), "too_large", id="above the limit"),
        pytest.param(raw(OK + b"\r\n", b"x" * LIMIT), "ok", id="at the limit, undeclared"),
        pytest.param(raw(OK + b"\r\n", b"x" * (LIMIT + 1)), "too_large", id="above the limit, undeclared"),
        pytest.param(endless, "too_large", id="endless"),
        pytest.param(endless_chunks, "too_large", id="endless in chunks"),
        pytest.param(raw(OK + b"Content-Length: 99\r\n\r\nshort"), "incomplete", id="declares more than there is"),
        pytest.param(
            raw(OK + b"Content-Length: 9\r\n\r\na picture and more"),
            "connection_error",
            id="declares less than there is",
        ),
        pytest.param(raw(OK + b"Content-Length: -1\r\n\r\n"), "connection_error", id="negative length"),
        pytest.param(raw(OK + b"Content-Length: 99999999999\r\n\r\n"), "too_large", id="declares too much"),
        pytest.param(raw(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "incomplete", id="half a chunk"),
        pytest.param(raw(OK + b"Content-Length: 9\r\n\r\n", b"a", b"b", pause=0.4, stay=9), "timeout", id="slow drip"),
        pytest.param(raw(OK, *[b"X-%d: y\r\n" % n for n in range(9)], pause=0.2), "timeout", id="dripping headers"),
        pytest.param(raw(OK + b"Content-Length: 9\r\n\r\n", stay=9), "timeout", id="falls silent"),
        pytest.param(raw(stay=9), "timeout", id="says nothing"),
        pytest.param(raw(), "connection_error", id="hangs up"),
        pytest.param(raw(b"\x00\x01\x02\x03" * 99), "connection_error", id="another protocol"),
        pytest.param(raw(OK + b"X: " + b"y" * 99_999 + b"\r\n\r\n"), "connection_error", id="a huge header"),
        pytest.param(raw(b"HTTP/1.1 302 Found\r\nLocation: /a\xff\r\n\r\n"), "bad_url", id="Location of odd bytes"),
        pytest.param(
            Reply(gzip.compress(BODY), headers={"Content-Encoding": "gzip"}), "ok", id="compressed though not asked to"
        ),
        pytest.param(Reply(BOMB[:9000], headers={"Content-Encoding": "gzip"}), "too_large", id="bomb"),
        pytest.param(Reply(b"no gzip", headers={"Content-Encoding": "gzip"}), "incomplete", id="lying encoding"),
        pytest.param(Reply(b"", 206), "http_206", id="part of something"),
        pytest.param(Reply(b"", 301), "http_301", id="redirect to nowhere"),
        pytest.param(Reply(b"", 418), "http_418", id="any status"),
        pytest.param(Reply(b"", 304), "http_304", id="not modified, though nobody has asked"),
    ],
)
def test_every_answer_has_a_name(web: RawWeb, answer: Reply | Raw, outcome: str) -> None:
    web.answers = {"/x.jpg": answer}
    (fetched,) = fetch(web.url(), max_bytes=LIMIT, download_timeout=1.0)
    assert fetched.outcome == outcome, fetched
    assert (fetched.body is not None) == (outcome in ("ok", "empty"))
    if outcome == "ok":
        assert fetched.size == len(fetched.body or b"") <= LIMIT
    known = outcomes.PASSING.keys() | outcomes.FINAL.keys()
    assert outcome in known or outcome.startswith("http_")


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "ftp://example.org/x.jpg", "data:,", "http://a b/"])
def test_what_is_no_address(url: str) -> None:
    (fetched,) = fetch(url)
    assert (fetched.outcome, fetched.host_state) == ("bad_url", None)


def test_who_asks(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply()}
    fetch(web.url(), contact="https://example.org/bot")
    for asked in web.log:
        assert asked.headers["user-agent"].startswith("cortex-spark/")
        assert asked.headers["user-agent"].endswith(" (+https://example.org/bot)")
        assert asked.headers["accept-encoding"] == "identity"
        assert not {"cookie", "authorization", "referer"} & asked.headers.keys()


def test_proxies_of_the_environment_are_not_obeyed(web: RawWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.answers = {"/x.jpg": Reply()}
    assert fetch(web.url())[0].outcome == "ok"


def test_conditional_requests(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply(headers={"ETag": '"1"', "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"})}
    (first,) = fetch(web.url())
    assert (first.etag, first.last_modified) == ('"1"', "Sun, 01 Nov 2026 00:00:00 GMT")
    web.answers = {"/x.jpg": Reply(b"", 304, {"ETag": '"1"'}), "/new.jpg": Reply()}
    web.log.clear()
    requests = [
        Request(web.url(), etag=first.etag, last_modified=first.last_modified),
        Request(web.url("/new.jpg"), etag=first.etag),
        Request(web.url("/new.jpg")),
    ]
    assert [each.outcome for each in fetch(*requests)] == ["not_modified", "ok", "ok"]
    asked = {(line.path, line.headers.get("if-none-match"), line.headers.get("if-modified-since")) for line in web.log}
    assert asked == {
        ("/robots.txt", None, None),
        ("/x.jpg", '"1"', "Sun, 01 Nov 2026 00:00:00 GMT"),
        ("/new.jpg", '"1"', None),
        ("/new.jpg", None, None),
    }


def test_moved_to_another_host(web: RawWeb) -> None:
    target = web.url("/x.jpg", "other.localhost")
    web.answers = {"/to.jpg": Reply(b"", 301, {"Location": target}), "/x.jpg": Reply()}
    (fetched,) = fetch(web.url("/to.jpg"), across_hosts=False)
    assert (fetched.outcome, fetched.final_url, fetched.body) == ("moved", target, None)
    assert {line.host for line in web.log} == {"h.localhost"}
    (fetched,) = fetch(web.url("/to.jpg"))
    assert (fetched.outcome, fetched.final_url, fetched.body) == ("ok", target, BODY)
    assert set(states([fetched])) == {"h.localhost"}


def test_a_kept_connection_that_was_closed_costs_nothing(web: RawWeb) -> None:
    """The server closes after its first answer, unannounced: the client finds out when it asks again."""
    web.answers = {"/robots.txt": raw(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), "/x.jpg": Reply()}
    assert fetch(web.url(), host_delay=0.05)[0].outcome == "ok"


def test_one_request(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply(), "/robots.txt": Reply(b"User-agent: *\nDisallow: /no")}

    async def run() -> list[Fetched]:
        async with Fetcher(settings()) as fetcher:
            return [await fetcher.fetch(Request(web.url(path))) for path in ("/x.jpg", "/no.jpg", "/404.jpg")]

    assert [each.outcome for each in asyncio.run(run())] == ["ok", "robots", "http_404"]


def test_while_the_sink_waits_nothing_new_is_begun(web: RawWeb) -> None:
    web.answers = {f"/{number}.jpg": Reply() for number in range(20)}

    async def run() -> int:
        waiting = asyncio.Event()

        async def sink(key: int, fetched: Fetched) -> None:
            await waiting.wait()

        requests = [(number, Request(web.url(f"/{number}.jpg", f"h{number}.localhost"))) for number in range(20)]
        async with Fetcher(settings(connections=3, obey_robots=False)) as fetcher:
            work = asyncio.create_task(fetcher.fetch_all(requests, sink))
            await asyncio.sleep(0.3)
            begun = len(web.log)
            waiting.set()
            await work
        return begun

    assert asyncio.run(run()) == 3
    assert len(web.log) == 20


def given_to_a_slow_sink(web: RawWeb, small: int, **values: Any) -> list[int]:
    """The order in which come ``small`` hosts of one URL each (numbers from 0), and six of a large one (the last)."""
    large = [f"/{number}.jpg" for number in range(6)]
    web.answers = {path: Reply() for path in large}
    urls = [web.url("/0.jpg", f"h{number}.localhost") for number in range(small)]
    urls += [web.url(path, "large.localhost") for path in large]
    given: list[int] = []

    async def sink(key: int, fetched: Fetched) -> None:
        await asyncio.sleep(0.1)
        given.append(key)

    async def run() -> None:
        async with Fetcher(settings(obey_robots=False, **values)) as fetcher:
            await fetcher.fetch_all([(number, Request(url)) for number, url in enumerate(urls)], sink)

    asyncio.run(run())
    assert sorted(given) == list(range(len(urls)))
    return given


def test_who_has_the_most_left_gets_the_next_connection(web: RawWeb) -> None:
    """A host's own pace is all that keeps it: what it is asked for does not wait for hosts that have less left."""
    given = given_to_a_slow_sink(web, 12, connections=1, host_delay=0.02)
    assert given[:5] == list(range(12, 17))  # behind its last one there is as little as behind the others


def test_who_has_the_most_left_goes_first_into_the_sink(web: RawWeb) -> None:
    """All small hosts have answered at once, and wait; the large one is let in before them as often as it comes."""
    given = given_to_a_slow_sink(web, 20, connections=40, host_delay=0.01)
    assert given.index(24) < 15  # its last but one; as they come it would be behind all the others


def test_a_failing_sink_ends_it_all(web: RawWeb) -> None:
    async def run() -> None:
        async def sink(key: int, fetched: Fetched) -> None:
            raise ZeroDivisionError("planted")

        async with Fetcher(settings()) as fetcher:
            await fetcher.fetch_all([(number, Request(web.url())) for number in range(3)], sink)

    with pytest.raises(ExceptionGroup, match="unhandled"):
        asyncio.run(run())


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority, tmp_path / "ca.pem"


@pytest.mark.parametrize(("trusted", "name", "outcome"), [(1, "h", "ok"), (0, "h", "tls_error"), (1, "i", "tls_error")])
def test_certificates(certificates: tuple[trustme.CA, Path], trusted: int, name: str, outcome: str) -> None:
    """Checked as a browser does: the authority and the name; ``ca_file`` adds an authority."""
    authority, bundle = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(f"{name}.localhost").configure_cert(context)
    with RawWeb({"/x.jpg": Reply()}, context) as web:
        url = web.url().replace("http:", "https:")
        (fetched,) = fetch(url, ca_file=bundle if trusted else None)
    assert fetched.outcome == outcome


@pytest.mark.parametrize(
    ("contact", "valid"),
    [
        ("me@example.org", True),
        ("mailto:me@example.org", True),
        ("https://example.org/bot", True),
        ("", True),
        ("me", False),
        ("ftp://example.org", False),
        ("https://localhost", False),
        ("me@example.org\r\nX: y", False),
        ("me@example.org) Mozilla/5.0 (", False),
    ],
)
def test_contact(contact: str, valid: bool) -> None:
    if valid:
        agent = Settings(contact=contact).user_agent
        assert agent.endswith(f" (+{contact})") if contact else "(" not in agent
    else:
        with pytest.raises(ValueError, match="neither an e-mail address nor"):
            Settings(contact=contact)


@pytest.mark.parametrize("value", ["dns.example.org", "192.0.2.1:x", "192.0.2.1:0", "192.0.2.1:99999"])
def test_name_servers_are_addresses(value: str) -> None:
    with pytest.raises(ValueError, match="name server"):
        Settings.model_validate({"nameservers": value})


def test_lists_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEX_NAMESERVERS", "192.0.2.1, [::1]:5353,192.0.2.2:54")
    monkeypatch.setenv("CORTEX_REFUSE_DIRECTIVES", "NoAI")
    found = Settings()
    assert found.nameservers == ("192.0.2.1", "[::1]:5353", "192.0.2.2:54")
    assert found.refuse_directives == ("noai",)


@pytest.mark.timeout(30)
def test_a_url_that_names_no_host_keeps_no_connection() -> None:
    """``.`` is the root of all names."""
    urls = [f"http://.:{port}/x.jpg" for port in range(8000, 8005)]
    assert len(fetch(*urls, obey_robots=False, connections=2)) == 5
