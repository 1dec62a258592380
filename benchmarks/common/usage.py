"""What a process tree uses: CPU-seconds over time, memory."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """A line of the process table (Linux, proc(5))."""

    pid: int
    parent: int
    name: str
    started: int  # clock ticks since boot: process numbers are used again
    cpu: float  # seconds, of its own
    resident: int  # bytes


def processes() -> dict[int, Process]:
    """All processes of this machine by number."""
    found = {}
    for folder in os.scandir("/proc"):
        if folder.name.isdecimal():
            try:
                line = Path(folder.path, "stat").read_text()
            except OSError:
                continue
            name, _, rest = line.partition("(")[2].rpartition(")")
            fields = rest.split()
            cpu = (int(fields[11]) + int(fields[12])) / _TICKS
            pid = int(folder.name)
            found[pid] = Process(pid, int(fields[1]), name, int(fields[19]), cpu, int(fields[21]) * _PAGE)
    return found


def descendants(of: int, without: Collection[int] = ()) -> list[Process]:
    """The processes below ``of``; those of ``without`` do not count, nor what is below them."""
    table = processes()
    below: dict[int, list[Process]] = {}
    for process in table.values():
        below.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [of]
    while waiting:
        children = [child for child in below.get(waiting.pop(), []) if child.pid not in without]
        found += children
        waiting += [child.pid for child in children]
    return found


class Meter:
    """CPU-seconds of the processes that this one has started, and of theirs; a context manager.

    They are looked at four times a second: a process that ends takes with it what it used since it was seen last (what
    its parent says of it is no help: a parent that does not wait for its children never learns it). ``without`` are
    process numbers that do not count, nor what is below them: servers.
    """

    def __init__(self, without: Collection[int] = (), *, pause: float = 0.25) -> None:
        self._without = frozenset(without)
        self._pause = pause
        self.memory: list[tuple[float, int, str, int]] = []  # each second: time, process, its name, resident bytes
        self._seen: dict[tuple[int, int], float] = {}
        self._times: list[float] = []
        self._totals: list[float] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def look(self) -> float:
        """CPU-seconds so far."""
        with self._lock:
            now = time.time()
            found = descendants(os.getpid(), self._without)
            for process in found:
                self._seen[process.pid, process.started] = process.cpu
            if not self.memory or now - self.memory[-1][0] >= 1:
                self.memory += [(now, process.pid, process.name, process.resident) for process in found]
            self._times.append(now)
            self._totals.append(sum(self._seen.values()))
            return self._totals[-1]

    def between(self, start: float, end: float) -> float:
        """CPU-seconds between two moments (``time.time()``), interpolated."""
        return self._at(end) - self._at(start)

    def __enter__(self) -> Self:
        if sys.platform == "linux":  # orphans below us become our children, and are not lost
            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._pause):
            self.look()

    def _at(self, moment: float) -> float:
        place = bisect_right(self._times, moment)
        if place in (0, len(self._times)):
            return self._totals[min(place, len(self._times) - 1)]
        earlier, later = self._times[place - 1], self._times[place]
        share = (moment - earlier) / (later - earlier)
        return self._totals[place - 1] * (1 - share) + self._totals[place] * share


@dataclass
class Usage:
    """Wall and CPU seconds of this process alone, from ``with`` to its end."""

    seconds: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Self:
        self.seconds, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()
        self.cpu += time.process_time()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
