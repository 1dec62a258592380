"""One host: who may ask it and when, and what it has answered so far."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.fetch.robots import Rules, is_fresh
from cortex_spark.fetch.state import Fetched, HostState, Robots
from cortex_spark.fetch.turnstile import Turnstile
from cortex_spark.headers import LONGEST_WAIT

#: Outcomes of a host that was asked and did not answer, or not to the end.
SILENT: Final = frozenset({"timeout", "connection_error", "dns_error", "tls_error", "incomplete"})
#: So many in a row, and the host is not asked again in this batch.
_ROW: Final = 3
#: Seconds: who has to be left alone for longer than this, and than its own delay, when a batch begins is left to a
#: later one.
_LONGEST_PAUSE: Final = 30.0


_TOO_SLOW: Final = "more than the host's pace lets begin in one batch"
LATE: Final = Fetched("deferred", detail=_TOO_SLOW)


class EndedError(Exception):
    """A URL's turn ends before it was asked for."""

    def __init__(self, fetched: Fetched) -> None:
        super().__init__(fetched.outcome)
        self.fetched = fetched


@dataclass(slots=True)
class Turn:
    """One URL's way through the client: the time it has taken, and whether it holds one of the task's connections."""

    free: Turnstile
    until: float = math.inf  # monotonic seconds: what has not begun by then does not
    more: Sized = (True,)  # what its host is asked for next: the most goes first, none closes the connection
    urgent: bool = False  # whether it goes before all others
    spent: float = 0.0
    holds: bool = False
    sending: bool = False  # whether the host's next request waits until this one is on its way

    def release(self) -> None:
        """Give the connection to somebody else."""
        if self.holds:
            self.holds = False
            self.free.release()


class Origin:
    """A host under one scheme and port: its robots.txt, and whether it answers."""

    def __init__(self, name: str, robots: Robots | None) -> None:
        self.name = name
        self.robots = robots
        self.rules: Rules | None = None  # once it is known what is permitted
        self.reading = asyncio.Lock()
        self.row = 0  # failures without an answer between them
        self.refusal: Fetched | None = None  # what becomes of all its URLs from now on


class Gate:
    """Lets few requests at a time through to ``host``, and none too soon after another.

    ``state`` is what earlier batches remember of the host. With ``wait_first`` somebody may have asked it a moment ago.
    ``remember`` is told at once what holds for whoever asks next.
    """

    def __init__(
        self,
        host: str,
        settings: Settings,
        state: HostState | None,
        *,
        wait_first: bool,
        remember: Callable[[HostState], None] | None = None,
    ) -> None:
        self.host = host
        self._remember = remember or (lambda state: None)
        self.delay = settings.host_delay
        self.alive = False  # whether it has answered in this batch
        self._before = state or HostState(host)
        self._robots = {robots.origin: robots for robots in self._before.robots}
        self._origins: dict[str, Origin] = {}
        self._patience = settings.host_seconds
        self._connections = settings.host_connections
        self._spent = 0.0  # seconds that its answers took in this batch, with all its connections in use
        self._read = 0  # robots.txt that were asked for in this batch
        self._slots = asyncio.Semaphore(settings.host_connections)
        self._turn = asyncio.Lock()
        self._asked_at = self._answered_at = 0.0  # time.time()
        self._answering: Origin | None = None
        self._failed = False
        self._pause = 0.0  # seconds of patience that the host asked for in this batch
        self._resume = 0.0  # monotonic
        self._closed: str | None = None  # why nothing more is asked in this batch
        self._asked_delay = self._before.delay if settings.obey_robots else None
        self._slow_down(self._asked_delay)
        pause = self.delay if wait_first else 0.0
        if self._before.at is not None:
            since = (datetime.now(UTC) - self._before.at).total_seconds()
            pause = max(pause, self.delay - max(since, 0.0))
        if self._before.not_before is not None:
            asked = (self._before.not_before - datetime.now(UTC)).total_seconds()
            pause = max(pause, min(asked, LONGEST_WAIT))
        self._next = time.monotonic() + pause
        if pause > max(_LONGEST_PAUSE, min(self.delay, self._patience)):
            self._resume, self._closed = self._next, "the host asked for patience, or did not answer, the last time"

    def origin(self, name: str) -> Origin:
        """The host's origin of this name (``https://example.org:8443``)."""
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = Origin(name, self._robots.get(name))
        return origin

    def check(self, origin: Origin, until: float) -> None:
        """Raise EndedError if nothing more is asked of the host, or its turn comes after ``until`` (monotonic)."""
        now = time.monotonic()
        if origin.refusal is not None:
            raise EndedError(origin.refusal)
        if self._closed is not None:
            raise EndedError(Fetched("deferred", detail=self._closed, retry_after=max(self._resume - now, 0.0)))
        if max(now, self._next) >= until:
            raise EndedError(Fetched("deferred"))
        if self._next - now > self._patience:
            raise EndedError(Fetched("deferred", detail=_TOO_SLOW, retry_after=self._next - now))

    def is_open(self, origin: Origin) -> bool:
        """Whether it may be asked for more in this batch."""
        return self._closed is None and origin.refusal is None

    async def enter(self, origin: Origin, turn: Turn) -> None:
        """Wait for the host's turn, then for one of the task's connections; raises EndedError as ``check``."""
        await self._slots.acquire()
        try:
            await self._turn.acquire()
            try:
                self.check(origin, turn.until)
                while True:
                    while (wait := self._next - time.monotonic()) > 0:
                        await asyncio.sleep(wait)
                    await turn.free.acquire(math.inf if turn.urgent else self.left(turn.more))
                    try:
                        self.check(origin, turn.until)
                    except BaseException:
                        turn.free.release()
                        raise
                    if self._next <= time.monotonic():
                        break
                    turn.free.release()  # meanwhile its other origin has said that it wants longer pauses
            except BaseException:
                self._turn.release()
                raise
        except BaseException:
            self._slots.release()
            raise
        turn.holds = turn.sending = True

    def sent(self, turn: Turn) -> None:
        """The request is on its way: from now on the delay counts, however long it took to find and reach the host."""
        if turn.sending:
            turn.sending = False
            self._asked_at = time.time()
            self._next = time.monotonic() + self.delay
            self._turn.release()

    def leave(self, turn: Turn, seconds: float) -> None:
        """The request is over after so many seconds, or came to nothing."""
        self.sent(turn)
        turn.spent += seconds
        self._spent += seconds / self._connections
        self._slots.release()

    def left(self, more: Sized) -> float:
        """Seconds that its delay demands for ``more`` URLs."""
        return self.delay * len(more)

    @property
    def wait(self) -> float:
        """Seconds until its next turn."""
        return max(self._next - time.monotonic(), 0.0)

    def room(self) -> float:
        """How many URLs its delay lets begin in one batch, one at least; once its answers took as long, no more.

        The others are LATE.
        """
        if self._spent > self._patience:
            return 1
        return max(math.floor(self._patience / self.delay + 1e-9) + 1 - self._read, 0) if self.delay > 0 else math.inf

    def answered(self, origin: Origin) -> None:
        """It answered something."""
        self.alive = True
        self._answering = origin
        self._answered_at = time.time()

    def completed(self, origin: Origin) -> None:
        """An answer came to its end."""
        origin.row = 0

    def failed(self, origin: Origin, fetched: Fetched) -> None:
        """It was asked and did not answer: the last time in this batch if it is the third in a row."""
        self._failed = True
        origin.row += 1
        if origin.row >= _ROW:
            self.give_up(origin, fetched)

    def give_up(self, origin: Origin, fetched: Fetched) -> None:
        """The origin is down: it is not asked again in this batch. A name that does not resolve has no origins."""
        self._failed = True
        down = Fetched("host_down", detail=f"before: {fetched.outcome}: {fetched.detail}"[:200])
        for each in self._origins.values() if fetched.outcome == "dns_error" else [origin]:
            each.refusal = down

    def pause(self, status: int, asked: float | None) -> float:
        """It asked for patience, by its status and perhaps ``asked`` seconds; gives how long it will have it."""
        # A host that refuses, and says "at once", would be asked for ever.
        seconds = asked or outcomes.retry_delay(self._before.failures + 1)
        self._pause = max(self._pause, min(seconds, LONGEST_WAIT))
        self._resume = time.monotonic() + self._pause
        self._closed = f"the host answered {status}"
        self._remember(self.state())
        return self._pause

    def learn(self, origin: Origin, robots: Robots) -> None:
        """Its robots.txt was read; what is permitted is known from now on unless it could not be."""
        origin.robots = self._robots[origin.name] = robots
        self._read += 1

    def obey(self, origin: Origin, rules: Rules) -> None:
        """``rules`` hold."""
        origin.rules = rules
        delays = [each.rules.delay or 0.0 for each in self._origins.values() if each.rules is not None]
        self._asked_delay = max(delays) or None
        self._slow_down(self._asked_delay)
        if self._asked_at:
            self._remember(self.state())

    def _slow_down(self, delay: float | None) -> None:
        if delay is not None and delay > self.delay:
            if self._asked_at:
                self._next += delay - self.delay
            self.delay = delay

    def state(self, *, outage: bool = False) -> HostState:
        """What is to be remembered; in an ``outage`` of ours a silent host is not to blame."""
        before, now = self._before, datetime.now(UTC)
        failures, not_before = before.failures, before.not_before
        if self._pause:
            failures += 1
            not_before = now + timedelta(seconds=max(self._resume - time.monotonic(), 0.0))
        elif self.alive:
            failures, not_before = 0, None
        elif self._failed and not outage:
            failures += 1
            not_before = now + timedelta(seconds=min(outcomes.retry_delay(failures), LONGEST_WAIT))
        robots = [each for each in self._robots.values() if each.status is None or is_fresh(each, now)]
        if not robots and self._answering is not None:
            robots = [Robots(self._answering.name, now)]  # nothing is known of it but that it answers
        return HostState(
            self.host,
            at=_time(self._asked_at) or before.at,
            answered_at=_time(self._answered_at) or before.answered_at,
            not_before=not_before,
            delay=self._asked_delay,
            failures=failures,
            robots=tuple(robots),
        )


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
