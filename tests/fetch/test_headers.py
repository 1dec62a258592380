"""What headers and pages say: a no, or later."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cortex_spark.config import Settings
from cortex_spark.fetch import Request
from cortex_spark.headers import header_refusal, retry_after
from tests.fetch.web import RawWeb, Reply, fetch

NOW = datetime(2026, 11, 1, tzinfo=UTC)
REFUSED = frozenset(Settings().refuse_directives)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], None),
        ([""], None),
        (["all"], None),
        (["noai"], "noai"),
        (["NoImageIndex"], "noimageindex"),
        (["noarchive, nofollow, noml"], "noml"),
        (["noarchive", "none"], "none"),
        (["max-image-preview: large, noindex"], "noindex"),
        (["otherbot: noindex, noai"], None),
        (["otherbot: noindex", "noai"], "noai"),
        (["cortex-spark: noimageai"], "noimageai"),
        (["Cortex-Spark: noarchive, noindex"], "noindex"),
        (["otherbot: noindex, cortex-spark: noai"], "noai"),
        (["cortex-spark: all, otherbot: noindex"], None),
        (["*: noai"], "noai"),
        (["unavailable_after: 25 Jun 2025 15:00:00 GMT"], "unavailable_after: 25 Jun 2025 15:00:00 GMT"),
        (["unavailable_after: Wed, 25 Jun 2025 15:00:00 GMT"], "unavailable_after: Wed, 25 Jun 2025 15:00:00 GMT"),
        (
            ["unavailable_after: Wednesday, 25-Jun-25 15:00:00 GMT"],
            "unavailable_after: Wednesday, 25-Jun-25 15:00:00 GMT",
        ),
        (["unavailable_after: 2025-06-25"], "unavailable_after: 2025-06-25"),
        (["unavailable_after: 2099-06-25"], None),
        (["unavailable_after: Wed, 25 Jun 2098 15:00:00 GMT, noai"], "noai"),
        (["unavailable_after: soon"], None),
        (["unavailable_after: Mon, 01 Jan 99999999999 00:00:00 GMT"], None),
        (["otherbot: unavailable_after: 2025-06-25"], None),
    ],
)
def test_x_robots_tag(lines: list[str], found: str | None) -> None:
    assert header_refusal(lines, REFUSED, NOW) == found


def test_nothing_is_refused_where_that_is_configured() -> None:
    assert header_refusal(["noai", "unavailable_after: 2025-06-25"], (), NOW) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("999999999999", 86400.0),
        ("-1", None),
        ("1.5", None),
        ("\u0661", None),
        ("soon", None),
        ("Sun, 01 Nov 2026 00:02:00 GMT", 120.0),
        ("Sunday, 01-Nov-26 00:02:00 GMT", 120.0),
        ("Sun, 01 Nov 2026 00:00:00 +0100", 0.0),
        ("Sun, 01 Nov 2099 00:00:00 GMT", 86400.0),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("reply", "outcome", "detail"),
    [
        (Reply(headers={"X-Robots-Tag": "noai"}), "opt_out", "X-Robots-Tag says noai"),
        (Reply(headers={"x-robots-tag": ["noarchive", "otherbot: all, cortex-spark: noml"]}), "opt_out", "noml"),
        (Reply(headers={"X-Robots-Tag": "otherbot: noai"}), "ok", None),
        (Reply(b"", 302, {"X-Robots-Tag": "noindex", "Location": "/fine.jpg"}), "opt_out", "noindex"),
        (Reply(b"", 404, {"X-Robots-Tag": "noindex"}), "http_404", None),
    ],
)
def test_answers_that_refuse(web: RawWeb, reply: Reply, outcome: str, detail: str | None) -> None:
    web.answers = {"/x.jpg": reply, "/fine.jpg": Reply()}
    (fetched,) = fetch(web.url())
    assert fetched.outcome == outcome
    assert (detail is None) == (fetched.detail is None)
    assert (detail or "") in (fetched.detail or "")
    assert fetched.body is None or outcome == "ok"


def test_pages_that_refuse(web: RawWeb) -> None:
    """Before anything is asked; by those directives that are configured."""
    web.answers = {"/x.jpg": Reply()}
    requests = [Request(web.url(), directives) for directives in (["noai"], ["nofollow", "noindex"])]
    assert [(each.outcome, each.detail) for each in fetch(*requests)] == [
        ("opt_out", "the page says noai"),
        ("opt_out", "the page says noindex"),
    ]
    assert web.log == []
    assert [each.outcome for each in fetch(*requests, refuse_directives=("noindex",))] == ["ok", "opt_out"]
