"""How long the documented filters take: ``python -m benchmarks.query --table DIR``, of ``benchmarks.query.make``.

Every run has a new class and new numbers. Seconds are medians: of the first page with its length; of later pages of
the same question; of pages anywhere in a question that was not asked before; of looking up an ``_id``.

duckdb, spark: our pages, by either engine, in a process that has answered other questions. cold: by DuckDB in a new
process, with nothing of the table in the page cache. plain: Spark SQL on the nested column. mongodb: a real server with
the first ``--mongodb-rows`` rows of the table, bare; indexed: with its best indexes, derived fields included.

``--json FILE`` keeps what was measured; further calls with the same file (``--state`` names the table's, as before and
after ``cortex optimize``) add to it, and the table shows it all.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from pymongo.collection import Collection
from rich.table import Table

from benchmarks.query import mongodb
from benchmarks.query.engines import Cold, DuckDb, Engine, MongoDb, PlainSpark, Spark, files, writer
from benchmarks.query.filters import FILTERS, HEADLINE, Filter, Literals, Query, Stored
from cortex_spark.console import err, out
from cortex_spark.query.page import PAGE_SIZE

_KINDS: Final[dict[str, Callable[[str], Engine]]] = {
    "duckdb": DuckDb,
    "cold": Cold,
    "spark": Spark,
    "plain": PlainSpark,
}
#: In this order: one server, first without indexes.
_SERVERS: Final[dict[str, Callable[[Collection[Query]], Engine]]] = {
    "mongodb": lambda collection: MongoDb(collection, lambda query: query),
    "indexed": lambda collection: indexed(collection),
}
#: Goals beside those of the filters: seconds with DuckDB, and with Spark.
NEXT: Final = ("a class, width: page 2 and on", 0.2, 1.0)
DEEP: Final = ("a class, width: any page", 0.8, None)
LOOK_UP: Final = ("one _id", 0.02, None)
_WARM_UPS: Final = 5

#: By engine (and state) and question: what each run measured.
Results = dict[str, dict[str, list[dict[str, Any]]]]


class Bench:
    """Asks one engine, and writes down what came of it."""

    def __init__(self, engine: Engine, options: argparse.Namespace, stored: Stored) -> None:
        self._engine = engine
        self._options = options
        self._stored = stored
        self.found: dict[str, list[dict[str, Any]]] = {}

    def run(self, wanted: Sequence[Filter]) -> None:
        """All runs of all questions."""
        if not isinstance(self._engine, Cold):
            for query in self._queries(HEADLINE, "warm-up", _WARM_UPS):
                self._engine.first(HEADLINE, query)
        for which in wanted:
            for query in self._queries(which, "timed", self._options.runs):
                if isinstance(self._engine, Cold):
                    self._engine.forget()
                self._time(which.name, query, partial(self._engine.first, which, query))
                if isinstance(self._engine, Cold):
                    self.found[which.name][-1] |= {"wall": self.found[which.name][-1]["seconds"]} | {
                        "seconds": self._engine.said["page"]
                    }
        if self._engine.has_pages and HEADLINE in wanted:
            self._walk()
            self._jump()
        if isinstance(self._engine, DuckDb) and type(self._engine) is DuckDb and HEADLINE in wanted:
            for chosen in random.Random("look-ups").sample(list(self._stored.ids), 10 * self._options.runs):
                query = {"_id": chosen}
                self._time(LOOK_UP[0], query, partial(self._engine.first, HEADLINE, query))

    def _walk(self) -> None:
        """Later pages of a question, in order."""
        for query in self._queries(HEADLINE, "walk", 2):
            first = self._engine.page(HEADLINE, query, 1)
            last = -(-first.length // PAGE_SIZE)
            for number in range(2, min(last, 1 + self._options.runs) + 1):
                self._time(
                    NEXT[0],
                    query | {"page": number},
                    partial(self._length, query, number, first.version),
                )

    def _jump(self) -> None:
        """A page anywhere, of a question that nobody has asked: how many pages there are is told by a wider one."""
        dice = random.Random("jump")
        for query in self._queries(HEADLINE, "jump", self._options.runs):
            narrower = query | {"width": {"$gt": query["width"]["$gt"] + 50}}
            pages = -(-self._engine.first(HEADLINE, narrower) // PAGE_SIZE)
            number = dice.randint(1 + pages // 2, max(pages, 1 + pages // 2))
            self._time(
                DEEP[0],
                query | {"page": number},
                partial(self._length, query, number),
            )

    def _length(self, query: Query, number: int, version: int | None = None) -> int:
        return self._engine.page(HEADLINE, query, number, version).length

    def _queries(self, which: Filter, what: str, count: int) -> Iterator[Query]:
        draw = Literals(self._stored, f"{self._options.seed} {which.name} {what}")
        return (which.make(draw) for _ in range(count))

    def _time(self, name: str, query: Query, ask: Callable[[], int]) -> None:
        begun = time.perf_counter()
        length = ask()
        seconds = time.perf_counter() - begun
        self.found.setdefault(name, []).append({"seconds": seconds, "length": length, "query": query})
        err.print(f"{name}: {seconds:.3f} s, {length:,} match {json.dumps(query)}", markup=False)


def stored_values(root: str, seed: int) -> Stored:
    """Hosts and ids from a few row groups of the table."""
    dice = random.Random(seed)
    every = files(root)
    hosts: set[Any] = set()
    ids: set[Any] = set()
    for path in dice.sample(every, min(len(every), 8)):
        file = pq.ParquetFile(path.removeprefix("file://"))
        group = file.read_row_group(dice.randrange(file.num_row_groups), columns=["_id", "host"]).slice(0, 5_000)
        hosts |= set(group["host"].to_pylist())
        ids |= set(group["_id"].to_pylist())
    return Stored(sorted(hosts), sorted(ids))


class Loaded(ExitStack):
    """A MongoDB with the first rows of the table, from when it is first asked for until this is closed."""

    def __init__(self, root: str, options: argparse.Namespace) -> None:
        super().__init__()
        self._root = root
        self._options = options

    @cached_property
    def collection(self) -> Collection[Query]:
        """Where they are."""
        found = self.enter_context(mongodb.server(self._options.mongodb_cache)).cortex.samples
        mongodb.load(found, files(self._root), self._options.mongodb_rows)
        return found


def indexed(collection: Collection[Query]) -> MongoDb:
    """``collection`` with its best indexes."""
    for index in mongodb.INDEXES:
        collection.create_index(index)
    return MongoDb(collection, mongodb.best_form)


def askable(name: str, which: Filter, stored: Stored) -> bool:
    """Whether the nested column alone can answer."""
    return name != "plain" or "objects." not in json.dumps(which.make(Literals(stored, "")))


def shown(results: Results) -> Table:
    """Medians by question, goals beside."""
    table = Table("first page with its length", "goal", *results, "match")
    goals: dict[str, tuple[float, float | None]] = {which.name: (which.goal, which.spark_goal) for which in FILTERS}
    goals |= {name: (goal, spark_goal) for name, goal, spark_goal in (NEXT, DEEP, LOOK_UP)}
    for name, (goal, spark_goal) in goals.items():
        runs = [found.get(name, []) for found in results.values()]
        if any(runs):
            lengths = next(found for found in runs if found)
            table.add_row(
                name,
                f"{goal:g}" + (f" / {spark_goal:g}" if spark_goal else ""),
                *(f"{statistics.median(run['seconds'] for run in one):.3f}" if one else "" for one in runs),
                f"{statistics.median(run['length'] for run in lengths):,.0f}",
            )
    table.caption = "seconds, medians; goals of duckdb / of Spark"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, metavar="DIR", help="the folder that has the warehouse")
    parser.add_argument("--engines", nargs="+", default=["duckdb"], choices=[*_KINDS, *_SERVERS])
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(which.name for which in FILTERS)}")
    parser.add_argument("--runs", type=int, default=5, help="of each filter (default: %(default)s)")
    parser.add_argument("--state", default="", help="what the table is like, for the heading")
    parser.add_argument("--writer", action="store_true", help="beside a job that commits small batches")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mongodb-rows", type=int, default=1_000_000)
    parser.add_argument("--mongodb-cache", type=float, default=4.0, metavar="GB")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    wanted = [which for which in FILTERS if not options.only or which.name in options.only]
    if not wanted:
        parser.error(f"--only: there are {', '.join(which.name for which in FILTERS)}")
    root = str((options.table / "warehouse").absolute())
    stored = stored_values(root, options.seed)
    results: Results = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    with Loaded(root, options) as server:
        for name in sorted(options.engines, key=[*_KINDS, *_SERVERS].index):
            engine = _KINDS[name](root) if name in _KINDS else _SERVERS[name](server.collection)
            bench = Bench(engine, options, stored)
            with ExitStack() as beside:
                if options.writer:
                    commits = beside.enter_context(writer(root, start=int(time.time()) * 10_000))
                bench.run([which for which in wanted if askable(name, which, stored)])
            if options.writer:
                err.print(f"{len(commits)} commits of {sum(commits):,} rows meanwhile")
            heading = " ".join(part for part in (name, options.state, "beside a writer" * options.writer) if part)
            results[heading] = results.get(heading, {}) | bench.found
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    out.print(shown(results))


if __name__ == "__main__":
    main()
