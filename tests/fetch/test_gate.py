"""How often a host is asked, and when not at all. The server's log is the judge."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from cortex_spark.fetch import HostState, Request
from cortex_spark.fetch.gate import EndedError, Gate
from tests.fetch.web import Asked, RawWeb, Reply, fetch, redirect, settings, states


def pauses(log: list[Asked]) -> list[float]:
    times = sorted(asked.began for asked in log)
    return [later - earlier for earlier, later in pairwise(times)]


def most_at_once(log: list[Asked]) -> int:
    edges = sorted([(asked.began, 1) for asked in log] + [(asked.ended, -1) for asked in log])
    open_, most = 0, 0
    for _, change in edges:
        open_ += change
        most = max(most, open_)
    return most


def now(seconds: float = 0.0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


#: What a clock that is read on two sides may differ by.
SLACK = 0.02


def test_starts_are_apart_and_few_at_a_time(web: RawWeb) -> None:
    web.answers = {f"/{number}.jpg": Reply(delay=0.25) for number in range(8)}
    web.answers["/moved.jpg"] = redirect("/0.jpg")
    urls = [web.url(f"/{number}.jpg") for number in range(8)] + [web.url("/moved.jpg")]
    assert {each.outcome for each in fetch(*urls, host_delay=0.1, host_connections=2)} == {"ok"}
    assert len(web.log) == 11  # robots.txt and a redirect are requests like any other
    assert min(pauses(web.log)) >= 0.1 - SLACK
    assert most_at_once(web.log) == 2


def test_hosts_do_not_wait_for_each_other(web: RawWeb) -> None:
    """A turn that is waited for holds no connection: with one for all, the hosts' delays still overlap."""
    web.answers = {"/x.jpg": Reply()}
    urls = [web.url(host=f"h{number}.localhost") for number in range(2)]
    fetch(*urls, host_delay=0.5, connections=1)
    assert [asked.path for asked in web.log] == ["/robots.txt"] * 2 + ["/x.jpg"] * 2


def test_so_many_hosts_at_a_time(web: RawWeb) -> None:
    """Two for each connection: each keeps one open. The host with the most URLs comes first."""
    web.answers = {f"/{number}.jpg": Reply() for number in range(9)}
    urls = [web.url(f"/{number}.jpg", f"h{host}.localhost") for host in range(30) for number in range(2)]
    urls += [web.url(f"/{number}.jpg", "large.localhost") for number in range(9)]
    fetch(*urls, host_delay=0.05, connections=2)
    assert len(web.pictures()) == 69
    assert web.log[0].host == "large.localhost"
    visits = {host: [asked for asked in web.log if asked.host == host] for host in {asked.host for asked in web.log}}
    for visit in visits.values():
        visit[0].ended = visit[-1].ended
    assert most_at_once([visit[0] for visit in visits.values()]) <= 4


def test_the_port_is_no_other_host(web: RawWeb) -> None:
    with RawWeb({"/x.jpg": Reply()}) as other:
        fetch(web.url(), other.url(), web.url("/y.jpg"), other.url("/y.jpg"), host_delay=0.1)
        assert len(web.log + other.log) == 6
        assert min(pauses(web.log + other.log)) >= 0.1 - SLACK


def test_the_roots_dot_makes_no_other_host(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply()}
    fetched = fetch(web.url(), web.url(host="h.localhost."), host_delay=0.2)
    assert [each.outcome for each in fetched] == ["ok", "ok"]
    assert list(states(fetched)) == ["h.localhost"]
    assert min(pauses(web.log)) >= 0.2 - SLACK


def test_crawl_delay_from_robots(web: RawWeb) -> None:
    web.answers = {"/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 0.3"), "/1.jpg": Reply(), "/2.jpg": Reply()}
    told = states(fetch(web.url("/1.jpg"), web.url("/2.jpg"), host_delay=0.05))["h.localhost"]
    assert min(pauses(web.log)) >= 0.3 - SLACK
    assert told.delay == 0.3
    # And from what was remembered of it.
    web.log.clear()
    fetch(web.url("/1.jpg"), web.url("/2.jpg"), hosts={"h.localhost": told}, host_delay=0.05)
    assert [asked.path for asked in web.log] == ["/1.jpg", "/2.jpg"]
    assert min(pauses(web.log)) >= 0.3 - SLACK
    assert told.at is not None
    assert web.log[0].began - told.at.timestamp() >= 0.3 - SLACK


@pytest.mark.parametrize(
    ("state", "retried", "seconds"),
    [
        (None, False, 0.0),
        (None, True, 0.3),
        (HostState("h.localhost", at=now(3600)), False, 0.3),  # somebody's clock is ahead
        (HostState("h.localhost", at=now(-3600)), False, 0.0),
        (HostState("h.localhost", at=now(-3600), not_before=now(-1)), False, 0.0),
    ],
)
def test_not_too_soon_after_the_last_time(web: RawWeb, state: HostState | None, retried: bool, seconds: float) -> None:
    web.answers = {"/x.jpg": Reply()}
    began = time.time()
    fetch(web.url(), hosts={"h.localhost": state} if state else None, retried=retried, host_delay=0.3)
    assert web.log[0].began - began >= seconds - SLACK


def test_short_patience_is_waited_for(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply()}
    soon = now(0.6)
    (fetched,) = fetch(web.url(), hosts={"h.localhost": HostState("h.localhost", not_before=soon)})
    assert fetched.outcome == "ok"
    assert web.log[0].began >= soon.timestamp() - SLACK


def test_long_patience_is_for_a_later_batch(web: RawWeb) -> None:
    later = HostState("h.localhost", not_before=now(500), failures=2)
    fetched = fetch(web.url(), web.url("/y.jpg"), hosts={"h.localhost": later})
    assert [each.outcome for each in fetched] == ["deferred"] * 2
    assert all(490 < (each.retry_after or 0) <= 500 for each in fetched)
    assert web.log == []
    (told,) = states(fetched).values()
    assert told == later  # nothing was asked, so nothing is different


def test_a_delay_that_is_learned_while_a_connection_is_waited_for(web: RawWeb) -> None:
    """By the host's other origin; with one connection, which that origin's robots.txt has."""
    rules = Reply(b"User-agent: *\nCrawl-delay: 1", delay=0.3)
    with RawWeb({"/robots.txt": rules, "/x.jpg": Reply()}) as other:
        web.answers = {"/robots.txt": Reply(b"", 404), "/x.jpg": Reply()}
        fetched = fetch(other.url(), web.url(), host_delay=0.05, connections=1)
        assert {each.outcome for each in fetched} == {"ok"}
        asked = sorted(web.log + other.log, key=lambda each: each.began)
        learned = next(place for place, each in enumerate(asked) if each in other.log)
        assert len(asked) == 4
        assert min(pauses(asked[learned:])) >= 1 - SLACK


def test_its_own_delay_is_waited_for_from_batch_to_batch() -> None:
    """If not, a host that is asked for once a minute would have its only URL of each batch put off."""
    asked = HostState("h.localhost", at=now(), delay=40.0)
    gate = Gate("h.localhost", settings(), asked, wait_first=False)
    gate.check(gate.origin("http://h.localhost"), time.monotonic() + 60)
    assert 30 < gate.wait <= 40
    slower = Gate("h.localhost", settings(), replace(asked, delay=200.0), wait_first=False)
    with pytest.raises(EndedError) as ended:
        slower.check(slower.origin("http://h.localhost"), time.monotonic() + 600)
    assert ended.value.fetched.outcome == "deferred"


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_for_patience(web: RawWeb, status: int) -> None:
    web.answers = {"/0.jpg": Reply(), "/1.jpg": Reply(b"", status, {"Retry-After": "120"})}
    fetched = fetch(*[web.url(f"/{number}.jpg") for number in range(6)], host_connections=1)
    assert [each.outcome for each in fetched] == ["ok", f"http_{status}"] + ["deferred"] * 4
    assert fetched[1].retry_after == 120
    assert all(110 < (each.retry_after or 0) <= 120 for each in fetched[2:])
    assert len(web.pictures()) == 2
    told = states(fetched)["h.localhost"]
    assert told.not_before is not None
    assert told.failures == 1
    assert now(110) < told.not_before <= now(120)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "Sun, 01 Nov 2020 00:00:00 GMT"}])
def test_without_a_time_it_is_left_alone_for_longer_each_time(web: RawWeb, headers: dict[str, str]) -> None:
    web.answers = {"/x.jpg": Reply(b"", 429, headers)}
    for failures, least, most in [(0, 600, 750), (1, 1200, 1500), (3, 4800, 6000), (20, 86400, 86400)]:
        (fetched,) = fetch(web.url(), hosts={"h.localhost": HostState("h.localhost", failures=failures)})
        assert least <= (fetched.retry_after or 0) <= most
        assert states([fetched])["h.localhost"].failures == failures + 1


async def hang_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.01)


def test_three_failures_in_a_row_are_enough(web: RawWeb) -> None:
    web.answers = {f"/{number}.jpg": hang_up for number in range(9)}
    before = {"h.localhost": HostState("h.localhost", failures=1, at=now(-9))}
    fetched = fetch(*[web.url(f"/{number}.jpg") for number in range(9)], hosts=before, host_connections=1)
    assert [each.outcome for each in fetched] == ["connection_error"] * 3 + ["host_down"] * 6
    assert len({asked.path for asked in web.pictures()}) == 3
    assert "connection_error" in (fetched[-1].detail or "")


def test_an_answer_between_failures_starts_anew(web: RawWeb) -> None:
    web.answers = {f"/{number}.jpg": Reply(b"", 404) if number == 2 else hang_up for number in range(6)}
    fetched = fetch(*[web.url(f"/{number}.jpg") for number in range(6)], host_connections=1)
    assert [each.outcome for each in fetched] == ["connection_error"] * 2 + ["http_404"] + ["connection_error"] * 3
    assert states(fetched)["h.localhost"].failures == 0


def test_a_host_that_never_answers_is_left_alone(web: RawWeb) -> None:
    web.answers = {"/robots.txt": hang_up}
    before = HostState("h.localhost", failures=1, answered_at=now(-900))
    fetched = fetch(web.url("/1.jpg"), web.url("/2.jpg"), hosts={"h.localhost": before})
    assert sorted(each.outcome for each in fetched) == ["connection_error", "host_down"]
    told = states(fetched)["h.localhost"]
    assert told.failures == 2
    assert told.answered_at == before.answered_at
    assert told.not_before is not None
    assert now(1190) < told.not_before < now(1510)


def test_another_port_may_still_answer(web: RawWeb) -> None:
    web.answers = {"/1.jpg": Reply()}
    fetched = fetch("http://h.localhost:81/x.jpg", "http://h.localhost:81/y.jpg", web.url("/1.jpg"))
    assert [each.outcome for each in fetched] == ["connection_error", "host_down", "ok"]
    assert states(fetched)["h.localhost"].failures == 0


def test_more_than_its_delay_allows_is_left_for_later(web: RawWeb) -> None:
    web.answers = {f"/{number}.jpg": Reply() for number in range(50)}
    urls = [web.url(f"/{number}.jpg") for number in range(50)]
    fetched = fetch(*urls, host_delay=0.05, host_seconds=0.5)
    # One at 0 s and ten more; robots.txt took one of their places where it was known before the cut.
    assert [each.outcome for each in fetched].count("ok") in (10, 11)
    assert {each.outcome for each in fetched} == {"ok", "deferred"}
    assert len(web.pictures()) == [each.outcome for each in fetched].count("ok")


def test_what_a_slow_host_does_not_get_done_is_left_for_later(web: RawWeb) -> None:
    """Two at a time, of 0.3 s each: after 0.5 s of both four have begun, or six; on a busy machine fewer."""
    web.answers = {f"/{number}.jpg": Reply(delay=0.3) for number in range(50)}
    fetched = fetch(*(web.url(f"/{number}.jpg") for number in range(50)), host_seconds=0.5, obey_robots=False)
    outcomes = [each.outcome for each in fetched]
    assert outcomes.count("ok") in range(2, 7)
    assert set(outcomes) == {"ok", "deferred"}
    assert len(web.pictures()) == outcomes.count("ok")


def test_the_least_delay_of_all(web: RawWeb) -> None:
    """A host whose delay is longer than a batch: robots.txt in the first, a picture in each that follows."""
    web.answers = {"/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 200"), "/1.jpg": Reply(), "/2.jpg": Reply()}
    urls = [web.url("/1.jpg"), web.url("/2.jpg")]
    fetched = fetch(*urls)
    assert [each.outcome for each in fetched] == ["deferred"] * 2
    told = states(fetched)["h.localhost"]
    later = HostState("h.localhost", at=now(-201), delay=told.delay, robots=told.robots)
    assert [each.outcome for each in fetch(*urls, hosts={"h.localhost": later})] == ["ok", "deferred"]
    assert [asked.path for asked in web.log] == ["/robots.txt", "/1.jpg"]


def test_what_has_not_begun_in_time_is_deferred(web: RawWeb) -> None:
    web.answers = {f"/{number}.jpg": Reply(delay=0.2) for number in range(12)}
    fetched = fetch(*[web.url(f"/{number}.jpg") for number in range(12)], until=time.monotonic() + 0.5)
    found = [each.outcome for each in fetched]
    assert set(found) == {"ok", "deferred"}
    assert len(web.pictures()) == found.count("ok")


def test_states_go_through_rows() -> None:
    web_state = HostState("h.localhost", at=now(), not_before=now(5), delay=1.0, failures=3)
    assert HostState.from_row(web_state.as_row()) == web_state
    naive = {**web_state.as_row(), "at": datetime.now(), "failures": None, "robots": None}  # as Spark collects it
    state = HostState.from_row(naive)
    assert state.at is not None
    assert abs(state.at - now()) < timedelta(minutes=1)
    assert (state.failures, state.robots) == (0, ())


def test_where_a_host_answers_is_remembered_without_its_robots(web: RawWeb) -> None:
    web.answers = {"/x.jpg": Reply()}
    told = states(fetch(web.url(), obey_robots=False))
    (robots,) = told["h.localhost"].robots
    assert (robots.origin, robots.status) == (web.url(""), None)
    web.log.clear()
    assert states(fetch(web.url(), hosts=told))["h.localhost"].robots[0].status == 404
    assert [asked.path for asked in web.log] == ["/robots.txt", "/x.jpg"]


def test_the_last_of_a_host_tells_its_state(web: RawWeb) -> None:
    web.answers = {"/1.jpg": Reply(), "/2.jpg": Reply(), "/robots.txt": Reply(b"User-agent: *\nDisallow: /no")}
    requests = [web.url(path, f"{host}.localhost") for host in "abc" for path in ("/1.jpg", "/2.jpg", "/no.jpg")]
    fetched = fetch(*requests, Request("nonsense"))
    told = states(fetched)
    assert set(told) == {"a.localhost", "b.localhost", "c.localhost"}
    for state in told.values():
        assert state.at is not None
        assert state.answered_at is not None
        assert state.answered_at >= state.at - timedelta(seconds=1)
        assert [robots.body for robots in state.robots] == ["User-agent: *\nDisallow: /no"]
