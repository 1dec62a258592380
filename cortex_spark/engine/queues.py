"""A queue between two stages, bounded by what its items weigh (bytes, pixels), not by how many they are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

#: Who waits for room without a thread is told once this share of the capacity is free: to tell it costs more than to
#: put some items.
_ROOM: Final = 1 / 64


class Closed(Exception):
    """Nothing more will come out of a queue."""


class WeightedQueue(Generic[_T]):
    """First in, first out; ``put`` waits while the queue holds ``capacity`` or more."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[tuple[_T, int]] = deque()
        self._weight = 0
        self._closed = False
        self._changed = threading.Condition()
        self._roomy: list[Callable[[], None]] = []

    def try_put(self, item: _T, weight: int, roomy: Callable[[], None]) -> bool:
        """Put without waiting; False if the queue is full, and the item weighs something.

        ``roomy`` is called then, once, by the thread that made some room, or closed the queue.
        """
        with self._changed:
            if weight and self._weight >= self._capacity and not self._closed:
                self._roomy.append(roomy)
                return False
            self._add(item, weight)
            return True

    def put(self, item: _T, weight: int) -> None:
        """Put, waiting for room; raises Closed once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._weight < self._capacity)
            self._add(item, weight)

    def get(self, most: int = 1) -> list[_T]:
        """Wait for an item and take up to ``most`` of those that are there; raises Closed at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise Closed
            taken: list[_T] = []
            while self._items and len(taken) < most:
                item, weight = self._items.popleft()
                self._weight -= weight
                taken.append(item)
            if self._weight < self._capacity:
                self._changed.notify_all()
            if self._weight <= self._capacity * (1 - _ROOM):
                self._tell()
            return taken

    def close(self, *, discard: bool = False) -> None:
        """Let nothing more in; what is inside can still be taken out, unless it is discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
                self._weight = 0
            self._changed.notify_all()
            self._tell()

    def _tell(self) -> None:
        told, self._roomy = self._roomy, []
        for roomy in told:
            roomy()

    def _add(self, item: _T, weight: int) -> None:
        if self._closed:
            raise Closed
        self._items.append((item, weight))
        self._weight += weight
        self._changed.notify_all()
