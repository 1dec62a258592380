"""Outcomes by reason, by host and over time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from rich.console import RenderableType

from cortex_spark.engine.plan import url_states
from cortex_spark.errors import CortexError
from cortex_spark.outcomes import OK
from cortex_spark.schema import TABLES
from cortex_spark.table import Warehouse

#: Widths of a bin in seconds, such that its ends are round times.
_WIDTHS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600 * hours for hours in (1, 2, 3, 6, 12)),
    *(86400 * days for days in (1, 2, 7, 14, 28, 56, 182)),
)
#: Bins at most: what fits on a screen.
_BINS: Final = 24


@dataclass(frozen=True)
class Outcome:
    """What ended with one reason."""

    attempts: int
    bytes: int
    timed: int  # attempts that took a measured time
    seconds: float  # of these together

    @property
    def mean_seconds(self) -> float | None:
        """Seconds of one attempt, from its first request to its end; None: of none it is known."""
        return self.seconds / self.timed if self.timed else None

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.attempts + other.attempts,
            self.bytes + other.bytes,
            self.timed + other.timed,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Host:
    """What became of one host's URLs; ``name`` is None for pictures of the warehouse's own store."""

    name: str | None
    attempts: int
    ok: int
    bytes: int
    median_seconds: float | None
    not_before: datetime | None  # when it may be asked again, if that is yet to come
    delay: float | None  # seconds between two requests, as its robots.txt asks for
    failures: int  # visits in a row without an answer


@dataclass(frozen=True)
class Bin:
    """What ended within ``StatsReport.bin_seconds`` from ``start`` on."""

    start: datetime
    outcomes: Counter[str]

    @property
    def ok(self) -> int:
        """Pictures."""
        return self.outcomes[OK]

    @property
    def other(self) -> int:
        """URLs that gave none."""
        return self.outcomes.total() - self.ok


@dataclass(frozen=True)
class Urls:
    """Where the URLs of the warehouse stand, for whatever model labelled them last."""

    known: int
    final: int
    waiting: int  # not tried yet, or to be tried again


@dataclass(frozen=True)
class StatsReport:
    """Outcomes of attempts; of ``runs``, or all."""

    runs: tuple[str, ...] | None
    first: datetime | None  # attempt
    last: datetime | None
    outcomes: Mapping[str, Outcome]  # the most frequent first
    hosts: Sequence[Host]  # those with the most URLs
    hosts_total: int
    bin_seconds: int
    bins: Sequence[Bin]  # without gaps
    urls: Urls | None  # of the whole warehouse; None where only some attempts were asked for

    @property
    def attempts(self) -> int:
        """All of them."""
        return sum(outcome.attempts for outcome in self.outcomes.values())

    @property
    def pictures(self) -> int:
        """Attempts that gave one."""
        return self.outcomes[OK].attempts if OK in self.outcomes else 0

    @property
    def rate(self) -> float | None:
        """Pictures per second; None where the attempts took no time to speak of."""
        return self.pictures / self.seconds if self.seconds >= 1 else None

    @property
    def bytes(self) -> int:
        """Downloaded."""
        return sum(outcome.bytes for outcome in self.outcomes.values())

    @property
    def seconds(self) -> float:
        """From the first attempt to the last."""
        return (self.last - self.first).total_seconds() if self.first and self.last else 0.0

    def as_json(self) -> dict[str, Any]:
        """For machines; times are UTC."""
        return {
            "runs": None if self.runs is None else list(self.runs),
            "first": _iso(self.first),
            "last": _iso(self.last),
            "seconds": round(self.seconds, 3),
            "attempts": self.attempts,
            "pictures": self.pictures,
            "pictures_per_second": None if self.rate is None else round(self.rate, 3),
            "bytes": self.bytes,
            "urls": None if self.urls is None else vars(self.urls),
            "outcomes": {
                name: {
                    "attempts": outcome.attempts,
                    "share": round(outcome.attempts / self.attempts, 6),
                    "mean_seconds": None if outcome.mean_seconds is None else round(outcome.mean_seconds, 3),
                    "bytes": outcome.bytes,
                }
                for name, outcome in self.outcomes.items()
            },
            "hosts_total": self.hosts_total,
            "hosts": [vars(host) | {"not_before": _iso(host.not_before)} for host in self.hosts],
            "bin_seconds": self.bin_seconds,
            "bins": [{"start": _iso(each.start), "outcomes": dict(each.outcomes)} for each in self.bins],
        }

    def __rich__(self) -> RenderableType:
        from cortex_spark.stats.view import report_view

        return report_view(self)


def report(
    warehouse: Warehouse, runs: Sequence[str] | None = None, *, since: datetime | None = None, top: int = 10
) -> StatsReport:
    """What became of the URLs that ``runs`` tried, or all runs, ``since`` then, or ever. Makes no table.

    Args:
        warehouse: whose ``attempts``, ``image_urls`` and ``hosts`` are read.
        runs: their names.
        since: a time with its zone.
        top: how many hosts, those with the most attempts first.

    Raises:
        CortexError: ``warehouse`` is none, or has no such run.
    """
    if not any(warehouse.has(table) for table in TABLES):
        raise CortexError(f"{warehouse.root} is not a warehouse, it has no tables: is --warehouse right?")
    whole = runs is None and since is None
    urls = _urls(warehouse) if whole else None
    named = None if runs is None else tuple(runs)
    empty = StatsReport(named, None, None, {}, (), 0, 1, (), urls)
    if not warehouse.has("attempts"):
        return empty
    attempts = warehouse.read("attempts")
    if runs is not None:
        attempts = attempts.where(F.col("run").isin(list(runs)))
    if since is not None:
        attempts = attempts.where(F.col("attempted_at") >= F.lit(since))
    at = F.unix_micros("attempted_at") / 1e6
    span = attempts.agg(F.min(at).alias("first"), F.max(at).alias("last")).first()
    if span is None or span["first"] is None:
        if runs:
            raise CortexError(f"no attempts of {', '.join(runs)}: `cortex stats` without --run shows all")
        return empty
    width = bin_width(span["last"] - span["first"])
    outcomes, bins = _over_time(attempts, F.floor(at / width), width)
    hosts, total = _by_host(warehouse, attempts, top)
    first, last = (datetime.fromtimestamp(span[name], UTC) for name in ("first", "last"))
    return StatsReport(named, first, last, outcomes, hosts, total, width, bins, urls)


def bin_width(seconds: float) -> int:
    """Seconds of a bin, such that not many more than ``_BINS`` of them, and round ones, fill ``seconds``."""
    return next((width for width in _WIDTHS if seconds / width <= _BINS), _WIDTHS[-1])


def _over_time(attempts: DataFrame, number: Column, width: int) -> tuple[dict[str, Outcome], list[Bin]]:
    rows = (
        attempts.groupBy(number.alias("number"), "outcome")
        .agg(
            F.count("*").alias("attempts"),
            F.coalesce(F.sum("bytes"), F.lit(0)).alias("bytes"),
            F.count("seconds").alias("timed"),
            F.coalesce(F.sum("seconds"), F.lit(0.0)).alias("seconds"),
        )
        .collect()
    )
    counted: defaultdict[int, Counter[str]] = defaultdict(Counter)
    outcomes: dict[str, Outcome] = {}
    for row in rows:
        counted[row["number"]][row["outcome"]] += row["attempts"]
        more = Outcome(row["attempts"], row["bytes"], row["timed"], row["seconds"])
        outcomes[row["outcome"]] = outcomes.get(row["outcome"], Outcome(0, 0, 0, 0.0)) + more
    ordered = dict(sorted(outcomes.items(), key=lambda item: (-item[1].attempts, item[0])))
    numbers = range(min(counted), max(counted) + 1)
    return ordered, [Bin(datetime.fromtimestamp(each * width, UTC), counted[each]) for each in numbers]


def _by_host(warehouse: Warehouse, attempts: DataFrame, top: int) -> tuple[list[Host], int]:
    if not warehouse.has("image_urls"):
        return [], 0
    hosts = warehouse.read("image_urls").select("_id", "host")
    by_host = (
        attempts.join(hosts, "_id", "left")
        .groupBy("host")
        .agg(
            F.count("*").alias("attempts"),
            F.count_if(F.col("outcome") == OK).alias("ok"),
            F.coalesce(F.sum("bytes"), F.lit(0)).alias("bytes"),
            F.median("seconds").alias("median_seconds"),
        )
        .withColumn("total", F.expr("count(*) OVER ()"))
        .orderBy(F.desc("attempts"), "host")
        .limit(top)
    )
    if warehouse.has("hosts"):
        state = F.struct(F.unix_micros("not_before").alias("not_before"), "delay", "failures")
        latest = warehouse.read("hosts").groupBy("host").agg(F.max_by(state, "at").alias("state"))
        by_host = by_host.join(latest, "host", "left")
    else:
        by_host = by_host.withColumn("state", F.lit(None))
    rows = by_host.collect()
    now = datetime.now(UTC)
    found = []
    for row in sorted(rows, key=lambda row: (-row["attempts"], row["host"] or "")):
        state = row["state"]
        not_before = state and state["not_before"] and datetime.fromtimestamp(state["not_before"] / 1e6, UTC)
        found.append(
            Host(
                row["host"],
                row["attempts"],
                row["ok"],
                row["bytes"],
                row["median_seconds"],
                not_before if not_before and not_before > now else None,
                (state and state["delay"]) or None,
                (state and state["failures"]) or 0,
            )
        )
    return found, (rows[0]["total"] if rows else 0)


def _urls(warehouse: Warehouse) -> Urls:
    if not warehouse.has("image_urls"):
        return Urls(0, 0, 0)
    if not warehouse.has("attempts"):
        known = warehouse.read("image_urls").count()
        return Urls(known, 0, known)
    # Of several models, the one that was at work last.
    model = warehouse.read("attempts").agg(F.max_by("model", "attempted_at")).first()
    assert model is not None
    counts = url_states(warehouse, model[0]).agg(F.count("*"), F.count("outcome")).first()
    assert counts is not None
    return Urls(counts[0], counts[1], counts[0] - counts[1])


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")
