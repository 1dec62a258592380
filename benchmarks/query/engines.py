"""Who is asked: each gives a first page with its length; the product's two also any other page and a look-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from deltalake import DeltaTable
from pyspark.sql import Column
from pyspark.sql import functions as F

from benchmarks.query import mongodb
from benchmarks.query.filters import Filter, Query
from cortex_spark.query.mongo import mongo
from cortex_spark.query.page import PAGE_SIZE, Page, page
from cortex_spark.session import spark_session
from cortex_spark.table import Warehouse

_ROOT: Final = Path(__file__).parents[2]


class Engine(ABC):
    """One who is asked."""

    #: Whether pages other than the first, and look-ups, can be asked for.
    has_pages = False

    @abstractmethod
    def first(self, which: Filter, query: Query) -> int:
        """A first page with its length, which is returned."""

    def page(self, which: Filter, query: Query, number: int, version: int | None = None) -> Page:
        """Any page."""
        raise NotImplementedError


class DuckDb(Engine):
    """Our pages, read by the embedded engine in this process."""

    has_pages = True

    def __init__(self, root: str) -> None:
        self._root = root

    def first(self, which: Filter, query: Query) -> int:
        """A first page."""
        return self.page(which, query, 1).length

    def page(self, which: Filter, query: Query, number: int, version: int | None = None) -> Page:
        """Any page."""
        return page(self._root, query, number, version=version, sort=dict(which.sort) or None)


class Spark(DuckDb):
    """Our pages, read by Spark."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        os.environ.setdefault("SPARK_DRIVER_MEMORY", "6g")
        self._warehouse = Warehouse(spark_session("benchmark pages"), root)

    def page(self, which: Filter, query: Query, number: int, version: int | None = None) -> Page:
        """Any page."""
        return page(self._warehouse, query, number, version=version, sort=dict(which.sort) or None, engine="spark")


class PlainSpark(Engine):
    """Spark SQL on the nested column, as one writes it who does not know of derived columns."""

    def __init__(self, root: str) -> None:
        os.environ.setdefault("SPARK_DRIVER_MEMORY", "6g")
        self._warehouse = Warehouse(spark_session("benchmark pages"), root)

    def first(self, which: Filter, query: Query) -> int:
        """A first page."""
        matching = self._warehouse.read("samples").drop("objects", "rarest_class", "histogram").filter(mongo(query))
        order: list[Column | str] = [F.desc(name) if down < 0 else F.asc(name) for name, down in which.sort]
        length = matching.count()
        matching.orderBy(*order, *mongodb.ORDER).limit(PAGE_SIZE).toArrow()
        return length


class MongoDb(Engine):
    """MongoDB, asked in its own form, or in the form that suits its best indexes."""

    def __init__(self, collection: Any, form: Callable[[Query], Query]) -> None:
        self._collection = collection
        self._form = form

    def first(self, which: Filter, query: Query) -> int:
        """A first page."""
        return mongodb.first_page(self._collection, mongodb.own_form(self._form(query)), which)[0]


class Cold(Engine):
    """Our pages by the embedded engine, each in a process of its own, with nothing of the table in the page cache."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.said: dict[str, float] = {}

    def first(self, which: Filter, query: Query) -> int:
        """A first page; ``said`` has what its process measured."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.query.once",
            self._root,
            json.dumps(query),
            json.dumps(dict(which.sort)),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=_ROOT)
        self.said = json.loads(done.stdout)
        return int(self.said["length"])

    def forget(self) -> None:
        """Drop the warehouse's files from the page cache (Linux)."""
        for file in Path(self._root).rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def files(root: str) -> list[str]:
    """The data files of ``samples``, as they are now."""
    return sorted(DeltaTable(f"{root}/samples").file_uris())


@contextmanager
def writer(root: str, start: int) -> Iterator[list[int]]:
    """A process that commits small batches all the while; the rows of each commit so far."""
    command = [sys.executable, "-m", "benchmarks.query.writer", root, str(start)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    assert process.stdout is not None
    commits: list[int] = []
    try:
        commits.append(int(process.stdout.readline()))  # it works
        os.set_blocking(process.stdout.fileno(), False)
        yield commits
        commits += [int(line) for line in process.stdout.readlines()]
    finally:
        process.terminate()
        process.wait()
