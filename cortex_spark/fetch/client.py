"""The asynchronous HTTP client of one task."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, TypeVar

import ada_url
import aiohttp
import yarl

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.fetch.guard import BlockedAddressError, Guard, GuardedResolver
from cortex_spark.fetch.state import Fetched, HostState, Request

_K = TypeVar("_K")

_MAX_REDIRECTS: Final = 10
_LONGEST_WAIT: Final = 86400.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class _TooLargeError(Exception):
    pass


#: Exceptions of the client and the outcomes that they are, the most special first.
_OUTCOMES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (_TooLargeError, "too_large"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    (aiohttp.ClientSSLError, "tls_error"),
    (ssl.SSLError, "tls_error"),
    (aiohttp.ClientPayloadError, "incomplete"),
    (aiohttp.InvalidURL, "bad_url"),
    (aiohttp.ClientError, "connection_error"),
    (OSError, "connection_error"),
    (ValueError, "bad_url"),
    (Exception, "connection_error"),
)


def _outcome_of(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:  # a refused address comes wrapped in the connector's error
        if isinstance(seen, BlockedAddressError):
            return "blocked_address"
        seen = seen.__cause__ or getattr(seen, "os_error", None)
    return next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))


class Fetcher:
    """Downloads within the limits of ``settings``; use it as an asynchronous context manager."""

    def __init__(
        self,
        settings: Settings,
        hosts: Mapping[str, HostState] | None = None,
        *,
        across_hosts: bool = True,
        retried: bool = False,
        canaries: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._guard = Guard(settings.allow_private_hosts)
        self._free = asyncio.Semaphore(settings.connections)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=self._settings.connections, resolver=GuardedResolver(self._guard), ttl_dns_cache=300
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._settings.user_agent, "Accept": "image/*,*/*;q=0.5"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout),
            trust_env=False,  # a proxy would make the connection to an address nobody checked
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def fetch_all(
        self,
        requests: Sequence[tuple[_K, Request]],
        sink: Callable[[_K, Fetched], Awaitable[None]],
        *,
        until: float = math.inf,
    ) -> None:
        """Download all ``requests`` (each with a key), few at a time from each host, and give each to ``sink``.

        While ``sink`` waits, nothing new is begun in its place. What has not begun at ``until`` (monotonic seconds)
        ends as ``deferred``.
        """
        hosts: defaultdict[str, deque[tuple[_K, Request]]] = defaultdict(deque)
        for key, request in requests:
            hosts[_host(request.url)].append((key, request))

        async def visit(queue: deque[tuple[_K, Request]]) -> None:
            while queue:
                key, request = queue.popleft()
                async with self._free:
                    late = time.monotonic() >= until
                    await sink(key, Fetched("deferred") if late else await self.fetch(request))

        async with asyncio.TaskGroup() as visits:
            for queue in hosts.values():
                for _ in range(min(self._settings.host_connections, len(queue))):
                    visits.create_task(visit(queue))

    async def fetch(self, request: Request) -> Fetched:
        """Download one URL; never raises for what the web does, the outcome says it."""
        try:
            target = ada_url.URL(request.url)
        except ValueError:
            return Fetched("bad_url", detail="not a valid URL")
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.download_timeout):
                fetched = await self._follow(target)
        except Exception as error:  # whatever a server makes the client do, it costs one row
            fetched = Fetched(_outcome_of(error), detail=f"{type(error).__name__}: {error}"[:200])
        return replace(fetched, seconds=time.monotonic() - started)

    async def _follow(self, target: ada_url.URL) -> Fetched:
        for _ in range(_MAX_REDIRECTS + 1):
            if target.protocol not in ("http:", "https:"):
                return Fetched("bad_url", detail=f"{target.protocol} is not fetched", final_url=target.href)
            self._guard.check_literal(target.hostname)
            target.hash = ""
            # A browser sends what the WHATWG parser wrote; quoting again would break signed URLs.
            async with self._session.get(yarl.URL(target.href, encoded=True), allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location:
                    target = ada_url.URL(location, base=target.href)
                    continue
                return await self._read(response, target.href)
        return Fetched("too_many_redirects", final_url=target.href)

    async def _read(self, response: aiohttp.ClientResponse, final_url: str) -> Fetched:
        headers = response.headers
        if response.status != 200:
            return Fetched(
                outcomes.http_outcome(response.status),
                status=response.status,
                final_url=final_url,
                retry_after=_seconds(headers.get("Retry-After")),
            )
        if (response.content_length or 0) > self._settings.max_bytes:
            raise _TooLargeError(f"{response.content_length} bytes declared, {self._settings.max_bytes} allowed")
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._settings.max_bytes:
                raise _TooLargeError(f"more than {self._settings.max_bytes} bytes")
            chunks.append(chunk)
        return Fetched(
            outcomes.OK if size else "empty",
            body=b"".join(chunks),
            size=size,
            status=response.status,
            final_url=final_url,
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
        )


def _host(url: str) -> str:
    try:
        return ada_url.URL(url).host
    except ValueError:
        return ""


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After`` in seconds, at most a day; its other form, a date, is left to our own delay."""
    asked = (retry_after or "").strip()
    return min(float(asked), _LONGEST_WAIT) if asked.isascii() and asked.isdecimal() else None
