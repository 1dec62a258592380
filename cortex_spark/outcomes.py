"""How an attempt at a URL can end.

A step returns a value or a named outcome; outcomes are counted, stored and shown, and none is ever silent.
"""

from __future__ import annotations

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
    "deferred": "the task's time was used up before its turn came; counts as no attempt",
}
FINAL: Final[dict[str, str]] = {
    OK: "a sample",
    "bad_url": "not an http(s) address",
    "blocked_address": "the host resolves to an address that is not public",
    "too_many_redirects": "more than ten redirects",
    "too_large": "more bytes than allowed",
    "empty": "an answer without a body",
    "not_an_image": "the bytes are no picture",
    "too_many_pixels": "the header declares more pixels than allowed",
    "decode_error": "a picture that does not decode",
    "decoder_crash": "a picture that ends the process which decodes it",
    "decoder_hang": "a picture that takes for ever to decode",
    "changed": "another picture than the one that was labelled before",
    "not_in_store": "a private picture that is missing from the warehouse's store",
}

#: Final for the model that met them only: another model may still do better.
MODEL_BOUND: Final = (OK, "changed")

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
    """Seconds to wait after ``tries`` attempts before the next: 10 minutes, doubling with each."""
    return float(600 * 2 ** max(tries - 1, 0))
