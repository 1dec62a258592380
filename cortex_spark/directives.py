"""What ``X-Robots-Tag`` headers say to us, where a crawl has them and where we get them ourselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cortex_spark.config import PRODUCT_TOKEN

#: Whom a directive may be addressed to, so that it concerns us: every robot, and our own product token.
AGENTS: Final = frozenset({"robots", "*", PRODUCT_TOKEN})
#: Rules with a value behind a colon; before any other colon stands whom the rules are for.
_VALUED: Final = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_BETWEEN: Final = re.compile(r"[\s;]+")


def header_rules(line: str) -> Iterator[tuple[str, str]]:
    """The rules of one ``X-Robots-Tag`` header that are for us, in lower case, and their values.

    Source: https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag; a bot's name holds until the
    next name.

    >>> list(header_rules("noai, otherbot: noindex, nofollow"))
    [('noai', '')]
    """
    ours = True
    parts = iter(line.split(","))
    for part in parts:
        name, colon, value = part.partition(":")
        rule = name.strip().lower()
        if colon and rule not in _VALUED:
            ours = rule in AGENTS
            rule, value = value.strip().lower(), ""
        if rule == "unavailable_after" and not any(map(str.isdigit, value)):
            value += "," + next(parts, "")  # the comma of a date: Wed, 25 Jun 2025
        if ours:
            yield from ((word, value.strip()) for word in _BETWEEN.split(rule) if word)
