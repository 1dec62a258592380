"""A task's URLs, host by host, and whether it is the web that is down or we are."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cortex_spark.config import NO_CONTACT
from cortex_spark.errors import CortexError
from cortex_spark.fetch.gate import LATE, SILENT, Gate, Origin, Turn
from cortex_spark.fetch.state import WEB, Fetched, Request, Target, parsed
from cortex_spark.fetch.turnstile import Turnstile

if TYPE_CHECKING:
    from cortex_spark.fetch.client import Fetcher

_K = TypeVar("_K")

#: Hosts that are asked whether it is us.
_PROBES: Final = 3
#: Hosts that are visited at a time, for each connection: most of them wait for their turn.
_VISITS: Final = 2
#: How often it is looked whether anybody has answered.
_LOOK_SECONDS: Final = 0.1
#: Seconds until its turn, after which a host is not asked whether it is us.
_SOON: Final = 10.0
#: What says that a host was silent, and may have to be taken back.
_UNSURE: Final = SILENT | {"host_down"}


@dataclass(eq=False, slots=True)
class _Item(Generic[_K]):
    key: _K
    request: Request
    target: Target | None
    visit: _Visit[_K] | None


@dataclass(eq=False, slots=True)
class _Visit(Generic[_K]):
    """One host in this batch."""

    gate: Gate
    queue: deque[_Item[_K]] = field(default_factory=deque)
    left: int = 0  # URLs that ``sink`` has not got
    begun: int = 0


def _may_tell(gate: Gate, origin: Origin) -> bool:
    """Whether the host can be asked soon."""
    return gate.is_open(origin) and gate.wait <= _SOON


class Batch(Generic[_K]):
    """The work of ``Fetcher.fetch_all``."""

    def __init__(
        self,
        fetcher: Fetcher,
        requests: Sequence[tuple[_K, Request]],
        sink: Callable[[_K, Fetched], Awaitable[None]],
        until: float,
    ) -> None:
        self._fetcher = fetcher
        self._settings = fetcher.settings
        self._sink = sink
        self._door = Turnstile(1)  # to the sink
        self._until = until
        self._visits: dict[str, _Visit[_K]] = {}
        self._hostless: list[_Item[_K]] = []
        self._waiting: dict[_Item[_K], None] = {}  # what ``sink`` has not got, in order
        self._held: list[tuple[_Item[_K], Fetched]] = []  # failures since a host last answered
        self._silent: set[Gate] = set()  # the hosts that they are of
        self._seen = fetcher.answers
        self._probing = False
        self._outage = False
        self._asking: set[asyncio.Task[None]] = set()  # workers that may be stopped
        for key, request in requests:
            self._add(key, request)

    def _add(self, key: _K, request: Request) -> None:
        target = parsed(request.url)
        host = target.host if target is not None and target.protocol in WEB else ""
        host = host.rstrip(".")
        if not host:
            item = _Item(key, request, target, None)
            self._hostless.append(item)
        else:
            visit = self._visits.get(host)
            if visit is None:
                if not self._settings.may_visit(host):
                    raise CortexError(f"{host} was not asked: {NO_CONTACT}")
                visit = self._visits[host] = _Visit(self._fetcher.gate(host))
            item = _Item(key, request, target, visit)
            visit.queue.append(item)
            visit.left += 1
        self._waiting[item] = None

    async def run(self) -> None:
        """Give every item to the sink, once."""
        # The longest visits first: they last as long as the batch. A host that is being visited keeps a connection, and
        # a process has only so many; without an end to the visits at a time it would be closed before it is used again.
        visits = iter(sorted(self._visits.values(), key=lambda visit: -visit.left))
        async with asyncio.TaskGroup() as visitors:
            visitors.create_task(self._without_host())
            for _ in range(min(len(self._visits), _VISITS * self._settings.connections)):
                visitors.create_task(self._visitor(visits))
        if self._silent and not self._outage:
            # Few hosts, but nobody has answered since: it is us if several others do not, either.
            others = [known for known in self._known() if known[0] not in self._silent]
            if len(others) == _PROBES:
                await self._probe(others)
        if not self._outage:
            await self._release()
        for item in list(self._waiting):
            await self._give(item, Fetched("outage", detail="our own network is down: nobody answers any more"))

    async def _without_host(self) -> None:
        for item in self._hostless:
            turn = Turn(self._fetcher.free)
            try:
                await self._give(item, await self._fetcher.follow(item.request, item.target, turn))
            finally:
                turn.release()

    async def _visitor(self, visits: Iterator[_Visit[_K]]) -> None:
        for visit in visits:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._settings.host_connections, visit.left)):
                    workers.create_task(self._worker(visit))

    async def _worker(self, visit: _Visit[_K]) -> None:
        this = asyncio.current_task()
        assert this is not None
        while not self._outage:
            while len(visit.queue) > visit.gate.room() - visit.begun and visit.queue:
                await self._give(visit.queue.pop(), LATE)
            if not visit.queue:
                return
            item = visit.queue.popleft()
            visit.begun += 1
            turn = Turn(self._fetcher.free, self._until, visit.queue)
            self._asking.add(this)
            try:
                fetched = await self._fetcher.follow(item.request, item.target, turn)
                self._asking.discard(this)
                await self._finish(item, fetched, turn)
            finally:
                self._asking.discard(this)
                turn.release()

    async def _finish(self, item: _Item[_K], fetched: Fetched, turn: Turn) -> None:
        """Give the item to the sink, or keep it until it is known that the fault is not ours."""
        if self._fetcher.answers != self._seen:
            await self._release()
        if fetched.outcome not in _UNSURE or not self._settings.outage_hosts or item.visit is None:
            await self._give(item, fetched)
            return
        turn.release()
        self._held.append((item, fetched))
        if fetched.outcome in SILENT:
            self._silent.add(item.visit.gate)
        if len(self._silent) >= self._settings.outage_hosts and not self._probing:
            await self._probe(self._known())

    async def _release(self) -> None:
        """A host has answered: what failed before did so by its own fault."""
        self._seen = self._fetcher.answers
        self._silent.clear()
        held, self._held = self._held, []
        for item, fetched in held:
            await self._give(item, fetched)

    async def _probe(self, known: Sequence[tuple[Gate, Origin]]) -> None:
        self._probing = True
        before = self._fetcher.answers
        try:
            works = await self._network_works(known)
        finally:
            self._probing = False
        if works or self._fetcher.answers != before:
            await self._release()
            return
        self._outage = True
        for worker in list(self._asking):
            worker.cancel()

    async def _network_works(self, known: Sequence[tuple[Gate, Origin]]) -> bool:
        fetcher = self._fetcher
        if not known and fetcher.alive:
            return True  # there were answers, and nobody who may be asked again
        await fetcher.resolver.refresh()
        for gate, origin in known:
            if await fetcher.is_alive(gate, origin):
                return True
        return not known and await self._is_answered()

    def _known(self) -> list[tuple[Gate, Origin]]:
        """Whom to ask: the latest that answered in this batch, some that did lately, and those silent since."""
        alive = [(gate, origin) for gate, origin in reversed(self._fetcher.alive.items()) if _may_tell(gate, origin)]
        known = [one for one in alive if one[0] not in self._silent]
        if len(known) < _PROBES:
            known += self._canaries(_PROBES - len(known))
        return (known + [one for one in alive if one[0] in self._silent])[:_PROBES]

    async def _is_answered(self) -> bool:
        """Whether somebody answers who is being asked; nobody has answered yet, and those that fail do so first."""
        before, this = self._fetcher.answers, asyncio.current_task()
        until = time.monotonic() + self._settings.connect_timeout
        while self._asking - {this} and time.monotonic() < until:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._fetcher.answers != before:
                return True
        return False

    def _canaries(self, most: int) -> list[tuple[Gate, Origin]]:
        """Some that answered lately and did not fail here; by chance, since other tasks may have the same question."""
        fetcher, found = self._fetcher, []
        for canary in random.sample(fetcher.canaries, len(fetcher.canaries)):
            target = parsed(canary)
            if target is not None and target.host and self._settings.may_visit(target.host):
                gate = fetcher.gate(target.host, wait_first=True)
                origin = gate.origin(target.origin)
                if _may_tell(gate, origin) and gate not in self._silent and gate not in fetcher.alive:
                    found.append((gate, origin))
            if len(found) == most:
                break
        return found

    async def _give(self, item: _Item[_K], fetched: Fetched) -> None:
        if item not in self._waiting:
            return
        del self._waiting[item]
        visit, seconds = item.visit, 0.0
        if visit is not None:
            visit.left -= 1
            if not visit.left:
                fetched = replace(fetched, host_state=visit.gate.state(outage=self._outage))
            seconds = visit.gate.left(visit.queue)
        # What has no bytes keeps nobody waiting.
        await self._door.acquire(math.inf if fetched.body is None else seconds)
        try:
            await self._sink(item.key, fetched)
        finally:
            self._door.release()
