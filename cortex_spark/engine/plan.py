"""A run's work as a query: wanted (``image_urls``) minus done (``attempts``), written down before it starts."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from cortex_spark.config import Settings
from cortex_spark.outcomes import MODEL_BOUND, OK, PASSING_PATTERN, UNCOUNTED
from cortex_spark.schema import PLANS
from cortex_spark.table import Warehouse

#: Tasks' worth of rows per file of a written plan; a run reads it batch by batch.
_ROWS_PER_FILE: Final = 500_000

#: Days for which it is remembered what a host said, and that it did not answer: longer than it can be left alone.
_KNOWN_DAYS: Final = 2
_SILENT_DAYS: Final = 8

#: See ``Batching.rounds``.
_LEAST_ROUNDS: Final = 32

#: Batches at work at once. While one waits for its last slow hosts, or commits, the other keeps the detector busy.
LANES: Final = 2


#: What ``url_states`` adds to the columns of ``image_urls``, and what it says of a URL that was not tried yet.
_HISTORY: Final = {
    "tries": "bigint",
    "outcome": "string",
    "retry_at": "timestamp",
    "labelled_hash": "string",
    "location": "string",
    "hops": "int",
    "etag": "string",
    "last_modified": "string",
}
_UNTRIED: Final[dict[str, bool | float | int | str]] = {"tries": 0, "hops": 0}


@dataclass(frozen=True)
class Batching:
    """How a plan is cut: a batch is a few minutes' work."""

    tasks: int  # per batch
    batch_urls: int
    host_urls: int  # of one host in one batch: the others should not wait for the slowest
    host_delay: float  # seconds between two requests to a host that ``host_urls`` was made for

    def rounds(self, urls: int) -> int:
        """How often a host comes at most in a plan of so many URLs: as often as there are full batches, or a few times.

        A host that lets one URL begin in a batch would have a batch for each of thousands; what is new would wait.
        """
        return max(-(-urls // self.batch_urls), _LEAST_ROUNDS)


def url_states(
    warehouse: Warehouse,
    model: str | None,
    *,
    where: str | None = None,
    retry: bool = False,
    revisit: int | None = None,
    alone: bool = True,
) -> DataFrame:
    """Every row of ``image_urls`` with its state for ``model`` (None: measuring only), from what ``attempts`` recorded.

    With ``where``, a condition in SQL, only rows of which it is true. Adds ``outcome`` (final, or NULL), ``retry_at``,
    ``labelled_hash`` (of an earlier sample, by any model), ``etag`` and ``last_modified`` of what ``model`` labelled;
    ``tries`` (that failed for a passing reason since it was last seen); and of the time since the last try ``location``
    and ``hops`` (of redirects to other hosts). With ``retry``, outcomes that may pass are not final and need not wait;
    with ``revisit``, pictures that were last seen that many days ago are wanted again. Whatever was final before: what
    was put off, or has moved, the last time is wanted. ``alone``: no other job is at work, whose first attempts may
    come between two looks.
    """
    urls = warehouse.read("image_urls")
    if where is not None:
        urls = urls.where(F.expr(where))
    if alone and warehouse.is_empty("attempts"):
        return urls.withColumns({name: F.lit(_UNTRIED.get(name)).cast(kind) for name, kind in _HISTORY.items()})
    is_seen, is_uncounted = F.col("outcome").isin(OK, "not_modified"), F.col("outcome").isin(*UNCOUNTED)

    def since(event: Column) -> Column:
        latest = F.max(F.when(event, F.col("attempted_at"))).over(Window.partitionBy("_id"))
        return latest.isNull() | (F.col("attempted_at") > latest)

    attempts = warehouse.read("attempts").withColumns(
        {
            "passes": F.col("outcome").rlike(PASSING_PATTERN),
            "since_seen": since(is_seen),
            "since_counted": since(~is_uncounted),
        }
    )
    by_model = F.lit(True) if model is None else F.col("model") == model
    # How a URL ended before it was seen says nothing of it any more.
    final = F.col("final") & ~is_uncounted & (F.col("since_seen") | is_seen)
    final &= ~F.col("outcome").isin(*MODEL_BOUND) | by_model
    if retry:
        final &= ~F.col("passes")
    seen = is_seen & by_model
    if revisit is not None:
        final &= ~seen | (F.col("attempted_at") > F.current_timestamp() - F.make_dt_interval(days=F.lit(revisit)))
    ours = F.when(F.col("model").eqNullSafe(F.lit(model)), F.col("attempted_at"))
    ended = F.coalesce(F.max(F.when(final, F.col("attempted_at"))), F.timestamp_seconds(F.lit(0)))
    history = attempts.groupBy("_id").agg(
        F.count_if(F.col("passes") & ~is_uncounted & F.col("since_seen")).alias("tries"),
        (F.max_by(is_uncounted, ours) & (F.max(ours) > ended)).alias("under_way"),
        # A sample stays one, however later visits end.
        F.coalesce(
            F.max_by("outcome", F.when(final & seen, F.col("attempted_at"))),
            F.max_by("outcome", F.when(final, F.col("attempted_at"))),
        ).alias("outcome"),
        F.max_by("retry_at", "attempted_at").alias("retry_at"),
        F.min_by("sample.hash", F.when(F.col("outcome") == OK, F.col("attempted_at"))).alias("labelled_hash"),
        # After a failure the way begins anew: addresses that redirects lead to are often good for minutes only.
        F.max_by("final_url", F.when(is_uncounted & F.col("since_counted"), F.col("attempted_at"))).alias("location"),
        F.count_if((F.col("outcome") == "moved") & F.col("since_counted")).cast("int").alias("hops"),
        F.max_by("etag", F.when(seen, F.col("attempted_at"))).alias("etag"),
        F.max_by("last_modified", F.when(seen, F.col("attempted_at"))).alias("last_modified"),
    )
    if retry:
        history = history.withColumn("retry_at", F.lit(None).cast("timestamp"))
    history = history.withColumn("outcome", F.when(~F.coalesce("under_way", F.lit(False)), F.col("outcome")))
    history = history.drop("under_way")
    return urls.join(history, "_id", "left").fillna(_UNTRIED)


def place() -> Column:
    """The host that a row is fetched from; NULL for pictures of the store."""
    # A location is as browsers write it, with all that java.net.URI refuses: '|' in a query, '_' in a name.
    host = F.regexp_extract("location", r"^https?://([^/]*?)(?::\d+)?/", 1)
    return F.regexp_replace(F.coalesce(F.nullif(host, F.lit("")), "host"), r"\.+$", "")


def forbidden(host: Column, settings: Settings) -> Column:
    """``host``, where it is on the public web and nobody is named who can be reached; else NULL."""
    if settings.contact is not None:
        return F.lit(None).cast("string")
    ours = "|".join(fnmatch.translate(pattern) for pattern in settings.allow_private_hosts)
    name = F.regexp_replace(F.lower(host), r"^\[|\]$|\.+$", "")  # as Settings.allows_private
    return F.when(~name.rlike(f"^(?:{ours})"), host) if ours else host


def latest_hosts(warehouse: Warehouse) -> DataFrame:
    """What is known of each host that was visited lately, or must not be visited yet: rows of HOST.

    A robots.txt is asked for again after a day, conditionally where it is known. Failures are known for longer: each
    doubles the time for which a host is left alone, a day at most, and would begin anew if it was forgotten by then.
    """
    age = F.current_timestamp() - F.col("at")
    lately, not_long_ago = (age < F.make_dt_interval(days=F.lit(days)) for days in (_KNOWN_DAYS, _SILENT_DAYS))
    at_peace = F.col("not_before") > F.current_timestamp()
    rows = warehouse.read("hosts").where(not_long_ago | at_peace)
    latest = rows.groupBy("host").agg(F.max_by(F.struct("*"), "at").alias("latest")).select("latest.*")
    return latest.where(lately | (F.col("failures") > 0) | at_peace).drop("run", "batch")


def wanted(states: DataFrame, hosts: DataFrame | None, claimed: DataFrame | None, limit: int | None) -> DataFrame:
    """The rows of ``states`` that are to be tried now, with the ``delay`` that their host asks for.

    They have no final outcome, they and their host are due, and no run at work has their host in its plan: two jobs
    are no more than one for a host.
    """
    due = F.col("retry_at").isNull() | (F.col("retry_at") <= F.current_timestamp())
    rows = states.where(F.col("outcome").isNull() & due).withColumn("place", place())
    if hosts is None:
        rows = rows.withColumn("delay", F.lit(None).cast("double"))
    else:
        known = hosts.select(F.col("host").alias("place"), "delay", "not_before")
        rows = rows.join(known, "place", "left")
        rows = rows.where(F.col("not_before").isNull() | (F.col("not_before") <= F.current_timestamp()))
    if claimed is not None:
        rows = rows.join(claimed.select("_id"), "_id", "left_anti")
        rows = rows.join(claimed.select(place().alias("place")).distinct(), "place", "left_anti")
    # Any order will do, as long as it is one: the same query picks the same rows.
    return rows if limit is None else rows.orderBy("discovered_at", "_id").limit(limit)


def in_batches(rows: DataFrame, batching: Batching, run: str, urls: int, rounds: int | None = None) -> DataFrame:
    """``rows`` of ``wanted``, ``urls`` in number, as rows of PLANS.

    All URLs of a host in a batch are in one task, so that politeness needs no coordinator. What a host has beyond the
    cap comes in later batches, and what it has beyond ``rounds`` of them not at all. Batches with even and with odd
    numbers (lanes) have no host in common, so that one of each may be at work at once. Hosts are dealt out to tasks by
    size. Pictures of the store have no host: they lie anywhere.
    """
    lanes = LANES if urls > batching.batch_urls else 1
    somewhere = F.coalesce("place", F.concat(F.lit("#"), F.col("_id").substr(1, 2)))
    order = Window.partitionBy("place").orderBy("_id")
    # A host that wants more time between two requests gets fewer of them into a batch.
    slower = F.greatest(F.coalesce("delay", F.lit(0.0)), F.lit(batching.host_delay))
    cap = F.greatest(F.floor(F.lit(batching.host_urls) * F.lit(batching.host_delay) / slower), F.lit(1))
    if not batching.host_delay:
        cap = F.lit(batching.host_urls)
    numbered = rows.withColumn("place", somewhere).withColumn(
        "round", ((F.row_number().over(order) - 1) / cap).cast("int")
    )
    if rounds is not None:
        numbered = numbered.where(F.col("round") < rounds)
    # Everything from here on is about a host's URLs in one round: few rows, however many URLs there are.
    groups = numbered.groupBy("round", "place").agg(F.count("*").alias("urls"))
    groups = groups.withColumn("lane", F.pmod(F.xxhash64("place"), F.lit(lanes)).cast("int"))
    so_far = F.sum("urls").over(Window.partitionBy("lane", "round").orderBy("place")) - F.col("urls")
    # Lane 1 begins with a short batch, so that the two end in turns.
    size = F.lit(batching.batch_urls)
    head_start = F.when((F.col("lane") == 1) & (F.col("round") == 0), size / 2).otherwise(F.lit(0.0))
    groups = groups.withColumn("part", ((so_far + head_start) / size).cast("int"))
    number = F.dense_rank().over(Window.partitionBy("lane").orderBy("round", "part")) - 1
    groups = groups.withColumn("batch", number * F.lit(LANES) + F.col("lane"))
    dealt = F.row_number().over(Window.partitionBy("batch").orderBy(F.desc("urls"), "place")) - 1
    groups = groups.withColumn("task", _back_and_forth(dealt, batching.tasks))
    planned = numbered.join(groups.select("round", "place", "batch", "task"), ["round", "place"])
    columns = {
        "run": F.lit(run),
        "expected_hash": F.col("labelled_hash"),
        "tries": F.col("tries").cast("int"),
        "batch": F.col("batch").cast("int"),
        "task": F.col("task").cast("int"),
    }
    return planned.select(*(columns.get(name, F.col(name)).alias(name) for name in PLANS.names))


def _back_and_forth(position: Column, tasks: int) -> Column:
    """0, 1, 2, 2, 1, 0, 0, ...: dealing from the largest on this way keeps the tasks' sizes close."""
    place = position % F.lit(2 * tasks)
    return F.when(place < tasks, place).otherwise(F.lit(2 * tasks - 1) - place)


def sorted_by_batch(plan: DataFrame, urls: int) -> DataFrame:
    """``plan`` in files that hold whole batches as far as possible, so that reading a batch skips the others."""
    files = max(1, -(-urls // _ROWS_PER_FILE))
    parts = plan.repartitionByRange(files, "batch") if files > 1 else plan.coalesce(1)
    return parts.sortWithinPartitions("batch", "task")
