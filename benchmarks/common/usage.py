"""What a process tree uses: CPU-seconds, memory."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Self

import psutil

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER of Linux


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process, so that ``cpu_seconds`` never loses them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def cpu_seconds(without: Collection[int] = ()) -> float:
    """User and system time of this process and of all its descendants, the dead ones included.

    ``without`` are process ids of children that do not count, nor their descendants: servers.
    """
    return sum(_all_times(psutil.Process(), frozenset(without)))


def _all_times(process: psutil.Process, without: frozenset[int]) -> list[float]:
    try:
        times = process.cpu_times()
        children = process.children()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
    # What a process has waited for stands in its own account.
    found = [times.user + times.system + times.children_user + times.children_system]
    for child in children:
        if child.pid not in without:
            found += _all_times(child, without)
    return found


@dataclass
class Usage:
    """Wall and CPU time from ``with`` to its end, or to now."""

    without: Collection[int] = ()
    seconds: float = 0.0
    cpu: float = 0.0
    _started: float = field(default=0.0, repr=False)
    _cpu_started: float = field(default=0.0, repr=False)

    def __enter__(self) -> Self:
        self._cpu_started = cpu_seconds(self.without)
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._started
        self.cpu = cpu_seconds(self.without) - self._cpu_started


def memory(process: int) -> int:
    """Resident bytes of one process; 0 once it is gone."""
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
