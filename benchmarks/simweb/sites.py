"""What the simulated web consists of: sites and their pages, as data, the same for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import accumulate, pairwise
from typing import Final, TypeVar

#: Below ``test``, which no name server of the internet knows (RFC 6761).
DOMAIN: Final = "simulated.test"


class Life(Enum):
    """How a site's name resolves and its host answers; the value begins with the outcome that a visit comes to."""

    ALIVE = "ok"
    REFUSING = "connection_error: nobody listens"
    HANGING = "timeout: the connection never stands"
    SILENT = "timeout: the connection stands, and nothing follows"
    NXDOMAIN = "dns_error: there is no such name"
    SERVFAIL = "dns_error: the name server fails"
    MUTE = "dns_error: the name server says nothing"

    @property
    def outcome(self) -> str:
        """The name of the outcome."""
        return self.value.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Page:
    """What one path answers: ``picture``, an index into the web's pictures, or ``body``."""

    path: str
    picture: int | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()  # in a Location, port 0 stands for the web's own
    body: bytes = b""
    latency: float = 0.05  # seconds before the first byte
    outcome: str = "ok"  # what a polite visitor comes to, redirects followed
    listed: bool = True  # among the URLs of the web; others are led to


def robots_page(status: int, body: str = "", *, latency: float = 0.05) -> Page:
    """``/robots.txt``."""
    return Page("/robots.txt", None, status, _TEXT, body.encode(), latency, listed=False)


@dataclass(frozen=True, slots=True)
class Site:
    """One host."""

    host: str
    pages: tuple[Page, ...]
    life: Life = Life.ALIVE
    robots: Page = field(default_factory=lambda: robots_page(404))
    #: After so many requests the site has enough: it answers 429 for ``patience`` seconds, which Retry-After says, and
    #: counts anew. 0: never.
    busy_after: int = 0
    patience: int = 3

    def outcome(self, page: Page) -> str:
        """What a polite visitor of ``page`` comes to in the end."""
        if self.life is not Life.ALIVE:
            return self.life.outcome
        return "robots_unreachable" if self.robots.status >= 500 else page.outcome


_TEXT: Final = (("Content-Type", "text/plain"),)
_JPEG: Final = (("Content-Type", "image/jpeg"),)
_NOAI: Final = ("X-Robots-Tag", "noai, noimageai")
_PRIVATE: Final = "User-agent: *\nDisallow: /private/\n"
_ALL: Final = "User-agent: *\nDisallow: /\n"

#: Shares of the sites by their robots.txt: status, body.
_ROBOTS: Final = (
    (0.45, (404, "")),
    (0.30, (200, _PRIVATE)),
    (0.14, (200, "")),
    (0.04, (200, f"{_PRIVATE}Crawl-delay: 1\n")),
    (0.01, (200, f"{_PRIVATE}Crawl-delay: 5\n")),
    (0.03, (200, _ALL)),
    (0.03, (503, "")),
)
#: Shares of a site's pages by what they are, see _pages.
_KINDS: Final = (
    (0.86, "picture"),
    (0.03, "private"),
    (0.02, "noai"),
    (0.03, "moved"),
    (0.02, "elsewhere"),
    (0.03, "gone"),
    (0.01, "no picture"),
)
_SHARED: Final = "/shared.jpg"  # on every site, for redirects from others
_BUSY_SHARE: Final = 0.02
_BUSY_AFTER: Final = 3
_SPREAD: Final = 0.8  # standard deviation of a site's, and again of a page's latency, in natural logarithms

_T = TypeVar("_T")


def make_sites(
    hosts: int,
    urls: int,
    seed: int,
    pictures: int,
    *,
    latency: tuple[float, float] = (0.05, 5.0),
    dead: float = 0.1,
    largest: float = 0.3,
) -> list[Site]:
    """``hosts`` sites with ``urls`` listed pages between them, every site with one at least.

    The first has the share ``largest`` of all pages and is in good order; a share of ``dead`` does not answer, in all
    ways in turn. Latencies lie within ``latency`` (seconds), most near its lower end. Raises ValueError where there are
    too few URLs for the hosts.
    """
    chance = random.Random(seed)
    ways = [life for life in Life if life is not Life.ALIVE]
    lives = [Life.ALIVE] * hosts
    for turn, place in enumerate(chance.sample(range(1, hosts), round(dead * hosts))):
        lives[place] = ways[turn % len(ways)]
    robots = [(200, _PRIVATE), *(_pick(chance, _ROBOTS) for _ in range(hosts - 1))]
    busy = [False, *(chance.random() < _BUSY_SHARE for _ in range(hosts - 1))]
    welcoming = [
        place
        for place in range(hosts)
        if lives[place] is Life.ALIVE and not busy[place] and robots[place][1] in ("", _PRIVATE)
        if robots[place][0] < 500
    ]
    sites = []
    for place, size in enumerate(_sizes(hosts, urls, largest)):
        status, rules = robots[place]
        typical = _latency(chance, 3 * latency[0], latency) if place else 2 * latency[0]
        plain: list[Page] = []
        for number in range(size):
            plain += _pages(chance, number, rules, _host(chance.choice(welcoming)))
        plain.append(Page(_SHARED, headers=_JPEG, listed=False))
        pages = [
            replace(
                page,
                latency=_latency(chance, typical, latency),
                picture=chance.randrange(pictures) if page.headers and page.headers[0] in _JPEG else None,
            )
            for page in plain
        ]
        answer = robots_page(status, rules, latency=_latency(chance, typical, latency))
        after = _BUSY_AFTER if busy[place] else 0
        sites.append(Site(_host(place), tuple(pages), lives[place], answer, after))
    return sites


def _pages(chance: random.Random, number: int, rules: str, other: str) -> Iterator[Page]:
    """A listed page, and what it leads to on its own site; pictures are chosen later."""
    path = f"/img/{number}.jpg"
    outcome = "robots" if rules == _ALL else "ok"
    match _pick(chance, _KINDS):
        case "private":
            yield Page(f"/private/{number}.jpg", headers=_JPEG, outcome="robots" if "/private/" in rules else outcome)
        case "noai":
            yield Page(path, headers=(*_JPEG, _NOAI), outcome="opt_out" if outcome == "ok" else outcome)
        case "moved":
            target = f"/moved/{number}.jpg"
            yield Page(path, status=301, headers=(("Location", target),), outcome=outcome)
            yield Page(target, headers=_JPEG, listed=False)
        case "elsewhere":
            yield Page(path, status=302, headers=(("Location", f"//{other}:0{_SHARED}"),), outcome=outcome)
        case "gone":
            yield Page(path, status=404, headers=_TEXT, outcome="http_404" if outcome == "ok" else outcome)
        case "no picture":
            page = Page(path, headers=(("Content-Type", "text/html"),), body=b"<!doctype html><p>Not here any more.")
            yield replace(page, outcome="not_an_image" if outcome == "ok" else outcome)
        case _:
            yield Page(path, headers=_JPEG, outcome=outcome)


def _host(place: int) -> str:
    return f"h{place}.{DOMAIN}"


def _sizes(hosts: int, urls: int, largest: float) -> list[int]:
    """Pages per site: the first has its share, the others the rest, by Zipf's law with a small exponent."""
    first = round(urls * largest)
    spare = urls - first - (hosts - 1)
    if spare < 0 or first < 1:
        raise ValueError(f"{urls} URLs do not reach for {hosts} hosts, the first with a share of {largest}")
    so_far = list(accumulate((place + 5) ** -0.7 for place in range(hosts - 1)))
    ends = [round(spare * share / so_far[-1]) for share in so_far]
    return [first, *(1 + end - begin for begin, end in pairwise([0, *ends]))]


def _latency(chance: random.Random, median: float, limits: tuple[float, float]) -> float:
    return min(max(median * math.exp(chance.gauss(0.0, _SPREAD)), limits[0]), limits[1])


def _pick(chance: random.Random, shares: Sequence[tuple[float, _T]]) -> _T:
    return chance.choices([kind for _, kind in shares], [share for share, _ in shares])[0]
