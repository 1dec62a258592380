"""An HTTP server on loopback that plays several hosts by name and remembers what it was asked."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

from aiohttp import web

_START_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Answer:
    """What one address answers."""

    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    delay: float = 0.0  # seconds before the first byte


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    host: str  # without the port
    path: str  # with the query
    status: int
    at: float  # seconds, ``time.time()``
    user_agent: str


Address = tuple[str, str]
"""Host without port, and path with query, both unquoted: ``("cats.localhost", "/img/a b.jpg?w=3")``."""


class Server:
    """Serves ``answers`` from a thread of its own; a context manager.

    The port is known as soon as the object is made, so that pages with absolute addresses can be built before they are
    published. A host that is nowhere in ``answers`` gets 421, an unknown path 404.
    """

    def __init__(self, answers: Mapping[Address, Answer] | None = None, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: Final[int] = self._socket.getsockname()[1]
        self._lock = threading.Lock()
        self._log: list[Request] = []
        self._answers: dict[Address, Answer] = {}
        self._hosts: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-web", daemon=True)
        self.publish(answers or {})

    def publish(self, answers: Mapping[Address, Answer]) -> None:
        """From now on serves these answers instead of those before."""
        self._answers = dict(answers)
        self._hosts = {host for host, _ in answers}

    def requests(self, host: str | None = None, path: str | None = None) -> list[Request]:
        """What was asked so far, in order; of one host, of one path."""
        with self._lock:
            log = list(self._log)
        return [line for line in log if host in (None, line.host) and path in (None, line.path)]

    def forget(self) -> None:
        """Empties the log."""
        with self._lock:
            self._log.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError("the demo's web server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host = (request.headers.get("Host") or "").rpartition(":")[0] or request.headers.get("Host", "")
        path = unquote(request.raw_path)
        answer = self._answers.get((host.lower(), path))
        if answer is None:
            answer = Answer(
                b"not here\n", (("Content-Type", "text/plain"),), 404 if host.lower() in self._hosts else 421
            )
        with self._lock:
            agent = request.headers.get("User-Agent", "")
            self._log.append(Request(host.lower(), path, answer.status, time.time(), agent))
        if answer.delay:
            await asyncio.sleep(answer.delay)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
