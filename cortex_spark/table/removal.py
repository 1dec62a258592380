"""Takes what is forgotten out of the tables, the store, and the files that no table refers to any more.

It goes by what is remembered, not by what is asked now: killed anywhere, the next call does the rest. The order
follows from that. Evidence that lies in rows to be removed (a picture's hash, where a redirect led) is remembered
first, as the ``_id`` it points to; and ``image_urls``, which alone says the host and page of every ``_id``, goes last.

Not VACUUM: with a retention of zero it also deletes what running jobs have written and not committed yet, and their
commits would then refer to files that are gone. Here a file goes if some version of the table had it and the newest has
not, or if nobody can still be writing it.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from cortex_spark.schema import FORGOTTEN, TABLES
from cortex_spark.sources import store
from cortex_spark.sources.urls import image_id
from cortex_spark.table.forgotten import MARK, REMOVED, Memory, marked, recall
from cortex_spark.table.index import prune_indexes
from cortex_spark.table.warehouse import Warehouse, plain_files

#: Age at which a file that no version of its table has is no running batch's or merge's: these take minutes.
UNFINISHED: Final = timedelta(hours=6)

#: What the tables tell of an ``_id``, under the names that ``marked`` knows; in the order in which rows go.
_EVIDENCE: Final[dict[str, tuple[str, ...]]] = {
    "attempts": (
        "_id",
        "coalesce(sample.host, host_state.host) AS host",
        "sample.page_url AS page_url",
        "sample.hash AS hash",
        "final_url",
    ),
    "plans": ("_id", "host", "page_url", "expected_hash", "location"),
    "samples": ("_id", "host", "page_url", "hash"),
    "image_urls": ("_id", "host", "page_url"),
}
#: Of these, what says that a row is to go; and what says only where else the picture lies.
_DIRECT: Final = ("_id", "host", "page_url")
_INDIRECT: Final = ("hash", "expected_hash", "final_url", "location")
#: Where jobs append what they plan and did.
_BY_JOBS: Final = ("attempts", "plans")

#: Of a commit in Delta's log, the data files that it added.
_ADDED: Final = StructType([StructField("add", StructType([StructField("path", StringType())]))])


@dataclass
class Removal:
    """What went."""

    rows: Counter[str] = field(default_factory=Counter)  # by table
    pictures: int = 0  # of the store
    files: int = 0  # of tables, and what killed jobs had left
    bytes: int = 0  # of both
    #: Files of jobs that run, or were killed within ``UNFINISHED``, and hold or may hold some of it.
    waiting: list[str] = field(default_factory=list)

    def add_file(self, size: int) -> None:
        """A file is gone."""
        self.files += 1
        self.bytes += size


def remember(warehouse: Warehouse, entries: Iterable[tuple[str, str]], reason: str | None) -> None:
    """Write (kind, value) down, all in one commit: from here on no door lets it pass."""
    now = datetime.now(UTC)
    rows = [(kind, value, now, reason) for kind, value in sorted(entries)]
    if rows:
        frame = warehouse.spark.createDataFrame(rows, FORGOTTEN).coalesce(1)
        warehouse.append_once(frame, "forgotten", app_id=f"forget/{uuid.uuid4().hex}", version=0)


def elsewhere(warehouse: Warehouse, memory: Memory) -> frozenset[str]:
    """The ``_id`` of URLs where pictures of ``memory`` lie besides: with the same hash, or by a redirect."""
    found = {image_id(store.store_url(digest)) for digest in memory.of("hash")}
    for table in _present(warehouse):
        rows = evidence(table, warehouse.read(table))
        names = [name for name in _INDIRECT if name in rows.columns]
        if names:
            ids = marked(rows, memory, names).where(MARK).select("_id").distinct()
            found.update(row["_id"] for row in ids.collect())
    return frozenset(found) - memory.of("url")


def doomed(warehouse: Warehouse, memory: Memory) -> DataFrame:
    """The distinct ``_id`` that have to go, computed once: rows may be removed while this is read.

    ``lost`` are those that nothing but the history of jobs tells of, since ``image_urls`` has no such URL: they go from
    that history alone.
    """
    ids = [warehouse.spark.createDataFrame([], "_id string, lost boolean")]
    for table in _present(warehouse):
        rows = evidence(table, warehouse.read(table))
        ids.append(marked(rows, memory, _DIRECT).where(MARK).select("_id", F.lit(False).alias("lost")))
        if table in _BY_JOBS and warehouse.has("image_urls"):
            # What a job appended whose URLs were removed while it was at work on them.
            lost = rows.join(warehouse.read("image_urls"), "_id", "left_anti")
            ids.append(lost.select("_id", F.lit(True).alias("lost")))
    # Whoever clears ``image_urls`` by hand loses the history of those URLs, and no picture.
    return reduce(DataFrame.union, ids).groupBy("_id").agg(F.min("lost").alias("lost")).localCheckpoint()


def _doomed_in(table: str, ids: DataFrame) -> DataFrame:
    """Those of ``doomed`` that go from ``table``."""
    return ids if table in _BY_JOBS else ids.where("NOT lost")


def counted(warehouse: Warehouse, memory: Memory) -> Counter[str]:
    """How many rows of each table would go."""
    ids = doomed(warehouse, memory.plus(("url", _id) for _id in elsewhere(warehouse, memory)))
    rows = {name: warehouse.read(name).join(_doomed_in(name, ids), "_id", "left_semi") for name in _present(warehouse)}
    if warehouse.has("hosts"):
        rows["hosts"] = marked(warehouse.read("hosts"), memory, ("host",)).where(MARK)
    return Counter({name: frame.count() for name, frame in rows.items()})


def remove(warehouse: Warehouse, say: Callable[[str], None] = lambda what: None) -> Removal:
    """Remove all that is remembered: rows, stored pictures, files. ``say`` is told what is being done."""
    removal = Removal()
    # Another take-down beside it removes files that this one reads: once more, then.
    warehouse.retried(lambda: _remove(warehouse, removal, say))
    return removal


def _remove(warehouse: Warehouse, removal: Removal, say: Callable[[str], None]) -> None:
    removal.waiting.clear()
    memory = recall(warehouse)
    if not memory:
        return
    say("looking for rows")
    more = elsewhere(warehouse, memory)
    remember(warehouse, (("url", _id) for _id in more), "where such a picture lay, too")
    memory = memory.plus(("url", _id) for _id in more)
    ids = doomed(warehouse, memory)
    if not ids.isEmpty():
        for table in _present(warehouse):
            say(f"removing rows of {table}")
            removal.rows[table] += _delete_matching(warehouse, table, _doomed_in(table, ids), "t._id = s._id")
    _remove_hosts(warehouse, memory, removal)
    say("removing files")
    _remove_pictures(warehouse, memory, removal)
    for table in (*_EVIDENCE, "hosts"):
        if warehouse.has(table):
            _purge(warehouse, table, memory, removal)
    _remove_indexes(warehouse)
    _remove_staged(warehouse, removal)
    if not removal.waiting and not memory.is_removed:
        remember(warehouse, [(REMOVED, memory.digest)], None)


def evidence(table: str, rows: DataFrame) -> DataFrame:
    """What ``rows`` of ``table`` tell, in columns that ``marked`` knows."""
    return rows.selectExpr(*_EVIDENCE[table])


def _present(warehouse: Warehouse) -> list[str]:
    return [table for table in _EVIDENCE if warehouse.has(table)]


def is_whole(warehouse: Warehouse, table: str, rows: DataFrame) -> bool:
    """Whether all files of ``rows``, some version of ``table``, are still there."""
    there = {file.name for file in _listed(warehouse, warehouse.path(table))}
    return all(_name(path) in there for path in rows.inputFiles())


def _remove_hosts(warehouse: Warehouse, memory: Memory, removal: Removal) -> None:
    """What politeness remembers of hosts; in ``attempts`` it may stand in the row of another host's URL."""
    if not (memory.of("host") or memory.of("domain")):
        return
    if warehouse.has("hosts"):
        hosts = marked(warehouse.read("hosts").select("host").distinct(), memory).where(MARK)
        removal.rows["hosts"] += _delete_matching(warehouse, "hosts", hosts, "t.host = s.host")
    if warehouse.has("attempts"):
        told = warehouse.read("attempts").where("host_state IS NOT NULL").selectExpr("host_state.host AS host")
        hosts = marked(told.distinct(), memory).where(MARK)
        warehouse.merge(
            lambda: (
                warehouse.delta("attempts")
                .alias("t")
                .merge(hosts.alias("s"), "t.host_state.host = s.host")
                .whenMatchedUpdate(set={"host_state": "NULL"})
            )
        )


def _delete_matching(warehouse: Warehouse, table: str, rows: DataFrame, condition: str) -> int:
    """Delete the rows of ``table``, as ``t``, that match one of ``rows``, as ``s``; how many."""
    counts = warehouse.merge(
        lambda: warehouse.delta(table).alias("t").merge(rows.alias("s"), condition).whenMatchedDelete()
    )
    return int(counts["num_deleted_rows"])


def _remove_pictures(warehouse: Warehouse, memory: Memory, removal: Removal) -> None:
    """Pictures of the store, and copies that a killed ingest left half-made there."""
    if not store.is_local(warehouse.root):
        return
    paths = [store.store_path(warehouse.root, digest) for digest in memory.of("hash")]
    paths += [path for path in store.unfinished(warehouse.root) if time.time() - _modified(path) > _seconds()]
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            removal.pictures += 1
            removal.bytes += size


def _modified(path: os.PathLike[str]) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except FileNotFoundError:
        return time.time()


def _seconds() -> float:
    return UNFINISHED.total_seconds()


class _File(NamedTuple):
    name: str
    path: Any  # Hadoop's
    size: int
    modified: float  # seconds since the epoch
    folder: bool


def _purge(warehouse: Warehouse, table: str, memory: Memory, removal: Removal) -> None:
    """Delete the files that only earlier versions of ``table`` have, and those that killed jobs left."""
    # In this order: what is listed and committed only later is among the live ones.
    files = [file for file in _listed(warehouse, warehouse.path(table)) if not file.folder and file.name[0] not in "._"]
    log = [file for file in _listed(warehouse, f"{warehouse.path(table)}/_delta_log") if file.name.endswith(".json")]
    added = plain_files(warehouse.spark, _ADDED).json([str(file.path.toString()) for file in log])
    committed = {_name(row["path"]) for row in added.where("add IS NOT NULL").select("add.path").collect()}
    live = {_name(path) for path in warehouse.read(table).inputFiles()}
    uncommitted = []
    for file in files:
        if file.name in live:
            continue
        if file.name in committed:
            _delete(warehouse, file, removal)
        else:
            uncommitted.append(file)
    # Those without any of it are left, however old: OPTIMIZE of a large table takes longer, and commits at its end. It
    # fails if rows were removed from what it read, so an old file with such rows is nobody's any more.
    for file in _holding(warehouse, table, uncommitted, memory):
        if time.time() - file.modified > _seconds():
            _delete(warehouse, file, removal)
        else:
            removal.waiting.append(f"{table}/{file.name}")


def _remove_indexes(warehouse: Warehouse) -> None:
    """The indexes of files that are gone: they tell hashes of ``_id``."""
    if store.is_local(warehouse.root):
        prune_indexes(warehouse.root, data_files(warehouse, "samples"))


def data_files(warehouse: Warehouse, table: str) -> set[str]:
    """The names of the data files that lie in the folder of ``table``, of whatever version, or of none yet."""
    return {
        file.name for file in _listed(warehouse, warehouse.path(table)) if not file.folder and file.name[0] not in "._"
    }


def _holding(warehouse: Warehouse, table: str, files: list[_File], memory: Memory) -> list[_File]:
    """Those of ``files`` that are not whole, and those in which something of ``memory`` is."""
    rows = {file.name: _rows(warehouse, file.path) for file in files}
    whole = [file for file in files if rows[file.name]]  # neither torn nor empty
    found: set[str] = set()
    if whole:
        read = plain_files(warehouse.spark, TABLES[table]).parquet(*(str(file.path.toString()) for file in whole))
        told = read.selectExpr("_metadata.file_name AS __file", *_EVIDENCE.get(table, ("host",)))
        found = {row["__file"] for row in marked(told, memory).where(MARK).select("__file").distinct().collect()}
    return [file for file in files if rows[file.name] is None or file.name in found]


def _rows(warehouse: Warehouse, path: Any) -> int | None:
    """The number of rows of the Parquet file at ``path``, Hadoop's; None if it is not whole, 0 if it is gone."""
    jvm = warehouse.spark.sparkContext._jvm
    assert jvm is not None
    parquet = jvm.org.apache.parquet.hadoop
    configuration = warehouse.spark.sparkContext._jsc.hadoopConfiguration()
    try:
        reader = parquet.ParquetFileReader.open(parquet.util.HadoopInputFile.fromPath(path, configuration))
    except Py4JJavaError as error:
        kind = str(error.java_exception.getClass().getName())
        if kind == "java.io.FileNotFoundException":
            return 0
        if kind == "java.lang.RuntimeException" or kind.startswith("org.apache.parquet."):  # "is not a Parquet file"
            return None
        raise  # out of reach, which says nothing of the file
    try:
        return int(reader.getRecordCount())
    finally:
        reader.close()


def _remove_staged(warehouse: Warehouse, removal: Removal) -> None:
    """What killed extracts left of what they had found."""
    for folder in _listed(warehouse, f"{warehouse.root}/_staging"):
        inside = files_below(warehouse, folder.path)
        # Tasks write far below it, which its own time does not tell; in a bucket a folder's time is the present.
        if time.time() - max((file.modified for file in inside), default=folder.modified) > _seconds():
            for file in inside:
                removal.add_file(file.size)
            _filesystem(warehouse, folder.path).delete(folder.path, True)
        else:
            removal.waiting.append(f"_staging/{folder.name}")


def _filesystem(warehouse: Warehouse, path: Any) -> Any:
    return path.getFileSystem(warehouse.spark.sparkContext._jsc.hadoopConfiguration())


def _listed(warehouse: Warehouse, folder: str) -> Iterator[_File]:
    """What lies directly in ``folder``; nothing if that is not there."""
    jvm = warehouse.spark.sparkContext._jvm
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(folder)
    filesystem = _filesystem(warehouse, path)
    if filesystem.exists(path):
        for entry in filesystem.listStatus(path):
            yield _as_file(entry)


def files_below(warehouse: Warehouse, folder: Any) -> list[_File]:
    """All files in ``folder``, a path of Hadoop's, and its folders; none if it is not there any more."""
    found = []
    try:
        entries = _filesystem(warehouse, folder).listFiles(folder, True)
        while entries.hasNext():
            found.append(_as_file(entries.next()))
    except Py4JJavaError as error:
        if error.java_exception.getClass().getName() != "java.io.FileNotFoundException":
            raise
    return found


def _as_file(entry: Any) -> _File:
    """Of Hadoop's file status."""
    path = entry.getPath()
    return _File(path.getName(), path, entry.getLen(), entry.getModificationTime() / 1000, entry.isDirectory())


def _delete(warehouse: Warehouse, file: _File, removal: Removal) -> None:
    if _filesystem(warehouse, file.path).delete(file.path, False):
        removal.add_file(file.size)


def _name(path: str) -> str:
    """A data file's own name, which is unique, from a path as Delta's log or Spark writes it."""
    return unquote(path.rpartition("/")[2])
