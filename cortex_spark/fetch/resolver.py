"""Names to addresses: asynchronous, cached, and none that the guard refuses."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from typing import Final

import aiodns
from aiohttp.abc import AbstractResolver, ResolveResult

from cortex_spark.fetch.guard import Guard

#: Seconds that an answer is believed, whatever its time to live says.
_LEAST_TTL: Final = 30.0
_MOST_TTL: Final = 600.0
#: Seconds until a name server is asked again, and how often.
_PATIENCE: Final = 2.0
_TRIES: Final = 3

_Addresses = list[tuple[str, socket.AddressFamily]]


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp's connector; an address that ``guard`` refuses is as good as none."""

    def __init__(self, guard: Guard, nameservers: tuple[str, ...], timeout: float) -> None:
        self._guard = guard
        self._nameservers = nameservers
        self._timeout = timeout
        self._cache: dict[str, tuple[float, _Addresses]] = {}
        self._asking: dict[str, asyncio.Task[_Addresses]] = {}
        self._client = self._new_client()
        self._questions: Counter[aiodns.DNSResolver] = Counter()  # that each client has not answered yet

    def _new_client(self) -> aiodns.DNSResolver:
        return aiodns.DNSResolver(self._nameservers or None, timeout=_PATIENCE, tries=_TRIES)

    async def refresh(self) -> None:
        """Forget what was resolved: the library below has a cache as well."""
        self._cache.clear()
        before, self._client = self._client, self._new_client()
        if not self._questions[before]:
            del self._questions[before]
            await before.close()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of ``host``; raises BlockedAddressError if one of them is refused, OSError if there is none."""
        found = [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for address, kind in await self._addresses(host)
            if family in (socket.AF_UNSPEC, kind)
        ]
        if not found:
            raise OSError(None, f"{host} has no address")
        for result in found:
            self._guard.check(host, result["host"])
        return found

    async def _addresses(self, host: str) -> _Addresses:
        name = host.lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            # RFC 6761, 6.3: such names are loopback and never asked of a name server.
            return [("127.0.0.1", socket.AF_INET)]
        expires, addresses = self._cache.get(name, (0.0, []))
        if time.monotonic() < expires:
            return addresses
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._ask(name))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(asking)  # who waits for it may be cancelled, others wait on

    async def _ask(self, name: str) -> _Addresses:
        client = self._client
        self._questions[client] += 1
        try:
            async with asyncio.timeout(self._timeout):
                answer = await client.getaddrinfo(name, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise OSError(None, f"{name}: {error.args[-1]}") from error
        except TimeoutError as error:
            raise OSError(None, f"{name}: no answer from a name server") from error
        finally:
            self._questions[client] -= 1
            if client is not self._client and not self._questions[client]:
                del self._questions[client]
                await client.close()
        nodes = answer.nodes
        addresses = [(node.addr[0].decode("ascii"), socket.AddressFamily(node.family)) for node in nodes]
        ttl = min((node.ttl for node in nodes), default=0)
        self._cache[name] = (time.monotonic() + min(max(ttl, _LEAST_TTL), _MOST_TTL), addresses)
        return addresses

    async def close(self) -> None:
        """Give up what is being asked."""
        asking = list(self._asking.values())
        for question in asking:
            question.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._client.close()
