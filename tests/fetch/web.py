"""A web server on loopback that answers byte by byte as a test wants it, and the client that asks it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from cortex_spark.config import Settings
from cortex_spark.fetch import Fetched, Fetcher, HostState, Request

BODY: Final = b"a picture"


@dataclass
class Asked:
    """One request."""

    host: str  # without the port
    path: str
    headers: dict[str, str]  # names in lower case
    began: float = field(default_factory=time.time)
    ended: float = float("inf")


#: Writes an answer of its own, byte by byte.
Raw = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Reply:
    body: bytes = BODY
    status: int = 200
    headers: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    delay: float = 0.0


def redirect(to: str, status: int = 302) -> Reply:
    return Reply(b"", status, {"Location": to})


class RawWeb:
    """Plays every host; ``answers`` by path, or by host and path; others get 404."""

    def __init__(self, answers: Mapping[str, Reply | Raw] | None = None, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Reply | Raw] = dict(answers or {})
        self.log: list[Asked] = []
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: Final[int] = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def url(self, path: str = "/x.jpg", host: str = "h.localhost") -> str:
        return f"http://{host}:{self.port}{path}"

    def pictures(self, host: str | None = None) -> list[Asked]:
        """What was asked beside robots.txt."""
        return [asked for asked in self.log if asked.path != "/robots.txt" and host in (None, asked.host)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket, ssl=self._context)
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                asked = Asked(headers["host"].rpartition(":")[0], lines[0].split()[1], headers)
                self.log.append(asked)
                answer = self.answers.get(asked.host + asked.path) or self.answers.get(asked.path) or Reply(b"", 404)
                if isinstance(answer, Reply):
                    await asyncio.sleep(answer.delay)
                    writer.write(as_bytes(answer))
                    await writer.drain()
                    asked.ended = time.time()
                    continue
                await answer(asked, writer)
                asked.ended = time.time()
                break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def as_bytes(reply: Reply) -> bytes:
    body = b"" if reply.status == 304 else reply.body
    lines = [f"HTTP/1.1 {reply.status} Some", f"Content-Length: {len(body)}"]
    for name, value in reply.headers.items():
        lines += [f"{name}: {each}" for each in ([value] if isinstance(value, str) else value)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def settings(**values: Any) -> Settings:
    quick = {"host_delay": 0, "allow_private_hosts": ("*.localhost",), "contact": "tests@example.org"}
    return Settings(**{**quick, **values})


def fetch(
    *requests: str | Request,
    hosts: Mapping[str, HostState] | None = None,
    until: float = float("inf"),
    across_hosts: bool = True,
    retried: bool = False,
    canaries: Sequence[str] = (),
    **values: Any,
) -> list[Fetched]:
    """What comes of requests that are made together, in their order."""

    async def run() -> dict[int, Fetched]:
        done: dict[int, Fetched] = {}

        async def sink(key: int, fetched: Fetched) -> None:
            assert key not in done, "given twice"
            done[key] = fetched

        options: dict[str, Any] = {"across_hosts": across_hosts, "retried": retried, "canaries": canaries}
        asked = [Request(request) if isinstance(request, str) else request for request in requests]
        async with Fetcher(settings(**values), hosts, **options) as fetcher:
            await fetcher.fetch_all(list(enumerate(asked)), sink, until=until)
        return done

    done = asyncio.run(run())
    assert sorted(done) == list(range(len(requests)))
    return [done[number] for number in range(len(requests))]


def states(fetched: Sequence[Fetched]) -> dict[str, HostState]:
    """The states of the hosts that were visited; each is told once."""
    told = [each.host_state for each in fetched if each.host_state is not None]
    assert len({state.host for state in told}) == len(told)
    return {state.host: state for state in told}
