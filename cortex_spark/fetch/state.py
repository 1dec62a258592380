"""What is asked, what came of it, and what politeness remembers of a host: the values that go in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self

import ada_url

#: Protocols that are fetched.
WEB: Final = ("http:", "https:")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of one URL."""

    url: str
    directives: Sequence[str] = ()  # the page's own, see Settings.refuse_directives
    #: Of an earlier answer: with one of these the outcome may be ``not_modified``.
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Robots:
    """A robots.txt as it was read: ``schema.ROBOTS``. Times are in UTC."""

    origin: str  # https://example.org, with the port where it is not the scheme's own
    fetched_at: datetime
    status: int | None = None  # None: no answer, or not asked for
    body: str | None = None
    etag: str | None = None
    last_modified: str | None = None

    def as_row(self) -> dict[str, Any]:
        """A row of ``schema.ROBOTS``."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of ``schema.ROBOTS``."""
        values = {field.name: _utc(row[field.name]) for field in fields(cls)}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class HostState:
    """What politeness remembers of a host between batches: ``schema.HOST``. Times are in UTC."""

    host: str  # lower case, without the port
    at: datetime | None = None  # when it was last asked for anything
    answered_at: datetime | None = None  # when it last answered anything
    not_before: datetime | None = None  # when it may be asked again
    delay: float | None = None  # seconds between two requests that its robots.txt asks for
    failures: int = 0  # visits in a row without an answer, or that the host broke off (429, 503)
    robots: tuple[Robots, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """A row of ``schema.HOST``."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return row | {"robots": [robots.as_row() for robots in self.robots]}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of ``schema.HOST`` or ``schema.HOSTS``."""
        values = {field.name: _utc(row[field.name]) for field in fields(cls)}
        values["failures"] = values["failures"] or 0
        values["robots"] = tuple(Robots.from_row(robots) for robots in values["robots"] or ())
        return cls(**values)


class Hosts(dict[str, HostState]):
    """What is remembered of hosts, by name; ``learned`` is told at once what they ask for now, in case we die."""

    def __init__(self, states: Iterable[HostState], learned: Callable[[HostState], None]) -> None:
        super().__init__((state.host, state) for state in states)
        self.learned = learned


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one download; ``body`` is set when ``outcome`` is ``ok``."""

    outcome: str
    body: bytes | None = None
    size: int | None = None  # of the body in bytes
    detail: str | None = None
    status: int | None = None
    final_url: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    retry_after: float | None = None  # seconds, as the server asks
    seconds: float = 0.0  # of asking and reading, without waiting for a turn
    host_state: HostState | None = None  # on the last of a host's URLs to finish in fetch_all


class Target(NamedTuple):
    """Where a URL leads: ``url`` is what is asked for, ``host`` in lower case, ``port`` "" where it is the scheme's."""

    url: str
    protocol: str  # "https:"
    host: str
    port: str
    origin: str  # https://example.org:8443

    @classmethod
    def of(cls, url: str, base: str | None = None) -> Self:
        """Of a URL as a browser understands it; fragments, names and passwords are not for servers.

        Raises ValueError if it is no URL.
        """
        found = ada_url.URL(url, base)  # each attribute is a call into C
        href, protocol = found.href, found.protocol
        if ("#" in href or "@" in href) and protocol in WEB:
            found.hash = found.username = found.password = ""
            href = found.href
        host, place = found.hostname, found.host
        return cls(href, protocol, host, place[len(host) + 1 :], f"{protocol}//{place}")


def parsed(url: str) -> Target | None:
    """Where ``url`` leads; None if it is no URL."""
    try:
        return Target.of(url)
    except ValueError:
        return None


def _utc(value: Any) -> Any:
    """Times as aware ones: Spark collects them as naive local times."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value
