"""robots.txt as RFC 9309 has it: what a host permits, and for how long that is believed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from protego import Protego

from cortex_spark.config import PRODUCT_TOKEN
from cortex_spark.fetch.state import Robots
from cortex_spark.headers import LONGEST_WAIT

#: Bytes that are read (RFC 9309, 2.5) and redirects that are followed (2.3.1.2).
MAX_BYTES: Final = 500 << 10
MAX_REDIRECTS: Final = 5
#: RFC 9309, 2.4: a copy is used for a day at most.
_FRESH: Final = timedelta(hours=24)
#: A line that begins a group, and whom it names; as Protego reads such lines, where the colon may be left out.
_GROUP: Final = re.compile(r"\s*user[ -]?agent(?:\s*:|\s(?!.*:(?:\s|$)))(.*)", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[A-Za-z_-]*")


class Rules:
    """What a robots.txt that was read (any status but 5xx) permits us; one that is not there permits everything."""

    def __init__(self, robots: Robots) -> None:
        self._parsed = None
        self.delay: float | None = None  # seconds between two requests
        if robots.body and robots.status is not None and 200 <= robots.status < 300:
            parsed = Protego.parse("\n".join(map(_named, robots.body.splitlines())))
            delay = parsed.crawl_delay(PRODUCT_TOKEN)
            rate = parsed.request_rate(PRODUCT_TOKEN)
            pause = max(delay or 0.0, rate.seconds / rate.requests if rate is not None else 0.0)
            self.delay = min(pause, LONGEST_WAIT) or None
            self._parsed = parsed

    def allows(self, url: str) -> bool:
        """Whether we may fetch ``url``, of the origin that the rules are of."""
        return self._parsed is None or self._parsed.can_fetch(url, PRODUCT_TOKEN)


def _named(line: str) -> str:
    """The line, where it names a crawler as ours, all or another one: RFC 9309, 2.2.1, compares product tokens whole.

    Protego takes their beginnings for them: a group of ``cortex`` for ours, one of ``cortex-spark/1.0`` for none.

    >>> _named("User-Agent: Cortex-Spark/1.0"), _named("user-agent: cortex")
    ('User-agent: cortex-spark', 'User-agent: other')
    """
    found = _GROUP.match(line.partition("#")[0])
    name = found[1].strip() if found is not None else ""
    if not name or name == "*":
        return line
    token = _TOKEN.match(name.replace("*", ""))
    is_ours = token is not None and token[0].lower() == PRODUCT_TOKEN
    return f"User-agent: {PRODUCT_TOKEN if is_ours else 'other'}"


def is_readable(status: int | None) -> bool:
    """Whether an answer with this status says what is permitted; if not, everything is forbidden for now.

    RFC 9309 takes all of 4xx for a permission; 429 is a host that wants to be left alone.
    """
    return status is not None and status < 500 and status != 429


def is_fresh(robots: Robots, now: datetime) -> bool:
    """Whether ``robots`` need not be asked for again."""
    return is_readable(robots.status) and now - robots.fetched_at < _FRESH


def text_of(body: bytes) -> str:
    """The lines of a robots.txt: UTF-8, and no line that was cut off in the middle."""
    if len(body) > MAX_BYTES:
        body = body[:MAX_BYTES].rpartition(b"\n")[0]
    return body.decode("utf-8-sig", "replace")
