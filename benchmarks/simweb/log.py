"""What the simulated web saw, as data, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came in whole. Times are ``time.time()`` seconds of the server."""

    host: str  # without the port
    path: str
    start: float  # when its last header was there
    end: float  # when the last byte of the answer had gone, or the connection broke
    status: int  # 0: it was broken off before an answer
    agent: str
    retry_after: int | None = None  # seconds that the answer asked for


@dataclass(frozen=True, slots=True)
class Query:
    """A question to the name server."""

    at: float
    name: str
    type: str


def most_at_once(log: Iterable[Request]) -> dict[str, int]:
    """By host, how many requests it had to answer at the same time."""
    edges: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for request in log:
        edges[request.host] += [(request.start, 1), (request.end, -1)]
    most = {}
    for host, steps in edges.items():
        now = peak = 0
        for _, step in sorted(steps):  # at the same moment one ends before the next begins
            now += step
            peak = max(peak, now)
        most[host] = peak
    return most


def least_pause(log: Iterable[Request]) -> dict[str, float]:
    """By host, the shortest time in seconds from one request's start to the next one's; hosts with two at least."""
    starts: defaultdict[str, list[float]] = defaultdict(list)
    for request in log:
        starts[request.host].append(request.start)
    return {
        host: min(later - earlier for earlier, later in pairwise(times))
        for host, times in ((host, sorted(times)) for host, times in starts.items())
        if len(times) > 1
    }


def too_early(log: Iterable[Request], tolerance: float = 0.05) -> list[Request]:
    """Requests that began after a host's Retry-After had been sent, and before its time was over.

    What was on its way when the host said so is no fault: it began before the answer's end.
    """
    patience: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    requests = list(log)
    for request in requests:
        if request.retry_after is not None:
            patience[request.host].append((request.end + tolerance, request.end + request.retry_after - tolerance))
    return [
        request for request in requests if any(begin < request.start < end for begin, end in patience[request.host])
    ]
