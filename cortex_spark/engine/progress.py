"""Outcomes as they happen: workers tell the driver over a socket what they have finished.

This is for people's eyes. What counts is what stands in ``attempts``: if no connection comes about, nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import socketserver
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from cortex_spark.detect.base import Meter

_SEND_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 2.0
#: Periods of one machine that are kept apart, and seconds after which none comes late any more.
_MOST_PERIODS: Final = 4096
_LATE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Address:
    """Where the driver listens; the token keeps others from talking to it."""

    host: str
    port: int
    token: str


class BusyTime:
    """Seconds in which at least one of several detectors was at work, from their periods in any order."""

    def __init__(self) -> None:
        self._periods: list[tuple[float, float]] = []
        self._seconds = 0.0  # of what is too old to be joined by a period that comes late

    def add(self, periods: Iterable[tuple[float, float]]) -> None:
        """Periods in seconds since the epoch."""
        self._periods.extend((start, end) for start, end in periods)
        if len(self._periods) > _MOST_PERIODS:
            self._periods = _union(self._periods)
            settled = self._periods[-1][1] - _LATE_SECONDS
            self._seconds += sum(end - start for start, end in self._periods if end < settled)
            self._periods = [period for period in self._periods if period[1] >= settled]

    @property
    def seconds(self) -> float:
        """So far."""
        return self._seconds + sum(end - start for start, end in _union(self._periods))


def _union(periods: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(periods):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


class ProgressServer:
    """Counts finished URLs by outcome, on the driver: it listens on ``bind``, and workers find it at ``host``."""

    def __init__(self, host: str, bind: str) -> None:
        counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
        busy: defaultdict[str, BusyTime] = defaultdict(BusyTime)
        lock = threading.Lock()
        token = secrets.token_hex(16)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ValueError, OSError):
                    for line in self.rfile:
                        message = json.loads(line)
                        if message.pop("token") != token:
                            return
                        with lock:
                            counts[message["batch"]].update(message["outcomes"])
                            busy[message["machine"]].add(message["busy"])

        self._counts = counts
        self._busy = busy
        self._lock = lock
        self._server = socketserver.ThreadingTCPServer((bind, 0), Handler)
        self._server.daemon_threads = True
        self.address = Address(host, self._server.server_address[1], token)

    @property
    def counts(self) -> Counter[str]:
        """Finished URLs by outcome, of the batches that were not dropped."""
        with self._lock:
            return sum(self._counts.values(), Counter())

    @property
    def busy_seconds(self) -> float:
        """Seconds in which a machine's detectors were at work so far, the mean over machines."""
        with self._lock:
            return statistics.fmean(time.seconds for time in self._busy.values()) if self._busy else 0.0

    def drop(self, batch: int) -> None:
        """Forget a batch: its true numbers are known now."""
        with self._lock:
            self._counts.pop(batch, None)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class ProgressClient:
    """Tells the driver of one batch, twice a second; silent if there is nobody to tell."""

    def __init__(self, address: Address | None, batch: int, meter: Meter | None = None) -> None:
        self._address = address
        self._batch = batch
        self._meter = meter
        self._counts: Counter[str] = Counter()
        self._sent = time.monotonic()
        self._socket: socket.socket | None = None
        if address is not None:
            with contextlib.suppress(OSError):
                self._socket = socket.create_connection((address.host, address.port), timeout=_CONNECT_SECONDS)

    def add(self, outcome: str) -> None:
        """One more URL is finished."""
        self._counts[outcome] += 1
        if time.monotonic() - self._sent >= _SEND_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what has not been sent."""
        busy = self._meter.take() if self._meter is not None else []
        if self._socket is not None and self._address is not None and (self._counts or busy):
            message = {
                "token": self._address.token,
                "batch": self._batch,
                "machine": socket.gethostname(),
                "outcomes": self._counts,
                "busy": busy,
            }
            try:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self._socket = None
        self._counts.clear()
        self._sent = time.monotonic()

    def close(self) -> None:
        """Send the rest and hang up."""
        self.flush()
        if self._socket is not None:
            self._socket.close()
