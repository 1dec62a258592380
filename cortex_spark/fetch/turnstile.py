"""Who goes first where there is not enough for all."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count


class Turnstile:
    """A semaphore that lets in, of those who wait, the one that has the most before it.

    A host has its own pace: what 250 of its URLs take at two a second, the batch takes as well, and longer if they had
    to wait for others. Those who have as much before them go in as they came.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = count()

    async def acquire(self, seconds: float) -> None:
        """Wait for a place; ``seconds`` is how long the caller will go on after this one."""
        if self._places:
            self._places -= 1
            return
        admitted = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (-seconds, next(self._arrivals), admitted))
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
