"""What pages and answers ask of robots beside the picture: directives and patience."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from cortex_spark.directives import header_rules

#: Seconds: nobody is waited for longer.
LONGEST_WAIT: Final = 86400.0


def as_text(said: str | None) -> str | None:
    """What a server or a decoder said, as text that a table can hold: headers may be any bytes."""
    return said.encode("utf-8", "replace").decode() if said is not None else None


def refusal(directives: Iterable[str], refused: Collection[str]) -> str | None:
    """The first of a page's ``directives`` that is taken for a no."""
    return next((found for found in directives if found.lower() in refused), None)


def header_refusal(lines: Iterable[str], refused: Collection[str], now: datetime) -> str | None:
    """The first rule of ``X-Robots-Tag`` headers that is taken for a no.

    ``unavailable_after`` counts when its date has passed and anything at all is refused.

    >>> header_refusal(["otherbot: noindex", "cortex-spark: noai"], {"noai", "noindex"}, datetime.now(UTC))
    'noai'
    """
    for line in lines:
        for rule, value in header_rules(line):
            if rule in refused:
                return rule
            until = _date(value) if rule == "unavailable_after" and refused else None
            if until is not None and until <= now:
                return f"{rule}: {value}"
    return None


def _date(text: str) -> datetime | None:
    """A date as RFC 822, RFC 850 or ISO 8601 write it; None if it is none."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = parse(text)
        except (ValueError, OverflowError):  # the year 99999999999
            continue
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return None


def retry_after(value: str | None, now: datetime) -> float | None:
    """``Retry-After`` in seconds, at most a day; None where there is none or it cannot be read.

    >>> retry_after("120", datetime.now(UTC))
    120.0
    """
    asked = (value or "").strip()
    if asked.isascii() and asked.isdecimal():
        return min(float(asked), LONGEST_WAIT)
    date = _date(asked) if asked else None
    return min(max((date - now).total_seconds(), 0.0), LONGEST_WAIT) if date is not None else None
