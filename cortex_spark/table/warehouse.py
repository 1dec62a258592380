"""A warehouse: a folder (or bucket) of Delta tables.

Rows get in by two doors. ``append_once`` appends under a transaction identifier: repeated, or raced by another
process, it has an effect once. ``insert_new`` adds the rows whose ``_id`` the table lacks. Delta has no unique key:
a merge that loses the race against another one gets a conflict, looks again, and adds only what is still missing.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from delta import exceptions as delta_exceptions
from delta.tables import DeltaMergeBuilder, DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameReader, Row, SparkSession
from pyspark.sql.types import StructType

from cortex_spark.errors import CortexError
from cortex_spark.schema import TABLES
from cortex_spark.table.derived import complete
from cortex_spark.table.features import beside_files, commit_file, identity

_T = TypeVar("_T")

#: Statistics (and so file skipping) for these columns only: of hashes and nested columns they would be useless. Nor of
#: hosts and addresses: a name in the log outlives the rows that a take-down removes.
STATISTICS: Final[dict[str, str]] = {
    "image_urls": "source,crawl,discovered_at",
    "samples": "datetime,width,height,source,label_quality_estimation,crawl,landed_at,rarest_class",
    "attempts": "run,batch,task,attempted_at,model,outcome,retry_at",
    "plans": "run,batch,task",
    "runs": "run,at,event",
    "hosts": "at,run,batch",
    "forgotten": "kind,value",
}

#: What Delta raises when another commit came in between; the classes have no base of their own in common.
_CONFLICTS: Final = (
    delta_exceptions.ConcurrentAppendException,
    delta_exceptions.ConcurrentDeleteDeleteException,
    delta_exceptions.ConcurrentDeleteReadException,
    delta_exceptions.ConcurrentTransactionException,
    delta_exceptions.ConcurrentWriteException,
    delta_exceptions.DeltaConcurrentModificationException,
    delta_exceptions.MetadataChangedException,
    delta_exceptions.ProtocolChangedException,
)

#: The same of a table that another process is about to make: its folder is there, its first commit is not. To who
#: makes it, and to who finds it.
_HALF_MADE: Final = ("DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION", "DELTA_TABLE_NOT_FOUND")

#: What Spark says of a file that is gone, while it reads or before; an error of Java's says it somewhere in its causes.
_GONE: Final = ("FAILED_READ_FILE.FILE_NOT_EXIST", "PATH_NOT_FOUND")
#: Tries to read a table whose files a take-down removes meanwhile; the next try reads the next version.
_MAX_READS: Final = 3

#: Races for a commit are lost to somebody who won: with this many tries only a livelock is left as the cause.
_MAX_TRIES: Final = 20


def is_gone(error: BaseException) -> bool:
    """Whether ``error`` is that a file of a table's version does not exist any more: taken down, or vacuumed."""
    return any(said in str(error) for said in _GONE)


def plain_files(spark: SparkSession, schema: StructType) -> DataFrameReader:
    """Reads files that are no Delta table, at paths taken literally: by itself Spark expands ``[1]`` in them."""
    return spark.read.schema(schema).option("__globPaths__", "false")  # Spark's own key for what it has listed


class Warehouse:
    """The tables below ``root``; each is made when it is first asked for."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        if "`" in root:
            raise CortexError(f"--warehouse {root!r}: a backtick cannot stand in a table's path")
        self.spark = spark
        # Delta takes a relative path for the name of a table.
        self.root = root.rstrip("/") if ":" in root else str(Path(root).absolute())
        self._found: set[str] = set()
        self._finding = {table: threading.Lock() for table in TABLES}

    def path(self, table: str) -> str:
        """The folder of ``table``."""
        return f"{self.root}/{table}"

    def has(self, table: str) -> bool:
        """Whether ``table`` is there; to look does not make it."""
        return bool(DeltaTable.isDeltaTable(self.spark, self.path(table)))

    def delta(self, table: str) -> DeltaTable:
        """The Delta table, made empty if it is not there yet."""
        self._make(table)
        return DeltaTable.forPath(self.spark, self.path(table))

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """The rows of ``table``, as they are now or at one version."""
        self._make(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path(table))

    def version(self, table: str) -> int:
        """The newest version of ``table``."""
        return int(self._snapshot(table).version())

    def identity(self, table: str, version: int) -> str:
        """Names ``version`` of ``table``, see ``table.features``: another one made in its place has another name."""
        jvm = self.spark.sparkContext._jvm
        assert jvm is not None
        path = jvm.org.apache.hadoop.fs.Path(f"{self.path(table)}/{commit_file(version)}")
        filesystem = path.getFileSystem(self.spark.sparkContext._jsc.hadoopConfiguration())
        commit = ""
        if filesystem.exists(path):
            content = filesystem.open(path)
            try:
                commit = str(jvm.org.apache.commons.codec.digest.DigestUtils.sha256Hex(content))
            finally:
                content.close()
        return identity(str(self._snapshot(table).metadata().id()), commit)

    def transaction(self, table: str, app_id: str) -> int:
        """The version of the last commit of ``app_id`` to ``table``; 0 where there was none."""
        found = self._snapshot(table).transactions().get(app_id)
        return int(found.get()) if found.isDefined() else 0

    def is_empty(self, table: str) -> bool:
        """Whether the newest version of ``table`` is known to have no rows; read from its log, which Delta keeps."""
        files = self._snapshot(table).numOfFilesIfKnown()
        return bool(files.isDefined()) and int(files.get()) == 0

    def properties(self, table: str) -> dict[str, str]:
        """The properties of the newest version of ``table``."""
        found = self._snapshot(table).metadata().configuration().iterator()
        properties = {}
        while found.hasNext():
            entry = found.next()
            properties[str(entry._1())] = str(entry._2())
        return properties

    def beside_files(self, table: str) -> list[str]:
        """What of Delta tells the rows of ``table`` beside its files; of our own tables nothing does."""
        features = self._snapshot(table).protocol().readerFeatures()
        names = str(features.get().mkString(",")).split(",") if features.isDefined() else []
        return beside_files(names, self.properties(table))

    def set_properties(self, table: str, properties: Mapping[str, str]) -> None:
        """Set some properties of ``table``; what is in them is ours, not a user's."""
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        self.sql(f"ALTER TABLE {{{table}}} SET TBLPROPERTIES ({listed})")

    def sql(self, text: str) -> DataFrame:
        """Run a statement of ours in which ``{samples}`` is that table, again where a commit came in between."""
        for table in TABLES:
            text = text.replace(f"{{{table}}}", f"delta.`{self.path(table)}`")
        return self.retried(lambda: self.spark.sql(text))

    def append_once(self, rows: DataFrame, table: str, *, app_id: str, version: int) -> None:
        """Append ``rows`` unless a commit of ``app_id`` with this ``version`` or a later one stands.

        Two processes that race with the same identifier have one effect; who won is read from the table.
        """
        self._make(table)

        def write() -> None:
            (
                rows.write.format("delta")
                .mode("append")
                .option("txnAppId", app_id)
                .option("txnVersion", version)
                .save(self.path(table))
            )

        # Where another's commit with this identifier came in between, the second try sees it and Delta skips ours.
        self.retried(write)

    def insert_new(self, rows: DataFrame, table: str) -> int:
        """Add the ``rows`` whose ``_id`` is not in ``table`` and say how many were added.

        ``rows`` has one row per ``_id``, and must come out the same when it is computed again.
        """

        def merge() -> DeltaMergeBuilder:
            return self.delta(table).alias("t").merge(rows.alias("s"), "t._id = s._id").whenNotMatchedInsertAll()

        return int(self.merge(merge)["num_inserted_rows"])

    def merge(self, merge: Callable[[], DeltaMergeBuilder]) -> Row:
        """Execute ``merge``, made anew where another commit came in between; Delta's counts of rows."""
        counts = self.retried(lambda: merge().execute()).first()
        assert counts is not None  # Delta answers with one row
        return counts

    def _snapshot(self, table: str) -> Any:
        """The newest version as Delta itself knows it: a listing, where ``history`` and ``detail`` are Spark jobs."""
        self._make(table)
        jvm = self.spark.sparkContext._jvm
        assert jvm is not None
        log = jvm.org.apache.spark.sql.delta.DeltaLog
        return log.forTableWithSnapshot(self.spark._jsparkSession, self.path(table))._2()

    def _make(self, table: str) -> None:
        with self._finding[table]:
            if table not in self._found:
                self.retried(lambda: self._find(table))
                self._found.add(table)

    def _find(self, table: str) -> None:
        if self.has(table):
            self.spark.read.format("delta").load(self.path(table))  # raises where there is a folder and no commit
        else:
            self._create(table)

    def _create(self, table: str) -> None:
        made = (
            DeltaTable.createIfNotExists(self.spark)
            .location(self.path(table))
            .addColumns(TABLES[table])
            # Readers without Spark take the files as they are: rows deleted beside them would come back.
            .property("delta.enableDeletionVectors", "false")
            .property("delta.dataSkippingStatsColumns", STATISTICS[table])
        )
        for name, value in complete(since=0).items() if table == "samples" else ():
            made = made.property(name, value)
        made.execute()

    def retried(self, commit: Callable[[], _T]) -> _T:
        """The result of ``commit``, called again where another commit came in between, or took away what it reads."""
        for attempt in range(1, _MAX_TRIES + 1):
            try:
                return commit()
            except (*_CONFLICTS, AnalysisException, Py4JJavaError) as error:
                half_made = isinstance(error, AnalysisException) and error.getCondition() in _HALF_MADE
                overtaken = half_made or isinstance(error, _CONFLICTS)
                if not overtaken and (attempt == _MAX_READS or not is_gone(error)):
                    raise
                if attempt == _MAX_TRIES:
                    raise CortexError(
                        f"{self.root}: {attempt} commits in a row were overtaken by other writers; "
                        "run fewer jobs at once"
                    ) from error
                # Jitter parts the two that collided.
                time.sleep(random.uniform(0.1, 0.5) * min(attempt, 6))
        raise AssertionError("unreachable")
