"""The simulated web is what it says it is: a stranger's client visits it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp.resolver import AsyncResolver

from benchmarks.simweb import (
    DOMAIN,
    Life,
    Page,
    Request,
    SimulatedWeb,
    Site,
    least_pause,
    make_sites,
    most_at_once,
    too_early,
)

_BODY = bytes(range(256)) * 512


@pytest.fixture(scope="module")
def web() -> Iterator[SimulatedWeb]:
    pages = tuple(Page(f"/{number}", 0, latency=0.05) for number in range(6))
    moved = Page("/moved", status=302, headers=(("Location", f"//c.{DOMAIN}:0/0"),))
    sites = [
        Site(f"a.{DOMAIN}", (*pages, moved)),
        Site(f"b.{DOMAIN}", pages, busy_after=3, patience=1),
        Site(f"c.{DOMAIN}", pages),
        *(Site(f"{life.name.lower()}.{DOMAIN}", pages[:1], life) for life in Life if life is not Life.ALIVE),
    ]
    with SimulatedWeb(sites=sites, pictures=[_BODY]) as running:
        yield running


async def _visit(web: SimulatedWeb, urls: list[str], at_once: int) -> list[int | str]:
    """By URL the status, or the name of the exception."""
    resolver = AsyncResolver(nameservers=[f"127.0.0.1:{web.name_server_port}"], timeout=0.3, tries=1)
    trust = ssl.create_default_context(cafile=str(web.ca_file))
    connector = aiohttp.TCPConnector(resolver=resolver, ssl=trust, limit=at_once)
    timeout = aiohttp.ClientTimeout(total=1)

    async def visit(url: str) -> int | str:
        try:
            async with session.get(url) as response:
                body = await response.read()
                assert body == _BODY or response.status != 200
                return response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        return await asyncio.gather(*(visit(url) for url in urls))


def test_alive_and_dead(web: SimulatedWeb) -> None:
    found = dict(zip(web.urls(), asyncio.run(_visit(web, web.urls(), 100)), strict=True))
    dns, connect, timeout = "ClientConnectorDNSError", "ClientConnectorError", "TimeoutError"
    expected = {
        Life.REFUSING: connect,
        Life.HANGING: timeout,
        Life.SILENT: timeout,
        Life.NXDOMAIN: dns,
        Life.SERVFAIL: dns,
        Life.MUTE: dns,
    }
    for site in web.sites:
        for page in site.pages:
            if site.life in expected:
                assert found[web.url(site, page)] == expected[site.life], site.life
            elif not site.busy_after:
                assert found[web.url(site, page)] == 200
    queried = {query.name for query in web.queries()}
    assert queried == {site.host for site in web.sites}


def test_log_shows_concurrency_and_patience(web: SimulatedWeb) -> None:
    time.sleep(1.1)  # the busy site's patience may not be over
    web.forget()
    a, b = web.sites[:2]
    asyncio.run(_visit(web, [web.url(a, page) for page in a.pages[:6]], 3))
    assert most_at_once(web.log()) == {a.host: 3}
    statuses = asyncio.run(_visit(web, [web.url(b, page) for page in b.pages], 1))
    assert statuses == [200, 200, 200, 429, 429, 429]
    log = [request for request in web.log() if request.host == b.host]
    assert [request.retry_after for request in log] == [None] * 3 + [1] * 3
    assert [request.path for request in too_early(log, tolerance=0)] == ["/4", "/5"]


def test_outage(web: SimulatedWeb) -> None:
    with web.outage():
        assert asyncio.run(_visit(web, web.urls()[:1], 1)) == ["ClientConnectorDNSError"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", web.port))
    assert asyncio.run(_visit(web, web.urls()[:1], 1)) == [200]


def test_sites_are_the_same_for_the_same_seed() -> None:
    sites = make_sites(2000, 6000, 1, 10)
    assert sites == make_sites(2000, 6000, 1, 10)
    assert sites != make_sites(2000, 6000, 2, 10)
    listed = [sum(page.listed for page in site.pages) for site in sites]
    assert len(sites) == 2000
    assert (sum(listed), listed[0], min(listed)) == (6000, 1800, 1)
    assert sum(site.life is not Life.ALIVE for site in sites) == 200
    waits = [page.latency for site in sites for page in site.pages]
    assert (min(waits), max(waits)) == (0.05, 5.0)


@pytest.mark.parametrize(
    ("spans", "most", "pause"),
    [
        ([(0, 1)], 1, None),
        ([(0, 1), (1, 2)], 1, 1),
        ([(0, 2), (1, 3), (1.5, 1.75)], 3, 0.5),
        ([(4, 5), (0, 4.5), (0.25, 1)], 2, 0.25),
    ],
)
def test_log_functions(spans: list[tuple[float, float]], most: int, pause: float | None) -> None:
    log = [Request("h", "/", start, end, 200, "") for start, end in spans]
    assert most_at_once(log) == {"h": most}
    assert least_pause(log).get("h") == pause
