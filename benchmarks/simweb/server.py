"""The process that plays the simulated web: HTTP(S) for all its sites on one port, and the name server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from typing import Final, cast

from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from benchmarks.simweb.log import Query, Request
from benchmarks.simweb.sites import Life, Page, Site

#: Addresses of loopback by what a connection to them comes to; all of 127/8 is this machine on Linux.
_ADDRESSES: Final = {Life.ALIVE: "127.0.0.1", Life.REFUSING: "127.0.0.3", Life.HANGING: "127.0.0.4"}
_SILENT: Final = "127.0.0.5"
_REASONS: Final = {200: "OK", 301: "Moved Permanently", 302: "Found", 304: "Not Modified", 404: "Not Found"}
_MAX_HEAD: Final = 65536
_BACKLOG: Final = 4096
_TTL: Final = 300


@dataclass(frozen=True)
class World:
    """All that the process needs to know."""

    sites: tuple[Site, ...]
    pictures: tuple[bytes, ...]
    certificate: str | None = None  # a PEM file with key and certificate; None: plain HTTP


@dataclass(slots=True)
class _Host:
    """A site as it is being visited."""

    site: Site
    pages: dict[str, Page]
    seen: int = 0
    busy_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    head: bytes
    body: bytes
    latency: float
    retry_after: int | None = None


class _Web:
    """Pages to answers, and the log."""

    def __init__(self, world: World, port: int) -> None:
        self.log: list[Request] = []
        self.connections: set[asyncio.Transport] = set()
        self._port = port
        self._pictures = world.pictures
        self._tags = [hashlib.sha256(body).hexdigest()[:16] for body in world.pictures]
        self._hosts = {
            site.host: _Host(site, {page.path: page for page in (*site.pages, site.robots)}) for site in world.sites
        }

    def answer(self, host: str, path: str, headers: dict[str, str]) -> _Answer:
        """What ``host`` says to a request for ``path``."""
        visited = self._hosts.get(host)
        if visited is None:
            return self._make(Page(path, status=421))
        if (patience := self._patience(visited)) is not None:
            return self._make(Page(path, status=429, headers=(("Retry-After", str(patience)),)), patience)
        page = visited.pages.get(path, Page(path, status=404))
        if page.picture is not None and headers.get("if-none-match") == f'"{self._tags[page.picture]}"':
            return self._make(Page(path, status=304, latency=page.latency))
        return self._make(page)

    def _patience(self, host: _Host) -> int | None:
        if not host.site.busy_after:
            return None
        now = time.time()
        if now < host.busy_until:
            return max(1, round(host.busy_until - now))
        host.seen += 1
        if host.seen <= host.site.busy_after:
            return None
        host.seen, host.busy_until = 0, now + host.site.patience
        return host.site.patience

    def _make(self, page: Page, retry_after: int | None = None) -> _Answer:
        body = page.body if page.picture is None else self._pictures[page.picture]
        lines = [f"HTTP/1.1 {page.status} {_REASONS.get(page.status, 'Unhappy')}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value.replace(':0/', f':{self._port}/')}" for name, value in page.headers]
        if page.picture is not None:
            lines.append(f'ETag: "{self._tags[page.picture]}"')
        return _Answer(page.status, ("\r\n".join(lines) + "\r\n\r\n").encode(), body, page.latency, retry_after)


class _Visit(asyncio.Protocol):
    """One connection: one request after the other, no bodies."""

    _transport: asyncio.Transport

    def __init__(self, web: _Web) -> None:
        self._web = web
        self._received = b""
        self._waiting: deque[tuple[str, str, float, dict[str, str]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._sending: Request | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1, low=0)  # to know when an answer has gone
        self._web.connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            lines = self._received[:end].decode("latin-1").split("\r\n")
            self._received = self._received[end + 4 :]
            pairs = (line.partition(":") for line in lines[1:])
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            path = lines[0].split(" ")[1] if lines[0].count(" ") == 2 else "/"
            self._waiting.append((headers.get("host", "").partition(":")[0].lower(), path, time.time(), headers))
        if len(self._received) > _MAX_HEAD:
            self._transport.abort()
        self._next()

    def _next(self) -> None:
        if self._sending is not None or not self._waiting:
            return
        host, path, start, headers = self._waiting.popleft()
        answer = self._web.answer(host, path, headers)
        self._sending = Request(
            host, path, start, 0.0, answer.status, headers.get("user-agent", ""), answer.retry_after
        )
        self._timer = asyncio.get_running_loop().call_later(answer.latency, self._send, answer)

    def _send(self, answer: _Answer) -> None:
        self._timer = None
        self._transport.write(answer.head + answer.body)
        if not self._full:
            self._sent()
            self._next()

    def _sent(self, status: int | None = None) -> None:
        if self._sending is not None:
            host, path, start, _, said, agent, patience = astuple(self._sending)
            end = time.time()
            self._web.log.append(Request(host, path, start, end, said if status is None else status, agent, patience))
            self._sending = None

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._timer is None:  # what drained was the answer, not the end of one before
            self._sent()
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._web.connections.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()
        self._sent(0)


class _NameServer(asyncio.DatagramProtocol):
    _transport: asyncio.DatagramTransport

    def __init__(self, sites: Sequence[Site]) -> None:
        self.log: list[Query] = []
        self.mute = False
        self._lives = {site.host: site.life for site in sites}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = DNSRecord.parse(data)
        name, kind = str(query.q.qname).rstrip(".").lower(), QTYPE[query.q.qtype]
        self.log.append(Query(time.time(), name, kind))
        life = self._lives.get(name, Life.NXDOMAIN)
        if life is Life.MUTE or self.mute:
            return
        reply = query.reply()
        if life is Life.NXDOMAIN:
            reply.header.rcode = RCODE.NXDOMAIN
        elif life is Life.SERVFAIL:
            reply.header.rcode = RCODE.SERVFAIL
        elif kind == "A":
            address = _ADDRESSES.get(life, _SILENT)
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=_TTL))
        self._transport.sendto(reply.pack(), addr)


def serve(world: World, parent: Connection) -> None:
    """Play ``world`` until ``parent`` hangs up; it is told the ports first, and answers to what it asks."""
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(world, parent))


async def _serve(world: World, parent: Connection) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listen(_ADDRESSES[Life.ALIVE], 0))
        port = listening.getsockname()[1]
        web, names = _Web(world, port), _NameServer(world.sites)
        tls = None
        if world.certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(world.certificate)

        async def open_port(listener: socket.socket) -> asyncio.Server:
            return await loop.create_server(lambda: _Visit(web), sock=listener, ssl=tls, backlog=_BACKLOG)

        server = await open_port(listening)
        silent = await loop.create_server(asyncio.Protocol, sock=stack.enter_context(_listen(_SILENT, port)))
        # A queue that is full and never emptied: the kernel drops what else wants to connect.
        stack.enter_context(_listen(_ADDRESSES[Life.HANGING], port, backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((_ADDRESSES[Life.HANGING], port))
        datagrams, _ = await loop.create_datagram_endpoint(lambda: names, local_addr=("127.0.0.1", 0))
        parent.send((port, datagrams.get_extra_info("sockname")[1]))
        asked: asyncio.Queue[str] = asyncio.Queue()

        def receive() -> None:
            try:
                asked.put_nowait(parent.recv())
            except (EOFError, OSError):
                loop.remove_reader(parent.fileno())
                asked.put_nowait("stop")

        loop.add_reader(parent.fileno(), receive)
        while (what := await asked.get()) != "stop":
            if what == "log":
                parent.send(web.log)
            elif what == "queries":
                parent.send(names.log)
            elif what == "cpu_seconds":
                parent.send(time.process_time())
            elif what == "forget":
                web.log, names.log = [], []
                parent.send(None)
            elif what == "break":
                server.close()
                for connection in list(web.connections):
                    connection.abort()
                names.mute = True
                parent.send(None)
            elif what == "mend":
                names.mute = False
                server = await open_port(stack.enter_context(_listen(_ADDRESSES[Life.ALIVE], port)))
                parent.send(None)
        server.close()
        silent.close()
        for connection in list(web.connections):
            connection.abort()
        datagrams.close()


def _listen(address: str, port: int, backlog: int = _BACKLOG) -> socket.socket:
    return socket.create_server((address, port), backlog=backlog)
