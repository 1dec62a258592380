"""Who goes first where there is not enough for all."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count


class Turnstile:
    """A semaphore that lets in, of those who wait, the one that has the most left to do.

    A host has its own pace: whoever has 250 URLs left of it, at two a second, is what a batch ends with, and the sooner
    the less it had to wait for others. Those with the same left go in as they came.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = count()

    async def acquire(self, left: float) -> None:
        """Wait for a place; ``left`` is how long the caller will go on after this one."""
        if self._places:
            self._places -= 1
            return
        admitted = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (-left, next(self._arrivals), admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # it was let in at the same moment
                self.release()
            raise

    def release(self) -> None:
        """Give the place to the next one."""
        while self._waiting:
            _, _, admitted = heappop(self._waiting)
            if not admitted.done():
                admitted.set_result(None)
                return
        self._places += 1
