"""How an attempt at a URL can end.

A step returns a value or a named outcome; outcomes are counted, stored and shown, and none is ever silent.
"""

from __future__ import annotations

import random
import re
from typing import Final

OK: Final = "ok"

#: Outcomes by name, with what they mean. What may pass is tried again later; the others are final.
PASSING: Final[dict[str, str]] = {
    "timeout": "no answer, or not all of it, in time",
    "connection_error": "no connection, or one that broke",
    "dns_error": "the host's name did not resolve",
    "tls_error": "the host's certificate or encryption was not acceptable",
    "incomplete": "the body ended before its declared length",
    "robots_unreachable": "the host's robots.txt could not be read, which forbids everything for now",
    "host_down": "the host did not answer just before, and was not asked again",
    "deferred": "its turn did not come: the task's time was used up, or the host asked for patience",
    "moved": "redirected to another host; asked for there when that host's turn comes",
    "outage": "our own network was down",
    "store_error": "a private picture that could not be read from the warehouse's store",
}
#: What may pass and counts as no attempt.
UNCOUNTED: Final = ("deferred", "moved", "outage")

FINAL: Final[dict[str, str]] = {
    OK: "a sample",
    "bad_url": "not an http(s) address",
    "blocked_address": "the host resolves to an address that is not public",
    "robots": "the host's robots.txt forbids it",
    "opt_out": "the page or the answer's headers forbid it (noai, noimageai, noindex, noimageindex, noml, none)",
    "forgotten": "taken down, or on the list of refused hashes",
    "not_modified": "the picture that was labelled before, unchanged",
    "too_many_redirects": "more than ten redirects",
    "too_large": "more bytes than allowed",
    "empty": "an answer without a body",
    "not_an_image": "the bytes are no picture",
    "unsupported_format": "a picture in a format that is not accepted",
    "too_many_pixels": "the header declares more pixels than allowed",
    "decode_error": "a picture that does not decode",
    "decoder_crash": "a picture that ends the process which decodes it",
    "decoder_hang": "a picture that takes for ever to decode",
    "changed": "another picture than the one that was labelled before",
    "not_in_store": "a private picture that is missing from the warehouse's store",
}

#: Final for the model that met them only: another model may still do better.
MODEL_BOUND: Final = (OK, "changed", "not_modified")

#: Outcomes that may pass, as a regular expression of the whole name, in the syntax that Python and Java share. Of the
#: HTTP statuses: request timeout, too early, too many requests, and all of 5xx.
PASSING_PATTERN: Final = "^(" + "|".join([*PASSING, "http_(408|425|429|5[0-9][0-9])"]) + ")$"

#: Attempts after which an outcome that may pass is final.
MAX_TRIES: Final = 4


def http_outcome(status: int) -> str:
    """The outcome's name for an HTTP status that is not a success: ``http_404``."""
    return f"http_{status}"


def passes(outcome: str) -> bool:
    """Whether the same URL may end otherwise when it is tried later."""
    return re.match(PASSING_PATTERN, outcome) is not None


def retry_delay(tries: int) -> float:
    """Seconds to wait after ``tries`` attempts before the next: some 10 minutes, doubling with each.

    Up to a quarter more by chance: what failed together does not come back together.
    """
    return 600.0 * 2.0 ** max(tries - 1, 0) * random.uniform(1.0, 1.25)
