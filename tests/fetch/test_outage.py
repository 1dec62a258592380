"""Whether it is the web that is down, or we are: nothing is written off when it is us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from cortex_spark.fetch import Fetched, Fetcher, HostState, Request
from cortex_spark.fetch.guard import Guard
from cortex_spark.fetch.resolver import GuardedResolver
from tests.dns import SERVFAIL, NameServer
from tests.fetch.web import RawWeb, Reply, fetch, settings, states


def dead(count: int, first: int = 0) -> list[str]:
    """URLs of as many hosts, on which nobody listens."""
    return [f"http://dead{number}.localhost:81/x.jpg" for number in range(first, first + count)]


def found(fetched: list[Fetched]) -> dict[str, int]:
    return dict(Counter(each.outcome for each in fetched))


def test_nobody_has_ever_answered() -> None:
    fetched = fetch(*dead(30), outage_hosts=20)
    assert found(fetched) == {"outage": 30}
    # A host is not to blame for what is our fault.
    assert all((state.failures, state.not_before) == (0, None) for state in states(fetched).values())
    assert len(states(fetched)) == 30


def test_hosts_that_fail_first_are_no_outage(web: RawWeb) -> None:
    """Refusing is faster than answering, and of a new warehouse nobody is known who could be asked."""
    web.answers = {"/x.jpg": Reply(), "/robots.txt": Reply(b"", delay=0.4)}
    alive = [web.url(host=f"h{number}.localhost") for number in range(10)]
    assert found(fetch(*dead(20), *alive, outage_hosts=20)) == {"connection_error": 20, "ok": 10}


def test_an_answer_while_others_are_asked(web: RawWeb) -> None:
    """Whoever answers meanwhile is as good as they are."""
    with contextlib.ExitStack() as stack:
        # They accept a connection, and say nothing.
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        web.answers = {"/robots.txt": Reply(b"", delay=0.3), "/x.jpg": Reply()}
        canaries = [f"http://c{n}.localhost:{one.getsockname()[1]}" for n, one in enumerate(silent)]
        urls = [web.url()] * 12
        fetched = fetch(*dead(5), *urls, outage_hosts=5, canaries=canaries, connect_timeout=0.5, read_timeout=0.5)
    assert found(fetched) == {"connection_error": 5, "ok": 12}


def test_few_hosts_are_no_outage() -> None:
    assert found(fetch(*dead(19), outage_hosts=20)) == {"connection_error": 19}


def test_not_where_that_is_configured() -> None:
    fetched = fetch(*dead(30), outage_hosts=0)
    assert found(fetched) == {"connection_error": 30}
    assert all(state.failures == 1 for state in states(fetched).values())


def test_the_rest_of_the_web_may_be_dead(web: RawWeb) -> None:
    """A batch whose tail is all dead hosts: those that answered are asked whether it is us."""
    web.answers = {"/x.jpg": Reply()}
    alive = [web.url(host=f"h{number}.localhost") for number in range(3)]
    fetched = fetch(*alive, *dead(60), outage_hosts=20, connections=4)
    assert found(fetched) == {"ok": 3, "connection_error": 60}
    asked = Counter(line.path for line in web.log)
    assert asked["/x.jpg"] == 3
    assert asked["/robots.txt"] <= 3 + 3  # a probe for each twenty hosts, if there was no answer between


@pytest.mark.parametrize(("canaries", "outcome"), [([], "outage"), (["WEB"], "connection_error")])
def test_canaries_tell_where_nobody_who_answered_may_be_asked(web: RawWeb, canaries: list[str], outcome: str) -> None:
    """All that answered want patience now, which says nothing of our network a moment later."""
    web.answers = {"/x.jpg": Reply(b"", 503, {"Retry-After": "99"})}
    known = [*GONE[:2], *(web.url("", "c.localhost") for _ in canaries)]
    done: list[str] = []

    async def run() -> None:
        async def sink(key: str, fetched: Fetched) -> None:
            done.append(fetched.outcome)

        async with Fetcher(settings(outage_hosts=20), canaries=known) as fetcher:
            await fetcher.fetch_all([("", Request(web.url()))], sink)
            await fetcher.fetch_all([("", Request(url)) for url in dead(25)], sink)

    asyncio.run(run())
    assert done == ["http_503"] + [outcome] * 25


def test_canaries_tell_too(web: RawWeb) -> None:
    fetched = fetch(*dead(25), outage_hosts=20, canaries=["http://gone.localhost:81", web.url("")])
    assert found(fetched) == {"connection_error": 25}
    assert [line.path for line in web.log] == ["/robots.txt"]


@pytest.mark.parametrize("canaries", [["http://gone.localhost:81"], ["nonsense"], ["http://127.0.0.1:81"]])
def test_canaries_that_are_gone_too(canaries: list[str]) -> None:
    assert found(fetch(*dead(25), outage_hosts=20, canaries=canaries)) == {"outage": 25}


GONE = [f"http://gone{number}.localhost:81" for number in range(3)]


@pytest.mark.parametrize(
    ("canaries", "outcome"),
    [
        (GONE, "outage"),
        (GONE[:2], "connection_error"),  # too few to be sure
        ([*GONE[:2], "http://dead0.localhost:81"], "connection_error"),  # no news of that one
        ([*GONE[:2], "WEB"], "connection_error"),
    ],
)
def test_a_task_of_few_hosts_of_which_none_answers(web: RawWeb, canaries: list[str], outcome: str) -> None:
    known = [web.url("") if canary == "WEB" else canary for canary in canaries]
    fetched = fetch(*dead(2), outage_hosts=20, canaries=known)
    assert found(fetched) == {outcome: 2}
    assert {state.failures for state in states(fetched).values()} == {0 if outcome == "outage" else 1}
    assert len(web.log) == ("WEB" in canaries)


def test_few_failures_after_the_last_answer(web: RawWeb) -> None:
    """They are the hosts' own if one answers that did before, and an outage if none of three does."""
    web.answers = {"/x.jpg": Reply()}
    assert found(fetch(web.url(), *dead(2), canaries=GONE)) == {"ok": 1, "connection_error": 2}

    async def run(alive: int) -> list[str]:
        done: list[str] = []

        async def sink(key: str, fetched: Fetched) -> None:
            done.append(fetched.outcome)

        async with Fetcher(settings(outage_hosts=20, connect_timeout=0.5, read_timeout=0.5)) as fetcher:
            with RawWeb({"/x.jpg": Reply()}) as gone:
                urls = [gone.url(host=f"h{number}.localhost") for number in range(alive)]
                await fetcher.fetch_all([("", Request(url)) for url in urls], sink)
            await fetcher.fetch_all([("", Request(url)) for url in dead(2)], sink)
        return done

    assert asyncio.run(run(3)) == ["ok"] * 3 + ["outage"] * 2
    assert asyncio.run(run(2)) == ["ok"] * 2 + ["connection_error"] * 2  # too few to be sure


def test_hosts_whose_turn_is_far_away_tell_nothing(web: RawWeb) -> None:
    """They are not asked, so that they do not answer is no news."""
    web.answers = {"/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 200"), "/x.jpg": Reply()}
    done: list[str] = []

    async def run() -> None:
        async def sink(key: str, fetched: Fetched) -> None:
            done.append(fetched.outcome)

        async with Fetcher(settings(outage_hosts=5)) as fetcher:
            await fetcher.fetch_all([("", Request(web.url(host=f"h{number}.localhost"))) for number in range(3)], sink)
            await fetcher.fetch_all([("", Request(url)) for url in dead(8)], sink)

    asyncio.run(run())
    assert done == ["deferred"] * 3 + ["connection_error"] * 8
    assert len(web.log) == 3


def test_canaries_tell_more_than_hosts_that_fell_silent(web: RawWeb) -> None:
    done: list[str] = []

    async def run() -> None:
        async def sink(key: str, fetched: Fetched) -> None:
            done.append(fetched.outcome)

        own = settings(outage_hosts=4, connect_timeout=0.5, read_timeout=0.5)
        async with Fetcher(own, canaries=[web.url("", "c.localhost")]) as fetcher:
            with RawWeb({f"/{number}.jpg": Reply() for number in range(2)}) as gone:
                urls = [[gone.url(f"/{n}.jpg", f"h{host}.localhost") for host in range(4)] for n in range(2)]
                await fetcher.fetch_all([("", Request(url)) for url in urls[0]], sink)
            await fetcher.fetch_all([("", Request(url)) for url in urls[1]], sink)

    asyncio.run(run())
    assert done[:4] == ["ok"] * 4
    assert "outage" not in done[4:]
    assert {asked.host for asked in web.log} == {"c.localhost"}


def test_tasks_ask_different_canaries(web: RawWeb) -> None:
    canaries = [web.url("", f"c{number}.localhost") for number in range(9)]
    for _ in range(9):
        fetch(*dead(3), outage_hosts=3, canaries=canaries)
    assert len(web.log) == 9
    assert len({asked.host for asked in web.log}) > 1


def test_the_web_goes_away_in_the_middle(web: RawWeb) -> None:
    """What had its answer keeps it; what failed, is in flight or has not begun ends as an outage, each once."""
    web.answers = {"/x.jpg": Reply()}
    urls = [web.url(host=f"h{number}.localhost") for number in range(60)]
    done: dict[int, Fetched] = {}

    async def run() -> None:
        async def sink(key: int, fetched: Fetched) -> None:
            assert key not in done
            done[key] = fetched
            if len(done) == 10:
                await asyncio.to_thread(web.__exit__, None, None, None)

        async with Fetcher(
            settings(outage_hosts=5, connections=3, read_timeout=0.5), canaries=[web.url("")]
        ) as fetcher:
            await fetcher.fetch_all([(n, Request(url)) for n, url in enumerate(urls)], sink)

    asyncio.run(run())
    web.__init__()  # type: ignore[misc]  # the fixture closes it once more
    web.__enter__()
    assert sorted(done) == list(range(60))
    outcomes = found(list(done.values()))
    assert set(outcomes) == {"ok", "outage"}
    assert 10 <= outcomes["ok"] <= 13
    told = states(list(done.values()))
    assert all(state.failures == 0 for state in told.values())
    assert len(told) == 60


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer(lambda name: ["127.0.0.1"]) as server:
        yield server


def test_only_our_name_server_is_down(web: RawWeb, names: NameServer) -> None:
    """Hosts whose addresses are known still answer; their names are asked for anew before they are believed."""
    web.answers = {"/x.jpg": Reply()}
    done: list[str] = []

    async def run() -> None:
        async def sink(key: str, fetched: Fetched) -> None:
            done.append(fetched.outcome)
            if key == "first":
                names.resolve = lambda name: SERVFAIL

        options = {"allow_private_hosts": ("*.test",), "nameservers": (names.address,), "outage_hosts": 5}
        async with Fetcher(settings(**options)) as fetcher:
            await fetcher.fetch_all([("first", Request(web.url(host="a.test")))], sink)
            later = [(f"{n}", Request(web.url(host=f"h{n}.test"))) for n in range(10)]
            await fetcher.fetch_all(later, sink)

    asyncio.run(run())
    assert done == ["ok"] + ["outage"] * 10


def test_names_are_asked_for_anew_with_what_is_under_way(names: NameServer) -> None:
    """A question of before gets its answer; its client is closed then, those without questions at once."""

    def slowly(name: str) -> list[str]:
        time.sleep(0.5)
        return ["127.0.0.1"]

    names.resolve = slowly

    async def run() -> None:
        own = settings(allow_private_hosts=("*.test",))
        resolver = GuardedResolver(Guard(own), (names.address,), timeout=5.0)
        first = resolver._client
        asking = asyncio.create_task(resolver.resolve("a.test"))
        await asyncio.sleep(0.05)
        await resolver.refresh()
        second = resolver._client
        await resolver.refresh()
        assert (first._closed, second._closed) == (False, True)
        assert [each["host"] for each in await asking] == ["127.0.0.1"]
        await asyncio.sleep(0)
        assert first._closed
        await resolver.resolve("b.test")
        await resolver.close()
        assert resolver._client._closed

    asyncio.run(run())


def test_a_host_that_is_down_is_held_back_with_the_failure_it_follows(web: RawWeb) -> None:
    urls = [url for url in dead(10) for _ in range(4)]
    assert found(fetch(*urls, outage_hosts=10)) == {"outage": 40}
    both = found(fetch(*urls, outage_hosts=11))
    assert both == {"connection_error": 10, "host_down": 30}


def test_states_of_earlier_visits_are_kept_in_an_outage() -> None:
    before = {f"dead{n}.localhost": HostState(f"dead{n}.localhost", failures=2, delay=0.0) for n in range(6)}
    told = states(fetch(*dead(6), hosts=before, outage_hosts=5))
    assert {host: state.failures for host, state in told.items()} == dict.fromkeys(before, 2)
