"""robots.txt, as RFC 9309 and this table have it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cortex_spark.fetch import HostState, Robots
from tests.fetch.web import Asked, Raw, RawWeb, Reply, fetch, redirect, states

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("rules", "path", "outcome"),
    [
        ("", "/x.jpg", "ok"),
        ("User-agent: *\nDisallow:", "/x.jpg", "ok"),
        ("User-agent: *\nDisallow: /", "/x.jpg", "robots"),
        ("User-agent: *\nDisallow: /private/", "/x.jpg", "ok"),
        ("User-agent: *\nDisallow: /private/", "/private/x.jpg", "robots"),
        ("User-agent: *\nDisallow: /\nAllow: /private/", "/private/x.jpg", "ok"),  # the longest rule
        ("User-agent: *\nAllow: /x\nDisallow: /x", "/x.jpg", "ok"),  # of equal ones the one that allows
        ("User-agent: *\nDisallow: /*.jpg$", "/x.jpg", "robots"),
        ("User-agent: *\nDisallow: /*.jpg$", "/x.jpg?w=1", "ok"),
        ("User-agent: *\nDisallow: /*?w=", "/x.jpg?w=1", "robots"),
        ("User-agent: *\nDisallow: /%C3%A4", "/ä.jpg", "robots"),
        ("User-agent: otherbot\nDisallow: /", "/x.jpg", "ok"),
        ("User-agent: cortex-spark\nDisallow: /", "/x.jpg", "robots"),
        ("User-agent: Cortex-Spark\nDisallow: /x\n\nUser-agent: *\nAllow: /", "/x.jpg", "robots"),
        ("User-agent: *\nDisallow: /\n\nUser-agent: cortex-spark\nAllow: /", "/x.jpg", "ok"),  # the group that names us
        ("User-agent: a\nUser-agent: cortex-spark\nDisallow: /", "/x.jpg", "robots"),  # a group of several
        ("User-agent: *\nDisallow: /\n\nUser-agent: cortex\nAllow: /", "/x.jpg", "robots"),  # the whole name
        ("User-agent: c\nDisallow: /\n\nUser-agent: *\nAllow: /", "/x.jpg", "ok"),
        ("User-agent: *\nDisallow: /\n\nuseragent : Cortex-Spark/0.1 # ours\nAllow: /", "/x.jpg", "ok"),
        ("User-agent: 360spider\nDisallow: /\n\nUser-agent:\nDisallow: /", "/x.jpg", "ok"),
        ("User-agent: a\rUser-agent cortex-spark # x: y\rDisallow: /", "/x.jpg", "robots"),
        ("User-agent: *\nCrawl-delay: 0\nUser-agent note: x\nDisallow: /", "/x.jpg", "robots"),  # no group begins
        ("User-agent: *cortex-spark*\nDisallow: /", "/x.jpg", "robots"),
        ("\ufeffUser-agent: *\nDisallow: /", "/x.jpg", "robots"),  # behind a byte order mark
        ("User-agent: * # all\rDisallow: / # everything\r", "/x.jpg", "robots"),
        ("<html><body>Welcome</body></html>", "/x.jpg", "ok"),
        ("#" * (500 << 10) + "\nUser-agent: *\nDisallow: /", "/x.jpg", "ok"),  # what comes later is not read
    ],
)
def test_rules(web: RawWeb, rules: str, path: str, outcome: str) -> None:
    web.answers = {"/robots.txt": Reply(rules.encode()), "/x.jpg": Reply(), "/private/x.jpg": Reply()}
    web.answers |= {"/x.jpg?w=1": Reply(), "/%C3%A4.jpg": Reply()}
    (fetched,) = fetch(web.url(path))
    assert fetched.outcome == outcome
    assert len(web.pictures()) == (outcome == "ok")


async def hang_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def say_nothing(_: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        (Reply(b"", 204), ["ok", "ok"]),
        *[(Reply(b"", status), ["ok", "ok"]) for status in (400, 401, 403, 404, 410, 451)],
        *[(Reply(b"", status), ["robots_unreachable", "robots_unreachable"]) for status in (500, 502, 504)],
        (Reply(b"", 503, {"Retry-After": "120"}), ["robots_unreachable", "robots_unreachable"]),
        (Reply(b"", 429, {"Retry-After": "120"}), ["robots_unreachable", "robots_unreachable"]),
        (hang_up, ["connection_error", "host_down"]),
        (say_nothing, ["timeout", "host_down"]),
    ],
)
def test_answers(web: RawWeb, answer: Reply | Raw, outcomes: list[str]) -> None:
    web.answers = {"/robots.txt": answer, "/1.jpg": Reply(), "/2.jpg": Reply()}
    fetched = fetch(web.url("/1.jpg"), web.url("/2.jpg"), download_timeout=0.5)
    assert sorted(each.outcome for each in fetched) == sorted(outcomes)
    if outcomes[1] == "host_down":
        assert any((each.detail or "").startswith("robots.txt: ") for each in fetched)
    # Where a connection is closed without an answer it may have been too old: once more then.
    assert [asked.path for asked in web.log].count("/robots.txt") == 1 + (answer is hang_up)
    assert len(web.pictures()) == outcomes.count("ok")
    told = states(fetched)["h.localhost"]
    retry_after = getattr(answer, "headers", {}).get("Retry-After")
    assert (told.not_before is not None) == (retry_after is not None or "host_down" in outcomes)


@pytest.mark.parametrize(("redirects", "outcome"), [(1, "robots"), (5, "robots"), (6, "ok")])
def test_redirects_of_robots(web: RawWeb, redirects: int, outcome: str) -> None:
    """Up to five, to other hosts as well; more are as good as none."""
    web.answers = {"/x.jpg": Reply(), "/robots.txt": redirect(web.url("/1", "other.localhost"))}
    web.answers |= {f"/{hop}": redirect(f"/{hop + 1}") for hop in range(1, redirects)}
    web.answers[f"/{redirects}"] = Reply(b"User-agent: *\nDisallow: /")
    assert fetch(web.url())[0].outcome == outcome


@pytest.mark.parametrize(
    "to",
    ["http://169.254.169.254/robots.txt", "http://127.0.0.1:8/", "http://h.localhost:25/", "http://[", "file:///x"],
)
def test_robots_that_leads_nowhere(web: RawWeb, to: str) -> None:
    web.answers = {"/x.jpg": Reply(), "/robots.txt": redirect(to)}
    (fetched,) = fetch(web.url())
    assert fetched.outcome == "robots_unreachable"


def test_asked_once_where_it_leads_to_a_host_that_wants_peace(web: RawWeb) -> None:
    web.answers = {
        **dict.fromkeys(("a.localhost/robots.txt", "b.localhost/robots.txt"), redirect(web.url("/r", "c.localhost"))),
        "/r": Reply(b"", 429, {"Retry-After": "600"}),
        "/x.jpg": Reply(),
    }
    fetched = fetch(*[web.url(host=host) for host in ("a.localhost", "b.localhost") for _ in range(20)])
    assert {each.outcome for each in fetched} <= {"deferred", "robots_unreachable"}
    asked = Counter(f"{asked.host}{asked.path}" for asked in web.log)
    assert (asked["a.localhost/robots.txt"], asked["b.localhost/robots.txt"]) == (1, 1)
    assert asked["c.localhost/r"] <= 2  # both may have been on their way there
    assert asked.total() == 2 + asked["c.localhost/r"]


def test_one_per_origin(web: RawWeb) -> None:
    """Another port is another robots.txt; the delay is the host's."""
    web.answers = {"/robots.txt": Reply(b"User-agent: *\nDisallow: /"), "/x.jpg": Reply()}
    with RawWeb({"/x.jpg": Reply(), "/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 0.25")}) as other:
        fetched = fetch(web.url(), other.url())
    assert [each.outcome for each in fetched] == ["robots", "ok"]
    told = states(fetched)["h.localhost"]
    assert {robots.origin for robots in told.robots} == {web.url(""), other.url("")}
    assert told.delay == 0.25


def test_asked_once_a_day(web: RawWeb) -> None:
    web.answers = {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /no", headers={"ETag": '"1"', "Last-Modified": "then"}),
        "/x.jpg": Reply(),
    }
    requests = [web.url(), web.url("/no.jpg"), web.url()]
    first = fetch(*requests)
    assert [each.outcome for each in first] == ["ok", "robots", "ok"]
    assert [asked.path for asked in web.log].count("/robots.txt") == 1
    told = states(first)
    second = fetch(*requests, hosts=told)
    assert [each.outcome for each in second] == ["ok", "robots", "ok"]
    assert [asked.path for asked in web.log].count("/robots.txt") == 1

    def aged(state: HostState) -> HostState:
        return replace(
            state, robots=tuple(replace(each, fetched_at=NOW - timedelta(hours=25)) for each in state.robots)
        )

    web.log.clear()
    web.answers["/robots.txt"] = Reply(b"", 304)
    third = fetch(*requests, hosts={host: aged(state) for host, state in told.items()})
    assert [each.outcome for each in third] == ["ok", "robots", "ok"]
    (asked,) = [asked for asked in web.log if asked.path == "/robots.txt"]
    assert (asked.headers["if-none-match"], asked.headers["if-modified-since"]) == ('"1"', "then")
    (robots,) = states(third)["h.localhost"].robots
    assert robots.fetched_at >= NOW - timedelta(minutes=1)
    assert robots.body == "User-agent: *\nDisallow: /no"


def test_what_could_not_be_read_is_asked_again(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply()}
    before = HostState("h.localhost", robots=(Robots(web.url(""), NOW, status=500),))
    assert fetch(web.url(), hosts={"h.localhost": before})[0].outcome == "ok"
    assert [asked.path for asked in web.log] == ["/robots.txt", "/x.jpg"]


def test_targets_of_redirects_are_checked(web: RawWeb) -> None:
    web.answers = {
        "a.localhost/robots.txt": Reply(b"User-agent: *\nDisallow: /no"),
        "b.localhost/robots.txt": Reply(b"User-agent: *\nDisallow: /no"),
        "/own.jpg": redirect("/no.jpg"),
        "/other.jpg": redirect(web.url("/no.jpg", "b.localhost")),
        "/no.jpg": Reply(),
    }
    for path in ("/own.jpg", "/other.jpg"):
        assert fetch(web.url(path, "a.localhost"))[0].outcome == "robots"
    assert not [asked for asked in web.log if asked.path == "/no.jpg"]


def test_not_obeyed_where_that_is_configured(web: RawWeb) -> None:
    web.answers = {"/robots.txt": Reply(b"User-agent: *\nDisallow: /"), "/x.jpg": Reply()}
    assert fetch(web.url(), obey_robots=False)[0].outcome == "ok"
    assert [asked.path for asked in web.log] == ["/x.jpg"]
