"""Outcomes as they happen: workers tell the driver over a socket what they have finished.

This is for people's eyes. What counts is what stands in ``attempts``: if no connection comes about, nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import socketserver
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

_SEND_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Address:
    """Where the driver listens; the token keeps others from talking to it."""

    host: str
    port: int
    token: str


class ProgressServer:
    """Counts finished URLs by outcome, on the driver: it listens on ``bind``, and workers find it at ``host``."""

    def __init__(self, host: str, bind: str) -> None:
        counts: Counter[str] = Counter()
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
                            counts.update(message)

        self._counts = counts
        self._lock = lock
        self._server = socketserver.ThreadingTCPServer((bind, 0), Handler)
        self._server.daemon_threads = True
        self.address = Address(host, self._server.server_address[1], token)

    @property
    def counts(self) -> Counter[str]:
        """Finished URLs by outcome since the last ``reset``."""
        with self._lock:
            return Counter(self._counts)

    def reset(self) -> None:
        """Begin at nothing: the next batch, or one whose true numbers are known now."""
        with self._lock:
            self._counts.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class ProgressClient:
    """Tells the driver, twice a second; silent if there is nobody to tell."""

    def __init__(self, address: Address | None) -> None:
        self._address = address
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
        if self._socket is not None and self._address is not None and self._counts:
            try:
                self._socket.sendall(json.dumps({**self._counts, "token": self._address.token}).encode() + b"\n")
            except OSError:
                self._socket = None
        self._counts.clear()
        self._sent = time.monotonic()

    def close(self) -> None:
        """Send the rest and hang up."""
        self.flush()
        if self._socket is not None:
            self._socket.close()
