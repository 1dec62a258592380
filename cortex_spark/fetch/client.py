"""The asynchronous HTTP client of one task."""

from __future__ import annotations

import asyncio
import functools
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Final, Self, TypeVar

import aiohttp
import yarl

from cortex_spark import outcomes
from cortex_spark.config import NO_CONTACT, Settings
from cortex_spark.errors import CortexError
from cortex_spark.fetch.batch import Batch
from cortex_spark.fetch.gate import SILENT, EndedError, Gate, Origin, Turn
from cortex_spark.fetch.guard import BAD_PORTS, BlockedAddressError, Guard
from cortex_spark.fetch.resolver import GuardedResolver
from cortex_spark.fetch.robots import MAX_BYTES, MAX_REDIRECTS, Rules, is_fresh, is_readable, text_of
from cortex_spark.fetch.state import WEB, Fetched, Hosts, HostState, Request, Robots, Target, parsed
from cortex_spark.fetch.turnstile import Turnstile
from cortex_spark.headers import as_text, header_refusal, refusal, retry_after

_K = TypeVar("_K")
_T = TypeVar("_T")

_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Statuses by which a host asks to be left alone for a while.
_PATIENCE: Final = frozenset({429, 503})
#: Seconds that a connection is kept for the host's next URL: longer than most delays, since a process has only so many.
_KEEP_ALIVE: Final = 2.0
#: Bytes of one header, and of all: signed addresses in Location are long.
_HEADER_BYTES: Final = 32 << 10


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


def _failure(error: BaseException, prefix: str = "") -> Fetched:
    return Fetched(_outcome_of(error), detail=f"{prefix}{type(error).__name__}: {error}"[:200])


@dataclass(frozen=True, slots=True)
class _Answer:
    """A redirect (``location``) or what a body was read for."""

    location: str | None = None
    fetched: Fetched | None = None
    robots: Robots | None = None


class Fetcher:
    """Downloads within the limits of ``settings``; use it as an asynchronous context manager.

    Args:
        settings: limits, and who we are.
        hosts: what earlier batches remember, by host; ``Hosts`` are told what hosts ask for, as they do.
        across_hosts: whether a redirect to another host is followed, through that host's gate in this process; if not
            it ends as ``moved`` with that ``final_url``.
        retried: somebody else may have asked any host a moment ago: each is left alone for its delay first.
        canaries: origins (``https://example.org``) that answered lately, to tell our outage from the web's.
    """

    def __init__(
        self,
        settings: Settings,
        hosts: Mapping[str, HostState] | None = None,
        *,
        across_hosts: bool = True,
        retried: bool = False,
        canaries: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.canaries = canaries
        self.free = Turnstile(settings.connections)
        self.answers = 0  # so far, of any host
        self.alive: dict[Gate, Origin] = {}  # hosts that answered, the latest last
        self._hosts = hosts or {}
        self._remember = hosts.learned if isinstance(hosts, Hosts) else None
        self._across_hosts = across_hosts
        self._retried = retried
        self._guard = Guard(settings)
        self._checked: set[str] = set()  # hosts that the guard has no objection to
        self._gates: dict[str, Gate] = {}
        self._refused = frozenset(settings.refuse_directives)

    async def __aenter__(self) -> Self:
        settings = self.settings
        self.resolver = GuardedResolver(self._guard, settings.nameservers, settings.connect_timeout)
        connector = aiohttp.TCPConnector(
            limit=settings.connections,
            resolver=self.resolver,
            use_dns_cache=False,  # the resolver has one
            ssl=_trust(settings.ca_file),
            keepalive_timeout=_KEEP_ALIVE,
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_sent)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": settings.user_agent,
                "Accept": "image/*,*/*;q=0.5",
                # Pictures are compressed already, and what is not compressed cannot be a bomb.
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout
            ),
            trust_env=False,  # a proxy would make the connection to an address nobody checked
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            trace_configs=[tracing],
        )
        self._session._retry_connection = False  # it would ask again at once, out of the host's turn
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self.resolver.close()

    async def fetch_all(
        self,
        requests: Sequence[tuple[_K, Request]],
        sink: Callable[[_K, Fetched], Awaitable[None]],
        *,
        until: float = math.inf,
    ) -> None:
        """Download all ``requests`` (each with a key), each host at its own pace, and give each to ``sink`` once.

        While ``sink`` waits, nothing new is begun in its place. What has not begun at ``until`` (monotonic seconds)
        ends as ``deferred``. The last of a host's URLs carries its ``host_state``.

        Raises:
            CortexError: a host is public and ``settings`` name no contact; nothing was asked then.
        """
        await Batch(self, requests, sink, until).run()

    async def fetch(self, request: Request) -> Fetched:
        """Download one URL; never raises for what the web does, the outcome says it.

        Raises:
            CortexError: its host is public and ``settings`` name no contact.
        """
        target = parsed(request.url)
        if target is not None and not self.settings.may_visit(target.host):
            raise CortexError(f"{target.host} was not asked: {NO_CONTACT}")
        turn = Turn(self.free)
        try:
            return await self.follow(request, target, turn)
        finally:
            turn.release()

    def gate(self, host: str, *, wait_first: bool = False) -> Gate:
        """The gate of a host of this name, with or without the root's dot.

        Raises BlockedAddressError if it is public and nobody to be reached asks.
        """
        host = host.rstrip(".")
        gate = self._gates.get(host)
        if gate is None:
            if not self.settings.may_visit(host):
                raise BlockedAddressError(f"{host} is public: {NO_CONTACT}")
            gate = self._gates[host] = Gate(
                host,
                self.settings,
                self._hosts.get(host),
                wait_first=wait_first or self._retried,
                remember=self._remember,
            )
        return gate

    async def follow(self, request: Request, target: Target | None, turn: Turn) -> Fetched:
        """Ask for ``target``, the parsed URL of ``request``, and for what it redirects to."""
        named = refusal(request.directives, self._refused)
        if named is not None:
            return Fetched("opt_out", detail=f"the page says {named}")
        if target is None:
            return Fetched("bad_url", detail="not a valid URL")
        try:
            fetched = await self._follow(request, target, turn)
        except EndedError as ended:
            fetched = ended.fetched
        except CortexError:
            raise
        except Exception as error:  # whatever a server makes the client do, it costs one row
            fetched = _failure(error)
        return replace(fetched, seconds=turn.spent)

    async def _follow(self, request: Request, target: Target, turn: Turn) -> Fetched:
        headers = {}
        if request.etag:
            headers["If-None-Match"] = request.etag
        if request.last_modified:
            headers["If-Modified-Since"] = request.last_modified
        first = target.host
        for _ in range(_MAX_REDIRECTS + 1):
            refused = self._unfit(target)
            if refused is not None:
                return refused
            host, url = target.host, target.url
            gate = self.gate(host)
            if gate is not self.gate(first) and not self._across_hosts:
                return Fetched("moved", final_url=url)
            origin = gate.origin(target.origin)
            gate.check(origin, turn.until)
            if self.settings.obey_robots:
                rules = origin.rules or await self._rules(gate, origin, turn)
                if not rules.allows(url):
                    return Fetched("robots", detail=f"{origin.name}/robots.txt forbids it", final_url=url)
            if not turn.more:
                headers["Connection"] = "close"
            answer = await self._ask_picture(gate, origin, url, headers, turn)
            if (fetched := answer.fetched) is not None:
                if fetched.outcome == "not_modified" and not (request.etag or request.last_modified):
                    return replace(fetched, outcome=outcomes.http_outcome(304))  # nothing is known that it could be
                return fetched
            turn.release()
            target = Target.of(answer.location or "", url)
        return Fetched("too_many_redirects", final_url=target.url)

    def _unfit(self, target: Target) -> Fetched | None:
        """What becomes of ``target`` where it cannot be asked for."""
        if target.protocol not in WEB:
            return Fetched("bad_url", detail=f"{target.protocol} is not fetched", final_url=target.url)
        if target.port and int(target.port) in BAD_PORTS:
            return Fetched("bad_url", detail=f"port {target.port} is no web server's", final_url=target.url)
        if target.host not in self._checked:
            self._guard.check_literal(target.host)
            self._checked.add(target.host)
        return None

    async def _ask_picture(
        self, gate: Gate, origin: Origin, url: str, headers: Mapping[str, str], turn: Turn
    ) -> _Answer:
        async def read(response: aiohttp.ClientResponse) -> _Answer:
            return await self._read(response, gate, url)

        try:
            answer = await self.ask(gate, origin, url, headers, turn, read)
        except (EndedError, _TooLargeError):
            raise
        except Exception as error:
            failure = _failure(error)
            if failure.outcome in SILENT:
                gate.failed(origin, failure)
            return _Answer(fetched=replace(failure, final_url=url))
        gate.completed(origin)
        return answer

    async def ask(
        self,
        gate: Gate,
        origin: Origin,
        url: str,
        headers: Mapping[str, str],
        turn: Turn,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
    ) -> _T:
        """One request in its host's turn; what ``read`` makes of the answer."""
        try:
            return await self._ask_once(gate, origin, url, headers, turn, read)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError):
            # A server may close a connection that was kept at the very moment when it is used again.
            return await self._ask_once(gate, origin, url, headers, turn, read)

    async def _ask_once(
        self,
        gate: Gate,
        origin: Origin,
        url: str,
        headers: Mapping[str, str],
        turn: Turn,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
    ) -> _T:
        turn.release()
        await gate.enter(origin, turn)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.download_timeout - turn.spent):
                # A browser sends what the WHATWG parser wrote; quoting again would break signed URLs.
                async with self._session.get(
                    yarl.URL(url, encoded=True),
                    headers=headers,
                    allow_redirects=False,
                    trace_request_ctx=(gate, turn),
                ) as response:
                    self.answers += 1
                    self.alive.pop(gate, None)
                    self.alive[gate] = origin
                    gate.answered(origin)
                    return await read(response)
        finally:
            gate.leave(turn, time.monotonic() - began)

    async def is_alive(self, gate: Gate, origin: Origin) -> bool:
        """Whether the origin answers anything now; its name is asked for anew."""

        async def nothing(response: aiohttp.ClientResponse) -> None:
            pass

        turn = Turn(self.free, urgent=True)
        try:
            async with asyncio.timeout(gate.wait + 2 * self.settings.connect_timeout):
                await self.resolver.resolve(gate.host.strip("[]"))  # a kept connection would not tell
                await self.ask(gate, origin, origin.name + "/robots.txt", {"Connection": "close"}, turn, nothing)
        except Exception:  # the question is only whether
            return False
        finally:
            turn.release()
        return True

    async def _read(self, response: aiohttp.ClientResponse, gate: Gate, url: str) -> _Answer:
        headers, status = response.headers, response.status
        now = datetime.now(UTC)
        said = headers.getall("X-Robots-Tag", ())
        named = header_refusal(said, self._refused, now) if said and status < 400 else None
        if named is not None:
            return _Answer(
                fetched=Fetched("opt_out", detail=f"X-Robots-Tag says {named}", status=status, final_url=url)
            )
        location = headers.get("Location")
        if status in _REDIRECTS and location:
            return _Answer(location=location)
        etag, last_modified = headers.get("ETag"), headers.get("Last-Modified")
        if status != 200:
            asked = retry_after(headers.get("Retry-After"), now)
            return _Answer(
                fetched=Fetched(
                    "not_modified" if status == 304 else outcomes.http_outcome(status),
                    status=status,
                    final_url=url,
                    etag=etag,
                    last_modified=last_modified,
                    retry_after=gate.pause(status, asked) if status in _PATIENCE else asked,
                )
            )
        body = await self._body(response)
        return _Answer(
            fetched=Fetched(
                outcomes.OK if body else "empty",
                body=body,
                size=len(body),
                status=status,
                final_url=url,
                etag=etag,
                last_modified=last_modified,
            )
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        most = self.settings.max_bytes
        declared = response.content_length
        if declared is not None and "Content-Encoding" not in response.headers:
            if declared > most:
                raise _TooLargeError(f"{declared} bytes declared, {most} allowed")
            return await response.read()
        body = await _up_to(response, most + 1)
        if len(body) > most:
            raise _TooLargeError(f"more than {most} bytes")
        return body

    async def _rules(self, gate: Gate, origin: Origin, turn: Turn) -> Rules:
        """What the origin permits; raises EndedError where that cannot be known now."""
        async with origin.reading:
            if origin.rules is not None:
                return origin.rules
            gate.check(origin, turn.until)
            robots = origin.robots
            if robots is None or not is_fresh(robots, datetime.now(UTC)):
                robots = await self._read_robots(gate, origin, turn)
            rules = Rules(robots)
            gate.obey(origin, rules)
            return rules

    async def _read_robots(self, gate: Gate, origin: Origin, turn: Turn) -> Robots:
        reading = Turn(self.free, turn.until, turn.more)
        try:
            robots, patience = await self._follow_robots(gate, origin, reading)
        except EndedError as ended:  # its own turn, or that of a host to which it redirects, does not come any more
            origin.refusal = ended.fetched
            raise
        except Exception as error:
            failure = _failure(error, "robots.txt: ")
            if failure.outcome in SILENT:
                gate.give_up(origin, failure)
            else:
                origin.refusal = failure
            raise EndedError(failure) from error
        finally:
            reading.release()
        gate.learn(origin, robots)
        if not is_readable(robots.status):
            said = f"answered {robots.status}" if robots.status is not None else "leads where nobody answers"
            failure = Fetched(
                "robots_unreachable",
                detail=f"{origin.name}/robots.txt {said}",
                status=robots.status,
                retry_after=patience,
            )
            origin.refusal = failure
            raise EndedError(failure)
        return robots

    async def _follow_robots(self, gate: Gate, origin: Origin, turn: Turn) -> tuple[Robots, float | None]:
        """The robots.txt of an origin; where it was redirected and nobody answers there, one without a status."""
        known = origin.robots
        headers = {}
        if known is not None and known.body is not None:
            asked_before = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
            headers = {name: value for name, value in asked_before.items() if value}
        target = Target.of(origin.name + "/robots.txt")
        location, robots, patience = await self._ask_robots(gate, origin, target.url, headers, turn)
        if robots.status == 304 and known is not None and known.status is not None:
            return replace(known, fetched_at=robots.fetched_at), None
        for _ in range(MAX_REDIRECTS):
            if location is None:
                return robots, patience
            try:
                target = Target.of(location, target.url)
                if self._unfit(target) is not None:
                    return Robots(origin.name, datetime.now(UTC)), None
                gate = self.gate(target.host)
                asked = gate.origin(target.origin)
                location, robots, patience = await self._ask_robots(gate, asked, target.url, {}, turn)
            except EndedError:
                raise
            except Exception:  # the origin itself has answered, so it is not down
                return Robots(origin.name, datetime.now(UTC)), None
            robots = replace(robots, origin=origin.name)
        if location is None:
            return robots, patience
        # RFC 9309, 2.3.1.2: too many redirects are as good as none at all.
        return Robots(origin.name, datetime.now(UTC), status=404), None

    async def _ask_robots(
        self, gate: Gate, origin: Origin, url: str, headers: Mapping[str, str], turn: Turn
    ) -> tuple[str | None, Robots, float | None]:
        """One answer for a robots.txt: where it redirects to, what it says, and for how long we are to stay away."""

        async def read(response: aiohttp.ClientResponse) -> tuple[str | None, Robots, float | None]:
            headers, status = response.headers, response.status
            now = datetime.now(UTC)
            location = headers.get("Location") if status in _REDIRECTS else None
            patience = gate.pause(status, retry_after(headers.get("Retry-After"), now)) if status in _PATIENCE else None
            body = text_of(await _up_to(response, MAX_BYTES + 1)) if 200 <= status < 300 else None
            etag, last_modified = (as_text(headers.get(name)) for name in ("ETag", "Last-Modified"))
            robots = Robots(origin.name, now, status, body, etag, last_modified)
            return location, robots, patience

        return await self.ask(gate, origin, url, headers, turn, read)


async def _sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams) -> None:
    gate, turn = context.trace_request_ctx
    gate.sent(turn)


@functools.cache
def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Whom we believe; once in a process, since it reads all of the system's certificates."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


async def _up_to(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or its beginning of at least ``most`` bytes."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size >= most:
            response.close()
            break
    return b"".join(chunks)
